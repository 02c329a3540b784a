//! Tells what the kernel passed over and nobody told after all: pure, from counters.

use tracer_common::record::{KINDS, RESCUABLE};

/// What the first program of a hook was passed over with, the second tells as soon as its thread gets to run. Until it
/// should have, it is not taken for lost. In nanoseconds.
const SETTLED_NS: u64 = 900_000_000;

/// How many events of each kind nobody has told, as far as is known.
pub type Untold = [u64; KINDS];

/// Events of one kind that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// `KIND_*`.
    pub kind: usize,
    /// How many at the most: the kernel does not tell what it passed over, and it may be nothing that is shown.
    pub count: u64,
    /// When none was missing yet; none if that is not known.
    pub after_ns: Option<u64>,
    /// When they were missing.
    pub before_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    told: u64,
    /// The last look at which there was nothing untold.
    clear_ns: Option<u64>,
    /// Since when, and how many are untold since then.
    doubtful: Option<(u64, u64)>,
}

/// What is known to be missing by now.
#[derive(Clone, Debug, Default)]
pub struct PassedOver {
    kinds: [Kind; KINDS],
}

impl PassedOver {
    /// Takes note of what is untold now. What could still be told by a second program is given time for that.
    pub fn look(&mut self, now: u64, untold: &Untold, rescue: bool) -> Vec<Missing> {
        self.each(now, untold, |kind| if rescue && kind < RESCUABLE { SETTLED_NS } else { 0 })
    }

    /// The same at the end: nothing more will be told.
    pub fn rest(&mut self, now: u64, untold: &Untold) -> Vec<Missing> {
        self.each(now, untold, |_| 0)
    }

    fn each(&mut self, now: u64, untold: &Untold, patience_ns: impl Fn(usize) -> u64) -> Vec<Missing> {
        let mut out = Vec::new();
        for (kind, (state, &untold)) in self.kinds.iter_mut().zip(untold).enumerate() {
            let untold = untold.saturating_sub(state.told);
            if untold == 0 {
                *state = Kind { clear_ns: Some(now), doubtful: None, ..*state };
                continue;
            }
            let (since, before) = state.doubtful.unwrap_or((now, untold));
            let count = before.min(untold);
            if now.saturating_sub(since) < patience_ns(kind) {
                state.doubtful = Some((since, count));
                continue;
            }
            out.push(Missing { kind, count, after_ns: state.clear_ns, before_ns: since });
            state.told += count;
            // Those that came since then are given time too.
            state.clear_ns = Some(since);
            state.doubtful = (untold > count).then_some((now, untold - count));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::record::{KIND_EXEC, KIND_FORK, KIND_REAP};

    use super::*;

    const S: u64 = 1_000_000_000;

    fn untold(kind: u16, count: u64) -> Untold {
        let mut out = [0; KINDS];
        out[usize::from(kind)] = count;
        out
    }

    fn missing(kind: u16, count: u64, after_ns: Option<u64>, before_ns: u64) -> Vec<Missing> {
        vec![Missing { kind: kind.into(), count, after_ns, before_ns }]
    }

    #[test]
    fn what_is_told_in_time_is_not_lost() {
        let mut passed = PassedOver::default();
        assert_eq!(passed.look(S, &untold(KIND_FORK, 0), true), []);
        assert_eq!(passed.look(2 * S, &untold(KIND_FORK, 3), true), []);
        // Two of the three were told; one more came.
        assert_eq!(passed.look(2 * S + S / 2, &untold(KIND_FORK, 1), true), []);
        assert_eq!(passed.look(3 * S, &untold(KIND_FORK, 2), true), missing(KIND_FORK, 1, Some(S), 2 * S));
        assert_eq!(passed.look(3 * S + S / 2, &untold(KIND_FORK, 2), true), []);
        assert_eq!(passed.look(4 * S, &untold(KIND_FORK, 2), true), missing(KIND_FORK, 1, Some(2 * S), 3 * S));
        assert_eq!(passed.look(9 * S, &untold(KIND_FORK, 2), true), []);
    }

    #[test]
    fn without_a_second_program_it_is_lost_at_once() {
        let mut passed = PassedOver::default();
        assert_eq!(passed.look(S, &untold(KIND_EXEC, 2), false), missing(KIND_EXEC, 2, None, S));
        assert_eq!(passed.look(2 * S, &untold(KIND_EXEC, 5), false), missing(KIND_EXEC, 3, Some(S), 2 * S));
        assert_eq!(passed.look(3 * S, &untold(KIND_REAP, 1), true), missing(KIND_REAP, 1, Some(2 * S), 3 * S));
    }

    #[test]
    fn at_the_end_there_is_no_more_time() {
        let mut passed = PassedOver::default();
        assert_eq!(passed.look(S, &untold(KIND_EXEC, 2), true), []);
        assert_eq!(passed.rest(S + 1, &untold(KIND_EXEC, 2)), missing(KIND_EXEC, 2, None, S));
        assert_eq!(passed.rest(S + 2, &untold(KIND_EXEC, 2)), []);
    }
}
