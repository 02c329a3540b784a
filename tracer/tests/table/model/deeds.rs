//! Random histories.

use proptest::prelude::*;

use super::{Home, INIT, KTHREADD, Kernel, Nr, State};

/// One random deed: what, who, how, and after how long.
pub(crate) type Deed = (u8, u16, u16, u16);

pub(crate) fn deeds(longest: usize) -> impl Strategy<Value = Vec<Deed>> {
    proptest::collection::vec(any::<Deed>(), 1..longest)
}

pub(crate) fn pick(from: &[Nr], by: u16) -> Option<Nr> {
    (!from.is_empty()).then(|| from[usize::from(by) % from.len()])
}

impl Kernel {
    /// A line of processes, some of them subreapers, for exits to climb.
    pub(crate) fn line(&mut self, subreapers: u16) {
        let mut last = INIT;
        for n in 0..12 {
            last = self.fork(last);
            self.set_subreaper(last, subreapers >> n & 1 != 0);
        }
    }

    /// Does a part of something: others come in between.
    pub(crate) fn partial_deed(&mut self, (what, who, how, time): Deed) {
        self.pass(u64::from(time) * 100 + 1);
        let able: Vec<Nr> = self.alive().into_iter().filter(|&nr| self.can_act(nr) && !self.is_newborn(nr)).collect();
        let killable: Vec<Nr> = able.iter().copied().filter(|&nr| nr != INIT && nr != KTHREADD).collect();
        let busy: Vec<Nr> = (0..self.procs.len()).filter(|&nr| self.procs[nr].making.is_some()).collect();
        let ending: Vec<Nr> =
            self.in_state(State::Exiting).into_iter().filter(|&nr| self.procs[nr].making.is_none()).collect();
        match what % 20 {
            0..=4 => {
                if let Some(nr) = pick(&able, who) {
                    let home = if how % 24 == 0 { Home::New } else { Home::Same };
                    self.fork_begin(nr, how % 3 == 0 && nr != INIT && nr != KTHREADD, home);
                }
            }
            5 => {
                if let Some(nr) = pick(&able, who) {
                    self.exec_begin(nr, usize::from(how));
                }
            }
            6 => {
                // A subreaper that appears in the blink between an exit record and the reparenting is told of
                // only by later records: that is another test's.
                if ending.is_empty()
                    && busy.is_empty()
                    && let Some(nr) = pick(&able, who)
                {
                    self.set_subreaper(nr, how % 4 != 0);
                }
            }
            7..=9 => {
                if let Some(nr) = pick(&killable, who) {
                    self.exit_begin(nr, u32::from(how % 256) << 8);
                }
            }
            10..=14 => {
                if let Some(nr) = pick(&busy, who) {
                    self.submit(nr);
                }
            }
            15..=17 => {
                if let Some(nr) = pick(&ending, who) {
                    self.exit_notify(nr);
                }
            }
            _ => {
                if let Some(nr) = pick(&self.in_state(State::Zombie), who) {
                    self.reap(nr);
                }
            }
        }
    }
}
