//! Converts bytes from the kernel to text. The text may be lossy; then the bytes are kept too.

mod arguments;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use arguments::{Arguments, Iter as ArgumentsIter};

/// A byte string from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// As UTF-8. Invalid bytes become U+FFFD.
    pub lossy: Arc<str>,
    /// The bytes in base64, only when they are not UTF-8.
    pub b64: Option<Arc<str>>,
}

impl Text {
    /// Converts bytes.
    pub fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { lossy: text.into(), b64: None },
            Err(_) => Self { lossy: String::from_utf8_lossy(bytes).into(), b64: Some(STANDARD.encode(bytes).into()) },
        }
    }

    /// Converts a NUL-padded array such as `task_struct.comm`.
    pub fn from_padded(bytes: &[u8]) -> Self {
        Self::new(bytes.split(|&b| b == 0).next().unwrap_or_default())
    }
}

/// An argument list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argv {
    /// Arguments as UTF-8. Invalid bytes become U+FFFD.
    pub lossy: Arguments,
    /// The bytes of every argument in base64, only if any is not UTF-8.
    pub b64: Option<Arguments>,
}

impl Argv {
    /// Converts strings as they are laid out in memory, each terminated by a NUL. A last one that was cut has none.
    pub fn new(bytes: &[u8]) -> Self {
        let ended = match bytes {
            [] | [.., 0] => Cow::Borrowed(bytes),
            cut => Cow::Owned([cut, b"\0"].concat()),
        };
        if let Ok(strings) = std::str::from_utf8(&ended) {
            return Self { lossy: Arguments::from_terminated(strings), b64: None };
        }
        let arguments = ended.split_inclusive(|&byte| byte == 0).map(|ended| &ended[..ended.len() - 1]);
        let lossy = Arguments::from_terminated(&String::from_utf8_lossy(&ended));
        Self { lossy, b64: Some(arguments.map(|argument| STANDARD.encode(argument)).collect()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_kept() {
        let text = Text::new(b"a\xffb");
        assert_eq!(&*text.lossy, "a\u{fffd}b");
        assert_eq!(STANDARD.decode(&**text.b64.as_ref().unwrap()).unwrap(), b"a\xffb");
        assert_eq!(Text::new("ä".as_bytes()), Text { lossy: "ä".into(), b64: None });
    }

    #[test]
    fn arguments_are_split_at_nuls() {
        let strings = |bytes: &[u8]| Argv::new(bytes).lossy.iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(strings(b"sh\0-c\0\0"), ["sh", "-c", ""]);
        assert_eq!(strings(b"sh\0cu"), ["sh", "cu"]);
        assert_eq!(strings(b"\0"), [""]);
        assert!(strings(b"").is_empty());
        assert_eq!(strings(b"a\0\xc3"), ["a", "\u{fffd}"]);
    }

    proptest! {
        #[test]
        fn each_argument_is_converted_like_a_single_text(
            list in proptest::collection::vec(proptest::collection::vec(1..=255_u8, 0..8), 0..8),
            cut: bool,
        ) {
            let mut bytes = list.iter().flat_map(|argument| [argument, &b"\0"[..]].concat()).collect::<Vec<u8>>();
            if cut && list.last().is_some_and(|last| !last.is_empty()) {
                bytes.pop();
            }
            let (argv, alone) = (Argv::new(&bytes), list.iter().map(|argument| Text::new(argument)).collect::<Vec<_>>());
            prop_assert!(argv.lossy.iter().eq(alone.iter().map(|text| &*text.lossy)));
            prop_assert_eq!(argv.b64.is_some(), alone.iter().any(|text| text.b64.is_some()));
            if let Some(b64) = argv.b64 {
                prop_assert!(b64.iter().eq(list.iter().map(|argument| STANDARD.encode(argument))));
            }
        }
    }
}
