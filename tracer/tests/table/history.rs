//! Compares the process table with a model of the kernel, in random histories.

use proptest::prelude::*;
use tracer::event::id::ProcessId;
use tracer::event::{Event, Kind, Provenance};
use tracer::table::{ProcessRef, Table, TableOptions};

use crate::model::deeds::{Deed, deeds, pick};
use crate::model::{Home, INIT, KTHREADD, Kernel, Move, Nr, ProcState};

/// A kernel and a table that follows it.
struct Watched {
    kernel: Kernel,
    table: Table,
    events: Vec<Event>,
}

impl Watched {
    fn boot(pid_max: u32) -> Self {
        let kernel = Kernel::boot(pid_max);
        let mut table = Table::new(TableOptions { max_dead: 512, ancestors: true, ..TableOptions::default() });
        let mut events = Vec::new();
        table.seed((0..kernel.procs.len()).map(|nr| kernel.seed_of(nr)).collect(), &mut events);
        assert_eq!(events.iter().map(tracer::event::Event::kind).collect::<Vec<_>>(), [Kind::Process; 2]);
        events.clear();
        Self { kernel, table, events }
    }

    /// Returns the events of all records since the last call.
    fn follow(&mut self) -> Vec<Event> {
        for record in self.kernel.ring.drain(..) {
            self.table.apply(record, &mut self.events);
        }
        std::mem::take(&mut self.events)
    }

    fn id(&self, nr: Nr) -> ProcessId {
        self.kernel.id(nr)
    }

    fn at(&self, nr: Nr) -> ProcessRef<'_> {
        let proc = &self.kernel.procs[nr];
        let found = self.table.by_pid(proc.pid).expect("a running process is in the table");
        let tick = |ns: u64| ns / 10_000_000;
        assert_eq!(tick(found.start_ns()), tick(proc.start_ns), "pid {} belongs to another process", proc.pid);
        found
    }

    /// Asserts that the table equals the kernel while no step is in progress.
    fn check(&self) {
        let alive = self.kernel.alive();
        for &nr in &alive {
            let (proc, found) = (&self.kernel.procs[nr], self.at(nr));
            let parent = proc.parent.map(|parent| self.id(parent));
            assert_eq!(found.parent_id(), parent, "parent of pid {} ({nr})", proc.pid);
            assert_eq!(found.ppid(), Some(proc.parent.map_or(0, |parent| self.kernel.procs[parent].pid)));
            assert_eq!(found.creator_id(), proc.creator.map(|creator| self.id(creator)), "creator of {nr}");
            let process = found.process();
            assert_eq!(
                process.creator_id,
                proc.creator.map(|creator| self.id(creator)).filter(|id| Some(*id) != parent)
            );
            assert_eq!(process.image.exe.as_deref(), proc.exe.as_deref(), "exe of {nr}");
            assert_eq!(process.image.comm.as_deref(), Some(&*proc.comm), "comm of {nr}");
            assert_eq!(process.execs, proc.execs, "execs of {nr}");
            assert_eq!(process.kthread, proc.kthread, "kthread of {nr}");
            let nested = (proc.ns_pids.len() > 1).then_some(&proc.ns_pids[..]);
            assert_eq!(process.ns_pids.as_deref(), nested, "pids of {nr}");
            assert!(!process.inferred && !process.zombie);

            let mut children: Vec<u64> = found.children().map(|child| child.start_ns()).collect();
            let mut expected: Vec<u64> = self
                .kernel
                .children(nr)
                .into_iter()
                .filter(|&child| self.kernel.procs[child].state == ProcState::Alive)
                .map(|child| self.kernel.procs[child].start_ns)
                .collect();
            children.sort_unstable();
            expected.sort_unstable();
            if nr != INIT && nr != KTHREADD {
                assert_eq!(children, expected, "children of {nr}");
            }
        }
        assert_eq!(self.table.len_living(), alive.len(), "living");
        assert_eq!(self.table.living().count(), alive.len());
        assert_eq!(self.table.dead().count(), self.table.len_dead());
        assert_eq!(self.table.stats().inferred, 0);
        assert_eq!(self.table.stats().retired, 0);
    }
}

/// A short form of the events.
#[derive(Debug, PartialEq, Eq)]
enum Reported {
    Fork { id: ProcessId, parent: Option<ProcessId>, creator: Option<ProcessId> },
    Exec { id: ProcessId, execs: u32, from_tid: Option<u32>, previous: Option<String> },
    Exit { id: ProcessId, code: Option<u8>, signal: Option<String>, exe: Option<String>, duration_ns: u64 },
    Reparent { id: ProcessId, from: ProcessId, to: Option<ProcessId>, to_pid: u32, reason: String },
    Other(Kind),
}

fn reported(event: &Event) -> Reported {
    let process = event.process.as_ref().expect("it has a process");
    assert_eq!(process.source, if process.pid < 3 { Provenance::Procfs } else { Provenance::Kernel });
    let id = process.id;
    match event.kind() {
        Kind::Fork => Reported::Fork { id, parent: process.parent_id, creator: process.creator_id },
        Kind::Exec => {
            let exec = event.exec().expect("it has an exec");
            let previous = exec.previous_exe.as_deref().map(str::to_owned);
            Reported::Exec { id, execs: process.execs, from_tid: exec.from_tid, previous }
        }
        Kind::Exit => {
            let exit = event.exit().expect("it has an exit");
            let signal = exit.signal.as_deref().map(str::to_owned);
            let exe = process.image.exe.as_deref().map(str::to_owned);
            Reported::Exit { id, code: exit.code, signal, exe, duration_ns: exit.duration_ns.unwrap_or_default() }
        }
        Kind::Reparent => {
            let to = event.reparent().expect("it has a reparent");
            assert_eq!(process.parent_id, to.to_id);
            assert_eq!(event.ancestors.as_ref().and_then(|line| line.first()).map(|parent| parent.id), to.to_id);
            let reason = format!("{:?}", to.reason);
            Reported::Reparent { id, from: to.from_id, to: to.to_id, to_pid: to.to_pid, reason }
        }
        kind => Reported::Other(kind),
    }
}

impl Watched {
    fn expect_moves(&mut self) -> Vec<Reported> {
        let moves = std::mem::take(&mut self.kernel.moves);
        let reported = |Move { child, from, to, reason }| Reported::Reparent {
            id: self.id(child),
            from: self.id(from),
            to: Some(self.id(to)),
            to_pid: self.kernel.procs[to].pid,
            reason: format!("{reason:?}"),
        };
        moves.into_iter().map(reported).collect()
    }

    /// Does a complete deed and checks its events.
    fn whole_deed(&mut self, (what, which, how, time): Deed) {
        let kernel = &mut self.kernel;
        kernel.pass(u64::from(time) * 100 + 1);
        let Some(nr) = pick(&kernel.alive(), which) else { return };
        let killable = nr != INIT && nr != KTHREADD;
        let mut expected = Vec::new();
        match what % 16 {
            0..=6 => {
                let home = match how % 16 {
                    0 => Home::New,
                    1..=3 => {
                        // setns only goes inwards.
                        let own = kernel.procs[nr].space;
                        let inner: Vec<Nr> =
                            (0..kernel.spaces.len()).filter(|&at| kernel.spaces[at].outer == Some(own)).collect();
                        pick(&inner, how / 16).map_or(Home::Same, Home::Space)
                    }
                    _ => Home::Same,
                };
                let Some(child) = kernel.fork_begin(nr, how % 5 == 0 && killable, home) else { return };
                kernel.submit(nr);
                let parent = kernel.procs[child].parent;
                let creator = (parent != Some(nr)).then(|| kernel.id(nr));
                let parent = parent.map(|parent| kernel.id(parent));
                expected.push(Reported::Fork { id: kernel.id(child), parent, creator });
            }
            7 | 8 => {
                let threads = kernel.procs[nr].threads.clone();
                let tid = threads[usize::from(how) % threads.len()];
                let previous = kernel.procs[nr].exe.clone();
                kernel.exec_begin(nr, usize::from(how));
                kernel.submit(nr);
                let (pid, execs) = (kernel.procs[nr].pid, kernel.procs[nr].execs);
                expected.push(Reported::Exec {
                    id: kernel.id(nr),
                    execs,
                    from_tid: Some(tid).filter(|&tid| tid != pid),
                    previous,
                });
            }
            9 => {
                kernel.set_subreaper(nr, how % 4 != 0);
            }
            10 => expected.extend(kernel.thread_start(nr).then_some(Reported::Other(Kind::ThreadStart))),
            11 => {
                expected.extend(kernel.thread_exit(nr, usize::from(how)).then_some(Reported::Other(Kind::ThreadExit)));
            }
            _ if killable => {
                let first = kernel.procs.len();
                kernel.exit(nr, if how % 3 == 0 { 9 } else { u32::from(how % 256) << 8 });
                assert_eq!(first, kernel.procs.len());
                // One exit, or many if a namespace dies with it, each followed by its moves: compared by kind.
                let events: Vec<Reported> = self.follow().iter().map(reported).collect();
                let (moves, exits): (Vec<Reported>, Vec<Reported>) =
                    events.into_iter().partition(|reported| matches!(reported, Reported::Reparent { .. }));
                assert_eq!(moves, self.expect_moves());
                for exit in exits {
                    let Reported::Exit { id, code, signal, exe, duration_ns } = exit else { panic!("{exit:?}") };
                    let is = |proc: &&crate::model::Proc| {
                        ProcessId::from_ns(proc.start_ns, proc.pid) == id && proc.exe == exe && proc.status.is_some()
                    };
                    let ended = self.kernel.procs.iter().rev().find(is).expect("it has exited");
                    let status = ended.status.expect("it has exited");
                    assert_eq!(code, (status & 0x7f == 0).then_some((status >> 8) as u8));
                    assert_eq!(signal.as_deref(), (status & 0x7f != 0).then_some("SIGKILL"));
                    assert!(duration_ns <= self.kernel.now - ended.start_ns);
                }
                return;
            }
            _ => {}
        }
        let events: Vec<Reported> = self.follow().iter().map(reported).collect();
        expected.extend(self.expect_moves());
        assert_eq!(events, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn each_deed_makes_the_events_it_should(pid_max in 8u32..60, deeds in deeds(120)) {
        let mut watched = Watched::boot(pid_max);
        for deed in deeds {
            watched.whole_deed(deed);
            watched.check();
        }
    }

    #[test]
    fn deeds_that_overlap_end_in_the_same_tree(
        pid_max in 20u32..60, subreapers: u16, deeds in deeds(250),
    ) {
        let mut watched = Watched::boot(pid_max);
        watched.kernel.line(subreapers);
        for (n, deed) in deeds.into_iter().enumerate() {
            watched.kernel.partial_deed(deed);
            watched.follow();
            if n % 50 == 49 {
                watched.kernel.settle();
                watched.follow();
                watched.check();
            }
        }
        watched.kernel.settle();
        watched.follow();
        watched.check();
    }
}
