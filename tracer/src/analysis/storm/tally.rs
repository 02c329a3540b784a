//! The sums of a period.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::{Detail, Event, Exit, Storm, StormCommand, StormPhase, StormStatus};

/// Number of commands that one storm event names.
const LISTED: usize = 16;

/// Number of commands that are counted separately in a period. Execs of further commands are counted together.
const DISTINCT: usize = 1024;

type Status = (Option<u8>, Option<Arc<str>>);

/// What happened in a period of one storm.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) events: u64,
    forks: u64,
    execs: u64,
    exits: u64,
    reparents: u64,
    others: u64,
    failed: u64,
    commands: FxHashMap<Arc<str>, u64>,
    other_execs: u64,
    statuses: FxHashMap<Status, u64>,
    user_ns: u64,
    system_ns: u64,
}

impl Tally {
    /// Counts an event.
    pub(super) fn add(&mut self, event: &Event) {
        self.events += 1;
        match &event.detail {
            Detail::Fork => self.forks += 1,
            Detail::Exec(_) => self.add_exec(event),
            Detail::Exit(exit) => self.add_exit(exit),
            Detail::Reparent(_) => self.reparents += 1,
            _ => self.others += 1,
        }
    }

    fn add_exec(&mut self, event: &Event) {
        self.execs += 1;
        let process = event.process.as_ref();
        let name = process.and_then(|process| process.image.exe.as_ref().or(process.image.comm.as_ref()));
        let has_space = self.commands.len() < DISTINCT;
        match name {
            Some(name) if has_space || self.commands.contains_key(name) => {
                *self.commands.entry(Arc::clone(name)).or_default() += 1;
            }
            _ => self.other_execs += 1,
        }
    }

    fn add_exit(&mut self, exit: &Exit) {
        self.exits += 1;
        *self.statuses.entry((exit.code, exit.signal.clone())).or_default() += 1;
        self.failed += u64::from(exit.failed());
        if let Some(usage) = exit.own() {
            self.user_ns += usage.user_ns;
            self.system_ns += usage.system_ns;
        }
    }

    /// Returns the sums as an event. The caller fills in the storm's own values.
    pub(super) fn line(self, phase: StormPhase) -> Storm {
        let mut commands: Vec<_> = self.commands.into_iter().map(|(exe, execs)| StormCommand { exe, execs }).collect();
        commands.sort_unstable_by(|a, b| (b.execs, &a.exe).cmp(&(a.execs, &b.exe)));
        let unlisted: u64 = commands.iter().skip(LISTED).map(|command| command.execs).sum();
        commands.truncate(LISTED);
        let mut statuses: Vec<_> =
            self.statuses.into_iter().map(|((code, signal), exits)| StormStatus { code, signal, exits }).collect();
        statuses.sort_unstable_by(|a, b| (b.exits, a.code, &a.signal).cmp(&(a.exits, b.code, &b.signal)));
        Storm {
            phase,
            rate: 0,
            threshold: 0,
            began_boot_ns: 0,
            period_ns: 0,
            events: self.events,
            folded: 0,
            forks: self.forks,
            execs: self.execs,
            exits: self.exits,
            reparents: self.reparents,
            others: self.others,
            failed: self.failed,
            commands,
            other_execs: self.other_execs + unlisted,
            statuses,
            user_ns: self.user_ns,
            system_ns: self.system_ns,
            total_events: 0,
        }
    }
}
