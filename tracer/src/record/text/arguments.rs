//! A list of arguments in one piece.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use memchr::{memchr, memchr_iter, memrchr};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// Arguments, as a program got them or in base64. Shared when cloned.
///
/// They lie as the kernel has them, one after the other and each ended by a NUL, for none can hold one (execve(2)): a list of any
/// length is one allocation, and to get at its last means to look at all.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Arguments(Arc<str>);

impl Arguments {
    /// From the strings one after the other, each ended by a NUL.
    pub(super) fn of_ended(strings: &str) -> Self {
        debug_assert!(strings.is_empty() || strings.ends_with('\0'), "the last is ended too");
        Self(strings.into())
    }

    /// How they lie.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// One after the other.
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// The first, by which most programs are called.
    pub fn first(&self) -> Option<&str> {
        self.iter().next()
    }

    /// The last.
    pub fn last(&self) -> Option<&str> {
        self.iter().next_back()
    }

    /// How many.
    pub fn len(&self) -> usize {
        memchr_iter(0, self.as_bytes()).count()
    }

    /// True if there is none, not even the name of the program.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// See [`Arguments::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a str);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let (argument, rest) = self.0.split_at(memchr(0, self.0.as_bytes())?);
        self.0 = &rest[1..];
        Some(argument)
    }
}

impl<'a> DoubleEndedIterator for Iter<'a> {
    fn next_back(&mut self) -> Option<&'a str> {
        let rest = self.0.strip_suffix('\0')?;
        let (before, argument) = rest.split_at(memrchr(0, rest.as_bytes()).map_or(0, |end| end + 1));
        self.0 = before;
        Some(argument)
    }
}

impl<'a> IntoIterator for &'a Arguments {
    type Item = &'a str;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// A NUL, which no argument can hold, becomes U+FFFD, as all that cannot be shown.
impl<S: AsRef<str>> FromIterator<S> for Arguments {
    fn from_iter<I: IntoIterator<Item = S>>(arguments: I) -> Self {
        let mut strings = String::new();
        for argument in arguments {
            match argument.as_ref() {
                bad if bad.contains('\0') => strings.push_str(&bad.replace('\0', "\u{fffd}")),
                good => strings.push_str(good),
            }
            strings.push('\0');
        }
        Self::of_ended(&strings)
    }
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(from).map(|arguments| arguments.iter().collect())
    }
}

impl JsonSchema for Arguments {
    fn schema_name() -> Cow<'static, str> {
        "Arguments".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<String>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_argument_is_not_an_empty_one() {
        let lists = [vec![], vec![""], vec!["", ""], vec!["sh", "", "-c"]];
        for list in lists {
            let arguments: Arguments = list.iter().collect();
            assert_eq!((arguments.len(), arguments.is_empty()), (list.len(), list.is_empty()));
            assert_eq!((arguments.first(), arguments.last()), (list.first().copied(), list.last().copied()));
        }
    }

    #[test]
    fn a_nul_parts_nothing() {
        let arguments: Arguments = serde_json::from_str(r#"["a", "b\u0000c"]"#).unwrap();
        assert!(arguments.iter().eq(["a", "b\u{fffd}c"]), "{arguments:?}");
    }

    proptest! {
        #[test]
        fn a_list_is_what_it_was_made_of(list in proptest::collection::vec("[^\0]{0,20}", 0..20)) {
            let arguments: Arguments = list.iter().collect();
            prop_assert!(arguments.iter().eq(&list) && arguments.iter().rev().eq(list.iter().rev()));
            prop_assert_eq!(arguments.len(), list.len());
            let json = serde_json::to_string(&arguments).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&list).unwrap());
            prop_assert_eq!(serde_json::from_str::<Arguments>(&json).unwrap(), arguments);
        }
    }
}
