//! The client that requested a container.
//!
//! Where a daemon made the container, nothing in the kernel links the client to it. Then the candidates are the clients
//! with a request under way when the daemon began. The one with the best evidence is taken.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::build::{Chain, names};
use super::history::History;
use super::role::{self, Role};
use super::{Evidence, Pending};
use crate::event::id::ProcessId;
use crate::record::text::Arguments;

/// A client, and which of its images made the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) id: ProcessId,
    pub(super) image: usize,
}

/// Returns the client of a start with the evidence for it.
pub(super) fn find(
    history: &History,
    chain: &Chain,
    pending: &Pending,
    ready_ns: u64,
    taken: &FxHashMap<ProcessId, Arc<str>>,
) -> Option<(Client, Evidence)> {
    let top = chain.top()?;
    if !top.standing && matches!(top.role, Role::Client | Role::Runtime) {
        return Some((Client { id: top.id, image: 0 }, Evidence::Line));
    }
    if !top.standing {
        return None;
    }
    let init = history.get(pending.init);
    let entrypoint = init.and_then(|past| past.images.iter().find(|image| image.at_ns == ready_ns));
    let entrypoint = entrypoint.and_then(|image| image.argv.as_ref());
    let mut best: Option<(u8, std::cmp::Reverse<u64>, Client, Evidence)> = None;
    for (id, past) in history.all() {
        let request = past.images.iter().enumerate().find(|(i, image)| {
            let requests = image.argv.as_ref().is_some_and(role::requests_start);
            let over = past.over(*i).0;
            let running = image.at_ns <= top.acted_ns && over.is_none_or(|over| over >= top.acted_ns);
            image.execed && image.at_ns > 0 && requests && running
        });
        let Some((i, image)) = request else { continue };
        let Some(argv) = &image.argv else { continue };
        let free = taken.get(&id).is_none_or(|container| *container == pending.container.id);
        let Some((weight, evidence)) = weigh(argv, entrypoint, pending, free) else { continue };
        let candidate = (weight, std::cmp::Reverse(image.at_ns), Client { id, image: i }, evidence);
        if best.as_ref().is_none_or(|best| (best.0, best.1) < (candidate.0, candidate.1)) {
            best = Some(candidate);
        }
    }
    best.map(|(_, _, client, evidence)| (client, evidence))
}

/// Weighs how well a client's arguments fit a container. Returns `None` if they name another one.
fn weigh(argv: &Arguments, entrypoint: Option<&Arguments>, pending: &Pending, free: bool) -> Option<(u8, Evidence)> {
    let mut words = argv.iter().skip(1);
    let of_name =
        |word: &str| word.strip_prefix("--name=").unwrap_or(word) == pending.container.name.as_deref().unwrap_or("");
    if words.clone().any(|word| names(word, &pending.container.id) || of_name(word)) {
        return Some((6, Evidence::Id));
    }
    let other_name = words.clone().any(|word| word == "--name" || word.starts_with("--name="));
    if other_name && pending.container.name.is_some() {
        return None;
    }
    let ran = || entrypoint.into_iter().flatten();
    let common = argv.iter().rev().zip(ran().rev()).take_while(|(a, b)| a == b).count();
    if common > 0 {
        let whole = common == ran().count();
        return Some((2 + u8::from(whole) + u8::from(free), Evidence::Argv));
    }
    let image = pending.container.image.as_ref();
    if image.is_some_and(|image| words.any(|word| word == &**image)) {
        return Some((1 + u8::from(free), Evidence::Argv));
    }
    free.then_some((1, Evidence::Time))
}
