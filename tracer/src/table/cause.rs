//! Why processes are killed by signals: the last few signals sent to each process.

use rustc_hash::FxHashMap;
use tracer_common::record as raw;

use super::store::Slot;
use crate::event::Cause;
use crate::event::id::ProcessId;
use crate::record::text::Text;

/// How many different signals are remembered per process. The signal that kills is usually the last.
const KEPT: usize = 4;

/// include/uapi/asm-generic/signal.h.
const SIGSYS: u32 = 31;

/// Recent signals by target. Each of them may still kill its target.
#[derive(Debug, Default)]
pub(super) struct Causes(FxHashMap<Slot, Vec<raw::Signal>>);

impl Causes {
    /// Notes that a signal was sent. A process may block a signal from elsewhere and later raise it itself: then the
    /// first sender is kept.
    pub(super) fn note(&mut self, target: Slot, signal: &raw::Signal) {
        let sent = self.0.entry(target).or_default();
        let earlier = sent.iter().position(|earlier| earlier.signal == signal.signal).map(|at| sent.remove(at));
        if sent.len() == KEPT {
            sent.remove(0);
        }
        let raised = |signal: &raw::Signal| {
            signal.flags & (raw::SIGNAL_KERNEL | raw::SIGNAL_RAISED_AGAIN) == 0
                && signal.sender.tgid == signal.target.tgid
        };
        sent.push(match earlier {
            Some(first) if raised(signal) && !raised(&first) => {
                raw::Signal { flags: first.flags | raw::SIGNAL_RAISED_AGAIN, ..first }
            }
            _ => *signal,
        });
    }

    /// Returns who sent the signal that killed `target`, if a signal did. Forgets all signals sent to it.
    pub(super) fn take(&mut self, target: Slot, killed_by: Option<u32>, flags: u32) -> Option<Cause> {
        let sent = if self.0.is_empty() { None } else { self.0.remove(&target) };
        let killed_by = killed_by?;
        let oom = flags & raw::EXIT_OOM != 0;
        let signal = sent.and_then(|sent| sent.into_iter().rev().find(|sent| sent.signal == killed_by));
        let raised_again = signal.is_some_and(|signal| signal.flags & raw::SIGNAL_RAISED_AGAIN != 0);
        match signal {
            // Before 5.16 seccomp ends a process with SIGSYS and sends none.
            None if flags & raw::EXIT_DIRECT != 0 || killed_by == SIGSYS => {
                Some(Cause { kernel: true, oom, ..Cause::default() })
            }
            None => oom.then(|| Cause { oom, ..Cause::default() }),
            Some(signal) if signal.flags & raw::SIGNAL_KERNEL != 0 || signal.sender.tgid == 0 => {
                Some(Cause { kernel: true, raised_again, oom, ..Cause::default() })
            }
            Some(signal) => Some(Cause {
                sender_pid: Some(signal.sender.tgid),
                sender_id: (signal.sender.start_ns != 0)
                    .then(|| ProcessId::from_ns(signal.sender.start_ns, signal.sender.tgid)),
                sender_comm: Some(Text::from_padded(&signal.sender_comm).lossy),
                sender_uid: (signal.sender_uid != raw::ID_UNSET).then_some(signal.sender_uid),
                kernel: false,
                raised_again,
                oom,
            }),
        }
    }
}
