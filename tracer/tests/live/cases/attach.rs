//! Start of tracing on a running machine: processes that exist already, and processes that fork or exit during the
//! start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use tracer::event::id::{ProcessId, TICK_NS};
use tracer::event::{Event, Kind, Process};

use crate::support::proc::{self, Stat};
use crate::support::{
    BOUND, Case, Guarded, Ident, STORM_RING, Stream, Trace, TruthLog, case, check_sound, copy_program, deed_arguments,
    run_bounded, truth,
};

use super::exit::assert_status;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("tree::found_processes_are_as_proc_shows_them", found),
        case("tree::found_zombie", zombie),
        case("snapshot::deleted_programs_and_directories_are_marked", deleted),
        case("tree::starting_in_the_middle_of_a_storm", in_a_storm),
        case("tree::at_rest_as_proc_shows_it", at_rest),
    ]
}

/// Returns the processes that are the same in two readings of `/proc`, without zombies.
fn stable(before: &BTreeMap<u32, Stat>, after: &BTreeMap<u32, Stat>) -> Vec<Stat> {
    let same = |stat: &&Stat| {
        after.get(&stat.pid).is_some_and(|now| {
            let ids = |stat: &Stat| (stat.start, stat.ppid, stat.pgid, stat.sid, stat.tty_nr);
            ids(now) == ids(stat) && !now.is_zombie() && !stat.is_zombie()
        })
    };
    before.values().filter(same).cloned().collect()
}

fn id(stat: &Stat) -> ProcessId {
    ProcessId::from_ticks(stat.start, stat.pid)
}

/// Returns the current executable and working directory of a process.
fn links(pid: u32) -> [Option<String>; 2] {
    ["exe", "cwd"].map(|name| {
        let path = fs::read_link(format!("/proc/{pid}/{name}")).ok()?.to_string_lossy().into_owned();
        Some(path.strip_suffix(" (deleted)").map_or_else(|| path.clone(), str::to_owned))
    })
}

fn found() {
    let before = proc::all();
    let links_before: BTreeMap<u32, [Option<String>; 2]> = before.keys().map(|pid| (*pid, links(*pid))).collect();
    let logins: BTreeMap<u32, Option<u32>> = before.keys().map(|pid| (*pid, proc::loginuid(*pid))).collect();
    let trace = Stream::start(&[]).stop();
    let after = proc::all();
    check_sound(&trace);
    let mut stable = stable(&before, &after);
    // A process that execs in the meantime may be reported as either program.
    stable.retain(|stat| {
        let same = after[&stat.pid].comm == stat.comm && links_before[&stat.pid] == links(stat.pid);
        stat.is_kthread() || (same && trace.of(id(stat), Kind::Exec).is_empty())
    });
    assert!(stable.iter().any(|stat| stat.pid == std::process::id()), "this process stays the same");
    assert!(stable.iter().any(Stat::is_kthread), "there are kernel threads");
    for stat in stable {
        let pid = stat.pid;
        let process = trace.process(id(&stat), Kind::Process);
        assert_eq!(process.kthread, stat.is_kthread(), "{process:?}");
        assert_eq!(process.ppid, Some(stat.ppid), "{process:?}");
        assert!(!process.zombie, "{process:?}");
        assert_eq!((process.pgid, process.sid), (Some(stat.pgid), Some(stat.sid)), "{stat:?}: {process:?}");
        assert_eq!(process.tty.is_some(), stat.tty_nr != 0, "{stat:?}: {process:?}");
        if let Some(pts) = stat.pts() {
            assert_eq!(process.tty.as_deref(), Some(&*pts), "{stat:?}");
        }
        if logins[&pid] == proc::loginuid(pid) {
            assert_eq!(process.loginuid, logins[&pid], "{process:?}");
        }
        // Kernel workers change their names at any time.
        if !process.kthread {
            assert_eq!(process.image.comm.as_deref(), Some(&*stat.comm), "{process:?}");
        }
        let [exe, cwd] = &links_before[&pid];
        if exe.is_some() {
            assert_eq!(process.image.exe.as_deref(), exe.as_deref(), "{process:?}");
        }
        if cwd.is_some() && !process.kthread {
            assert_eq!(process.image.cwd.as_deref(), cwd.as_deref(), "{process:?}");
        }
    }
}

/// A program and a working directory that were deleted while a process used them, and names that only look so.
fn deleted() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let place = place.path().canonicalize().expect("it is there");
    let start = |name: &str| {
        let (program, cwd) = (place.join(name), place.join(format!("{name} at")));
        copy_program("/bin/sleep", &program);
        fs::create_dir(&cwd).expect("a new directory");
        let child = Guarded::spawn(Command::new(&program).arg("300").current_dir(&cwd).stdin(Stdio::null()));
        (child, program, cwd)
    };
    let (kept, kept_program, kept_cwd) = start("s (deleted)");
    let (gone, program, cwd) = start("gone");
    fs::remove_file(&program).expect("it is there");
    fs::remove_dir(&cwd).expect("it is empty");
    let trace = Stream::start(&[]).stop();
    check_sound(&trace);
    let image = |child: &Guarded| {
        let stat = proc::stat(child.pid()).expect("it runs");
        trace.process(id(&stat), Kind::Process).image.clone()
    };
    let kept = image(&kept);
    assert_eq!((kept.exe.as_deref(), kept.cwd.as_deref()), (kept_program.to_str(), kept_cwd.to_str()));
    assert_eq!((kept.exe_deleted, kept.cwd_deleted), (false, false));
    let gone = image(&gone);
    assert_eq!((gone.exe.as_deref(), gone.cwd.as_deref()), (program.to_str(), cwd.to_str()));
    assert_eq!((gone.exe_deleted, gone.cwd_deleted), (true, true));
}

/// A zombie that exists when tracing begins is reported as a zombie, and does not exit again.
fn zombie() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let truth_file = place.path().join("truth");
    let arguments = deed_arguments("zombie", &truth_file, &[]);
    let mut deed =
        Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(deed.child().stdout.take().expect("it was piped")).read_line(&mut line).expect("UTF-8");
    assert_eq!(line, "ready\n");
    let stream = Stream::start(&[]);
    drop(deed.child().stdin.take());
    assert!(deed.wait(BOUND).success(), "the deed failed");
    let trace = stream.with_truth(&truth_file).stop();
    check_sound(&trace);
    let said = trace.truth.one("zombie");
    let process = trace.process(said.id(), Kind::Process);
    assert!(process.zombie, "{process:?}");
    assert_eq!(process.parent_id, Some(trace.deed()));
    assert_eq!(trace.about(said.id()).len(), 1, "it exited before");
    assert_eq!(trace.exit(trace.deed()).code, Some(0));
}

/// Compares with the storm's own log: a process that forks after `hello` and exits before tracer ends is reported
/// completely.
fn in_a_storm() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (flag, truth_file) = (place.path().join("flag"), place.path().join("truth"));
    fs::write(&flag, "").expect("a new file");
    let arguments = deed_arguments("storm", &truth_file, &[flag.clone().into()]);
    let mut storm = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()));
    let size_now = || fs::metadata(&truth_file).map_or(0, |metadata| metadata.len());
    let grown = |size: u64| {
        let end = std::time::Instant::now() + BOUND;
        while size_now() < size {
            assert!(std::time::Instant::now() < end, "the storm does not run");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    grown(10_000);
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let stream = Stream::start(&[STORM_RING]);
        let from = proc::boot_ns();
        // Some hundreds of lines.
        grown(size_now() + 100_000);
        let to = proc::boot_ns();
        rounds.push((stream.stop(), from, to));
    }
    fs::remove_file(&flag).expect("it is there");
    assert!(storm.wait(BOUND).success(), "the storm failed");
    let log = TruthLog::read(&mut truth::reopen(&truth_file));
    for (trace, from, to) in &rounds {
        check_sound(trace);
        check_storm(trace, &log, *from, *to);
    }
}

pub(super) fn check_storm(trace: &Trace, log: &TruthLog, from: u64, to: u64) {
    let born: BTreeMap<ProcessId, Ident> = log.all("born").iter().map(|said| (said.id(), said.get("parent"))).collect();
    let adopted: BTreeMap<ProcessId, Ident> =
        log.all("adopted").iter().map(|said| (said.id(), said.get("to"))).collect();
    let mut by_process: BTreeMap<ProcessId, Vec<&Event>> = BTreeMap::new();
    for event in trace.events() {
        if let Some(process) = &event.process {
            by_process.entry(process.id).or_default().push(event);
        }
    }
    let mut compared = 0;
    for said in log.all("ended") {
        let (id, seen_ended) = (said.id(), said.get::<u64>("boot_ns"));
        let events = by_process.get(&id).map_or(&[][..], Vec::as_slice);
        // It forked while tracer was starting, or before. If it was reported, its exit must be reported too.
        let found_dead = events.first().and_then(|event| event.process.as_ref()).is_some_and(|process| process.zombie);
        let over = found_dead || events.iter().any(|event| event.kind() == Kind::Exit);
        assert!(
            events.is_empty() || seen_ended >= to || over,
            "it has exited, and the stream does not report it: {said:?}"
        );
        // Its start is known to the tick, so a process that starts at the next tick forked after `hello`.
        let complete = id.start_ticks() * TICK_NS > from && seen_ended < to;
        if !complete {
            continue;
        }
        let Some(parent) = born.get(&id) else { continue };
        compared += 1;
        let kinds: Vec<Kind> = events.iter().map(|event| event.kind()).collect();
        let expected: &[Kind] = if adopted.contains_key(&id) {
            &[Kind::Fork, Kind::Reparent, Kind::Exit]
        } else {
            &[Kind::Fork, Kind::Exit]
        };
        assert_eq!(kinds, expected, "{said:?}");
        let parent_of = |index: usize| events[index].process.as_ref().and_then(|process| process.parent_id);
        assert_eq!(parent_of(0), Some(parent.id()), "{said:?}");
        let last = adopted.get(&id).unwrap_or(parent);
        assert_eq!(parent_of(events.len() - 1), Some(last.id()), "{said:?}");
        assert_status(events[events.len() - 1].exit().expect("an exit line has `exit`"), said.get("status"));
    }
    assert!(compared > 50, "too few processes of the storm were compared: {compared}");
}

/// Returns the running processes and their parents as the lines so far report them.
fn relation(events: &[Event]) -> BTreeMap<ProcessId, &Process> {
    let mut living = BTreeMap::new();
    for event in events {
        let Some(process) = &event.process else { continue };
        if event.kind() == Kind::Exit || process.zombie {
            living.remove(&process.id);
        } else if event.kind() != Kind::Reparent || living.contains_key(&process.id) {
            living.insert(process.id, process);
        }
    }
    living
}

fn at_rest() {
    const STEPS: u32 = 6;
    let place = tempfile::tempdir().expect("a temporary directory");
    let truth_file = place.path().join("truth");
    let directory = place.path().as_os_str().to_owned();
    let stream = Stream::start(&[STORM_RING]);
    let arguments = deed_arguments("resting", &truth_file, &[directory, STEPS.to_string().into(), "4711".into()]);
    let mut deed = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()));
    for step in 0..STEPS {
        let end = std::time::Instant::now() + BOUND;
        while !fs::read_to_string(&truth_file).is_ok_and(|text| text.contains(&format!("\"step\":{step}}}"))) {
            assert!(
                std::time::Instant::now() < end,
                "step {step} was not reached:\n{}",
                proc::process_tree(deed.pid())
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let stable = check_relation(&stream);
        let resting = stable.iter().filter(|stat| stat.comm.starts_with("rest-")).count();
        assert!(resting >= 8, "the workload stands: {resting} of its processes, root {}", deed.pid());
        fs::write(place.path().join(format!("go-{step}")), "").expect("a new file");
    }
    assert!(deed.wait(BOUND).success(), "the deed failed");
    check_sound(&stream.stop());
}

/// Asserts that the lines so far report the same running processes and parents as `/proc`. Returns those that stayed
/// the same in the meantime.
pub(super) fn check_relation(stream: &Stream) -> Vec<Stat> {
    let begun = proc::boot_ns();
    let before = proc::all();
    // Everything before the mark is in the stream before the exit of the mark.
    let place = tempfile::tempdir().expect("a temporary directory");
    let arguments = deed_arguments("nothing", &place.path().join("mark"), &[]);
    let finished = run_bounded(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()), BOUND);
    assert!(finished.status.success(), "{finished:?}");
    let mark = TruthLog::read(&mut truth::reopen(&place.path().join("mark"))).one("deed").id();
    let events = stream.events_until(&|event| {
        event.kind() == Kind::Exit && event.process.as_ref().is_some_and(|process| process.id == mark)
    });
    let after = proc::all();
    let living = relation(&events);
    let mut stable = stable(&before, &after);
    // When a parent exits, its children are reported with their new parent before `/proc` shows it.
    stable.retain(|stat| stat.ppid == 0 || after.get(&stat.ppid).is_some_and(|parent| !parent.is_ending()));
    for stat in &stable {
        let process =
            living.get(&id(stat)).unwrap_or_else(|| panic!("{stat:?} runs, and the stream does not report it"));
        assert_eq!(process.ppid, Some(stat.ppid), "{stat:?}");
    }
    let known: BTreeSet<ProcessId> = before.values().chain(after.values()).map(id).collect();
    // A process that forks while `/proc` is read may be skipped there, and may be gone in the second reading.
    for id in living.keys().filter(|id| id.start_ticks() * TICK_NS + TICK_NS < begun) {
        assert!(known.contains(id), "{id:?} runs only in the stream");
    }
    stable
}
