//! Bytes of the kernel as text: shared, lossy where they must be, and never losing the bytes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A byte string of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// As UTF-8; what is not shows as U+FFFD.
    pub lossy: Arc<str>,
    /// The bytes in base64, only when they are not UTF-8.
    pub b64: Option<Arc<str>>,
}

impl Text {
    /// From bytes.
    pub fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { lossy: text.into(), b64: None },
            Err(_) => Self { lossy: String::from_utf8_lossy(bytes).into(), b64: Some(STANDARD.encode(bytes).into()) },
        }
    }

    /// From a NUL-padded array such as `task_struct.comm`.
    pub fn from_padded(bytes: &[u8]) -> Self {
        Self::new(bytes.split(|&b| b == 0).next().unwrap_or_default())
    }
}

/// An argument list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argv {
    /// Arguments as UTF-8; what is not shows as U+FFFD.
    pub lossy: Arc<[Arc<str>]>,
    /// Every argument's bytes in base64, only when any is not UTF-8.
    pub b64: Option<Arc<[Arc<str>]>>,
}

impl Argv {
    /// From the strings as they lie in memory, each ended by a NUL; a last one that was cut has none.
    pub fn new(bytes: &[u8]) -> Self {
        let body = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        let arguments = || body.split(|&b| b == 0).filter(|_| !bytes.is_empty());
        match std::str::from_utf8(bytes) {
            Ok(_) => Self { lossy: arguments().map(|a| Text::new(a).lossy).collect(), b64: None },
            Err(_) => Self {
                lossy: arguments().map(|a| Text::new(a).lossy).collect(),
                b64: Some(arguments().map(|a| STANDARD.encode(a).into()).collect()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
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
        let strings = |bytes: &[u8]| Argv::new(bytes).lossy.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(strings(b"sh\0-c\0\0"), ["sh", "-c", ""]);
        assert_eq!(strings(b"sh\0cu"), ["sh", "cu"]);
        assert_eq!(strings(b"\0"), [""]);
        assert!(strings(b"").is_empty());
        assert_eq!(Argv::new(b"a\0\xff\0").b64.unwrap().len(), 2);
    }
}
