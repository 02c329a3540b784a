//! Strings that come again and again, kept once.
//!
//! Most records of a busy machine repeat a few strings: compilers, shells, their directories. Looking one up costs less
//! than allocating it, and the processes that have it in common share it.

use std::cell::RefCell;
use std::hash::Hasher;
use std::sync::Arc;

use rustc_hash::FxHasher;
use tracer_common::limits::COMM_LEN;

use crate::event::Image;
use crate::record::text::{Arguments, Argv, Text};

/// Strings remembered, a power of two; a newer one takes the place of an older that falls into the same.
const PLACES: usize = 1024;

/// Longer strings are seldom seen twice: what is remembered stays within 180 KiB.
const LONGEST: usize = 128;

/// The same for whole argument lists; what is remembered of them stays within 80 KiB.
const LISTS: usize = 256;
const LONGEST_LIST: usize = 256;

/// And for the paths of an exec; what is remembered of them stays within 400 KiB, most often within 150.
const PATHS: usize = 256;
const LONGEST_PATHS: usize = 256;

/// And for all its strings; what is remembered of them stays within 1 MiB, most often within 200 KiB.
const EXECS: usize = 256;
const LONGEST_STRINGS: usize = 512;

/// The paths of an exec, and what they were made of.
type Paths = [Option<Text>; 4];
type PathsSeen = (Box<[u8]>, Paths);

/// All strings of an exec.
#[derive(Clone)]
pub(crate) struct Strings {
    pub(crate) image: Arc<Image>,
    pub(crate) filename: Option<Text>,
    pub(crate) interpreter: Option<Text>,
}

/// What execs of a place have in common. Most command lines never come again, and those that do, often: none is remembered
/// before it is seen twice.
#[derive(Clone, Default)]
struct ExecSeen {
    /// Of the last that was looked for in vain.
    hash: usize,
    comm: [u8; COMM_LEN],
    made_of: Box<[u8]>,
    strings: Option<Strings>,
}

/// A cache: what falls into a place is remembered there.
type Places<T> = RefCell<Vec<Option<T>>>;

thread_local! {
    // Only caches: what they hold shows in no result.
    static SEEN: Places<Arc<str>> = const { RefCell::new(Vec::new()) };
    static LISTS_SEEN: Places<Arguments> = const { RefCell::new(Vec::new()) };
    static PATHS_SEEN: Places<PathsSeen> = const { RefCell::new(Vec::new()) };
    static EXECS_SEEN: RefCell<Vec<ExecSeen>> = const { RefCell::new(Vec::new()) };
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

/// All strings of an exec. Whatever they are made of is in these bytes and in the name, so that the same stand for the same.
pub(crate) fn strings(comm: &[u8; COMM_LEN], made_of: &[u8], make: impl FnOnce() -> Strings) -> Strings {
    if made_of.len() > LONGEST_STRINGS {
        return make();
    }
    EXECS_SEEN.with_borrow_mut(|seen| {
        if seen.is_empty() {
            seen.resize_with(EXECS, ExecSeen::default);
        }
        let hash = hash(made_of);
        let seen = &mut seen[hash % EXECS];
        if let Some(strings) = &seen.strings
            && *seen.made_of == *made_of
            && seen.comm == *comm
        {
            return strings.clone();
        }
        let strings = make();
        if seen.hash == hash {
            *seen = ExecSeen { hash, comm: *comm, made_of: made_of.into(), strings: Some(strings.clone()) };
        }
        seen.hash = hash;
        strings
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
            && known.as_bytes() == bytes
        {
            return Argv { lossy: known.clone(), b64: None };
        }
        let argv = Argv::new(bytes);
        if argv.b64.is_none() {
            *place = Some(argv.lossy.clone());
        }
        argv
    })
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
        let lists = || argv(b"cc\0-c\0").lossy;
        assert!(std::ptr::eq(lists().as_bytes(), lists().as_bytes()));
        for bytes in [&b"a\0b"[..], b"a\0b\0", b"a\0b", b""] {
            assert_eq!(argv(bytes), Argv::new(bytes));
        }
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
