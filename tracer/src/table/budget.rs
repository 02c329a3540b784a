//! The memory budget: what the table drops when it would exceed its limit.
//!
//! It drops things in this order, and no more than necessary. First come exited processes, oldest first, except the
//! last few that pending records still name. Then come working directories and arguments of the others, largest first.
//! Living processes and their parents are never dropped: the kernel limits how many there can be.

use std::mem::size_of;

use super::MIN_EXITED;
use super::entry::Entry;
use super::store::{Slot, Store};

/// Memory of an entry, and its place in the queue of exited processes.
const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<Slot>();

/// Fewer free places than this are not worth returning.
const FREE_KEPT: usize = 4096;

/// The memory limit, and what was dropped to stay below it.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) max_bytes: usize,
    /// Exited processes forgotten early to save memory.
    pub(super) dead_forgotten: u64,
    /// Processes whose arguments and working directory were dropped to save memory.
    pub(super) argv_forgotten: u64,
    /// Bytes in use after images were last cut.
    after_cut: usize,
    /// Free places left after the last shrink.
    kept_free: usize,
}

impl Budget {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, dead_forgotten: 0, argv_forgotten: 0, after_cut: 0, kept_free: FREE_KEPT }
    }
}

impl Store {
    /// Returns the memory in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        (self.entries.len() - self.free.len()) * ENTRY_BYTES + self.newest.bytes() + self.images.bytes()
    }

    /// Drops what exceeds the budget.
    pub(super) fn stay_within_budget(&mut self) {
        while self.bytes() > self.budget.max_bytes && self.exited.len() > MIN_EXITED {
            self.forget_oldest();
            self.budget.dead_forgotten += 1;
        }
        self.budget.after_cut = self.budget.after_cut.min(self.bytes());
        // Do not search each time if nothing is left to cut.
        if self.bytes() > self.budget.max_bytes && self.bytes() >= self.budget.after_cut + self.budget.max_bytes / 8 {
            let others = self.bytes() - self.images.bytes();
            let budget = self.budget.max_bytes - self.budget.max_bytes / 8;
            self.budget.argv_forgotten += self.images.cut(budget.saturating_sub(others));
            self.budget.after_cut = self.bytes();
        }
    }

    /// Returns free places at the end, once there are many: a peak of living processes is over.
    pub(super) fn shrink(&mut self) {
        let free = self.free.len();
        self.budget.kept_free = self.budget.kept_free.min(free.max(FREE_KEPT));
        if free < 2 * self.budget.kept_free || free < self.entries.len() / 2 {
            return;
        }
        truncate(&mut self.entries, &mut self.free, Slot::index);
        self.entries.shrink_to(self.entries.len() + FREE_KEPT);
        self.free.shrink_to(FREE_KEPT);
        self.newest.shrink();
        self.images.shrink();
        self.budget.kept_free = self.free.len().max(FREE_KEPT);
    }
}

/// Drops places at the end while they are free.
pub(super) fn truncate<T, P: Copy>(places: &mut Vec<T>, free: &mut Vec<P>, index: impl Fn(P) -> usize) {
    free.sort_unstable_by_key(|&place| std::cmp::Reverse(index(place)));
    let trailing = free.iter().zip(1..).take_while(|&(&place, n)| index(place) + n == places.len()).count();
    free.drain(..trailing);
    places.truncate(places.len() - trailing);
}
