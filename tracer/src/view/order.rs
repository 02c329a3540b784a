//! In which order the children of a process are drawn, and which of them look the same.

use rustc_hash::{FxHashMap, FxHashSet};

use super::forest::Forest;
use crate::event::id::ProcessId;

/// A child to draw, standing for so many that look the same, with all below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: ProcessId,
    pub(super) count: usize,
}

/// The children to draw of each process below a root.
pub(super) type Groups = FxHashMap<ProcessId, Vec<Group>>;

/// What a process looks like, with all below it: two that look the same have the same number.
#[derive(Debug, Default)]
struct Looks {
    numbers: FxHashMap<(String, Vec<(usize, usize)>), usize>,
}

impl Looks {
    fn number(&mut self, look: String, children: Vec<(usize, usize)>) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry((look, children)).or_insert(next)
    }
}

/// Orders all that is below some roots. `key` sorts siblings; `look` is what one process looks like, or none if
/// those that look the same are to be drawn one by one.
///
/// Without recursion: a chain of processes can be as long as there are pids.
pub(super) fn groups<K: Ord>(
    forest: &Forest,
    roots: &[ProcessId],
    key: impl Fn(ProcessId) -> K,
    look: Option<&dyn Fn(ProcessId) -> String>,
) -> Groups {
    let mut groups = Groups::default();
    let mut looks = Looks::default();
    let mut numbers = FxHashMap::<ProcessId, usize>::default();
    for id in parents_first(forest, roots).into_iter().rev() {
        let mut children: Vec<_> = forest.children(id).iter().copied().filter(|&c| forest.get(c).is_some()).collect();
        children.sort_by_cached_key(|&child| key(child));
        let mut grouped: Vec<Group> = Vec::with_capacity(children.len());
        let mut place = FxHashMap::<usize, usize>::default();
        for child in children {
            let same = numbers.get(&child).and_then(|number| place.get(number));
            if let Some(&at) = same {
                grouped[at].count += 1;
            } else {
                if let Some(&number) = numbers.get(&child) {
                    place.insert(number, grouped.len());
                }
                grouped.push(Group { id: child, count: 1 });
            }
        }
        if let Some(look) = look {
            let below = grouped.iter().filter_map(|group| Some((*numbers.get(&group.id)?, group.count))).collect();
            numbers.insert(id, looks.number(look(id), below));
        }
        if !grouped.is_empty() {
            groups.insert(id, grouped);
        }
    }
    groups
}

/// All processes below some roots, each once, none before its parent. Parents that go round in a circle, which
/// only a recording that is not true can have, are walked once.
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
