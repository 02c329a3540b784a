//! The memory limit, and what is dropped to stay below it.

use tracer::event::id::ProcessId;
use tracer::record::Exec;
use tracer::table::TableOptions;

use crate::kit::{INIT_TASK, MS, Seen, exec, execed, exit, exited, fork, forked, task, with_argv};

const CEILING: usize = 1 << 20;

fn seen() -> Seen {
    Seen::with(TableOptions { max_bytes: CEILING, ..TableOptions::default() })
}

/// Returns an exec with a unique argument of a given size.
fn with_argument(exec: Exec, n: u32, bytes: usize) -> Exec {
    let argv = format!("job\0{}{n:09}\0", "x".repeat(bytes.saturating_sub(9)));
    with_argv(exec, argv.as_bytes())
}

fn run(seen: &mut Seen, n: u32, bytes: usize) -> ProcessId {
    let task = task(100 + n, u64::from(100 + n) * 100 * MS);
    seen.apply(forked(fork(task, INIT_TASK)));
    seen.apply(execed(with_argument(exec(task, INIT_TASK, task.start_ns + MS), n, bytes)));
    assert!(seen.table.bytes() <= CEILING);
    ProcessId::from_ns(task.start_ns, task.tgid)
}

fn end(seen: &mut Seen, n: u32) -> u64 {
    let task = task(100 + n, u64::from(100 + n) * 100 * MS);
    let events = seen.apply(exited(exit(task, INIT_TASK, task.start_ns + 10 * MS)));
    assert!(seen.table.bytes() <= CEILING);
    events.len() as u64
}

#[test]
fn exited_processes_go_first_and_the_oldest_of_them() {
    let mut seen = seen();
    let living = run(&mut seen, 0, 100_000);
    for n in 1..=1000 {
        run(&mut seen, n, 4000);
        end(&mut seen, n);
    }
    let stats = seen.table.stats();
    assert_eq!(stats.dead_forgotten + seen.table.len_dead() as u64, 1000, "{stats:?}");
    assert!(stats.dead_forgotten > 500 && stats.argv_forgotten == 0, "{stats:?}");
    let kept: Vec<u32> = seen.table.dead().map(|process| process.pid()).collect();
    assert_eq!(kept, (1101 - kept.len() as u32..=1100).collect::<Vec<_>>(), "the latest, oldest first");
    let image = seen.table.by_id(living).expect("it runs").process().image;
    let argv = image.argv.as_ref().expect("exited processes are dropped first");
    assert_eq!(argv.iter().nth(1).unwrap().len(), 100_000);
}

#[test]
fn then_the_largest_argument_lists_but_no_running_process() {
    let mut seen = seen();
    let small = run(&mut seen, 0, 100);
    for n in 1..=1000 {
        run(&mut seen, n, 4000);
    }
    let stats = seen.table.stats();
    assert_eq!(seen.table.len_living(), 1002, "including init");
    assert!(stats.argv_forgotten > 500 && stats.dead_forgotten == 0, "{stats:?}");
    let process = |id| seen.table.by_id(id).expect("it runs").process();
    assert!(process(small).image.argv.is_some() && process(small).image.cwd.is_some(), "small lists stay");
    let cut = seen.table.living().map(|process| process.process()).filter(|process| process.image.argv.is_none());
    let cut: Vec<_> = cut.filter(|process| process.pid != 1).collect();
    assert_eq!(cut.len() as u64, stats.argv_forgotten);
    let whole = |process: &tracer::event::Process| {
        (process.image.exe.as_deref(), process.image.comm.as_deref(), process.ppid, process.execs)
            == (Some("/bin/ls"), Some("ls"), Some(1), 1)
    };
    assert!(cut.iter().all(whole), "all else is known: {cut:?}");
    assert_eq!((0..=1000).map(|n| end(&mut seen, n)).sum::<u64>(), 1001, "each exit is reported");
}

#[test]
fn memory_of_many_simultaneous_processes_is_freed() {
    let mut seen = Seen::with(TableOptions { max_dead: 64, ..TableOptions::default() });
    let one = {
        run(&mut seen, 0, 10);
        seen.table.bytes()
    };
    let many = 30_000;
    for n in 1..=many {
        let task = task(100 + n, u64::from(100 + n) * 100 * MS);
        seen.apply(forked(fork(task, INIT_TASK)));
    }
    assert!(seen.table.bytes() > one + many as usize * 200);
    for n in 1..=many {
        let task = task(100 + n, u64::from(100 + n) * 100 * MS);
        seen.apply(exited(exit(task, INIT_TASK, u64::from(many + n) * 100 * MS)));
    }
    assert_eq!((seen.table.len_dead(), seen.table.len_living()), (64, 2));
    assert!(seen.table.bytes() < one + 64 * 1024);
    // New processes reuse the freed space.
    for n in many + 1..many + 10_000 {
        run(&mut seen, n, 10);
        end(&mut seen, n);
    }
    assert_eq!((seen.table.len_dead(), seen.table.len_living()), (64, 2));
}
