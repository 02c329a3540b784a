//! Strings that come again and again, kept once.
//!
//! Most records of a busy machine repeat a few strings: compilers, shells, their directories and options. Looking
//! one up costs less than allocating it, and the processes that have it in common share it.

use std::cell::RefCell;
use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::FxHasher;

use crate::record::Field;
use crate::text::{Argv, Text};

/// Strings remembered, a power of two; a newer one takes the place of an older that falls into the same.
const PLACES: usize = 1024;

/// Longer strings are seldom seen twice: what is remembered stays within 128 KiB.
const LONGEST: usize = 128;

/// The same for whole argument lists; what is remembered of them stays within 64 KiB and what their strings take.
const LISTS: usize = 256;
const LONGEST_LIST: usize = 256;

/// And for the paths of an exec; what is remembered of them stays within 400 KiB, most often within 150.
const PATHS: usize = 256;
const LONGEST_PATHS: usize = 256;

/// The paths of an exec, and what they were made of.
type Paths = [Field<Text>; 4];
type PathsSeen = (Box<[u8]>, Paths);

/// A cache: what falls into a place is remembered there.
type Places<T> = RefCell<Vec<Option<T>>>;

thread_local! {
    // Only caches: what they hold shows in no result.
    static SEEN: Places<Arc<str>> = const { RefCell::new(Vec::new()) };
    static LISTS_SEEN: Places<Arc<[Arc<str>]>> = const { RefCell::new(Vec::new()) };
    static PATHS_SEEN: Places<PathsSeen> = const { RefCell::new(Vec::new()) };
}

/// Bytes of the kernel as text.
pub(crate) fn text(bytes: &[u8]) -> Text {
    match string(bytes) {
        Some(lossy) => Text { lossy, b64: None },
        None => Text::new(bytes),
    }
}

/// The text in a NUL-padded array such as `task_struct.comm`.
pub(crate) fn padded(bytes: &[u8]) -> Text {
    text(bytes.split(|&b| b == 0).next().unwrap_or_default())
}

/// The paths of an exec. Whatever they are made of is in these bytes, so that the same bytes stand for the same paths.
pub(crate) fn paths(made_of: &[u8], make: impl FnOnce() -> Paths) -> Paths {
    if made_of.len() > LONGEST_PATHS {
        return make();
    }
    PATHS_SEEN.with_borrow_mut(|seen| {
        if seen.is_empty() {
            seen.resize(PATHS, None);
        }
        let place = &mut seen[hash(made_of) % PATHS];
        match place {
            Some((known, paths)) if **known == *made_of => paths.clone(),
            _ => {
                let paths = make();
                *place = Some((made_of.into(), paths.clone()));
                paths
            }
        }
    })
}

/// The arguments as they lie in memory.
pub(crate) fn argv(bytes: &[u8]) -> Argv {
    if bytes.len() > LONGEST_LIST {
        return Argv::new(bytes);
    }
    LISTS_SEEN.with_borrow_mut(|seen| {
        if seen.is_empty() {
            seen.resize(LISTS, None);
        }
        let place = &mut seen[hash(bytes) % LISTS];
        if let Some(known) = place
            && spells(known, bytes)
        {
            return Argv { lossy: known.clone(), b64: None };
        }
        if bytes.is_empty() || std::str::from_utf8(bytes).is_err() {
            return Argv::new(bytes);
        }
        let body = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        let lossy: Arc<[Arc<str>]> = body.split(|&b| b == 0).filter_map(string).collect();
        *place = Some(lossy.clone());
        Argv { lossy, b64: None }
    })
}

/// True if the bytes are exactly these strings, each ended by a NUL.
fn spells(list: &[Arc<str>], mut bytes: &[u8]) -> bool {
    for string in list {
        match bytes.strip_prefix(string.as_bytes()).and_then(|rest| rest.strip_prefix(b"\0")) {
            Some(rest) => bytes = rest,
            None => return false,
        }
    }
    bytes.is_empty()
}

fn hash(bytes: &[u8]) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish() as usize
}

/// One string; none if it is not UTF-8.
fn string(bytes: &[u8]) -> Option<Arc<str>> {
    if bytes.len() > LONGEST {
        return std::str::from_utf8(bytes).ok().map(Arc::from);
    }
    let place = hash(bytes) % PLACES;
    SEEN.with_borrow_mut(|seen| {
        if seen.is_empty() {
            seen.resize(PLACES, None);
        }
        if let Some(known) = &seen[place]
            && known.as_bytes() == bytes
        {
            return Some(known.clone());
        }
        let new: Arc<str> = std::str::from_utf8(bytes).ok()?.into();
        seen[place] = Some(new.clone());
        Some(new)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_seen_twice_is_kept_once() {
        let (a, b) = (text(b"/usr/bin/cc"), text(b"/usr/bin/cc"));
        assert!(Arc::ptr_eq(&a.lossy, &b.lossy));
        let long = vec![b'x'; LONGEST + 1];
        assert!(!Arc::ptr_eq(&text(&long).lossy, &text(&long).lossy));
    }

    proptest! {
        #[test]
        fn nothing_else_shows(strings in proptest::collection::vec("[a-c/]{0,3}|.{0,200}", 0..200), junk: Vec<u8>) {
            for string in &strings {
                prop_assert_eq!(text(string.as_bytes()), Text::new(string.as_bytes()));
            }
            prop_assert_eq!(text(&junk), Text::new(&junk));
            let joined: Vec<u8> = strings.iter().flat_map(|string| [string.as_bytes(), b"\0"].concat()).collect();
            prop_assert_eq!(argv(&joined), Argv::new(&joined));
            prop_assert_eq!(argv(&junk), Argv::new(&junk));
        }
    }
}
