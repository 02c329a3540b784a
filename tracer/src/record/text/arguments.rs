//! An argument list in one allocation.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use memchr::{memchr, memchr_iter, memrchr};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// The arguments of a program, as text or in base64. Clones share the data.
///
/// They are stored as in the kernel: one after the other, each terminated by a NUL, which no argument can contain
/// (execve(2)). So a list of any length is one allocation. Finding an argument by index scans the list.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Arguments(Arc<str>);

impl Arguments {
    /// Takes the strings one after the other, each terminated by a NUL.
    pub(super) fn from_terminated(strings: &str) -> Self {
        debug_assert!(strings.is_empty() || strings.ends_with('\0'), "the last is ended too");
        Self(strings.into())
    }

    /// Returns the stored bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns the arguments in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// Returns the first argument: usually the name under which the program was called.
    pub fn first(&self) -> Option<&str> {
        self.iter().next()
    }

    /// Returns the last argument.
    pub fn last(&self) -> Option<&str> {
        self.iter().next_back()
    }

    /// Returns the number of arguments.
    pub fn len(&self) -> usize {
        memchr_iter(0, self.as_bytes()).count()
    }

    /// Returns true for an empty list, without even a program name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An iterator over [`Arguments`]. See [`Arguments::iter`].
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

/// A NUL, which no argument can contain, becomes U+FFFD like everything that is not UTF-8.
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
        Self::from_terminated(&strings)
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
    fn no_argument_differs_from_an_empty_one() {
        let lists = [vec![], vec![""], vec!["", ""], vec!["sh", "", "-c"]];
        for list in lists {
            let arguments: Arguments = list.iter().collect();
            assert_eq!((arguments.len(), arguments.is_empty()), (list.len(), list.is_empty()));
            assert_eq!((arguments.first(), arguments.last()), (list.first().copied(), list.last().copied()));
        }
    }

    #[test]
    fn a_nul_does_not_split_an_argument() {
        let arguments: Arguments = serde_json::from_str(r#"["a", "b\u0000c"]"#).unwrap();
        assert!(arguments.iter().eq(["a", "b\u{fffd}c"]), "{arguments:?}");
    }

    proptest! {
        #[test]
        fn a_list_returns_its_arguments(list in proptest::collection::vec("[^\0]{0,20}", 0..20)) {
            let arguments: Arguments = list.iter().collect();
            prop_assert!(arguments.iter().eq(&list) && arguments.iter().rev().eq(list.iter().rev()));
            prop_assert_eq!(arguments.len(), list.len());
            let json = serde_json::to_string(&arguments).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&list).unwrap());
            prop_assert_eq!(serde_json::from_str::<Arguments>(&json).unwrap(), arguments);
        }
    }
}
