//! Why processes die by a signal: the last few signals that each was sent.

use rustc_hash::FxHashMap;
use tracer_common::record as raw;

use super::store::Slot;
use crate::event::Cause;
use crate::event::id::ProcessId;
use crate::record::text::Text;

/// Signals of different numbers remembered for one process. One that kills is as a rule the last.
const KEPT: usize = 4;

/// Signals that may yet kill someone.
#[derive(Debug, Default)]
pub(super) struct Causes(FxHashMap<Slot, Vec<raw::Signal>>);

impl Causes {
    /// A signal was sent.
    pub(super) fn note(&mut self, target: Slot, signal: &raw::Signal) {
        let sent = self.0.entry(target).or_default();
        sent.retain(|earlier| earlier.signal != signal.signal);
        if sent.len() == KEPT {
            sent.remove(0);
        }
        sent.push(*signal);
    }

    /// Its target ended, by this signal if by any: who sent that. Forgets all that it was sent.
    pub(super) fn take(&mut self, target: Slot, killed_by: Option<u32>, oom: bool) -> Option<Cause> {
        let sent = if self.0.is_empty() { None } else { self.0.remove(&target) };
        let killed_by = killed_by?;
        let signal = sent.and_then(|sent| sent.into_iter().rev().find(|sent| sent.signal == killed_by));
        match signal {
            None => oom.then(|| Cause { oom, ..Cause::default() }),
            Some(signal) if signal.flags & raw::SIGNAL_KERNEL != 0 || signal.sender.tgid == 0 => {
                Some(Cause { kernel: true, oom, ..Cause::default() })
            }
            Some(signal) => Some(Cause {
                sender_pid: Some(signal.sender.tgid),
                sender_id: (signal.sender.start_ns != 0)
                    .then(|| ProcessId::from_ns(signal.sender.start_ns, signal.sender.tgid)),
                sender_comm: Some(Text::from_padded(&signal.sender_comm).lossy),
                sender_uid: (signal.sender_uid != raw::ID_UNSET).then_some(signal.sender_uid),
                kernel: false,
                oom,
            }),
        }
    }
}
