//! A map from pid to process.
//!
//! The kernel assigns pids in ascending order (kernel/pid.c, `alloc_pid`). So processes that are created and forgotten
//! together are neighbours here, and a storm stays within a few cache lines. A hash of all pids would scatter it over
//! its whole memory.

use std::mem::size_of;

use rustc_hash::FxHashMap;

use super::store::Slot;

/// Pids in one page: four cache lines.
const SPAN: usize = 64;

/// A map from pids to entries.
#[derive(Debug, Default)]
pub(super) struct Pids {
    pages: FxHashMap<u32, Page>,
}

/// Neighbouring pids, at least one of which is in use.
#[derive(Debug)]
struct Page {
    slots: Box<[Option<Slot>; SPAN]>,
    used: u32,
}

/// Memory of a page: its slots with the allocator's overhead, and its place in the map (half empty at worst).
const PAGE_BYTES: usize = size_of::<[Option<Slot>; SPAN]>() + 16 + 2 * (size_of::<(u32, Page)>() + 1);

const fn place(pid: u32) -> (u32, usize) {
    (pid / SPAN as u32, pid as usize % SPAN)
}

impl Pids {
    pub(super) fn get(&self, pid: u32) -> Option<Slot> {
        let (page, at) = place(pid);
        self.pages.get(&page)?.slots[at]
    }

    /// Returns the previous holder of the pid.
    pub(super) fn insert(&mut self, pid: u32, slot: Slot) -> Option<Slot> {
        let (page, at) = place(pid);
        let page = self.pages.entry(page).or_insert_with(|| Page { slots: Box::new([None; SPAN]), used: 0 });
        let before = page.slots[at].replace(slot);
        page.used += u32::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, pid: u32) {
        let (number, at) = place(pid);
        let Some(page) = self.pages.get_mut(&number) else { return };
        page.used -= u32::from(page.slots[at].take().is_some());
        if page.used == 0 {
            self.pages.remove(&number);
        }
    }

    /// Returns all entries, unordered.
    pub(super) fn values(&self) -> impl Iterator<Item = Slot> {
        self.pages.values().flat_map(|page| page.slots.iter().copied().flatten())
    }

    /// Returns its memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }

    /// Frees unused memory.
    pub(super) fn shrink(&mut self) {
        self.pages.shrink_to(2 * self.pages.len());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_map(steps in proptest::collection::vec((0_u32..200, any::<bool>(), 0_usize..9), 0..400)) {
            let (mut pids, mut model) = (Pids::default(), BTreeMap::new());
            for (number, insert, slot) in steps {
                // Some are close together, some far apart.
                let pid = if number < 150 { number } else { number * 90_001 };
                if insert {
                    prop_assert_eq!(pids.insert(pid, Slot::new(slot)), model.insert(pid, Slot::new(slot)));
                } else {
                    pids.remove(pid);
                    model.remove(&pid);
                }
                prop_assert_eq!(pids.get(pid), model.get(&pid).copied());
            }
            let sorted = |slots: &mut dyn Iterator<Item = Slot>| {
                let mut all: Vec<usize> = slots.map(Slot::index).collect();
                all.sort_unstable();
                all
            };
            prop_assert_eq!(sorted(&mut pids.values()), sorted(&mut model.values().copied()));
            for pid in model.into_keys() {
                pids.remove(pid);
            }
            prop_assert_eq!(pids.bytes(), 0);
        }
    }
}
