//! A model of the kernel's processes: slow, small, and close to kernel/fork.c and kernel/exit.c. It makes the records
//! that the BPF programs would make. The table is compared with it.
//!
//! Deeds that take time are in steps, so that others can happen in between. A record is first made (`*_begin`) and
//! later put into the ring (`submit`). An exiting process first passes its tracepoint (`exit_begin`) and later gives
//! its children away (`exit_notify`).
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod deeds;
mod ending;

use std::sync::Arc;

use tracer::event::{Image, Process, Provenance, ReparentReason};
use tracer::proc::Seed;
use tracer::record::text::{Argv, Text};
use tracer::record::{Exec, Fork, Record};
use tracer_common::record as raw;

/// Number of a process in [`Kernel::procs`]; never used again, unlike its pid.
pub(crate) type Nr = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProcState {
    Alive,
    /// `PF_EXITING`, its exit record made; still the parent of its children.
    Exiting,
    Zombie,
    /// Reaped: its pid is free.
    Reaped,
}

#[derive(Clone, Debug)]
pub(crate) struct Proc {
    pub(crate) pid: u32,
    pub(crate) start_ns: u64,
    /// `real_parent`; none for the first two.
    pub(crate) parent: Option<Nr>,
    pub(crate) creator: Option<Nr>,
    pub(crate) state: ProcState,
    /// `signal->is_child_subreaper`.
    pub(crate) subreaper: bool,
    /// `signal->has_child_subreaper`.
    pub(crate) below_subreaper: bool,
    pub(crate) space: usize,
    /// Outermost first.
    pub(crate) ns_pids: Vec<u32>,
    pub(crate) kthread: bool,
    /// Running threads; the leader's tid is the pid.
    pub(crate) threads: Vec<u32>,
    pub(crate) exe: Option<String>,
    pub(crate) comm: String,
    pub(crate) execs: u32,
    pub(crate) status: Option<u32>,
    /// The record that it is making.
    pub(crate) making: Option<Record>,
    /// True if its exit record is in the ring.
    pub(crate) exit_recorded: bool,
}

/// A pid namespace.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    pub(crate) outer: Option<usize>,
    pub(crate) level: usize,
    /// `child_reaper`; none until its first process exists.
    pub(crate) init: Option<Nr>,
    next_pid: u32,
    /// Its init has exited: no process can fork in it any more.
    pub(crate) dying: bool,
}

/// A change of parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) child: Nr,
    pub(crate) from: Nr,
    pub(crate) to: Nr,
    pub(crate) reason: ReparentReason,
}

/// The pid namespace of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Same,
    /// `CLONE_NEWPID`.
    New,
    /// After `setns` of its creator.
    Space(usize),
}

pub(crate) struct Kernel {
    pub(crate) now: u64,
    pub(crate) procs: Vec<Proc>,
    pub(crate) spaces: Vec<Space>,
    /// Records not yet taken.
    pub(crate) ring: Vec<Record>,
    /// Moves not yet taken, those of running processes only.
    pub(crate) moves: Vec<Move>,
    pid_max: u32,
    next_pid: u32,
    names: u32,
    /// A pid is not used again within one tick. Every `pid_max` except the smallest ensures that. `/proc`, which
    /// counts in ticks, needs it to distinguish processes.
    pub(crate) one_pid_a_tick: bool,
}

pub(crate) const INIT: Nr = 0;
pub(crate) const KTHREADD: Nr = 1;

/// First pid after the first two.
const FIRST_PID: u32 = 3;

impl Kernel {
    pub(crate) fn boot(pid_max: u32) -> Self {
        let mut kernel = Self {
            now: 40_000_000,
            procs: Vec::new(),
            spaces: vec![Space { outer: None, level: 0, init: Some(INIT), next_pid: 0, dying: false }],
            ring: Vec::new(),
            moves: Vec::new(),
            pid_max,
            next_pid: FIRST_PID,
            names: 0,
            one_pid_a_tick: false,
        };
        for (pid, comm, kthread) in [(1, "init", false), (2, "kthreadd", true)] {
            kernel.procs.push(Proc {
                pid,
                start_ns: kernel.now,
                parent: None,
                creator: None,
                state: ProcState::Alive,
                subreaper: false,
                below_subreaper: false,
                space: 0,
                ns_pids: vec![pid],
                kthread,
                threads: vec![pid],
                exe: (!kthread).then(|| "/sbin/init".to_owned()),
                comm: comm.to_owned(),
                execs: 0,
                status: None,
                making: None,
                exit_recorded: false,
            });
            kernel.now += 10_000_000;
        }
        kernel
    }

    pub(crate) fn pass(&mut self, ns: u64) {
        self.now += ns;
    }

    fn header(&self, kind: u16) -> raw::Header {
        raw::Header { kind, boot_ns: self.now, cpu: (self.now % 3) as u16, ..raw::Header::default() }
    }

    pub(crate) fn task(&self, nr: Nr) -> raw::TaskRef {
        let proc = &self.procs[nr];
        raw::TaskRef { start_ns: proc.start_ns, tgid: proc.pid, tid: proc.pid }
    }

    fn parent_task(&self, nr: Nr) -> raw::TaskRef {
        self.procs[nr].parent.map_or_else(raw::TaskRef::default, |parent| self.task(parent))
    }

    /// Returns true if it can act now.
    pub(crate) fn can_act(&self, nr: Nr) -> bool {
        self.procs[nr].state == ProcState::Alive && self.procs[nr].making.is_none()
    }

    fn free_pid(&mut self) -> Option<u32> {
        let used = |pid| {
            self.procs.iter().any(|proc| {
                (proc.state != ProcState::Reaped && (proc.pid == pid || proc.threads.contains(&pid)))
                    || (self.one_pid_a_tick && proc.pid == pid && proc.start_ns / 10_000_000 == self.now / 10_000_000)
            })
        };
        let range = FIRST_PID..self.pid_max;
        let pid = (self.next_pid..self.pid_max).chain(range).find(|&pid| !used(pid))?;
        self.next_pid = pid + 1;
        Some(pid)
    }

    /// fork, clone: the child exists, its record made. None if the kernel refuses.
    pub(crate) fn fork_begin(&mut self, creator: Nr, clone_parent: bool, into: Home) -> Option<Nr> {
        assert!(self.can_act(creator));
        // The init of a namespace must not make siblings (SIGNAL_UNKILLABLE, copy_process).
        if clone_parent && self.is_space_init(creator) {
            return None;
        }
        let within = match into {
            Home::Same | Home::New => self.procs[creator].space,
            Home::Space(space) => space,
        };
        // `zap_pid_ns_processes` (kernel/pid_namespace.c) allows no new pid in it (`disable_pid_allocation`). It has
        // killed every process that could make a namespace inside it (`copy_process` refuses them).
        if self.spaces[within].dying {
            return None;
        }
        let space = match into {
            Home::Same | Home::Space(_) => within,
            Home::New => {
                let outer = within;
                let level = self.spaces[outer].level + 1;
                self.spaces.push(Space { outer: Some(outer), level, init: None, next_pid: 1, dying: false });
                self.spaces.len() - 1
            }
        };
        let pid = self.free_pid()?;
        let nr = self.procs.len();
        let mut ns_pids = Vec::new();
        let mut level = Some(space);
        while let Some(at) = level {
            let space = &mut self.spaces[at];
            if space.level == 0 {
                ns_pids.push(pid);
            } else {
                ns_pids.push(space.next_pid);
                space.next_pid += 1;
            }
            level = space.outer;
        }
        ns_pids.reverse();
        self.spaces[space].init.get_or_insert(nr);
        let from = self.procs[creator].clone();
        let comm = padded(&from.comm);
        self.procs.push(Proc {
            pid,
            start_ns: self.now,
            parent: if clone_parent { from.parent } else { Some(creator) },
            creator: Some(creator),
            state: ProcState::Alive,
            subreaper: false,
            below_subreaper: from.below_subreaper || from.subreaper,
            space,
            ns_pids: ns_pids.clone(),
            threads: vec![pid],
            execs: 0,
            status: None,
            making: None,
            ..from
        });
        self.now += 1_000;
        let raw = raw::Fork {
            header: self.header(raw::KIND_FORK),
            child: self.task(nr),
            parent: self.parent_task(nr),
            creator: self.task(creator),
            ids: raw::Ids::default(),
            comm,
            flags: if from.kthread { raw::FORK_KTHREAD } else { 0 },
            ns_level: ns_pids.len() as u32 - 1,
        };
        let ns_pids = (ns_pids.len() > 1).then(|| ns_pids.into());
        self.procs[creator].making = Some(Record::Fork(Fork { raw, ns_pids }));
        Some(nr)
    }

    /// Returns true until its creator has put the record of its fork into the ring: it has not run yet.
    pub(crate) fn is_newborn(&self, nr: Nr) -> bool {
        self.procs[nr]
            .creator
            .and_then(|creator| self.procs[creator].making.as_ref())
            .is_some_and(|making| matches!(making, Record::Fork(fork) if fork.raw.child == self.task(nr)))
    }

    /// execve, by one of its threads: the new image is there, its record made.
    pub(crate) fn exec_begin(&mut self, nr: Nr, thread: usize) {
        assert!(self.can_act(nr));
        self.names += 1;
        let name = format!("x{}", self.names);
        let mut task = self.task(nr);
        task.tid = self.procs[nr].threads[thread % self.procs[nr].threads.len()];
        let proc = &mut self.procs[nr];
        proc.threads = vec![proc.pid];
        proc.exe = Some(format!("/bin/{name}"));
        proc.comm.clone_from(&name);
        proc.kthread = false;
        proc.execs += 1;
        self.now += 1_000;
        let argv = format!("{name}\0--flag\0");
        let raw = raw::Exec {
            header: self.header(raw::KIND_EXEC),
            task,
            parent: self.parent_task(nr),
            comm: padded(&name),
            argc: 2,
            argv_bytes: argv.len() as u32,
            argv_captured: argv.len() as u32,
            ..raw::Exec::default()
        };
        let text = |text: &str| Some(Text::new(text.as_bytes()));
        let exec = Exec {
            raw,
            image: Image::new(text(&name), text(&format!("/bin/{name}")), text("/"), Some(Argv::new(argv.as_bytes())))
                .into(),
            filename: text(&name),
            interpreter: None,
            exe_capture: None,
            cwd_capture: None,
            argv_capture: None,
        };
        self.procs[nr].making = Some(Record::Exec(Box::new(exec)));
    }

    pub(crate) fn thread_start(&mut self, nr: Nr) -> bool {
        assert!(self.can_act(nr));
        let Some(tid) = self.free_pid() else { return false };
        self.procs[nr].threads.push(tid);
        let raw = raw::Fork {
            header: self.header(raw::KIND_FORK),
            child: raw::TaskRef { tid, ..self.task(nr) },
            parent: self.parent_task(nr),
            creator: self.task(nr),
            comm: padded(&self.procs[nr].comm),
            flags: raw::FORK_THREAD,
            ..raw::Fork::default()
        };
        self.ring.push(Record::Fork(Fork { raw, ns_pids: None }));
        true
    }

    /// One of several threads exits, possibly the leader.
    pub(crate) fn thread_exit(&mut self, nr: Nr, thread: usize) -> bool {
        assert!(self.can_act(nr));
        let count = self.procs[nr].threads.len();
        if count < 2 {
            return false;
        }
        let tid = self.procs[nr].threads.remove(thread % count);
        let exit = raw::Exit {
            header: self.header(raw::KIND_EXIT),
            task: raw::TaskRef { tid, ..self.task(nr) },
            parent: self.parent_task(nr),
            comm: padded(&self.procs[nr].comm),
            ..raw::Exit::default()
        };
        self.ring.push(Record::Exit(Box::new(exit)));
        true
    }

    pub(crate) fn alive(&self) -> Vec<Nr> {
        (0..self.procs.len()).filter(|&nr| self.procs[nr].state == ProcState::Alive).collect()
    }

    pub(crate) fn in_state(&self, state: ProcState) -> Vec<Nr> {
        (0..self.procs.len()).filter(|&nr| self.procs[nr].state == state).collect()
    }

    /// Returns the processes that must exit, because the init of their namespace is exiting.
    pub(crate) fn doomed(&self) -> Vec<Nr> {
        self.alive()
            .into_iter()
            .filter(|&nr| self.spaces[self.procs[nr].space].dying && self.can_act(nr) && !self.is_newborn(nr))
            .collect()
    }
}

pub(crate) fn padded(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

pub(crate) fn arc(text: &str) -> Arc<str> {
    text.into()
}

impl Kernel {
    pub(crate) fn id(&self, nr: Nr) -> tracer::event::id::ProcessId {
        tracer::event::id::ProcessId::from_ns(self.procs[nr].start_ns, self.procs[nr].pid)
    }

    /// Returns what `/proc` shows of a process now.
    pub(crate) fn seed_of(&self, nr: Nr) -> Seed {
        let proc = &self.procs[nr];
        let ppid = proc.parent.map_or(0, |parent| self.procs[parent].pid);
        let mut process = Process::new(self.id(nr), Provenance::Procfs);
        process.image_mut().comm = Some(arc(&proc.comm));
        process.image_mut().exe = proc.exe.as_deref().filter(|_| proc.state == ProcState::Alive).map(arc);
        process.kthread = proc.kthread;
        process.zombie = proc.state == ProcState::Zombie;
        process.ppid = Some(ppid);
        process.ns_pids = (proc.ns_pids.len() > 1).then(|| proc.ns_pids.clone().into());
        Seed {
            process,
            ppid,
            start_ticks: proc.start_ns / 10_000_000,
            // `/proc` has the tick, the iterator the nanosecond.
            start_ns: if nr.is_multiple_of(2) { proc.start_ns } else { 0 },
            tty: 0,
            cgroup_id: 0,
            mnt_ns: 0,
            pid_ns: 0,
            exiting: proc.state != ProcState::Alive,
            gone: false,
            read_from_ns: self.now,
            read_until_ns: self.now,
            image_until_ns: self.now,
        }
    }
}
