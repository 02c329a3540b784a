//! The images (programs and arguments) of processes, stored once per distinct image, and their memory.
//!
//! References from entries are counted here, not by the [`Arc`]: events and the decoder's cache also hold it for a
//! while.

use std::mem::size_of;
use std::sync::Arc;

use tracer_common::limits::COMM_LEN;

use super::budget;
use crate::event::Image;
use crate::record::intern;
use crate::record::text::Text;

/// How many recent images are kept for reuse: storms run the same few commands over and over.
const RECENT: usize = 256;

/// Index of an image, valid while it is referenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ImageId(u32);

impl ImageId {
    /// The image of a process of which nothing is known. It always exists and needs no reference.
    pub(super) const NONE: Self = Self(0);

    fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
struct StoredImage {
    image: Arc<Image>,
    references: u32,
    /// Memory that it takes.
    bytes: usize,
}

/// The same image under another name. A thread with its own name passes that on to each of its children.
#[derive(Debug)]
struct Renamed {
    from: ImageId,
    comm: [u8; COMM_LEN],
    to: ImageId,
}

/// All images in use.
#[derive(Debug)]
pub(super) struct Images {
    entries: Vec<StoredImage>,
    free: Vec<ImageId>,
    bytes: usize,
    /// Images of recent execs that the decoder has seen before, by address. A newer one replaces an older.
    recent: Vec<Option<ImageId>>,
    renamed: Option<Renamed>,
}

impl Default for Images {
    fn default() -> Self {
        let none = StoredImage { image: Image::none(), references: 0, bytes: 0 };
        Self { entries: vec![none], free: Vec::new(), bytes: 0, recent: Vec::new(), renamed: None }
    }
}

impl std::ops::Index<ImageId> for Images {
    type Output = Arc<Image>;

    fn index(&self, id: ImageId) -> &Arc<Image> {
        &self.entries[id.index()].image
    }
}

impl Images {
    /// Returns their memory in bytes. This is an upper bound: different images may share short strings.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an image with one reference.
    pub(super) fn add(&mut self, image: Arc<Image>) -> ImageId {
        let entry = StoredImage { bytes: bytes(&image), image, references: 1 };
        self.bytes += entry.bytes;
        if let Some(id) = self.free.pop() {
            self.entries[id.index()] = entry;
            return id;
        }
        self.entries.push(entry);
        ImageId((self.entries.len() - 1) as u32)
    }

    /// Adds a reference.
    pub(super) fn acquire(&mut self, id: ImageId) -> ImageId {
        self.entries[id.index()].references += u32::from(id != ImageId::NONE);
        id
    }

    /// Drops a reference.
    pub(super) fn release(&mut self, id: ImageId) {
        if id == ImageId::NONE {
            return;
        }
        let entry = &mut self.entries[id.index()];
        entry.references -= 1;
        if entry.references == 0 {
            self.bytes -= entry.bytes;
            entry.image = Image::none();
            self.free.push(id);
        }
    }

    /// Returns a reference to an image that other processes may share. Images that others hold too (the decoder, for
    /// example) are looked up.
    pub(super) fn share(&mut self, image: Arc<Image>) -> ImageId {
        if Arc::strong_count(&image) == 1 {
            return self.add(image);
        }
        if self.recent.is_empty() {
            self.recent.resize(RECENT, None);
        }
        // The address without the low bits, which are the same for all.
        let place = (Arc::as_ptr(&image).addr() / size_of::<Image>()) % RECENT;
        if let Some(known) = self.recent[place].filter(|&known| Arc::ptr_eq(&self[known], &image)) {
            return self.acquire(known);
        }
        let id = self.add(image);
        self.acquire(id);
        if let Some(old) = self.recent[place].replace(id) {
            self.release(old);
        }
        id
    }

    /// Returns a reference to the same image under the name in a record. Most often the name is unchanged.
    pub(super) fn named(&mut self, from: ImageId, comm: &[u8; COMM_LEN]) -> ImageId {
        if has_comm(&self[from], comm) {
            return self.acquire(from);
        }
        if let Some(known) = self.renamed.as_ref().filter(|known| known.from == from && known.comm == *comm) {
            return self.acquire(known.to);
        }
        let Text { lossy, b64 } = intern::padded(comm);
        let to = self.add(Arc::new(Image { comm: Some(lossy), comm_b64: b64, ..Image::clone(&self[from]) }));
        let renamed = Renamed { from: self.acquire(from), comm: *comm, to: self.acquire(to) };
        if let Some(old) = self.renamed.replace(renamed) {
            self.release(old.from);
            self.release(old.to);
        }
        to
    }

    /// Releases images that are kept only for reuse.
    pub(super) fn forget_recent(&mut self) {
        let recent = std::mem::take(&mut self.recent).into_iter().flatten();
        let renamed = self.renamed.take().into_iter().flat_map(|renamed| [renamed.from, renamed.to]);
        for id in recent.chain(renamed) {
            self.release(id);
        }
    }

    /// Drops arguments and working directories, largest images first, until the total is at most `to_bytes`.
    /// Returns how many processes lost theirs.
    pub(super) fn cut(&mut self, to_bytes: usize) -> u64 {
        self.forget_recent();
        // Free places have neither.
        let whole = |id: &ImageId| self[*id].argv.is_some() || self[*id].cwd.is_some();
        let mut ids: Vec<ImageId> = (0..self.entries.len() as u32).map(ImageId).filter(whole).collect();
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(self.entries[id.index()].bytes));
        let mut cut = 0;
        for id in ids {
            if self.bytes <= to_bytes {
                break;
            }
            let entry = &mut self.entries[id.index()];
            let Image { comm, comm_b64, exe, exe_b64, exe_deleted, .. } = Image::clone(&entry.image);
            entry.image = Arc::new(Image { comm, comm_b64, exe, exe_b64, exe_deleted, ..Image::default() });
            let bytes = bytes(&entry.image);
            self.bytes -= entry.bytes - bytes;
            entry.bytes = bytes;
            cut += u64::from(entry.references);
        }
        cut
    }

    /// Frees unused places at the end.
    pub(super) fn shrink(&mut self) {
        budget::truncate(&mut self.entries, &mut self.free, ImageId::index);
        self.entries.shrink_to(2 * self.entries.len());
        self.free.shrink_to(2 * self.free.len());
    }
}

/// Returns true if the image already has this name.
fn has_comm(image: &Image, comm: &[u8; COMM_LEN]) -> bool {
    let Image { comm: Some(name), comm_b64: None, .. } = image else { return false };
    let name = name.as_bytes();
    comm.starts_with(name) && comm.get(name.len()).is_none_or(|&next| next == 0)
}

/// Returns the memory of an image, with all its strings and its place.
fn bytes(image: &Image) -> usize {
    let Image { comm, comm_b64, exe, exe_b64, exe_deleted: _, argv, argv_b64, cwd, cwd_b64, cwd_deleted: _ } = image;
    let lists = [argv, argv_b64].into_iter().flatten().map(|list| list.as_bytes().len());
    let texts = [comm, comm_b64, exe, exe_b64, cwd, cwd_b64].into_iter().flatten().map(|text| text.len());
    size_of::<StoredImage>() + shared(size_of::<Image>()) + lists.chain(texts).map(shared).sum::<usize>()
}

/// Returns the size of `bytes` bytes in an [`Arc`]: with its two counters, rounded up by the allocator.
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
    fn a_shared_image_counts_once_until_its_last_release() {
        let mut images = Images::default();
        let known = image(b"true\0-x\0");
        let one = images.share(known.clone());
        let all = images.bytes();
        assert_eq!(all, bytes(&known));
        let two = images.share(known.clone());
        assert_eq!(one, two);
        // Other references, such as an event's, change nothing.
        let event = images[one].clone();
        let other = images.share(image(&[b'y'; 3000]));
        assert_eq!(images.bytes(), all + bytes(&images[other]));
        images.release(other);
        images.release(one);
        images.forget_recent();
        assert_eq!(images.bytes(), all, "one reference is left");
        images.release(two);
        assert_eq!(images.bytes(), 0);
        assert_eq!(event, known);
        let again = images.share(image(b"false\0"));
        assert_eq!(again, two, "its slot was free");
    }

    #[test]
    fn a_new_name_makes_a_new_image() {
        let mut images = Images::default();
        let one = images.add(image(b"true\0"));
        assert_eq!(images.named(one, &name("true")), one);
        let other = images.named(one, &name("worker-1"));
        assert_eq!(images.named(one, &name("worker-1")), other, "each time");
        assert_eq!(images[other].comm.as_deref(), Some("worker-1"));
        assert_eq!(images[other].argv, images[one].argv);
        let third = images.named(one, &name("worker-2"));
        for (id, times) in [(one, 2), (other, 2), (third, 1)] {
            (0..times).for_each(|_| images.release(id));
        }
        assert_ne!(images.bytes(), 0, "it is kept for reuse");
        images.forget_recent();
        assert_eq!(images.bytes(), 0);
        let bare = images.named(ImageId::NONE, &name("x"));
        assert_eq!((images[bare].comm.as_deref(), images[ImageId::NONE].comm.as_deref()), (Some("x"), None));
    }

    #[test]
    fn cuts_the_largest_images_first_and_counts_their_processes() {
        let mut images = Images::default();
        let small = images.add(image(b"true\0"));
        let gone = images.add(image(&[b'z'; 9000]));
        let large = images.add(image(&[b'y'; 3000]));
        images.acquire(large);
        images.release(gone);
        assert_eq!(images.cut(1500), 2);
        assert!(images.bytes() <= 1500);
        assert_eq!((images[large].argv.as_ref(), images[large].cwd.as_ref()), (None, None));
        assert_eq!(images[large].exe.as_deref(), Some("/bin/true"));
        assert!(images[small].argv.is_some());
        images.release(large);
        images.release(large);
        images.release(small);
        images.shrink();
        assert_eq!((images.bytes(), images.entries.len(), images.free.len()), (0, 1, 0));
    }
}
