//! The tools that are measured: how each starts, and how the events in its output are counted.

use std::path::{Path, PathBuf};

use crate::workload::Counts;

/// How a peer traces the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It runs beside the workload and traces the whole machine.
    Beside,
    /// It starts the workload.
    Around,
}

/// Counts the event in a line of output, if it is about the workload.
pub(crate) type Reader = fn(line: &str, name: &str) -> Counts;

/// A tool that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    /// `{out}` is its output file. Without it, the tool writes to standard output, which goes to the same file.
    pub(crate) args: &'static [&'static str],
    pub(crate) way: Way,
    /// The kinds it can see. Captured events are compared with only those. None: its output has no events.
    pub(crate) sees: Option<(Sees, Reader)>,
    /// The time until it is ready, in milliseconds.
    pub(crate) warm_up_ms: u64,
}

/// Kinds of events that a peer reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sees {
    forks: bool,
    execs: bool,
    exits: bool,
}

const ALL: Sees = Sees { forks: true, execs: true, exits: true };
const EXECS: Sees = Sees { forks: false, execs: true, exits: false };
const EXITS: Sees = Sees { forks: false, execs: false, exits: true };

impl Sees {
    /// Returns the number of these events in the workload.
    pub(crate) fn of(self, counts: &Counts) -> u64 {
        let part = |seen: bool, count: u64| if seen { count } else { 0 };
        part(self.forks, counts.forks) + part(self.execs, counts.execs) + part(self.exits, counts.exits)
    }
}

const PERF: &str = "sched:sched_process_fork,sched:sched_process_exec,sched:sched_process_exit";
const BPFTRACE: &str = "tracepoint:sched:sched_process_fork { printf(\"fork %s %d\\n\", comm, args->child_pid); } \
    tracepoint:sched:sched_process_exec { printf(\"exec %s %s\\n\", comm, str(args->filename)); } \
    tracepoint:sched:sched_process_exit { printf(\"exit %s %d\\n\", comm, pid); }";

/// All of them, tracer first.
pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "tracer stream",
        program: "tracer",
        args: &["stream", "--no-snapshot", "--force", "-o", "{out}"],
        way: Way::Beside,
        sees: Some((ALL, json)),
        warm_up_ms: 600,
    },
    Peer {
        name: "tracer stream to /dev/null",
        program: "tracer",
        args: &["stream", "--no-snapshot", "-o", "/dev/null"],
        way: Way::Beside,
        sees: None,
        warm_up_ms: 600,
    },
    Peer {
        name: "tracer stream of another user",
        program: "tracer",
        // No process matches, so this measures a filter that drops everything.
        args: &["stream", "--no-snapshot", "--uid", "65533", "--force", "-o", "{out}"],
        way: Way::Beside,
        sees: None,
        warm_up_ms: 600,
    },
    Peer {
        name: "tracer run",
        program: "tracer",
        args: &["run", "--force", "-o", "{out}", "--"],
        way: Way::Around,
        sees: Some((ALL, json)),
        warm_up_ms: 0,
    },
    Peer {
        name: "tracer top -b",
        program: "tracer",
        args: &["top", "-b", "-d", "1"],
        way: Way::Beside,
        sees: None,
        warm_up_ms: 600,
    },
    Peer {
        name: "execsnoop",
        program: "execsnoop",
        args: &[],
        way: Way::Beside,
        sees: Some((EXECS, |line, name| Counts { execs: starts(line, name), ..Counts::default() })),
        warm_up_ms: 1500,
    },
    Peer {
        name: "exitsnoop",
        program: "exitsnoop",
        args: &[],
        way: Way::Beside,
        sees: Some((EXITS, |line, name| Counts { exits: starts(line, name), ..Counts::default() })),
        warm_up_ms: 1500,
    },
    Peer {
        name: "bpftrace",
        program: "bpftrace",
        args: &["-e", BPFTRACE],
        way: Way::Beside,
        sees: Some((ALL, bpftrace)),
        warm_up_ms: 3000,
    },
    Peer {
        name: "forkstat",
        program: "forkstat",
        args: &["-l", "-e", "fork,exec,exit"],
        way: Way::Beside,
        sees: Some((ALL, forkstat)),
        warm_up_ms: 600,
    },
    Peer {
        name: "perf trace",
        program: "perf",
        args: &["trace", "--no-syscalls", "-e", PERF, "-o", "{out}"],
        way: Way::Beside,
        sees: Some((ALL, perf)),
        warm_up_ms: 2000,
    },
    Peer {
        name: "strace -f",
        program: "strace",
        args: &["-f", "-qq", "-e", "trace=%process", "-o", "{out}"],
        way: Way::Around,
        sees: Some((ALL, strace)),
        warm_up_ms: 0,
    },
    Peer {
        name: "tracexec",
        program: "tracexec",
        args: &["log", "-o", "{out}", "--"],
        way: Way::Around,
        sees: Some((EXECS, |line, name| Counts { execs: u64::from(executes(line, name)), ..Counts::default() })),
        warm_up_ms: 0,
    },
];

impl Peer {
    /// Returns its command line, with its output file.
    pub(crate) fn argv(&self, program: &Path, out: &Path) -> (PathBuf, Vec<String>) {
        let args = self.args.iter().map(|arg| arg.replace("{out}", &out.display().to_string())).collect();
        (program.to_path_buf(), args)
    }
}

fn starts(line: &str, name: &str) -> u64 {
    u64::from(line.split_whitespace().next() == Some(name))
}

/// The workload's own command line has the name among its arguments.
fn executes(line: &str, name: &str) -> bool {
    line.contains(name) && !line.contains("workload")
}

/// Counts a fork, exec or exit once, by a word in the line.
fn by_word(line: &str, [fork, exec, exit]: [&str; 3]) -> Counts {
    let has = |word: &str| u64::from(line.contains(word));
    Counts { forks: has(fork), execs: has(exec), exits: has(exit), threads: 0 }
}

fn json(line: &str, name: &str) -> Counts {
    // Only the name: the workload's command line has it too, and so have lines about other processes.
    let key = "\"comm\":\"";
    let of_name = line
        .find(key)
        .is_some_and(|at| line[at + key.len()..].strip_prefix(name).is_some_and(|rest| rest.starts_with('"')));
    if !of_name {
        return Counts::default();
    }
    by_word(line, ["\"event\":\"fork\"", "\"event\":\"exec\"", "\"event\":\"exit\""])
}

fn bpftrace(line: &str, name: &str) -> Counts {
    if line.split(' ').nth(1) == Some(name) { by_word(line, ["fork ", "exec ", "exit "]) } else { Counts::default() }
}

fn forkstat(line: &str, name: &str) -> Counts {
    if !line.contains(name) {
        return Counts::default();
    }
    let mut words = line.split_whitespace().skip(1);
    let (event, part) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
    // A fork is two lines, for parent and child.
    Counts {
        forks: u64::from(event == "fork" && part == "child"),
        execs: u64::from(event == "exec"),
        exits: u64::from(event == "exit"),
        threads: 0,
    }
}

fn perf(line: &str, name: &str) -> Counts {
    if !line.contains(name) {
        return Counts::default();
    }
    by_word(line, ["sched_process_fork(", "sched_process_exec(", "sched_process_exit("])
}

fn strace(line: &str, name: &str) -> Counts {
    let returned = line.rsplit_once(" = ").is_some_and(|(_, value)| value.starts_with(|c: char| c.is_ascii_digit()));
    let forks = ["clone(", "clone3(", "fork(", "clone resumed", "clone3 resumed", "fork resumed"];
    Counts {
        forks: u64::from(returned && forks.iter().any(|word| line.contains(word))),
        execs: u64::from(line.contains("execve(") && executes(line, name) && !line.contains(" = -")),
        exits: u64::from(line.contains("exit_group(") || line.contains(" exit(")),
        threads: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_each_peer_are_counted_once_and_those_of_others_not() {
        let fork = Counts { forks: 1, ..Counts::default() };
        let exec = Counts { execs: 1, ..Counts::default() };
        let exit = Counts { exits: 1, ..Counts::default() };
        let cases: [(Reader, &str, Counts); 11] = [
            (json, r#"{"v":1,"event":"fork","process":{"comm":"tb1","exe":"/x"}}"#, fork),
            (json, r#"{"v":1,"event":"fork","process":{"comm":"tb11","exe":"/tb1"}}"#, Counts::default()),
            (bpftrace, "exec tb1 /tmp/x/tb1", exec),
            (bpftrace, "exec cc /tmp/x/tb1", Counts::default()),
            (forkstat, "01:16:30 fork  27010 parent          tb1", Counts::default()),
            (forkstat, "01:16:30 fork  27011 child           tb1", fork),
            (forkstat, "01:16:30 exit  27011      0   0.001 /tmp/x/tb1", exit),
            (perf, " 1.000 tb1/9 sched:sched_process_exit(comm: \"tb1\", pid: 9 (tb1), prio: 120)", exit),
            (strace, "9 clone(child_stack=NULL, flags=SIGCHLD, child_tidptr=0x7) = 27025", fork),
            (strace, "9 <... vfork resumed>) = 27025", fork),
            (strace, "9 execve(\"/tmp/x/tb1\", [\"tb1\"], 0x5 /* 0 vars */) = 0", exec),
        ];
        for (reader, line, counts) in cases {
            assert_eq!(reader(line, "tb1"), counts, "{line}");
        }
    }
}
