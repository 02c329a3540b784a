//! Hooks at which no program is preempted, for kernels that skip one that is.
//!
//! Since 7.0 a program on a tracepoint can be preempted ([`include/linux/tracepoint.h`]: SRCU instead of
//! `preempt_disable`).
//! Until it resumes, the kernel skips it for every other task on that CPU ([`__bpf_trace_run`] has one counter per program and
//! CPU). A trace event still comes with preemption off ([`include/trace/perf.h`]), and a new task is woken with its run queue
//! locked ([`wake_up_new_task`]). Only the tracepoints of forks, execs and exits need that: the others are hit with interrupts or
//! preemption off.
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

const SINCE: u32 = 7;

/// Since this version the kernel makes threads of a process itself (io_uring, later vhost): those come without
/// `sched_process_fork` ([`create_io_thread`]).
///
/// [`create_io_thread`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/fork.c
const KERNEL_MADE_THREADS_SINCE: (u32, u32) = (5, 12);

/// True if the running kernel skips programs that are preempted.
pub(crate) fn is_needed() -> bool {
    release().is_some_and(|(major, _)| major >= SINCE)
}

/// The ways to get what one hook gives. The first that the kernel allows is taken.
pub(crate) struct Ways {
    hook: Hook,
    instead: &'static [Hook],
    /// What is missing with the hook itself.
    lack: Lack,
}

impl Ways {
    /// The hook itself, and before it its stand-ins if programs are not to be preempted, or if it does not report every thread
    /// that it should.
    pub(crate) fn of(hook: Hook, options: &KernelOptions) -> Self {
        let by_kernel = || release().is_some_and(|release| release >= KERNEL_MADE_THREADS_SINCE);
        if options.unpreempted() {
            Self { hook, instead: hook.stand_ins, lack: Lack::Preempted }
        } else if options.threads && hook == FORK && by_kernel() {
            Self { hook, instead: &[FORK_WAKING], lack: Lack::KernelThreads }
        } else {
            Self { hook, instead: &[], lack: Lack::Preempted }
        }
    }

    /// The hooks of the way that is tried first.
    pub(super) fn first(&self) -> &[Hook] {
        if self.instead.is_empty() { std::slice::from_ref(&self.hook) } else { self.instead }
    }

    /// Loads the programs of a way.
    pub(crate) fn load(&self, object: &mut Object, fallbacks: &mut Vec<Fallback>) -> Result<Vec<Hook>, LoadError> {
        if !self.instead.is_empty() {
            match each(self.instead, fallbacks, |hook| object.load(hook)) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => fallbacks.push(Fallback::Instead(self.hook, self.lack, error)),
            }
        }
        object.load(&self.hook).map(|()| vec![self.hook])
    }

    /// Attaches what is loaded, or takes the other way if the kernel does not let that be attached.
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

/// Does something with each hook, and leaves out those that are not needed and refused; fails at one that is needed.
fn each(
    hooks: &[Hook],
    fallbacks: &mut Vec<Fallback>,
    mut what: impl FnMut(&Hook) -> Result<(), LoadError>,
) -> Result<Vec<Hook>, LoadError> {
    let mut done = Vec::new();
    for hook in hooks {
        match what(hook) {
            Ok(()) => done.push(*hook),
            Err(error) if hook.needed => return Err(error),
            Err(error) => fallbacks.push(Fallback::Without(*hook, error)),
        }
    }
    Ok(done)
}
