//! The kernel's hooks, and which program serves each.

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

/// A kernel hook and the program that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Tracepoint, or function.
    pub tracepoint: &'static str,
    /// Program in the object.
    pub program: &'static str,
    /// Whether tracing can do without.
    pub needed: bool,
    /// What is missing without it.
    pub gives: &'static str,
    /// How it is attached.
    pub way: Way,
}

impl Hook {
    pub(super) const fn tracepoint(
        tracepoint: &'static str,
        program: &'static str,
        needed: bool,
        gives: &'static str,
    ) -> Self {
        Self { tracepoint, program, needed, gives, way: Way::Btf }
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
}

/// The hook of `--reap`. It comes before all others: one that is gone has been told as dead before.
pub const REAPS: Hook = Hook::tracepoint("sched_process_free", "reap", true, "when the dead are waited for");

/// The hook of version 1 of control groups, the only one in which they can be renamed.
pub const RENAMES: Hook = Hook::tracepoint("cgroup_rename", "cgroup_rename", false, "renamed cgroups at once");

/// The program that tells births, always the last to be attached.
pub(super) const BIRTHS: &str = "fork";

/// The hooks that fit a kernel, by the prototypes in its BTF, in the order in which they are attached.
///
/// Deaths come first and births last: whoever's birth is told has all hooks on until tracing ends, so none seen to be born
/// ends unseen.
/// New cgroups come before execs: of a container runtime whose command line is told, the cgroup that it makes is told too.
pub fn hooks(btf: &Btf) -> Vec<Hook> {
    // Since 6.16 the tracepoint hands over whether the whole group is dead (include/trace/events/sched.h).
    let exit = if btf.tracepoint_arguments("sched_process_exit") >= Some(2) { "exit" } else { "exit_by_live" };
    vec![
        Hook::tracepoint("sched_process_exit", exit, true, "deaths"),
        Hook::tracepoint("cgroup_mkdir", "cgroup_mkdir", false, "new cgroups at once"),
        Hook::tracepoint("sched_process_exec", "exec", true, "execs"),
        Hook::tracepoint("signal_generate", "signal", false, "who killed a process"),
        Hook::tracepoint("cgroup_attach_task", "cgroup_attach", false, "moves between cgroups at once"),
        Hook::tracepoint("cgroup_rmdir", "cgroup_rmdir", false, "the end of cgroups"),
        Hook::tracepoint("sched_process_fork", BIRTHS, true, "births"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::btf::tests::sample_with;
    use super::*;

    #[test]
    fn the_program_for_deaths_fits_the_prototype() {
        let program = |arguments: u32| {
            let btf = Btf::parse(sample_with("sched_process_exit", arguments)).unwrap();
            let all = hooks(&btf);
            all.iter().find(|hook| hook.tracepoint == "sched_process_exit").map(|hook| hook.program)
        };
        assert_eq!(program(1), Some("exit_by_live"), "the task alone");
        assert_eq!(program(2), Some("exit"), "the task, and group_dead");
        let none = Btf::parse(sample_with("another", 2)).unwrap();
        assert_eq!(hooks(&none)[0].program, "exit_by_live", "what is not known is not relied on");
    }
}
