//! Writes what events are made of as compact JSON, byte for byte as serde_json does, in less than half the time.
//!
//! A line has some forty keys, which are known to need no escapes, and strings that seldom need one: both are copied
//! as they are. What does need an escape goes to serde_json. Types that no event has are errors.

use std::fmt::Display;

use serde::ser::{Error as _, Impossible, Serialize, SerializeSeq, SerializeStruct, Serializer};
use serde_json::{Error, Result};

/// Appends a value to bytes.
pub(super) fn append<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<()> {
    value.serialize(Writer { out })
}

/// True for a string that stands in JSON as it is.
fn is_plain(text: &str) -> bool {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).all(|word| !needs_escape(u64::from_ne_bytes(*word)))
}

/// True if any of eight bytes is a control character, a quote or a backslash.
const fn needs_escape(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // A byte below n borrows when n is taken from it, if it was below 128 before: then, and only then, does the
    // lowest such byte get its high bit. Equality is to be below 1 after an exclusive or.
    const fn below(word: u64, n: u64) -> u64 {
        word.wrapping_sub(ONES * n) & !word & HIGH
    }
    below(word, 0x20) | below(word ^ (ONES * b'"' as u64), 1) | below(word ^ (ONES * b'\\' as u64), 1) != 0
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn integer(self, value: impl itoa::Integer) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// A name from the types: letters, digits and underscores.
    fn name(self, name: &'static str) {
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'"');
    }
}

fn unknown<T>(what: &str) -> Result<T> {
    Err(Error::custom(format_args!("events have no {what}")))
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Items<'a>;
    type SerializeStruct = Items<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_bool(self, value: bool) -> Result<()> {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<()> {
        self.integer(value);
        Ok(())
    }

    fn serialize_u16(self, value: u16) -> Result<()> {
        self.integer(value);
        Ok(())
    }

    fn serialize_u32(self, value: u32) -> Result<()> {
        self.integer(value);
        Ok(())
    }

    fn serialize_u64(self, value: u64) -> Result<()> {
        self.integer(value);
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<()> {
        self.integer(value);
        Ok(())
    }

    fn serialize_i16(self, value: i16) -> Result<()> {
        self.integer(value);
        Ok(())
    }

    fn serialize_i32(self, value: i32) -> Result<()> {
        self.integer(value);
        Ok(())
    }

    fn serialize_i64(self, value: i64) -> Result<()> {
        self.integer(value);
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<()> {
        if !is_plain(value) {
            return serde_json::to_writer(self.out, value);
        }
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
        Ok(())
    }

    fn collect_str<T: ?Sized + Display>(self, value: &T) -> Result<()> {
        self.serialize_str(&value.to_string())
    }

    fn serialize_none(self) -> Result<()> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        self.name(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>> {
        self.out.push(b'[');
        Ok(Items { out: self.out, first: true })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Items<'a>> {
        self.out.push(b'{');
        Ok(Items { out: self.out, first: true })
    }

    fn serialize_f32(self, _: f32) -> Result<()> {
        unknown("floating point numbers")
    }

    fn serialize_f64(self, _: f64) -> Result<()> {
        unknown("floating point numbers")
    }

    fn serialize_char(self, _: char) -> Result<()> {
        unknown("single characters")
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<()> {
        unknown("bytes")
    }

    fn serialize_unit(self) -> Result<()> {
        unknown("units")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        unknown("units")
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<()> {
        unknown("variants with values")
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple> {
        unknown("tuples")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct> {
        unknown("tuples")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        unknown("variants with values")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap> {
        unknown("maps")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant> {
        unknown("variants with values")
    }
}

/// The inside of an array or object.
struct Items<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Items<'_> {
    fn separate(&mut self) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
    }
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        self.separate();
        value.serialize(Writer { out: self.out })
    }

    fn end(self) -> Result<()> {
        self.out.push(b']');
        Ok(())
    }
}

impl SerializeStruct for Items<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<()> {
        self.separate();
        Writer { out: self.out }.name(key);
        self.out.push(b':');
        value.serialize(Writer { out: self.out })
    }

    fn end(self) -> Result<()> {
        self.out.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Choice {
        FirstOne,
    }

    #[derive(Serialize)]
    struct All {
        text: String,
        texts: Vec<Option<String>>,
        empty: Vec<u8>,
        unsigned: u64,
        signed: Option<i64>,
        yes: bool,
        choice: Choice,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
        nested: Option<Box<All>>,
    }

    fn all(text: &str, number: i64, nested: Option<Box<All>>) -> All {
        All {
            text: text.into(),
            texts: vec![Some(text.into()), None, Some(String::new())],
            empty: Vec::new(),
            unsigned: number as u64,
            signed: Some(number),
            yes: number > 0,
            choice: Choice::FirstOne,
            absent: None,
            nested,
        }
    }

    fn ours<T: Serialize>(value: &T) -> String {
        let mut out = Vec::new();
        append(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_character_at_each_place_is_as_serde_json_has_it() {
        for c in (0..=0x100).chain([0x7ff, 0x2028, 0xfffd, 0x1_0000]).filter_map(char::from_u32) {
            for before in 0..9 {
                for after in 0..9 {
                    let text = format!("{}{c}{}", "\u{7f}".repeat(before), "!".repeat(after));
                    assert_eq!(ours(&text), serde_json::to_string(&text).unwrap());
                }
            }
        }
    }

    #[test]
    fn what_no_event_has_is_an_error() {
        assert!(append(&mut Vec::new(), &1.5).is_err());
        assert!(append(&mut Vec::new(), &std::collections::BTreeMap::from([(1, 2)])).is_err());
    }

    proptest! {
        #[test]
        fn values_are_as_serde_json_has_them(text in any::<String>(), a in any::<i64>(), b in any::<i64>()) {
            let value = all(&text, a, Some(Box::new(all("plain", b, None))));
            prop_assert_eq!(ours(&value), serde_json::to_string(&value).unwrap());
        }
    }
}
