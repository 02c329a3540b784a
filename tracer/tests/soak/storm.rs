//! An endless storm, as the bytes that the BPF programs would write.

use std::collections::VecDeque;
use std::mem::offset_of;

use tracer::event::Image;
use tracer::record::{Exec, Fork, Record};
use tracer_common::record as raw;

use crate::encode::{Strings, encode};

const MS: u64 = 1_000_000;

const INIT: raw::TaskRef = raw::TaskRef { start_ns: 5 * MS, tgid: 1, tid: 1 };

/// Time from one fork to the next.
const STEP_NS: u64 = 100_000;

/// Number of processes that run at the same time.
const ALIVE: usize = 64;

/// Number of children of a parent before another one replaces it.
const CHILDREN: u64 = 10_000;

/// The range in which pids wrap around (`PID_MAX_LIMIT`, include/linux/threads.h).
const PIDS: std::ops::Range<u32> = 300..1 << 22;

/// Digits that are replaced by another number in each command.
const NUMBER: &[u8] = b"00000000";

/// Command lines of the processes. With a number in it, no two have the same arguments.
pub(crate) const SAME: &[&[&str]] = &[&["true"], &["date", "+%s"], &["sh", "-c", "exit 3"]];
pub(crate) const DIFFERENT: &[&[&str]] = &[&["job", "--number=00000000"]];
pub(crate) const MIXED: &[&[&str]] = &[
    &["true"],
    &["sh", "-c", "test -e /var/spool/in || exit 1"],
    &["cc1", "-quiet", "-I", "/usr/include", "unit-00000000.c", "-o", "/tmp/cc00000000.s"],
    &["as", "--64", "-o", "unit-00000000.o", "/tmp/cc00000000.s"],
    &["date", "+%s"],
    &["grep", "-q", "00000000", "/etc/passwd"],
];

fn comm(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    comm
}

const fn header(kind: u16) -> raw::Header {
    raw::Header { len: 0, kind, cpu: 0, seq: 0, boot_ns: 0, rq_clock: 0 }
}

const IDS: raw::Ids = raw::Ids {
    uid: 1000,
    gid: 100,
    euid: 1000,
    egid: 100,
    loginuid: 1000,
    sid: 10,
    pgid: 11,
    tty: 0,
    cgroup: 4242,
    mnt_ns: 0,
    pid_ns: 0,
};

fn fork() -> Vec<u8> {
    let raw = raw::Fork { header: header(raw::KIND_FORK), ids: IDS, comm: comm("make"), ..raw::Fork::default() };
    encode(&Record::Fork(Fork { raw, ns_pids: None }), &Strings::default())
}

fn exec(command: &[&str]) -> Vec<u8> {
    let part = |text: &str| text.as_bytes().to_vec();
    let argv: Vec<Vec<u8>> = command.iter().map(|&argument| part(argument)).collect();
    let raw = raw::Exec {
        header: header(raw::KIND_EXEC),
        ids: IDS,
        old_euid: IDS.euid,
        old_egid: IDS.egid,
        comm: comm(command[0]),
        argc: argv.len() as u32,
        argv_bytes: argv.iter().map(|argument| argument.len() as u32 + 1).sum(),
        ..raw::Exec::default()
    };
    let exec = Exec::new(raw, Image::none());
    let strings = Strings {
        exe: vec![part(command[0]), part("bin"), part("usr")],
        cwd: vec![part("project"), part("build"), part("home")],
        filename: [b"/usr/bin/", command[0].as_bytes()].concat(),
        argv,
        ..Strings::default()
    };
    encode(&Record::Exec(Box::new(exec)), &strings)
}

fn exit() -> Vec<u8> {
    let raw = raw::Exit {
        header: header(raw::KIND_EXIT),
        reaper: INIT,
        ids: IDS,
        comm: comm("make"),
        flags: raw::EXIT_GROUP,
        ..raw::Exit::default()
    };
    encode(&Record::Exit(Box::new(raw)), &Strings::default())
}

/// One kind of process: how it execs and exits.
struct Command {
    exec: Vec<u8>,
    exit: Vec<u8>,
    /// Positions of the digits.
    numbers: Vec<usize>,
}

impl Command {
    fn new(command: &[&str]) -> Self {
        let exec = exec(command);
        let mut exit = exit();
        exit[offset_of!(raw::Exit, comm)..][..16].copy_from_slice(&comm(command[0]));
        let numbers = exec.windows(NUMBER.len()).enumerate().filter(|(_, window)| *window == NUMBER).map(|(at, _)| at);
        Self { numbers: numbers.collect(), exec, exit }
    }
}

/// Makes records, one process after the other.
pub(crate) struct Storm {
    commands: Vec<Command>,
    fork: Vec<u8>,
    now_ns: u64,
    next_pid: u32,
    seq: [u64; raw::KINDS],
    made: u64,
    parent: raw::TaskRef,
    alive: VecDeque<(raw::TaskRef, raw::TaskRef, usize)>,
    /// Forks, execs and exits so far.
    pub(crate) truth: [u64; 3],
}

impl Storm {
    pub(crate) fn new(commands: &[&[&str]]) -> Self {
        Self {
            commands: commands.iter().map(|command| Command::new(command)).collect(),
            fork: fork(),
            now_ns: 100_000 * MS,
            next_pid: PIDS.start,
            seq: [0; raw::KINDS],
            made: 0,
            parent: raw::TaskRef::default(),
            alive: VecDeque::new(),
            truth: [0; 3],
        }
    }

    /// Makes the fork and exec of one process, and the exit of the oldest one.
    pub(crate) fn step(&mut self, mut take: impl FnMut(&[u8])) {
        if self.made.is_multiple_of(CHILDREN) {
            let old = std::mem::replace(&mut self.parent, INIT);
            let parent = self.add_process(&mut take);
            if old.tgid != 0 {
                // Its children, which are all running processes, go to init.
                self.alive.iter_mut().for_each(|(_, parent, _)| *parent = INIT);
                self.end(old, INIT, 0, &mut take);
            }
            self.parent = parent;
        }
        let which = (self.made % self.commands.len() as u64) as usize;
        let process = self.add_process(&mut take);
        let mut bytes = std::mem::take(&mut self.commands[which].exec);
        let digits = format!("{:08}", self.made % 100_000_000);
        for &at in &self.commands[which].numbers {
            bytes[at..at + digits.len()].copy_from_slice(digits.as_bytes());
        }
        self.stamp(&mut bytes, raw::KIND_EXEC);
        put_task(&mut bytes, offset_of!(raw::Exec, task), process);
        put_task(&mut bytes, offset_of!(raw::Exec, parent), self.parent);
        take(&bytes);
        self.commands[which].exec = bytes;
        self.truth[1] += 1;
        self.made += 1;
        self.alive.push_back((process, self.parent, which));
        if self.alive.len() > ALIVE
            && let Some((process, parent, which)) = self.alive.pop_front()
        {
            self.end(process, parent, which, &mut take);
        }
    }

    fn add_process(&mut self, take: &mut impl FnMut(&[u8])) -> raw::TaskRef {
        self.now_ns += STEP_NS;
        while self.next_pid == self.parent.tgid {
            self.next_pid += 1;
        }
        let pid = self.next_pid;
        self.next_pid = if pid + 1 < PIDS.end { pid + 1 } else { PIDS.start };
        let child = raw::TaskRef { start_ns: self.now_ns - 1000, tgid: pid, tid: pid };
        let mut bytes = std::mem::take(&mut self.fork);
        self.stamp(&mut bytes, raw::KIND_FORK);
        put_task(&mut bytes, offset_of!(raw::Fork, child), child);
        put_task(&mut bytes, offset_of!(raw::Fork, parent), self.parent);
        put_task(&mut bytes, offset_of!(raw::Fork, creator), self.parent);
        take(&bytes);
        self.fork = bytes;
        self.truth[0] += 1;
        child
    }

    fn end(&mut self, task: raw::TaskRef, parent: raw::TaskRef, which: usize, take: &mut impl FnMut(&[u8])) {
        let mut bytes = std::mem::take(&mut self.commands[which].exit);
        self.stamp(&mut bytes, raw::KIND_EXIT);
        put_task(&mut bytes, offset_of!(raw::Exit, task), task);
        put_task(&mut bytes, offset_of!(raw::Exit, parent), parent);
        take(&bytes);
        self.commands[which].exit = bytes;
        self.truth[2] += 1;
    }

    fn stamp(&mut self, bytes: &mut [u8], kind: u16) {
        self.seq[usize::from(kind)] += 1;
        self.now_ns += 1000;
        put(bytes, offset_of!(raw::Header, seq), self.seq[usize::from(kind)]);
        put(bytes, offset_of!(raw::Header, boot_ns), self.now_ns);
    }
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
}

fn put_task(bytes: &mut [u8], at: usize, task: raw::TaskRef) {
    put(bytes, at + offset_of!(raw::TaskRef, start_ns), task.start_ns);
    for (member, value) in [(offset_of!(raw::TaskRef, tgid), task.tgid), (offset_of!(raw::TaskRef, tid), task.tid)] {
        bytes[at + member..at + member + 4].copy_from_slice(&value.to_ne_bytes());
    }
}
