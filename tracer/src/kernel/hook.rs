//! The kernel's hooks, and the program that serves each: one row per hook, read when programs are loaded, by `tracer doctor`
//! and when skipped programs are counted.
//!
//! A hook that is added here is loaded, checked and counted.

use tracer_common::record::{
    KIND_CGROUP, KIND_EXEC, KIND_EXEC_FAILED, KIND_EXECAT_FAILED, KIND_EXIT, KIND_FORK, KIND_REAP, KIND_RUNNING,
    KIND_SIGNAL,
};

use super::btf::Btf;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a tracepoint, by its type.
    Btf,
    /// To a function of the kernel, as it returns.
    Fexit,
    /// Not at all: it is read.
    Iterator,
    /// To a trace event of a group, by its number in tracefs: a tracepoint that `perf` can record.
    Event(&'static str),
}

/// Which kernels a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fits {
    /// All.
    Any,
    /// Those whose tracepoint has this many arguments, or more.
    Arguments(usize),
    /// Those whose tracepoint has fewer.
    Fewer(usize),
}

/// A kernel hook and the program that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Tracepoint, or function.
    pub tracepoint: &'static str,
    /// Program in the object.
    pub program: &'static str,
    /// Kind of its records (`KIND_*`). None if it only prepares the record of another.
    pub kind: Option<u16>,
    /// What is missing without it.
    pub gives: &'static str,
    /// Whether tracing is impossible without it.
    pub needed: bool,
    /// How it is attached.
    pub way: Way,
    /// What takes its place on kernels that skip a program while it is preempted, in the order in which they are attached:
    /// the last makes the records.
    pub stand_ins: &'static [Hook],
    fits: Fits,
}

impl Hook {
    const fn new(tracepoint: &'static str, program: &'static str, kind: u16, gives: &'static str) -> Self {
        let kind = Some(kind);
        Self { tracepoint, program, kind, gives, needed: false, way: Way::Btf, stand_ins: &[], fits: Fits::Any }
    }

    const fn needed(self) -> Self {
        Self { needed: true, ..self }
    }

    const fn way(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// What it is called in the output.
    pub fn name(&self) -> String {
        match self.way {
            Way::Btf => self.tracepoint.into(),
            Way::Fexit => format!("fexit:{}", self.tracepoint),
            Way::Iterator => format!("iter:{}", self.tracepoint),
            Way::Event(group) => format!("{group}:{}", self.tracepoint),
        }
    }

    fn fits(&self, btf: &Btf) -> bool {
        let arguments = btf.tracepoint_arguments(self.tracepoint);
        match self.fits {
            Fits::Any => true,
            Fits::Arguments(least) => arguments >= Some(least),
            Fits::Fewer(least) => arguments < Some(least),
        }
    }
}

const SCHED: Way = Way::Event("sched");

const EXIT_EVENT: Hook = Hook::new("sched_process_exit", "exit_event", KIND_EXIT, "exits").needed().way(SCHED);

/// Exits. [Since 6.16] the tracepoint has an argument that says whether the whole group is dead.
///
/// [Since 6.16]: https://github.com/torvalds/linux/blob/038d61fd642278bab63ee8ef722c50d10ab01e8f/include/trace/events/sched.h
pub const EXIT: Hook = Hook {
    stand_ins: &[EXIT_EVENT],
    fits: Fits::Arguments(2),
    ..Hook::new("sched_process_exit", "exit", KIND_EXIT, "exits").needed()
};

/// Exits, on kernels whose tracepoint does not say whether the whole group is dead.
pub const EXIT_BY_LIVE: Hook = Hook { program: "exit_by_live", fits: Fits::Fewer(2), ..EXIT };

/// New cgroups. They come before execs: the cgroup that a container runtime makes is then reported, if its exec is.
pub const CGROUP_MKDIR: Hook = Hook::new("cgroup_mkdir", "cgroup_mkdir", KIND_CGROUP, "new cgroups at once");

const EXEC_PREPARED: Hook =
    Hook { kind: None, ..Hook::new("sched_prepare_exec", "exec_prepared", KIND_EXEC, "interpreters of scripts") };

const EXEC_EVENT: Hook = Hook::new("sched_process_exec", "exec_event", KIND_EXEC, "execs").needed().way(SCHED);

const EXEC: Hook = Hook {
    stand_ins: &[EXEC_PREPARED, EXEC_EVENT],
    ..Hook::new("sched_process_exec", "exec", KIND_EXEC, "execs").needed()
};

const SIGNAL: Hook = Hook::new("signal_generate", "signal", KIND_SIGNAL, "who killed a process");

/// Moves between cgroups.
pub const CGROUP_ATTACH: Hook =
    Hook::new("cgroup_attach_task", "cgroup_attach", KIND_CGROUP, "moves between cgroups at once");

const CGROUP_RMDIR: Hook = Hook::new("cgroup_rmdir", "cgroup_rmdir", KIND_CGROUP, "the end of cgroups");

/// Renamed cgroups, which only version 1 has.
pub const CGROUP_RENAME: Hook = Hook::new("cgroup_rename", "cgroup_rename", KIND_CGROUP, "renamed cgroups at once");

/// Forks, at the hook that every new task passes, whatever made it.
pub(super) const FORK_WAKING: Hook = Hook::new("sched_wakeup_new", "fork_waking", KIND_FORK, "forks").needed();

/// Forks, always the last to be attached.
pub const FORK: Hook =
    Hook { stand_ins: &[FORK_WAKING], ..Hook::new("sched_process_fork", "fork", KIND_FORK, "forks").needed() };

/// All that are always attached, in this order.
///
/// Exits come first and forks last: a process whose fork is reported has all hooks on until tracing ends, so its exit is
/// reported too.
const ALWAYS: [Hook; 8] = [EXIT, EXIT_BY_LIVE, CGROUP_MKDIR, EXEC, SIGNAL, CGROUP_ATTACH, CGROUP_RMDIR, FORK];

/// For `--reap`. It comes before all others: a process that was waited for has been reported as exited before.
pub const REAP: Hook =
    Hook::new("sched_process_free", "reap", KIND_REAP, "when exited processes are waited for").needed();

#[cfg(target_arch = "x86_64")]
pub(super) const FUNCTIONS: [&str; 2] = ["__x64_sys_execve", "__x64_sys_execveat"];
#[cfg(target_arch = "aarch64")]
pub(super) const FUNCTIONS: [&str; 2] = ["__arm64_sys_execve", "__arm64_sys_execveat"];

/// The iterator over all processes that run.
pub const RUNNING: Hook =
    Hook::new("task", "running", KIND_RUNNING, "what runs already, by the kernel").way(Way::Iterator);

const FAILED: &str = "execs that fail";

/// For `--exec-failed`, attached to the functions of the system calls: nothing else is slower for it. Not every kernel lets
/// BPF do that.
pub const BY_FUNCTION: [Hook; 2] = [
    Hook::new(FUNCTIONS[0], "execve_failed", KIND_EXEC_FAILED, FAILED).way(Way::Fexit),
    Hook::new(FUNCTIONS[1], "execveat_failed", KIND_EXECAT_FAILED, FAILED).way(Way::Fexit),
];

const SYSCALLS: Way = Way::Event("syscalls");

/// For `--exec-failed`, by tracepoint: while one of these is on, every system call of the machine takes the slow path.
pub const BY_TRACEPOINT: [Hook; 2] = [
    Hook::new("sys_exit_execve", "execve_exit", KIND_EXEC_FAILED, FAILED).way(SYSCALLS),
    Hook::new("sys_exit_execveat", "execveat_exit", KIND_EXECAT_FAILED, FAILED).way(SYSCALLS),
];

/// The hooks that are always attached and fit a kernel, by the prototypes in its BTF, in the order in which they are attached.
pub fn hooks(btf: &Btf) -> Vec<Hook> {
    ALWAYS.into_iter().filter(|hook| hook.fits(btf)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::btf::tests::sample_with;
    use super::*;

    #[test]
    fn the_program_for_exits_fits_the_prototype() {
        let program = |arguments: u32| {
            let btf = Btf::parse(sample_with("sched_process_exit", arguments)).unwrap();
            let all = hooks(&btf);
            assert_eq!(all.iter().filter(|hook| hook.kind == Some(KIND_EXIT)).count(), 1);
            all.iter().find(|hook| hook.tracepoint == "sched_process_exit").map(|hook| hook.program)
        };
        assert_eq!(program(1), Some("exit_by_live"), "the task alone");
        assert_eq!(program(2), Some("exit"), "the task, and group_dead");
        let none = Btf::parse(sample_with("another", 2)).unwrap();
        assert_eq!(hooks(&none)[0].program, "exit_by_live", "what is not known is not relied on");
    }

    #[test]
    fn forks_are_attached_last_and_the_last_stand_in_makes_the_same_records() {
        assert_eq!(ALWAYS.last(), Some(&FORK));
        for hook in ALWAYS {
            assert!(hook.stand_ins.last().is_none_or(|last| last.kind == hook.kind && last.needed == hook.needed));
        }
    }
}
