//! Random histories.

use proptest::prelude::*;

use super::{Home, INIT, KTHREADD, Kernel, Nr, ProcState};

/// One random deed: what, which process, how, and after which time.
pub(crate) type Deed = (u8, u16, u16, u16);

pub(crate) fn deeds(longest: usize) -> impl Strategy<Value = Vec<Deed>> {
    proptest::collection::vec(any::<Deed>(), 1..longest)
}

pub(crate) fn pick(from: &[Nr], by: u16) -> Option<Nr> {
    (!from.is_empty()).then(|| from[usize::from(by) % from.len()])
}

impl Kernel {
    /// Makes a line of processes, some of them subreapers, for exits to climb.
    pub(crate) fn line(&mut self, subreapers: u16) {
        let mut last = INIT;
        for n in 0..12 {
            last = self.fork(last);
            self.set_subreaper(last, subreapers >> n & 1 != 0);
        }
    }

    /// Does a part of a deed, so that others happen in between.
    pub(crate) fn partial_deed(&mut self, (what, which, how, time): Deed) {
        self.pass(u64::from(time) * 100 + 1);
        let able: Vec<Nr> = self.alive().into_iter().filter(|&nr| self.can_act(nr) && !self.is_newborn(nr)).collect();
        let killable: Vec<Nr> = able.iter().copied().filter(|&nr| nr != INIT && nr != KTHREADD).collect();
        let busy: Vec<Nr> = (0..self.procs.len()).filter(|&nr| self.procs[nr].making.is_some()).collect();
        let ending: Vec<Nr> =
            self.in_state(ProcState::Exiting).into_iter().filter(|&nr| self.procs[nr].making.is_none()).collect();
        match what % 20 {
            0..=4 => {
                if let Some(nr) = pick(&able, which) {
                    let home = if how % 24 == 0 { Home::New } else { Home::Same };
                    self.fork_begin(nr, how % 3 == 0 && nr != INIT && nr != KTHREADD, home);
                }
            }
            5 => {
                if let Some(nr) = pick(&able, which) {
                    self.exec_begin(nr, usize::from(how));
                }
            }
            6 => {
                // A subreaper that appears between an exit record and the reparenting is known only from later
                // records. Another test covers that.
                if ending.is_empty()
                    && busy.is_empty()
                    && let Some(nr) = pick(&able, which)
                {
                    self.set_subreaper(nr, how % 4 != 0);
                }
            }
            7..=9 => {
                if let Some(nr) = pick(&killable, which) {
                    self.exit_begin(nr, u32::from(how % 256) << 8);
                }
            }
            10..=14 => {
                if let Some(nr) = pick(&busy, which) {
                    self.submit(nr);
                }
            }
            15..=17 => {
                if let Some(nr) = pick(&ending, which) {
                    self.exit_notify(nr);
                }
            }
            _ => {
                if let Some(nr) = pick(&self.in_state(ProcState::Zombie), which) {
                    self.reap(nr);
                }
            }
        }
    }
}

/// Complete deeds.
impl Kernel {
    pub(crate) fn fork(&mut self, creator: Nr) -> Nr {
        self.clone_into(creator, false, Home::Same)
    }

    pub(crate) fn clone_into(&mut self, creator: Nr, clone_parent: bool, into: Home) -> Nr {
        let child = self.fork_begin(creator, clone_parent, into).expect("a pid is free");
        self.submit(creator);
        child
    }

    pub(crate) fn exec(&mut self, nr: Nr) {
        self.exec_begin(nr, 0);
        self.submit(nr);
    }

    /// Exits and is reaped, together with all processes in its namespace if it is the init of one.
    pub(crate) fn exit(&mut self, nr: Nr, status: u32) {
        self.exit_begin(nr, status);
        self.submit(nr);
        if self.is_space_init(nr) {
            let space = self.procs[nr].space;
            while let Some(&member) = self.members(space).iter().find(|&&nr| self.can_act(nr)) {
                self.exit(member, 9);
            }
            for zombie in self.members(space) {
                self.reap(zombie);
            }
        }
        assert!(self.exit_notify(nr));
        self.reap(nr);
    }

    /// Finishes everything that is in progress.
    pub(crate) fn settle(&mut self) {
        for nr in 0..self.procs.len() {
            self.submit(nr);
        }
        loop {
            for nr in self.doomed() {
                self.exit_begin(nr, 9);
                self.submit(nr);
            }
            let mut quiet = true;
            for nr in self.in_state(ProcState::Exiting) {
                quiet &= !self.exit_notify(nr);
            }
            for nr in self.in_state(ProcState::Zombie) {
                if self.spaces[self.procs[nr].space].dying {
                    self.reap(nr);
                    quiet = false;
                }
            }
            if quiet {
                return;
            }
        }
    }
}
