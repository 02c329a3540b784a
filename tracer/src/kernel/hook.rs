//! The kernel hooks, and the program for each: one row per hook.
//!
//! A hook that is added here is loaded, checked by `tracer doctor`, and counted when the kernel skips its program.

use tracer_common::record::{
    KIND_CGROUP, KIND_EXEC, KIND_EXEC_FAILED, KIND_EXECAT_FAILED, KIND_EXIT, KIND_FORK, KIND_REAP, KIND_RUNNING,
    KIND_SIGNAL,
};

use super::btf::Btf;
use super::syscall::EXEC_FUNCTIONS;

/// The kind of hook that a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachType {
    /// A tracepoint, by its BTF type.
    Btf,
    /// The return of a kernel function.
    Fexit,
    /// None: the program is an iterator that is read.
    Iterator,
    /// A trace event of this group, by its number in tracefs: a tracepoint that `perf` can record.
    Event(&'static str),
}

/// The kernels that a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fits {
    /// All kernels.
    Any,
    /// Kernels whose tracepoint has at least N arguments.
    Arguments(usize),
    /// Kernels whose tracepoint has fewer than N arguments.
    Fewer(usize),
}

/// A kernel hook and the program that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the tracepoint or function.
    pub tracepoint: &'static str,
    /// Name of the program in the object.
    pub program: &'static str,
    /// Kind of its records (`KIND_*`). `None` if it only prepares the record of another program.
    pub kind: Option<u16>,
    /// What is missing without it.
    pub gives: &'static str,
    /// True if tracing is impossible without it.
    pub needed: bool,
    /// The kind of hook.
    pub attach_type: AttachType,
    /// Its replacements on kernels that skip preempted programs, in the order in which they are attached. The last one
    /// makes the records.
    pub stand_ins: &'static [Hook],
    fits: Fits,
}

impl Hook {
    const fn new(tracepoint: &'static str, program: &'static str, kind: u16, gives: &'static str) -> Self {
        let kind = Some(kind);
        Self {
            tracepoint,
            program,
            kind,
            gives,
            needed: false,
            attach_type: AttachType::Btf,
            stand_ins: &[],
            fits: Fits::Any,
        }
    }

    const fn needed(self) -> Self {
        Self { needed: true, ..self }
    }

    const fn attach_type(self, attach_type: AttachType) -> Self {
        Self { attach_type, ..self }
    }

    /// Returns its name in the output.
    pub fn name(&self) -> String {
        match self.attach_type {
            AttachType::Btf => self.tracepoint.into(),
            AttachType::Fexit => format!("fexit:{}", self.tracepoint),
            AttachType::Iterator => format!("iter:{}", self.tracepoint),
            AttachType::Event(group) => format!("{group}:{}", self.tracepoint),
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

const SCHED: AttachType = AttachType::Event("sched");

const EXIT_EVENT: Hook = Hook::new("sched_process_exit", "exit_event", KIND_EXIT, "exits").needed().attach_type(SCHED);

/// Exits. [Since 6.16] an argument of the tracepoint says whether the whole thread group is dead.
///
/// [Since 6.16]: https://github.com/torvalds/linux/blob/038d61fd642278bab63ee8ef722c50d10ab01e8f/include/trace/events/sched.h
pub const EXIT: Hook = Hook {
    stand_ins: &[EXIT_EVENT],
    fits: Fits::Arguments(2),
    ..Hook::new("sched_process_exit", "exit", KIND_EXIT, "exits").needed()
};

/// Exits on kernels without that argument.
pub const EXIT_BY_LIVE: Hook = Hook { program: "exit_by_live", fits: Fits::Fewer(2), ..EXIT };

/// New cgroups. They come before execs: if the exec of a container runtime is reported, its new cgroup is reported too.
pub const CGROUP_MKDIR: Hook = Hook::new("cgroup_mkdir", "cgroup_mkdir", KIND_CGROUP, "new cgroups at once");

const EXEC_PREPARED: Hook =
    Hook { kind: None, ..Hook::new("sched_prepare_exec", "exec_prepared", KIND_EXEC, "interpreters of scripts") };

const EXEC_EVENT: Hook = Hook::new("sched_process_exec", "exec_event", KIND_EXEC, "execs").needed().attach_type(SCHED);

const EXEC: Hook = Hook {
    stand_ins: &[EXEC_PREPARED, EXEC_EVENT],
    ..Hook::new("sched_process_exec", "exec", KIND_EXEC, "execs").needed()
};

const SIGNAL: Hook = Hook::new("signal_generate", "signal", KIND_SIGNAL, "the senders of fatal signals");

/// Moves between cgroups.
pub const CGROUP_ATTACH: Hook =
    Hook::new("cgroup_attach_task", "cgroup_attach", KIND_CGROUP, "moves between cgroups at once");

const CGROUP_RMDIR: Hook = Hook::new("cgroup_rmdir", "cgroup_rmdir", KIND_CGROUP, "removals of cgroups");

/// Renamed cgroups, which only version 1 has.
pub const CGROUP_RENAME: Hook = Hook::new("cgroup_rename", "cgroup_rename", KIND_CGROUP, "renamed cgroups at once");

/// Forks, at the wake-up that every new task passes.
pub(super) const FORK_WAKING: Hook = Hook::new("sched_wakeup_new", "fork_waking", KIND_FORK, "forks").needed();

/// Forks. Always attached last.
pub const FORK: Hook =
    Hook { stand_ins: &[FORK_WAKING], ..Hook::new("sched_process_fork", "fork", KIND_FORK, "forks").needed() };

/// The hooks that are always attached, in this order.
///
/// Exits come first and forks last. So if the fork of a process is reported, its exit is reported too.
const ALWAYS: [Hook; 8] = [EXIT, EXIT_BY_LIVE, CGROUP_MKDIR, EXEC, SIGNAL, CGROUP_ATTACH, CGROUP_RMDIR, FORK];

/// Reaped processes, for `--reap`. Attached before all others, so that a reaped process was reported as exited before.
pub const REAP: Hook = Hook::new("sched_process_free", "reap", KIND_REAP, "reaps of exited processes").needed();

/// The iterator over all running processes.
pub const RUNNING: Hook =
    Hook::new("task", "running", KIND_RUNNING, "running processes").attach_type(AttachType::Iterator);

const FAILED: &str = "failed execs";

/// Failed execs, for `--exec-failed`, at the functions of the system calls. This slows nothing else. Not every kernel lets
/// BPF attach to them.
pub const BY_FUNCTION: [Hook; 2] = [
    Hook::new(EXEC_FUNCTIONS[0], "execve_failed", KIND_EXEC_FAILED, FAILED).attach_type(AttachType::Fexit),
    Hook::new(EXEC_FUNCTIONS[1], "execveat_failed", KIND_EXECAT_FAILED, FAILED).attach_type(AttachType::Fexit),
];

const SYSCALLS: AttachType = AttachType::Event("syscalls");

/// Failed execs, for `--exec-failed`, by tracepoint. While one is attached, every system call of the machine takes the slow path.
pub const BY_TRACEPOINT: [Hook; 2] = [
    Hook::new("sys_exit_execve", "execve_exit", KIND_EXEC_FAILED, FAILED).attach_type(SYSCALLS),
    Hook::new("sys_exit_execveat", "execveat_exit", KIND_EXECAT_FAILED, FAILED).attach_type(SYSCALLS),
];

/// Returns the hooks that are always attached and fit the prototypes in a kernel's BTF, in the order of attachment.
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
        assert_eq!(hooks(&none)[0].program, "exit_by_live", "an unknown prototype is not relied on");
    }

    #[test]
    fn forks_are_attached_last_and_the_last_stand_in_makes_the_same_records() {
        assert_eq!(ALWAYS.last(), Some(&FORK));
        for hook in ALWAYS {
            assert!(hook.stand_ins.last().is_none_or(|last| last.kind == hook.kind && last.needed == hook.needed));
        }
    }
}
