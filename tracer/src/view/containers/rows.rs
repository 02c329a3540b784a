//! The table of a frame: its containers, sorted and filtered.

use std::cmp::{Ordering, Reverse};

use super::state::{ContainersState, Sort};
use crate::analysis::roster::{self, Listed, RosterFrame};

/// Returns the rows of a frame.
pub fn rows<'a>(frame: &'a RosterFrame, state: &ContainersState) -> Vec<&'a Listed> {
    let wanted = |one: &&Listed| {
        (state.only.is_empty() || state.only.iter().any(|only| one.is_of(only))) && admits(&state.filter, one)
    };
    let mut rows: Vec<&Listed> = frame.containers.iter().filter(wanted).collect();
    rows.sort_by(|a, b| compare(a, b, state));
    rows
}

/// Returns whether a container shows a text.
fn admits(filter: &str, one: &Listed) -> bool {
    let filter = filter.to_lowercase();
    let container = &one.container;
    let texts = [container.name.as_deref(), container.image.as_deref(), Some(&*container.id), Some(one.state.name())];
    let shows = |text: &str| text.to_lowercase().contains(&filter);
    texts.into_iter().flatten().any(shows)
        || [one.runtime(), one.pod(), one.status()].into_iter().flatten().any(|text| shows(&text))
}

fn compare(a: &Listed, b: &Listed, state: &ContainersState) -> Ordering {
    let by = |of: fn(&Listed) -> u64| of(b).cmp(&of(a));
    let order = match state.sort {
        Sort::State => by_state(a, b),
        Sort::Up => by(|one| one.up_ns.unwrap_or_default()),
        Sort::Processes => by(|one| one.processes),
        Sort::Ever => by(|one| one.processes_ever),
        Sort::Execs => b.execs_per_second.total_cmp(&a.execs_per_second),
        Sort::Name => a.called().cmp(b.called()),
        Sort::Image => a.container.image.cmp(&b.container.image),
    };
    let order = if state.inverted { order.reverse() } else { order };
    order.then_with(|| by_state(a, b)).then_with(|| a.container.id.cmp(&b.container.id))
}

/// Running, then created, then exited containers; the newest first.
fn by_state(a: &Listed, b: &Listed) -> Ordering {
    let gone = |one: &Listed| matches!(one.state, roster::ContainerState::Exited | roster::ContainerState::Removed);
    let rank = |one: &Listed| (gone(one), one.state);
    let since = |one: &Listed| Reverse(if gone(one) { one.ended } else { one.started.or(one.created) });
    match (gone(a), gone(b)) {
        (true, true) => since(a).cmp(&since(b)),
        _ => rank(a).cmp(&rank(b)).then_with(|| since(a).cmp(&since(b))),
    }
}
