//! Hooks at which no program is preempted, for kernels that pass over one that is.
//!
//! Since 7.0 a program at a tracepoint can be preempted (include/linux/tracepoint.h: SRCU instead of `preempt_disable`), and
//! until it goes on the kernel passes over the same program for everybody else on that CPU (kernel/trace/bpf_trace.c,
//! `__bpf_trace_run`: one counter a program and CPU). A trace event still comes with preemption off (include/trace/perf.h), and
//! a new task is woken with its run queue locked (kernel/sched/core.c, `wake_up_new_task`). Of the tracepoints that are used,
//! only those of births, execs and deaths need that: the others are hit with interrupts or preemption off.

use super::error::LoadError;
use super::hook::{BIRTHS, Hook, Way};
use super::load::KernelOptions;
use super::object::Probe;
use super::release::release;

const SINCE: u32 = 7;

/// Since this version the kernel makes threads of a process itself (io_uring, later vhost): those come without
/// `sched_process_fork` (kernel/fork.c, `create_io_thread`).
const KERNEL_MADE_THREADS_SINCE: (u32, u32) = (5, 12);

/// The hook at which every new task passes, whatever made it.
const WAKING: Hook = Hook::tracepoint("sched_wakeup_new", "fork_waking", true, "births");

/// True if the running kernel passes over programs that are preempted.
pub(crate) fn is_needed() -> bool {
    release().is_some_and(|(major, _)| major >= SINCE)
}

/// The hooks that stand for another there, in the order in which they are attached: the last tells what the other would.
pub(crate) fn instead_of(hook: &Hook) -> &'static [Hook] {
    match hook.program {
        "fork" => &[WAKING],
        "exec" => {
            const {
                &[
                    Hook::tracepoint("sched_prepare_exec", "exec_prepared", false, "interpreters of scripts"),
                    Hook {
                        way: Way::Event("sched"),
                        ..Hook::tracepoint("sched_process_exec", "exec_event", true, "execs")
                    },
                ]
            }
        }
        "exit" | "exit_by_live" => {
            const {
                &[Hook {
                    way: Way::Event("sched"),
                    ..Hook::tracepoint("sched_process_exit", "exit_event", true, "deaths")
                }]
            }
        }
        _ => &[],
    }
}

/// The ways to have told what one hook gives; the first that the kernel allows is taken.
pub(crate) struct Ways {
    hook: Hook,
    instead: &'static [Hook],
    /// What is missing with the hook itself.
    lacks: &'static str,
}

impl Ways {
    /// The hook itself, and before it what stands for it if programs are not to be preempted, or if it does not report every
    /// thread that it should.
    pub(crate) fn of(hook: Hook, options: &KernelOptions) -> Self {
        let by_kernel = || release().is_some_and(|release| release >= KERNEL_MADE_THREADS_SINCE);
        if options.unpreempted() {
            Self { hook, instead: instead_of(&hook), lacks: PASSED_OVER }
        } else if options.threads && hook.program == BIRTHS && by_kernel() {
            Self {
                hook,
                instead: &[WAKING],
                lacks: "The starts of threads that the kernel makes (io_uring) are missing",
            }
        } else {
            Self { hook, instead: &[], lacks: "" }
        }
    }

    /// The hooks of the way that is tried first.
    pub(super) fn first(&self) -> &[Hook] {
        if self.instead.is_empty() { std::slice::from_ref(&self.hook) } else { self.instead }
    }

    /// Loads the programs of a way.
    pub(crate) fn load(&self, probe: &mut Probe, fallbacks: &mut Vec<String>) -> Result<Vec<Hook>, LoadError> {
        if !self.instead.is_empty() {
            match each(self.instead, fallbacks, |hook| probe.load(hook)) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => fallbacks.push(self.fallback(&error)),
            }
        }
        probe.load(&self.hook).map(|()| vec![self.hook])
    }

    /// Attaches what is loaded, or takes the other way if the kernel does not let that be attached.
    pub(crate) fn attach(
        &self,
        loaded: &[Hook],
        probe: &mut Probe,
        fallbacks: &mut Vec<String>,
    ) -> Result<Vec<Hook>, LoadError> {
        match each(loaded, fallbacks, |hook| probe.attach(hook)) {
            Err(error) if loaded != [self.hook] => {
                for hook in loaded {
                    probe.unload(hook);
                }
                fallbacks.push(self.fallback(&error));
                probe.load(&self.hook).and_then(|()| probe.attach(&self.hook)).map(|()| vec![self.hook])
            }
            attached => attached,
        }
    }

    fn fallback(&self, error: &LoadError) -> String {
        format!("{error}; {} instead. {}", self.hook.name(), self.lacks)
    }
}

/// What it means if programs are preempted.
pub(crate) const PASSED_OVER: &str = "While a program is preempted the kernel passes over it, and that is told as lost";

/// Does something with each hook, and leaves out those that are not needed and refused; fails at one that is needed.
fn each(
    hooks: &[Hook],
    fallbacks: &mut Vec<String>,
    mut what: impl FnMut(&Hook) -> Result<(), LoadError>,
) -> Result<Vec<Hook>, LoadError> {
    let mut done = Vec::new();
    for hook in hooks {
        match what(hook) {
            Ok(()) => done.push(*hook),
            Err(error) if hook.needed => return Err(error),
            Err(error) => fallbacks.push(format!("{}: {error}; without {}", hook.name(), hook.gives)),
        }
    }
    Ok(done)
}
