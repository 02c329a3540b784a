//! The ceiling: what the table does without when there is more to know than it has room for.
//!
//! In this order, and only as far as need be: the dead, oldest first, but for the last few that records on their way still
//! name; then working directories and argument lists of others, the largest first. That somebody lives, and whose
//! child it is, is never given up: the kernel bounds how many there can be.

use std::mem::size_of;

use super::MIN_DEAD;
use super::entry::Entry;
use super::store::{Slot, Store};

/// Memory of an entry: its own, and its place among the dead.
const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<Slot>();

/// Fewer free places are not worth giving back.
const FREE_KEPT: usize = 4096;

/// How much room there is, and what was given up for want of more.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) max_bytes: usize,
    /// The dead that would still be known if there were more.
    pub(super) dead_forgotten: u64,
    /// Processes whose argument list and working directory were forgotten while they were known.
    pub(super) argv_forgotten: u64,
    /// What was left when images were last cut.
    left: usize,
    /// Places that stayed free when some were last given back.
    scattered: usize,
}

impl Room {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, dead_forgotten: 0, argv_forgotten: 0, left: 0, scattered: FREE_KEPT }
    }
}

impl Store {
    /// Memory that is in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        (self.entries.len() - self.free.len()) * ENTRY_BYTES + self.newest.bytes() + self.images.bytes()
    }

    /// Gives up what there is no room for.
    pub(super) fn make_do(&mut self) {
        while self.bytes() > self.room.max_bytes && self.dead.len() > MIN_DEAD {
            self.forget_oldest();
            self.room.dead_forgotten += 1;
        }
        self.room.left = self.room.left.min(self.bytes());
        // If nothing is left to be cut, it is not looked for each time.
        if self.bytes() > self.room.max_bytes && self.bytes() >= self.room.left + self.room.max_bytes / 8 {
            let others = self.bytes() - self.images.bytes();
            let room = self.room.max_bytes - self.room.max_bytes / 8;
            self.room.argv_forgotten += self.images.cut(room.saturating_sub(others));
            self.room.left = self.bytes();
        }
    }

    /// Gives back places at the end that are free, once many are: more were alive at once than usually.
    pub(super) fn shrink(&mut self) {
        let free = self.free.len();
        self.room.scattered = self.room.scattered.min(free.max(FREE_KEPT));
        if free < 2 * self.room.scattered || free < self.entries.len() / 2 {
            return;
        }
        truncate(&mut self.entries, &mut self.free, Slot::index);
        self.entries.shrink_to(self.entries.len() + FREE_KEPT);
        self.free.shrink_to(FREE_KEPT);
        self.newest.shrink();
        self.images.shrink();
        self.room.scattered = self.free.len().max(FREE_KEPT);
    }
}

/// Cuts places off the end for as long as they are free.
pub(super) fn truncate<T, P: Copy>(places: &mut Vec<T>, free: &mut Vec<P>, index: impl Fn(P) -> usize) {
    free.sort_unstable_by_key(|&place| std::cmp::Reverse(index(place)));
    let trailing = free.iter().zip(1..).take_while(|&(&place, n)| index(place) + n == places.len()).count();
    free.drain(..trailing);
    places.truncate(places.len() - trailing);
}
