//! Hooks whose programs are never preempted, for kernels that skip preempted programs.
//!
//! Since 7.0 a program on a tracepoint can be preempted ([`include/linux/tracepoint.h`]: SRCU instead of
//! `preempt_disable`). Until it resumes, the kernel skips it for every other task on that CPU: [`__bpf_trace_run`] has one
//! counter per program and CPU. A trace event still runs with preemption off ([`include/trace/perf.h`]). A new task is woken
//! with its run queue locked ([`wake_up_new_task`]). Only the tracepoints of forks, execs and exits need these stand-ins.
//! The others are hit with interrupts or preemption off.
//!
//! [`include/linux/tracepoint.h`]: https://github.com/torvalds/linux/blob/028ef9c96e96197026887c0f092424679298aae8/include/linux/tracepoint.h
//! [`__bpf_trace_run`]: https://github.com/torvalds/linux/blob/028ef9c96e96197026887c0f092424679298aae8/kernel/trace/bpf_trace.c
//! [`include/trace/perf.h`]: https://github.com/torvalds/linux/blob/028ef9c96e96197026887c0f092424679298aae8/include/trace/perf.h
//! [`wake_up_new_task`]: https://github.com/torvalds/linux/blob/028ef9c96e96197026887c0f092424679298aae8/kernel/sched/core.c

use super::error::LoadError;
use super::fallback::{Fallback, Lack};
use super::hook::{FORK, FORK_WAKING, Hook};
use super::object::Object;
use super::options::KernelOptions;
use super::release::release;

/// Since this version the kernel creates threads of a process itself (io_uring, later vhost). For these there is no
/// `sched_process_fork` ([`create_io_thread`]).
///
/// [`create_io_thread`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/fork.c
const KERNEL_THREADS_SINCE: (u32, u32) = (5, 12);

/// A hook and its stand-ins. The first of the two that the kernel allows is used.
pub(crate) struct Alternatives {
    hook: Hook,
    stand_ins: &'static [Hook],
    /// What is missing without the stand-ins.
    lack: Lack,
}

impl Alternatives {
    /// Returns a hook with its stand-ins, if its program may be preempted or it would miss threads. Otherwise without.
    pub(crate) fn of(hook: Hook, options: &KernelOptions) -> Self {
        let by_kernel = || release().is_some_and(|release| release >= KERNEL_THREADS_SINCE);
        if options.unpreempted() {
            Self { hook, stand_ins: hook.stand_ins, lack: Lack::Preempted }
        } else if options.threads && hook == FORK && by_kernel() {
            Self { hook, stand_ins: &[FORK_WAKING], lack: Lack::KernelThreads }
        } else {
            Self { hook, stand_ins: &[], lack: Lack::Preempted }
        }
    }

    /// Returns the hooks that are tried first.
    pub(super) fn first(&self) -> &[Hook] {
        if self.stand_ins.is_empty() { std::slice::from_ref(&self.hook) } else { self.stand_ins }
    }

    /// Loads the programs of the stand-ins, or else of the hook itself. Returns the loaded hooks.
    pub(crate) fn load(&self, object: &mut Object, fallbacks: &mut Vec<Fallback>) -> Result<Vec<Hook>, LoadError> {
        if !self.stand_ins.is_empty() {
            match each(self.stand_ins, fallbacks, |hook| object.load(hook)) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => fallbacks.push(Fallback::Instead(self.hook, self.lack, error)),
            }
        }
        object.load(&self.hook).map(|()| vec![self.hook])
    }

    /// Attaches the loaded hooks. If the kernel refuses the stand-ins, loads and attaches the hook itself.
    pub(crate) fn attach(
        &self,
        loaded: &[Hook],
        object: &mut Object,
        fallbacks: &mut Vec<Fallback>,
    ) -> Result<Vec<Hook>, LoadError> {
        match each(loaded, fallbacks, |hook| object.attach(hook)) {
            Err(error) if loaded != [self.hook] => {
                for hook in loaded {
                    object.unload(hook);
                }
                fallbacks.push(Fallback::Instead(self.hook, self.lack, error));
                object.load(&self.hook).and_then(|()| object.attach(&self.hook)).map(|()| vec![self.hook])
            }
            attached => attached,
        }
    }
}

/// Calls `action` for each hook and returns those that succeed. Fails if a needed hook is refused.
fn each(
    hooks: &[Hook],
    fallbacks: &mut Vec<Fallback>,
    mut action: impl FnMut(&Hook) -> Result<(), LoadError>,
) -> Result<Vec<Hook>, LoadError> {
    let mut done = Vec::new();
    for hook in hooks {
        match action(hook) {
            Ok(()) => done.push(*hook),
            Err(error) if hook.needed => return Err(error),
            Err(error) => fallbacks.push(Fallback::Without(*hook, error)),
        }
    }
    Ok(done)
}
