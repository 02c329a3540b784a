//! The order in which the children of a process are drawn, and which children look the same.

use rustc_hash::{FxHashMap, FxHashSet};

use super::forest::Forest;
use crate::event::id::ProcessId;

/// A child to draw, and the number of its siblings that look the same, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: ProcessId,
    pub(super) count: usize,
}

/// The children to draw, by parent.
pub(super) type Groups = FxHashMap<ProcessId, Vec<Group>>;

/// Numbers the appearances of subtrees. Subtrees that look the same have the same number.
#[derive(Debug, Default)]
struct Appearances {
    numbers: FxHashMap<(String, Vec<(usize, usize)>), usize>,
}

impl Appearances {
    fn number(&mut self, appearance: String, children: Vec<(usize, usize)>) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry((appearance, children)).or_insert(next)
    }
}

/// Orders all descendants of some roots. `key` sorts siblings. `appearance` is equal for processes that look the same. Without
/// it, each process is drawn separately.
///
/// Without recursion, because a chain of processes can be as long as there are pids.
pub(super) fn groups<K: Ord>(
    forest: &Forest,
    roots: &[ProcessId],
    key: impl Fn(ProcessId) -> K,
    appearance: Option<&dyn Fn(ProcessId) -> String>,
) -> Groups {
    let mut groups = Groups::default();
    let mut appearances = Appearances::default();
    let mut numbers = FxHashMap::<ProcessId, usize>::default();
    for id in parents_first(forest, roots).into_iter().rev() {
        let mut children: Vec<_> = forest.children(id).iter().copied().filter(|&c| forest.get(c).is_some()).collect();
        children.sort_by_cached_key(|&child| key(child));
        let mut grouped: Vec<Group> = Vec::with_capacity(children.len());
        let mut index = FxHashMap::<usize, usize>::default();
        for child in children {
            let same = numbers.get(&child).and_then(|number| index.get(number));
            if let Some(&at) = same {
                grouped[at].count += 1;
            } else {
                if let Some(&number) = numbers.get(&child) {
                    index.insert(number, grouped.len());
                }
                grouped.push(Group { id: child, count: 1 });
            }
        }
        if let Some(appearance) = appearance {
            let below = grouped.iter().filter_map(|group| Some((*numbers.get(&group.id)?, group.count))).collect();
            numbers.insert(id, appearances.number(appearance(id), below));
        }
        if !grouped.is_empty() {
            groups.insert(id, grouped);
        }
    }
    groups
}

/// Returns some roots and all their descendants, each once, and parents before children.
///
/// A circle of parents, which only a forged recording can have, is walked once.
pub(super) fn parents_first(forest: &Forest, roots: &[ProcessId]) -> Vec<ProcessId> {
    let mut seen = FxHashSet::<ProcessId>::default();
    let mut order: Vec<_> = roots.iter().copied().filter(|&root| seen.insert(root)).collect();
    let mut next = 0;
    while let Some(&id) = order.get(next) {
        order.extend(forest.children(id).iter().copied().filter(|&child| seen.insert(child)));
        next += 1;
    }
    order
}
