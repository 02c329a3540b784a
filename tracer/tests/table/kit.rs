//! Records made by hand, and a table that takes them.

use std::sync::Arc;

use tracer::event::{Event, Image, Kind, ReparentReason};
use tracer::record::text::{Argv, Text};
use tracer::record::{Captured, Exec, ExecFailed, Fork, Record};
use tracer::table::{Table, TableOptions};
use tracer_common::record as raw;

use crate::model::{INIT, KTHREADD, Kernel, padded};

pub(crate) const MS: u64 = 1_000_000;

/// A table that starts empty, and its events.
pub(crate) struct Seen {
    pub(crate) table: Table,
    pub(crate) events: Vec<Event>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self::with(TableOptions { utc_minus_boot_ns: 1_000_000_000_000_000_000, ..TableOptions::default() })
    }

    pub(crate) fn with(options: TableOptions) -> Self {
        Self { table: Table::new(options), events: Vec::new() }
    }

    /// Returns a table that has found init and kthreadd, and a kernel with only these two.
    pub(crate) fn booted() -> (Self, Kernel) {
        Self::booted_with(1000)
    }

    /// Likewise, with a given number of pids.
    pub(crate) fn booted_with(pid_max: u32) -> (Self, Kernel) {
        let kernel = Kernel::boot(pid_max);
        let mut seen = Self::with(TableOptions { ancestors: true, ..TableOptions::default() });
        seen.table.seed(vec![kernel.seed_of(INIT), kernel.seed_of(KTHREADD)], &mut seen.events);
        seen.events.clear();
        (seen, kernel)
    }

    pub(crate) fn apply(&mut self, record: Record) -> Vec<Event> {
        self.table.apply(record, &mut self.events);
        std::mem::take(&mut self.events)
    }

    pub(crate) fn follow(&mut self, kernel: &mut Kernel) -> Vec<Event> {
        let records: Vec<Record> = kernel.ring.drain(..).collect();
        records.into_iter().flat_map(|record| self.apply(record)).collect()
    }

    pub(crate) fn parent(&self, pid: u32) -> Option<u32> {
        self.table.by_pid(pid).expect("it runs").ppid()
    }
}

pub(crate) fn kinds(events: &[Event]) -> Vec<Kind> {
    events.iter().map(tracer::event::Event::kind).collect()
}

/// Returns pid, old and new parent's pid, and reason of each reparenting.
pub(crate) fn moves(events: &[Event]) -> Vec<(u32, u32, u32, ReparentReason)> {
    let of = |event: &Event| {
        let to = event.reparent()?;
        Some((event.process.as_ref()?.pid, to.from_id.pid(), to.to_pid, to.reason))
    };
    events.iter().filter_map(of).collect()
}

pub(crate) fn header(kind: u16, boot_ns: u64) -> raw::Header {
    raw::Header { kind, boot_ns, cpu: 2, ..raw::Header::default() }
}

pub(crate) fn task(tgid: u32, start_ns: u64) -> raw::TaskRef {
    raw::TaskRef { start_ns, tgid, tid: tgid }
}

pub(crate) const INIT_TASK: raw::TaskRef = raw::TaskRef { start_ns: 5 * MS, tgid: 1, tid: 1 };

pub(crate) const IDS: raw::Ids = raw::Ids {
    uid: 1000,
    gid: 100,
    euid: 1000,
    egid: 100,
    loginuid: raw::ID_UNSET,
    sid: 10,
    pgid: 11,
    tty: 0,
    cgroup: 77,
    mnt_ns: 0,
    pid_ns: 0,
};

pub(crate) fn fork(child: raw::TaskRef, creator: raw::TaskRef) -> raw::Fork {
    raw::Fork {
        header: header(raw::KIND_FORK, child.start_ns + 1000),
        child,
        parent: creator,
        creator,
        ids: IDS,
        comm: padded("sh"),
        ..raw::Fork::default()
    }
}

pub(crate) fn forked(raw: raw::Fork) -> Record {
    Record::Fork(Fork { raw, ns_pids: None })
}

#[expect(clippy::unnecessary_wraps, reason = "it fills fields that may be absent")]
pub(crate) fn text(text: &str) -> Option<Text> {
    Some(Text::new(text.as_bytes()))
}

/// Returns the same exec with other arguments.
pub(crate) fn with_argv(mut exec: Exec, argv: &[u8]) -> Exec {
    Arc::make_mut(&mut exec.image).set_argv(Argv::new(argv));
    exec
}

pub(crate) fn exec(task: raw::TaskRef, parent: raw::TaskRef, boot_ns: u64) -> Exec {
    Exec {
        raw: raw::Exec {
            header: header(raw::KIND_EXEC, boot_ns),
            task,
            parent,
            ids: IDS,
            old_euid: IDS.euid,
            old_egid: IDS.egid,
            comm: padded("ls"),
            argc: 2,
            argv_bytes: 6,
            argv_captured: 6,
            ..raw::Exec::default()
        },
        image: Image::new(text("ls"), text("/bin/ls"), text("/tmp"), Some(Argv::new(b"ls\0-l\0"))).into(),
        filename: text("./ls"),
        interpreter: None,
        exe_capture: None,
        cwd_capture: None,
        argv_capture: None,
    }
}

pub(crate) fn exit(task: raw::TaskRef, parent: raw::TaskRef, boot_ns: u64) -> raw::Exit {
    raw::Exit {
        header: header(raw::KIND_EXIT, boot_ns),
        task,
        parent,
        reaper: INIT_TASK,
        ids: IDS,
        comm: padded("ls"),
        flags: raw::EXIT_GROUP,
        ..raw::Exit::default()
    }
}

pub(crate) fn exited(raw: impl Into<Box<raw::Exit>>) -> Record {
    Record::Exit(raw.into())
}

pub(crate) fn execed(exec: Exec) -> Record {
    Record::Exec(Box::new(exec))
}

/// Returns the record of a zombie that was reaped.
pub(crate) fn reaped(task: raw::TaskRef, parent: raw::TaskRef, boot_ns: u64) -> Record {
    Record::Reap(raw::Reap { header: header(raw::KIND_REAP, boot_ns), task, parent })
}

/// Returns a failed exec of `/bin/nothing -x`.
pub(crate) fn exec_failed(task: raw::TaskRef, parent: raw::TaskRef, boot_ns: u64) -> ExecFailed {
    ExecFailed {
        raw: raw::ExecFailed {
            header: header(raw::KIND_EXEC_FAILED, boot_ns),
            task,
            parent,
            uid: IDS.uid,
            gid: IDS.gid,
            euid: IDS.euid,
            egid: IDS.egid,
            errno: 2,
            dirfd: raw::DIRFD_CWD,
            argc: 2,
            argv_captured: 11,
            filename_len: 13,
            ..raw::ExecFailed::default()
        },
        filename: Captured { value: text("/bin/nothing"), capture: None },
        argv: Captured { value: Some(Argv::new(b"nothing\0-x\0")), capture: None },
    }
}
