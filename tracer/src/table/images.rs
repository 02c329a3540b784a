//! What processes run, kept once for all that have it in common, and how much memory that takes.

use std::hash::{Hash as _, Hasher as _};
use std::mem::size_of;
use std::sync::Arc;

use rustc_hash::FxHasher;

use super::entry::Image;
use crate::text::{Argv, Text};

/// Images that may come again: storms run the same few commands over and over.
const PLACES: usize = 256;

/// Larger ones are seldom seen twice: what is remembered stays within 256 KiB.
const LARGEST: usize = 1024;

/// All images that are in use. Whoever holds one as the first takes it in, whoever as the last lets it go.
#[derive(Debug, Default)]
pub(super) struct Images {
    bytes: usize,
    /// Those of the last execs; a newer one takes the place of an older that falls into the same.
    recent: Vec<Option<Arc<Image>>>,
}

impl Images {
    /// Memory that they take, in bytes: at most, for short strings are shared even among different images.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An image is about to be held.
    pub(super) fn take_in(&mut self, image: &Arc<Image>) {
        if Arc::strong_count(image) == 1 {
            self.bytes += image.bytes();
        }
    }

    /// An image is about to be dropped.
    pub(super) fn let_go(&mut self, image: &Arc<Image>) {
        if Arc::strong_count(image) == 1 {
            self.bytes = self.bytes.saturating_sub(image.bytes());
        }
    }

    /// The image, or one like it that is there already.
    pub(super) fn share(&mut self, image: Image) -> Arc<Image> {
        if self.recent.is_empty() {
            self.recent.resize(PLACES, None);
        }
        let place = place(&image);
        if let Some(known) = self.recent[place].as_ref().filter(|known| ***known == image) {
            return known.clone();
        }
        let small = image.bytes() <= LARGEST;
        let image = Arc::new(image);
        if !small {
            return image;
        }
        self.take_in(&image);
        if let Some(old) = self.recent[place].replace(image.clone()) {
            self.let_go(&old);
        }
        image
    }

    /// Keeps none that nobody has.
    pub(super) fn forget_recent(&mut self) {
        for old in std::mem::take(&mut self.recent).into_iter().flatten() {
            self.let_go(&old);
        }
    }
}

/// Where an image is looked for. Strings that come again are the same in memory ([`crate::intern`]).
fn place(image: &Image) -> usize {
    let mut hasher = FxHasher::default();
    image.exe.as_ref().map(|exe| exe.lossy.as_ptr()).hash(&mut hasher);
    image.argv.as_ref().map(|argv| argv.lossy.as_ptr()).hash(&mut hasher);
    hasher.finish() as usize % PLACES
}

impl Image {
    /// Its memory, with that of all its strings.
    pub(super) fn bytes(&self) -> usize {
        let Self { comm, exe, cwd, argv } = self;
        let texts = [comm, exe, cwd].into_iter().flatten().map(text).sum::<usize>();
        shared(size_of::<Self>()) + texts + argv.as_ref().map_or(0, arguments)
    }
}

fn text(text: &Text) -> usize {
    let Text { lossy, b64 } = text;
    shared(lossy.len()) + b64.as_ref().map_or(0, |b64| shared(b64.len()))
}

fn arguments(argv: &Argv) -> usize {
    let list = |list: &[Arc<str>]| {
        shared(size_of_val(list)) + list.iter().map(|argument| shared(argument.len())).sum::<usize>()
    };
    let Argv { lossy, b64 } = argv;
    list(lossy) + b64.as_deref().map_or(0, list)
}

/// Memory of so many bytes in an [`Arc`]: its two counters, and what an allocator rounds up to.
const fn shared(bytes: usize) -> usize {
    let with_counters = 2 * size_of::<usize>() + bytes;
    let with_size = (with_counters + size_of::<usize>()).next_multiple_of(16);
    if with_size < 32 { 32 } else { with_size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intern;

    fn image(argument: &[u8]) -> Image {
        Image {
            comm: Some(intern::text(b"true")),
            exe: Some(intern::text(b"/bin/true")),
            cwd: None,
            argv: Some(intern::argv(argument)),
        }
    }

    #[test]
    fn what_is_held_by_many_counts_once_and_until_the_last_lets_go() {
        let mut images = Images::default();
        let one = images.share(image(b"true\0-x\0"));
        let all = images.bytes();
        assert_eq!(all, one.bytes());
        let two = images.share(image(b"true\0-x\0"));
        assert!(Arc::ptr_eq(&one, &two));
        let long = images.share(image(&[b'y'; 3 * LARGEST]));
        images.take_in(&long);
        assert_eq!(images.bytes(), all + long.bytes());
        images.let_go(&long);
        images.let_go(&one);
        drop(one);
        images.forget_recent();
        assert_eq!(images.bytes(), all, "one still has it");
        images.let_go(&two);
        assert_eq!(images.bytes(), 0);
    }
}
