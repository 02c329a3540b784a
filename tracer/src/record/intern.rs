//! Shares strings that repeat.
//!
//! Most records of a busy machine repeat a few strings: compilers, shells, their directories. A lookup costs less than
//! an allocation, and processes with the same string share it.

use std::cell::RefCell;
use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::FxHasher;
use tracer_common::limits::COMM_LEN;

use crate::event::Image;
use crate::record::text::{Arguments, Argv, Text};

/// Cache slots for strings, a power of two. A newer string replaces an older one in the same slot.
const SLOTS: usize = 1024;

/// Longer strings rarely repeat. This limits the cache to 180 KiB.
const MAX_LEN: usize = 128;

/// The same for whole argument lists: at most 80 KiB.
const LIST_SLOTS: usize = 256;
const MAX_LIST_LEN: usize = 256;

/// The same for the paths of an exec: at most 400 KiB, usually less than 150.
const PATH_SLOTS: usize = 256;
const MAX_PATHS_LEN: usize = 256;

/// The same for all strings of an exec: at most 1 MiB, usually less than 200 KiB.
const EXEC_SLOTS: usize = 256;
const MAX_STRINGS_LEN: usize = 512;

/// The paths of an exec, and the bytes that they were built from.
type Paths = [Option<Text>; 4];
type CachedPaths = (Box<[u8]>, Paths);

/// All strings of an exec.
#[derive(Clone)]
pub(crate) struct Strings {
    pub(crate) image: Arc<Image>,
    pub(crate) filename: Option<Text>,
    pub(crate) interpreter: Option<Text>,
}

/// The last exec in a cache slot. Most command lines never repeat, and those that do repeat often. So an exec is stored
/// only when it is seen twice.
#[derive(Clone, Default)]
struct CachedExec {
    /// Hash of the last lookup that missed.
    hash: usize,
    comm: [u8; COMM_LEN],
    source: Box<[u8]>,
    strings: Option<Strings>,
}

/// A cache: each slot remembers the last value that was mapped to it.
type Slots<T> = RefCell<Vec<Option<T>>>;

thread_local! {
    // Only caches: their content does not change any result.
    static TEXT_CACHE: Slots<Arc<str>> = const { RefCell::new(Vec::new()) };
    static LIST_CACHE: Slots<Arguments> = const { RefCell::new(Vec::new()) };
    static PATH_CACHE: Slots<CachedPaths> = const { RefCell::new(Vec::new()) };
    static EXEC_CACHE: RefCell<Vec<CachedExec>> = const { RefCell::new(Vec::new()) };
}

/// Converts bytes from the kernel to text.
pub(crate) fn text(bytes: &[u8]) -> Text {
    match string(bytes) {
        Some(lossy) => Text { lossy, b64: None },
        None => Text::new(bytes),
    }
}

/// Converts a NUL-padded array such as `task_struct.comm` to text.
pub(crate) fn padded(bytes: &[u8]) -> Text {
    text(bytes.split(|&b| b == 0).next().unwrap_or_default())
}

/// Returns the paths of an exec. They are built from `source` alone, so the same bytes give the same paths.
pub(crate) fn paths(source: &[u8], make: impl FnOnce() -> Paths) -> Paths {
    if source.len() > MAX_PATHS_LEN {
        return make();
    }
    PATH_CACHE.with_borrow_mut(|cache| {
        if cache.is_empty() {
            cache.resize(PATH_SLOTS, None);
        }
        let slot = &mut cache[hash(source) % PATH_SLOTS];
        match slot {
            Some((known, paths)) if **known == *source => paths.clone(),
            _ => {
                let paths = make();
                *slot = Some((source.into(), paths.clone()));
                paths
            }
        }
    })
}

/// Returns all strings of an exec. They are built from `source` and the name alone, so the same input gives the same
/// strings.
pub(crate) fn strings(comm: &[u8; COMM_LEN], source: &[u8], make: impl FnOnce() -> Strings) -> Strings {
    if source.len() > MAX_STRINGS_LEN {
        return make();
    }
    EXEC_CACHE.with_borrow_mut(|cache| {
        if cache.is_empty() {
            cache.resize_with(EXEC_SLOTS, CachedExec::default);
        }
        let hash = hash(source);
        let slot = &mut cache[hash % EXEC_SLOTS];
        if let Some(strings) = &slot.strings
            && *slot.source == *source
            && slot.comm == *comm
        {
            return strings.clone();
        }
        let strings = make();
        if slot.hash == hash {
            *slot = CachedExec { hash, comm: *comm, source: source.into(), strings: Some(strings.clone()) };
        }
        slot.hash = hash;
        strings
    })
}

/// Converts arguments as they are laid out in memory.
pub(crate) fn argv(bytes: &[u8]) -> Argv {
    if bytes.len() > MAX_LIST_LEN {
        return Argv::new(bytes);
    }
    LIST_CACHE.with_borrow_mut(|cache| {
        if cache.is_empty() {
            cache.resize(LIST_SLOTS, None);
        }
        let slot = &mut cache[hash(bytes) % LIST_SLOTS];
        if let Some(known) = slot
            && known.as_bytes() == bytes
        {
            return Argv { lossy: known.clone(), b64: None };
        }
        let argv = Argv::new(bytes);
        if argv.b64.is_none() {
            *slot = Some(argv.lossy.clone());
        }
        argv
    })
}

fn hash(bytes: &[u8]) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish() as usize
}

/// Returns a shared string, or None if the bytes are not UTF-8.
fn string(bytes: &[u8]) -> Option<Arc<str>> {
    if bytes.len() > MAX_LEN {
        return std::str::from_utf8(bytes).ok().map(Arc::from);
    }
    let slot = hash(bytes) % SLOTS;
    TEXT_CACHE.with_borrow_mut(|cache| {
        if cache.is_empty() {
            cache.resize(SLOTS, None);
        }
        if let Some(known) = &cache[slot]
            && known.as_bytes() == bytes
        {
            return Some(known.clone());
        }
        let new: Arc<str> = std::str::from_utf8(bytes).ok()?.into();
        cache[slot] = Some(new.clone());
        Some(new)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repeated_strings_are_shared() {
        let (a, b) = (text(b"/usr/bin/cc"), text(b"/usr/bin/cc"));
        assert!(Arc::ptr_eq(&a.lossy, &b.lossy));
        let long = vec![b'x'; MAX_LEN + 1];
        assert!(!Arc::ptr_eq(&text(&long).lossy, &text(&long).lossy));
        let lists = || argv(b"cc\0-c\0").lossy;
        assert!(std::ptr::eq(lists().as_bytes(), lists().as_bytes()));
        for bytes in [&b"a\0b"[..], b"a\0b\0", b"a\0b", b""] {
            assert_eq!(argv(bytes), Argv::new(bytes));
        }
    }

    proptest! {
        #[test]
        fn results_are_the_same_without_a_cache(strings in proptest::collection::vec("[a-c/]{0,3}|.{0,200}", 0..200), junk: Vec<u8>) {
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
