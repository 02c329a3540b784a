//! Tells what the kernel passed over, from its counters: pure.

use tracer_common::record::KINDS;

/// How many events of each kind the kernel has passed over so far.
pub type Untold = [u64; KINDS];

/// Events of one kind that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// `KIND_*`.
    pub kind: usize,
    /// How many at the most: the kernel does not tell what it passed over, and it may be nothing that is shown.
    pub count: u64,
    /// The last look before; none if there was none.
    pub after_ns: Option<u64>,
    /// When they were missing.
    pub before_ns: u64,
}

/// What is known to be missing by now.
#[derive(Clone, Debug, Default)]
pub struct PassedOver {
    told: Untold,
    looked_ns: Option<u64>,
}

impl PassedOver {
    /// What is missing since the last look.
    pub fn look(&mut self, now: u64, untold: &Untold) -> Vec<Missing> {
        let after_ns = self.looked_ns.replace(now);
        let mut out = Vec::new();
        for (kind, (told, &untold)) in self.told.iter_mut().zip(untold).enumerate() {
            let count = untold.saturating_sub(*told);
            if count != 0 {
                *told = untold;
                out.push(Missing { kind, count, after_ns, before_ns: now });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::record::{KIND_EXEC, KIND_FORK};

    use super::*;

    const S: u64 = 1_000_000_000;

    fn untold(forks: u64, execs: u64) -> Untold {
        let mut out = [0; KINDS];
        (out[usize::from(KIND_FORK)], out[usize::from(KIND_EXEC)]) = (forks, execs);
        out
    }

    fn missing(kind: u16, count: u64, after_ns: Option<u64>, before_ns: u64) -> Missing {
        Missing { kind: kind.into(), count, after_ns, before_ns }
    }

    #[test]
    fn what_is_passed_over_is_told_once_and_by_kind() {
        let mut passed = PassedOver::default();
        assert_eq!(passed.look(S, &untold(0, 2)), [missing(KIND_EXEC, 2, None, S)]);
        assert_eq!(passed.look(2 * S, &untold(0, 2)), []);
        let both = [missing(KIND_FORK, 1, Some(2 * S), 3 * S), missing(KIND_EXEC, 3, Some(2 * S), 3 * S)];
        assert_eq!(passed.look(3 * S, &untold(1, 5)), both);
        assert_eq!(passed.look(4 * S, &untold(1, 5)), []);
    }
}
