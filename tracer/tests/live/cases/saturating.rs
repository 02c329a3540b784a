//! Storms on every CPU, traced live: nothing is lost, and the stream equals the storm's own log.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use tracer::event::Bye;

use crate::support::{
    BOUND, Case, Guarded, Need, SLOWNESS, TruthLog, case, command, deed_arguments, directory_in_memory, open_directory,
    truth,
};

pub(super) fn cases() -> Vec<Case> {
    ["exec", "vfork", "threads"]
        .map(|kind| case(format!("load::saturating_storm_of_{kind}"), move || storm(kind)).needs(&[Need::Alone]))
        .into()
}

/// How long a storm lasts unless `TRACER_STORM_SECONDS` is set. A meaningful measurement takes a minute, by hand.
const SECONDS: u64 = 2;

/// The compared parts of a line. Parsing all of each would take longer than the storm.
#[derive(Deserialize)]
struct Reported {
    event: String,
    process: Option<ReportedProcess>,
    exit: Option<ReportedExit>,
    bye: Option<Bye>,
}

#[derive(Deserialize)]
struct ReportedProcess {
    id: String,
    pid: u32,
    tid: Option<u32>,
    parent_id: Option<String>,
    #[serde(default)]
    argv: Vec<String>,
}

#[derive(Deserialize)]
struct ReportedExit {
    code: Option<i32>,
}

/// A child of a worker.
#[derive(Clone, Copy, Default)]
struct Child {
    execs: u32,
    exits: u32,
}

/// The children of a worker, as the stream reports them so far.
#[derive(Default)]
struct Worker {
    tasks: Vec<u32>,
    children: Vec<Child>,
    ended_threads: Vec<u32>,
}

fn storm(kind: &'static str) {
    let seconds = std::env::var("TRACER_STORM_SECONDS").ok().map(|text| text.parse().expect("a number"));
    let ring = std::env::var("TRACER_STORM_RING").ok();
    // A user who sets the duration chooses the directory too, by TMPDIR.
    let place = if seconds.is_some() { open_directory() } else { directory_in_memory() };
    let seconds: u64 = seconds.unwrap_or(SECONDS);
    let (output, truth_file) = (place.path().join("events"), place.path().join("truth"));
    let mut arguments = vec!["stream", "--no-snapshot"];
    arguments.extend(ring.as_ref().map(|ring| ["--ring-size", ring]).iter().flatten());
    arguments.extend((kind == "threads").then_some("--threads"));
    let mut tracer = Guarded::spawn(command(&arguments).arg("-o").arg(&output).stderr(Stdio::inherit()));
    let end = std::time::Instant::now() + BOUND;
    while File::open(&output).and_then(|file| file.metadata()).map_or(0, |about| about.len()) == 0 {
        assert!(tracer.runs() && std::time::Instant::now() < end, "it wrote no hello");
        std::thread::sleep(Duration::from_millis(5));
    }
    let words = deed_arguments("saturate", &truth_file, &[kind.into(), seconds.to_string().into()]);
    let mut deed = Guarded::spawn(Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()));
    let long = Duration::from_secs(seconds * u64::from(SLOWNESS)) + 2 * BOUND;
    assert!(deed.wait(long).success(), "the storm failed");
    tracer.signal(Signal::SIGINT);
    assert!(tracer.wait(long).success());
    let log = TruthLog::read(&mut truth::reopen(&truth_file));
    let made: BTreeMap<String, Vec<u32>> =
        log.all("made").iter().map(|said| (said.id().to_string(), said.get("tids"))).collect();
    let bye = last(&output);
    let all: usize = made.values().map(Vec::len).sum();
    let cpu_ns = bye.user_ns + bye.system_ns;
    eprintln!(
        "load: {kind}, {seconds} s, ring {}: {all} made, {:.0} a second; {} events, {} lost; {:.1} us of CPU each, {} MiB",
        ring.as_deref().unwrap_or("as ever"),
        all as f64 / seconds as f64,
        bye.seen,
        bye.lost,
        cpu_ns as f64 / 1000.0 / all as f64,
        bye.max_rss_bytes >> 20,
    );
    assert_eq!((bye.lost, bye.argv_degraded, bye.paths_degraded), (0, 0, 0), "{bye:?}");
    assert_eq!(bye.seen, bye.emitted, "{bye:?}");
    assert!(all > 100, "it was a storm: {all}");
    let reported = read(kind, BufReader::new(File::open(&output).expect("it was written")), &made);
    for (worker, made) in &made {
        let reported = reported.get(worker).expect("the worker is reported");
        // Not with `assert_eq`, which would print all of them.
        assert!(reported.tasks == *made, "{worker} made {} and {} are reported", made.len(), reported.tasks.len());
        if kind == "threads" {
            let sorted = |tids: &[u32]| {
                let mut tids = tids.to_vec();
                tids.sort_unstable();
                tids
            };
            assert!(sorted(&reported.ended_threads) == sorted(made), "{worker}: the exits of threads");
            continue;
        }
        let execs = u32::from(kind == "exec");
        let odd = reported.children.iter().position(|life| (life.execs, life.exits) != (execs, 1));
        assert!(odd.is_none(), "{worker}: number {odd:?} is not reported completely");
    }
}

/// Returns the last line. If something was lost, nothing else needs a check.
fn last(output: &Path) -> Bye {
    let mut file = File::open(output).expect("it was written");
    let len = file.metadata().expect("it is open").len();
    file.seek(SeekFrom::Start(len.saturating_sub(1 << 16))).expect("a file");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("a file");
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().last().expect("there is a line");
    let reported: Reported = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    reported.bye.unwrap_or_else(|| panic!("not a bye: {line}"))
}

/// Reads the stream: the children of each worker.
fn read(kind: &str, lines: impl BufRead, made: &BTreeMap<String, Vec<u32>>) -> BTreeMap<String, Worker> {
    let mut workers: BTreeMap<String, Worker> = made.keys().map(|id| (id.clone(), Worker::default())).collect();
    // The number of each child of its parent. An id may be used again once its process has exited.
    let mut living: HashMap<String, usize> = HashMap::new();
    for line in lines.lines() {
        let line = line.expect("UTF-8");
        let reported: Reported = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let Some(process) = reported.process else { continue };
        match (&*reported.event, process.parent_id.as_ref().and_then(|parent| workers.get_mut(parent))) {
            ("fork", Some(worker)) => {
                living.insert(process.id, worker.tasks.len());
                worker.tasks.push(process.pid);
                worker.children.push(Child::default());
            }
            ("exec", Some(worker)) if kind == "exec" => {
                let n = living.get(&process.id).unwrap_or_else(|| panic!("it was not forked: {line}"));
                assert_eq!(process.argv, ["/bin/true", &n.to_string()], "{line}");
                worker.children[*n].execs += 1;
            }
            ("exit", Some(worker)) => {
                let n = living.remove(&process.id).unwrap_or_else(|| panic!("it was not forked: {line}"));
                let code = if kind == "vfork" { (n % 256) as i32 } else { 0 };
                assert_eq!(reported.exit.and_then(|exit| exit.code), Some(code), "{line}");
                worker.children[n].exits += 1;
            }
            ("thread_start", _) => {
                if let Some(worker) = workers.get_mut(&process.id) {
                    worker.tasks.push(process.tid.unwrap_or(process.pid));
                }
            }
            ("thread_exit", _) => {
                if let Some(worker) = workers.get_mut(&process.id) {
                    worker.ended_threads.push(process.tid.unwrap_or(process.pid));
                }
            }
            _ => {}
        }
    }
    workers
}
