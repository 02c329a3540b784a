//! What processes run, kept once for all that have it in common, and how much memory that takes.
//!
//! Who holds an image is counted here, and not by its [`Arc`]: events and the decoder's cache have it too, for a while.

use std::mem::size_of;
use std::sync::Arc;

use tracer_common::limits::COMM_LEN;

use super::room;
use crate::event::Image;
use crate::record::intern;
use crate::record::text::Text;

/// Images that may come again: storms run the same few commands over and over.
const RECENT: usize = 256;

/// Place of an image, valid as long as it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ImageId(u32);

impl ImageId {
    /// That of a process of which nothing is known; always there, and nobody has to hold it.
    pub(super) const NONE: Self = Self(0);

    fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
struct Held {
    image: Arc<Image>,
    holders: u32,
    /// Memory that it takes.
    bytes: usize,
}

/// The same image under another name, as a thread that has one of its own hands down to each of its children.
#[derive(Debug)]
struct Renamed {
    from: ImageId,
    comm: [u8; COMM_LEN],
    to: ImageId,
}

/// All images that are in use.
#[derive(Debug)]
pub(super) struct Images {
    held: Vec<Held>,
    free: Vec<ImageId>,
    bytes: usize,
    /// Those of the last execs that the decoder has seen before, by where they lie; a newer one takes the place of an older.
    recent: Vec<Option<ImageId>>,
    renamed: Option<Renamed>,
}

impl Default for Images {
    fn default() -> Self {
        let none = Held { image: Image::none(), holders: 0, bytes: 0 };
        Self { held: vec![none], free: Vec::new(), bytes: 0, recent: Vec::new(), renamed: None }
    }
}

impl std::ops::Index<ImageId> for Images {
    type Output = Arc<Image>;

    fn index(&self, id: ImageId) -> &Arc<Image> {
        &self.held[id.index()].image
    }
}

impl Images {
    /// Memory that they take, in bytes: at most, for short strings are shared even among different images.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes an image in, for its first holder.
    pub(super) fn take_in(&mut self, image: Arc<Image>) -> ImageId {
        let held = Held { bytes: bytes(&image), image, holders: 1 };
        self.bytes += held.bytes;
        if let Some(id) = self.free.pop() {
            self.held[id.index()] = held;
            return id;
        }
        self.held.push(held);
        ImageId((self.held.len() - 1) as u32)
    }

    /// One more holds it.
    pub(super) fn hold(&mut self, id: ImageId) -> ImageId {
        self.held[id.index()].holders += u32::from(id != ImageId::NONE);
        id
    }

    /// One less holds it.
    pub(super) fn let_go(&mut self, id: ImageId) {
        if id == ImageId::NONE {
            return;
        }
        let held = &mut self.held[id.index()];
        held.holders -= 1;
        if held.holders == 0 {
            self.bytes -= held.bytes;
            held.image = Image::none();
            self.free.push(id);
        }
    }

    /// Holds an image that others may run as well: if the decoder remembers it (or somebody else has it), it is looked for.
    pub(super) fn share(&mut self, image: Arc<Image>) -> ImageId {
        if Arc::strong_count(&image) == 1 {
            return self.take_in(image);
        }
        if self.recent.is_empty() {
            self.recent.resize(RECENT, None);
        }
        // By its address, without the bits that are alike for all.
        let place = (Arc::as_ptr(&image).addr() / size_of::<Image>()) % RECENT;
        if let Some(known) = self.recent[place].filter(|&known| Arc::ptr_eq(&self[known], &image)) {
            return self.hold(known);
        }
        let id = self.take_in(image);
        self.hold(id);
        if let Some(old) = self.recent[place].replace(id) {
            self.let_go(old);
        }
        id
    }

    /// Holds the same image under a name that a record tells, which most often is the one it has.
    pub(super) fn named(&mut self, from: ImageId, comm: &[u8; COMM_LEN]) -> ImageId {
        if has_comm(&self[from], comm) {
            return self.hold(from);
        }
        if let Some(known) = self.renamed.as_ref().filter(|known| known.from == from && known.comm == *comm) {
            return self.hold(known.to);
        }
        let Text { lossy, b64 } = intern::padded(comm);
        let to = self.take_in(Arc::new(Image { comm: Some(lossy), comm_b64: b64, ..Image::clone(&self[from]) }));
        let renamed = Renamed { from: self.hold(from), comm: *comm, to: self.hold(to) };
        if let Some(old) = self.renamed.replace(renamed) {
            self.let_go(old.from);
            self.let_go(old.to);
        }
        to
    }

    /// Keeps none that nobody has.
    pub(super) fn forget_recent(&mut self) {
        let recent = std::mem::take(&mut self.recent).into_iter().flatten();
        let renamed = self.renamed.take().into_iter().flat_map(|renamed| [renamed.from, renamed.to]);
        for id in recent.chain(renamed) {
            self.let_go(id);
        }
    }

    /// Cuts arguments and working directories off, the largest images first, until all take no more than so many bytes. Tells
    /// how many processes lost theirs.
    pub(super) fn cut(&mut self, to_bytes: usize) -> u64 {
        self.forget_recent();
        // A place that is free has neither.
        let whole = |id: &ImageId| self[*id].argv.is_some() || self[*id].cwd.is_some();
        let mut ids: Vec<ImageId> = (0..self.held.len() as u32).map(ImageId).filter(whole).collect();
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(self.held[id.index()].bytes));
        let mut cut = 0;
        for id in ids {
            if self.bytes <= to_bytes {
                break;
            }
            let held = &mut self.held[id.index()];
            let Image { comm, comm_b64, exe, exe_b64, .. } = Image::clone(&held.image);
            held.image = Arc::new(Image { comm, comm_b64, exe, exe_b64, ..Image::default() });
            let bytes = bytes(&held.image);
            self.bytes -= held.bytes - bytes;
            held.bytes = bytes;
            cut += u64::from(held.holders);
        }
        cut
    }

    /// Gives back places at the end that nobody needs.
    pub(super) fn shrink(&mut self) {
        room::truncate(&mut self.held, &mut self.free, ImageId::index);
        self.held.shrink_to(2 * self.held.len());
        self.free.shrink_to(2 * self.free.len());
    }
}

/// True if the image already has this name.
fn has_comm(image: &Image, comm: &[u8; COMM_LEN]) -> bool {
    let Image { comm: Some(name), comm_b64: None, .. } = image else { return false };
    let name = name.as_bytes();
    comm.starts_with(name) && comm.get(name.len()).is_none_or(|&next| next == 0)
}

/// Memory of an image, with that of all its strings and of its place.
fn bytes(image: &Image) -> usize {
    let Image { comm, comm_b64, exe, exe_b64, argv, argv_b64, cwd, cwd_b64 } = image;
    let lists = [argv, argv_b64].into_iter().flatten().map(|list| list.as_bytes().len());
    let texts = [comm, comm_b64, exe, exe_b64, cwd, cwd_b64].into_iter().flatten().map(|text| text.len());
    size_of::<Held>() + shared(size_of::<Image>()) + lists.chain(texts).map(shared).sum::<usize>()
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

    fn image(argument: &[u8]) -> Arc<Image> {
        let text = |text: &[u8]| Some(intern::text(text));
        Image::new(text(b"true"), text(b"/bin/true"), text(b"/"), Some(intern::argv(argument))).into()
    }

    fn name(comm: &str) -> [u8; COMM_LEN] {
        let mut padded = [0; COMM_LEN];
        padded[..comm.len()].copy_from_slice(comm.as_bytes());
        padded
    }

    #[test]
    fn what_is_held_by_many_counts_once_and_until_the_last_lets_go() {
        let mut images = Images::default();
        let known = image(b"true\0-x\0");
        let one = images.share(known.clone());
        let all = images.bytes();
        assert_eq!(all, bytes(&known));
        let two = images.share(known.clone());
        assert_eq!(one, two);
        // Whoever else has it, as an event does, changes nothing.
        let event = images[one].clone();
        let other = images.share(image(&[b'y'; 3000]));
        assert_eq!(images.bytes(), all + bytes(&images[other]));
        images.let_go(other);
        images.let_go(one);
        images.forget_recent();
        assert_eq!(images.bytes(), all, "one still has it");
        images.let_go(two);
        assert_eq!(images.bytes(), 0);
        assert_eq!(event, known);
        let again = images.share(image(b"false\0"));
        assert_eq!(again, two, "its place was free");
    }

    #[test]
    fn another_name_is_another_image_and_the_same_name_is_not() {
        let mut images = Images::default();
        let one = images.take_in(image(b"true\0"));
        assert_eq!(images.named(one, &name("true")), one);
        let other = images.named(one, &name("worker-1"));
        assert_eq!(images.named(one, &name("worker-1")), other, "each time");
        assert_eq!(images[other].comm.as_deref(), Some("worker-1"));
        assert_eq!(images[other].argv, images[one].argv);
        let third = images.named(one, &name("worker-2"));
        for (id, times) in [(one, 2), (other, 2), (third, 1)] {
            (0..times).for_each(|_| images.let_go(id));
        }
        assert_ne!(images.bytes(), 0, "it may come again");
        images.forget_recent();
        assert_eq!(images.bytes(), 0);
        let nobody = images.named(ImageId::NONE, &name("x"));
        assert_eq!((images[nobody].comm.as_deref(), images[ImageId::NONE].comm.as_deref()), (Some("x"), None));
    }

    #[test]
    fn the_largest_are_cut_first_and_those_who_hold_them_are_counted() {
        let mut images = Images::default();
        let small = images.take_in(image(b"true\0"));
        let gone = images.take_in(image(&[b'z'; 9000]));
        let large = images.take_in(image(&[b'y'; 3000]));
        images.hold(large);
        images.let_go(gone);
        assert_eq!(images.cut(1500), 2);
        assert!(images.bytes() <= 1500);
        assert_eq!((images[large].argv.as_ref(), images[large].cwd.as_ref()), (None, None));
        assert_eq!(images[large].exe.as_deref(), Some("/bin/true"));
        assert!(images[small].argv.is_some());
        images.let_go(large);
        images.let_go(large);
        images.let_go(small);
        images.shrink();
        assert_eq!((images.bytes(), images.held.len(), images.free.len()), (0, 1, 0));
    }
}
