//! Hooks at which no program is preempted, for kernels that pass over one that is.
//!
//! Since 7.0 a program at a tracepoint can be preempted (include/linux/tracepoint.h: SRCU instead of `preempt_disable`), and
//! until it goes on the kernel passes over the same program for everybody else on that CPU (kernel/trace/bpf_trace.c,
//! `__bpf_trace_run`: one counter a program and CPU). A trace event still comes with preemption off (include/trace/perf.h), and
//! a new task is woken with its run queue locked (kernel/sched/core.c, `wake_up_new_task`). Of the tracepoints that are used,
//! only those of births, execs and deaths need that: the others are hit with interrupts or preemption off.

use super::error::LoadError;
use super::hook::{Hook, Way};
use super::object::Probe;
use super::release::release;

const SINCE: u32 = 7;

/// True if the running kernel passes over programs that are preempted.
pub(crate) fn is_needed() -> bool {
    release().is_some_and(|(major, _)| major >= SINCE)
}

/// The hooks that stand for another there, in the order in which they are attached: the last tells what the other would.
pub(crate) fn instead_of(hook: &Hook) -> &'static [Hook] {
    match hook.program {
        "fork" => const { &[Hook::tracepoint("sched_wakeup_new", "fork_waking", true, "births")] },
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
}

impl Ways {
    /// The hook itself, and before it what stands for it if programs are not to be preempted.
    pub(crate) fn of(hook: Hook, unpreempted: bool) -> Self {
        Self { hook, instead: if unpreempted { instead_of(&hook) } else { &[] } }
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
        format!("{error}; {} instead. {PASSED_OVER}", self.hook.name())
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
