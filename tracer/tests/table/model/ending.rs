//! How processes exit, and which process adopts their children.

use tracer::event::ReparentReason;
use tracer::record::Record;
use tracer_common::record as raw;

use super::{INIT, KTHREADD, Kernel, Move, Nr, ProcState, padded};

impl Kernel {
    /// `prctl(PR_SET_CHILD_SUBREAPER)`, with `propagate_has_child_subreaper` (kernel/sys.c).
    pub(crate) fn set_subreaper(&mut self, nr: Nr, on: bool) {
        self.procs[nr].subreaper = on;
        if !on {
            return;
        }
        let mut walk = self.children(nr);
        while let Some(below) = walk.pop() {
            if !self.procs[below].below_subreaper && !self.is_space_init(below) {
                self.procs[below].below_subreaper = true;
                walk.extend(self.children(below));
            }
        }
    }

    /// A signal that will kill its target.
    pub(crate) fn signal(&mut self, sender: Option<Nr>, target: Nr, signal: u32) {
        let record = raw::Signal {
            header: self.header(raw::KIND_SIGNAL),
            target: self.task(target),
            sender: sender.map_or_else(raw::TaskRef::default, |sender| self.task(sender)),
            sender_comm: sender.map_or([0; 16], |sender| padded(&self.procs[sender].comm)),
            signal,
            flags: if sender.is_none() { raw::SIGNAL_KERNEL } else { 0 },
            ..raw::Signal::default()
        };
        self.ring.push(Record::Signal(record));
    }

    /// do_exit of the last thread, up to the tracepoint: the record is made.
    pub(crate) fn exit_begin(&mut self, nr: Nr, status: u32) {
        assert!(self.can_act(nr) && !self.is_newborn(nr) && nr != INIT && nr != KTHREADD);
        let last = self.procs[nr].threads.pop().unwrap_or_default();
        let proc = &mut self.procs[nr];
        proc.threads.clear();
        proc.state = ProcState::Exiting;
        proc.status = Some(status);
        self.now += 1_000;
        let (reaper, reason) = self.find_new_reaper(nr);
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let exit = raw::Exit {
            header: self.header(raw::KIND_EXIT),
            task: raw::TaskRef { tid: last, ..self.task(nr) },
            parent: self.parent_task(nr),
            reaper: self.task(reaper),
            comm: padded(&self.procs[nr].comm),
            status,
            flags: raw::EXIT_GROUP
                | flag(self.procs[nr].kthread, raw::EXIT_KTHREAD)
                | flag(reason == ReparentReason::Subreaper, raw::EXIT_REAPER_SUBREAPER)
                | flag(self.is_space_init(nr), raw::EXIT_NS_INIT),
            ..raw::Exit::default()
        };
        if self.is_space_init(nr) {
            self.close_space(self.procs[nr].space);
        }
        self.procs[nr].making = Some(Record::Exit(Box::new(exit)));
    }

    pub(super) fn close_space(&mut self, space: usize) {
        self.spaces[space].dying = true;
        for inner in 0..self.spaces.len() {
            if self.spaces[inner].outer == Some(space) && !self.spaces[inner].dying {
                self.close_space(inner);
            }
        }
    }

    /// Puts the record that a process is making into the ring.
    pub(crate) fn submit(&mut self, nr: Nr) {
        if let Some(record) = self.procs[nr].making.take() {
            self.procs[nr].exit_recorded |= matches!(record, Record::Exit(_));
            self.ring.push(record);
        }
    }

    /// `exit_notify`: reparents its children and makes it a zombie. Returns false if it must wait: the init of a
    /// namespace waits for all processes in that (`zap_pid_ns_processes`).
    pub(crate) fn exit_notify(&mut self, nr: Nr) -> bool {
        let proc = &self.procs[nr];
        assert!(proc.state == ProcState::Exiting && proc.making.is_none());
        if self.is_space_init(nr) && !self.members(proc.space).is_empty() {
            return false;
        }
        let (to, reason) = self.find_new_reaper(nr);
        let mut children = self.children(nr);
        // Splicing the lists keeps the order of the forks.
        children.sort_by_key(|&child| (self.procs[child].start_ns, child));
        for child in children {
            self.procs[child].parent = Some(to);
            if self.procs[child].state == ProcState::Alive {
                self.moves.push(Move { child, from: nr, to, reason });
            }
        }
        self.procs[nr].state = ProcState::Zombie;
        true
    }

    pub(crate) fn reap(&mut self, nr: Nr) {
        assert_eq!(self.procs[nr].state, ProcState::Zombie);
        assert!(self.children(nr).is_empty());
        self.procs[nr].state = ProcState::Reaped;
    }

    /// Returns the processes in a namespace or one inside it, except its init, that are not reaped.
    pub(crate) fn members(&self, space: usize) -> Vec<Nr> {
        let inside = |mut at: usize| loop {
            if at == space {
                return true;
            }
            match self.spaces[at].outer {
                Some(outer) => at = outer,
                None => return false,
            }
        };
        (0..self.procs.len())
            .filter(|&nr| {
                let proc = &self.procs[nr];
                proc.state != ProcState::Reaped && self.spaces[space].init != Some(nr) && inside(proc.space)
            })
            .collect()
    }

    pub(crate) fn is_space_init(&self, nr: Nr) -> bool {
        self.spaces[self.procs[nr].space].init == Some(nr)
    }

    pub(crate) fn children(&self, nr: Nr) -> Vec<Nr> {
        (0..self.procs.len())
            .filter(|&child| self.procs[child].parent == Some(nr) && self.procs[child].state != ProcState::Reaped)
            .collect()
    }

    /// `find_child_reaper` and `find_new_reaper` (kernel/exit.c).
    pub(super) fn find_new_reaper(&self, father: Nr) -> (Nr, ReparentReason) {
        let space = &self.spaces[self.procs[father].space];
        let child_reaper = space.init.unwrap_or(INIT);
        if child_reaper != father && self.procs[father].below_subreaper {
            let level = |nr: Nr| self.spaces[self.procs[nr].space].level;
            let mut above = self.procs[father].parent;
            while let Some(reaper) = above.filter(|&reaper| level(reaper) == space.level) {
                if self.procs[reaper].subreaper && self.procs[reaper].state == ProcState::Alive {
                    return (reaper, ReparentReason::Subreaper);
                }
                above = self.procs[reaper].parent;
            }
        }
        (child_reaper, ReparentReason::Init)
    }
}
