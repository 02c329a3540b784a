//! Writes events as JSON: the same bytes as `serde_json`, at a third of the cost.
//!
//! `serde_json` inspects each byte of each string, and the bytes of the keys again in each line. That was more than half of the
//! time of a line (docs/benchmarks.md). Keys need no escaping, and few strings do. This writer checks eight bytes of a string at
//! once. It leaves strings that need escaping to `serde_json`, and numbers too.
//!
//! It knows only the types that events have, and refuses others. A test compares it with `serde_json` for all kinds of events.

use serde::ser::{Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde_json::{Error, Result};

/// Appends a value as JSON.
pub(super) fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<()> {
    value.serialize(JsonSerializer(out))
}

struct JsonSerializer<'a>(&'a mut Vec<u8>);

/// A list or an object. A comma follows each part. The closing bracket replaces the last comma.
struct Parts<'a> {
    out: &'a mut Vec<u8>,
    close: u8,
}

impl<'a> Parts<'a> {
    fn open(out: &'a mut Vec<u8>, open: u8, close: u8) -> Self {
        out.push(open);
        Self { out, close }
    }

    #[inline]
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        value.serialize(JsonSerializer(self.out))?;
        self.out.push(b',');
        Ok(())
    }

    fn close(self) {
        match self.out.last_mut() {
            Some(last) if *last == b',' => *last = self.close,
            _ => self.out.push(self.close),
        }
    }
}

/// Writes a string in quotes.
fn string(out: &mut Vec<u8>, text: &str) -> Result<()> {
    if may_need_escaping(text.as_bytes()) {
        return serde_json::to_writer(out, text);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Returns whether there is a control character, a quote or a backslash. Checks eight bytes at a time, as most strings are short.
fn may_need_escaping(bytes: &[u8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH << 7;
    let found = |eight: [u8; 8]| {
        let word = u64::from_ne_bytes(eight);
        let less_than = |word: u64, limit: u8| word.wrapping_sub(EACH * u64::from(limit)) & !word;
        let equal = |byte: u8| less_than(word ^ (EACH * u64::from(byte)), 1);
        (less_than(word, b' ') | equal(b'"') | equal(b'\\')) & HIGH != 0
    };
    match bytes.last_chunk() {
        // The last eight bytes overlap those before.
        Some(last) => bytes.chunks_exact(8).any(|chunk| chunk.try_into().is_ok_and(found)) || found(*last),
        None => bytes.iter().any(|&byte| byte < b' ' || byte == b'"' || byte == b'\\'),
    }
}

fn refuse<T>(what: &str) -> Result<T> {
    Err(Error::custom(format!("{what} has no place in an event")))
}

macro_rules! numbers {
    ($($method:ident $type:ty),*) => {
        $(#[inline]
        fn $method(self, number: $type) -> Result<()> {
            serde_json::to_writer(self.0, &number)
        })*
    };
}

impl<'a> Serializer for JsonSerializer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    numbers!(
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64,
        serialize_f32 f32, serialize_f64 f64
    );

    fn serialize_bool(self, value: bool) -> Result<()> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_char(self, _: char) -> Result<()> {
        refuse("a character")
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<()> {
        string(self.0, text)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<()> {
        refuse("a string of bytes")
    }

    fn serialize_none(self) -> Result<()> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        string(self.0, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<()> {
        refuse("a variant with a value")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>> {
        Ok(Parts::open(self.0, b'[', b']'))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple> {
        refuse("a tuple")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct> {
        refuse("a tuple")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        refuse("a variant with a value")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>> {
        Ok(Parts::open(self.0, b'{', b'}'))
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>> {
        Ok(Parts::open(self.0, b'{', b'}'))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant> {
        refuse("a variant with a value")
    }
}

impl SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = Error;

    /// Inlined, so that the compiler knows the key's length and stores it in a few instructions.
    #[expect(clippy::inline_always, reason = "measured: a fifth of what a line takes")]
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<()> {
        // Keys are names of fields: letters and `_`.
        self.out.reserve(key.len() + 3);
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.part(value)
    }

    fn end(self) -> Result<()> {
        self.close();
        Ok(())
    }
}

impl SerializeSeq for Parts<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.part(value)
    }

    fn end(self) -> Result<()> {
        self.close();
        Ok(())
    }
}

impl SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Error;

    /// The keys of maps are strings.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        key.serialize(JsonSerializer(self.out))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.out.push(b':');
        self.part(value)
    }

    fn end(self) -> Result<()> {
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ours<T: Serialize>(value: &T) -> String {
        let mut out = Vec::new();
        write(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_serde_json_does() {
        for byte in 0..=char::from(0x9f) as u32 {
            let text = format!("a longer text, {}, and more", char::from_u32(byte).unwrap());
            assert_eq!(ours(&text), serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn characters_are_escaped_at_any_position() {
        for (len, byte) in (1..40).flat_map(|len| [b'"', b'\\', 0x1f, 0, b'!', 0x7f].map(|byte| (len, byte))) {
            for at in 0..len {
                let mut bytes = vec![b'x'; len];
                bytes[at] = byte;
                assert_eq!(
                    may_need_escaping(&bytes),
                    byte < b' ' || b"\"\\".contains(&byte),
                    "{byte} at {at} of {len}"
                );
            }
        }
    }

    #[test]
    fn what_no_event_has_is_refuse() {
        assert!(write(&mut Vec::new(), &(1, 2)).is_err());
        assert!(write(&mut Vec::new(), &Ok::<u32, u32>(1)).is_err());
    }

    proptest! {
        #[test]
        fn values_are_the_same_as_those_of_serde_json(
            texts: Vec<String>,
            map: BTreeMap<String, Option<i64>>,
            numbers: (u64, i32, f64, bool),
        ) {
            prop_assert_eq!(ours(&texts), serde_json::to_string(&texts).unwrap());
            prop_assert_eq!(ours(&map), serde_json::to_string(&map).unwrap());
            let (a, b, c, d) = numbers;
            prop_assert_eq!(ours(&a) + &ours(&b), serde_json::to_string(&a).unwrap() + &serde_json::to_string(&b).unwrap());
            prop_assert_eq!(ours(&c) + &ours(&d), serde_json::to_string(&c).unwrap() + &serde_json::to_string(&d).unwrap());
        }
    }
}
