//! A hostile user beside everything that root may run: nothing blocks, no container gets a wrong name, no escape
//! sequence gets through.
//!
//! `TRACER_HOSTILE_SEEDS` names other seeds, separated by commas. Then each tracer must also end within a second.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use tracer::event::{Event, Kind};

use super::containers::{about, container, events};
use super::trust::NOBODY;
use crate::deeds::hostile::{FALSE_NAME, silent_fuse};
use crate::support::engines::{Engine, Runtime, no_runc};
use crate::support::truth::await_said;
use crate::support::{
    BOUND, Case, Guarded, Need, SLOWNESS, Stream, case, command, deed_arguments, open_directory, parse_lines, proc,
};

pub(super) fn cases() -> Vec<Case> {
    vec![case("hostile::a_user_against_every_command", every_seed).needs(&[
        Need::Check(no_runc),
        Need::Tool("unshare"),
        Need::Alone,
    ])]
}

const SEEDS: &str = "TRACER_HOSTILE_SEEDS";
/// How long the hostile user is active, in seconds.
const SECONDS: u32 = 8;
/// Anonymous memory that `tracer stream` may use: what it stores (64 MiB) and its base usage.
const CEILING_KB: u64 = 256 << 10;

fn every_seed() {
    let seeds = std::env::var(SEEDS).ok();
    let many = seeds.is_some();
    for seed in seeds.unwrap_or_else(|| "1".into()).split(',') {
        against(seed, many);
    }
}

/// A tracer of root that writes to a file.
struct Tracer {
    name: &'static str,
    output: PathBuf,
    process: Guarded,
}

impl Tracer {
    fn start(name: &'static str, arguments: &[&str], place: &Path) -> Self {
        let output = place.join(name);
        let mut command = command(arguments);
        command.stdout(fs::File::create(&output).unwrap()).stderr(Stdio::null());
        Self { name, output, process: Guarded::spawn(&mut command) }
    }

    fn text(&self) -> Vec<u8> {
        fs::read(&self.output).unwrap()
    }

    /// Waits until it has written something new.
    fn await_more(&self) {
        let (had, end) = (self.text().len(), Instant::now() + BOUND);
        while self.text().len() == had {
            assert!(
                Instant::now() < end,
                "{} has stopped writing: {}",
                self.name,
                proc::process_tree(self.process.pid())
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it. Returns how long that took.
    fn end(&mut self) -> Duration {
        let begun = Instant::now();
        self.process.signal(Signal::SIGTERM);
        self.process.wait(BOUND);
        begun.elapsed()
    }
}

fn against(seed: &str, strict: bool) {
    let runtime = Runtime::runc();
    // An id in the format of the engines, so that every engine is queried.
    let victim = format!("{:0>64x}", (u64::from(std::process::id()) << 24) | 0xbad);
    let bundle = runtime.bundle(&victim, &["/bin/sleep", "300"]);
    let run = |arguments: &[&str]| {
        let mut command = runtime.command();
        let finished = crate::support::run_bounded(command.args(arguments).stdin(Stdio::null()), BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
    };
    run(&["run", "--detach", "--bundle", &bundle.display().to_string(), &victim]);

    let (place, outputs) = (open_directory(), open_directory());
    fs::create_dir(place.path().join("fuse")).unwrap();
    let fuse = silent_fuse(&place.path().join("fuse"));
    let truth = outputs.path().join("truth");
    let words: Vec<_> = [seed, &SECONDS.to_string(), &place.path().display().to_string(), &victim]
        .map(std::ffi::OsString::from)
        .to_vec();
    let all = deed_arguments("hostile", &truth, &words);
    let mut user = Guarded::spawn(Command::new(&all[0]).args(&all[1..]).stdin(Stdio::null()));
    await_said(&truth, "ready");

    let stream = Stream::start(&["--ring-size=32M"]);
    let mut others = [
        Tracer::start("top", &["top", "-b", "-d", "0.5"], outputs.path()),
        Tracer::start("containers", &["containers", "-b", "-d", "0.5"], outputs.path()),
    ];
    // Containers of root that start and exit meanwhile, alone and below `tracer run`.
    let recording = outputs.path().join("run");
    let mut ran = BTreeSet::new();
    for round in 0..3 {
        let name = format!("victim-{seed}-{round}-{}", std::process::id());
        if round == 1 {
            let bundle = runtime.bundle(&name, &["/bin/true", &name]);
            let mut command = command(["run", "-o"]);
            command.arg(&recording).arg("--").arg(runtime.command().get_program()).args(runtime.command().get_args());
            command.args(["run", "--bundle"]).arg(bundle).arg(&name);
            let finished = crate::support::run_bounded(&mut command, BOUND);
            assert!(finished.status.success(), "{}", finished.stderr);
        } else {
            runtime.run(&name, &["/bin/true", &name]);
        }
        stream.events_until(&|event| {
            event.kind() == Kind::ContainerExit && event.container().is_some_and(|of| *of.id == *name)
        });
        others.iter().for_each(Tracer::await_more);
        ran.insert(name);
    }
    let memory = anonymous_kb(stream.pid());
    // While the user is still active.
    assert!(user.runs() || user.wait(BOUND).success());
    let mut took: Vec<(&str, Duration)> = others.iter_mut().map(|tracer| (tracer.name, tracer.end())).collect();
    let begun = Instant::now();
    let trace = stream.stop_by(Signal::SIGTERM);
    took.push(("stream", begun.elapsed()));
    assert!(user.wait(BOUND).success(), "the hostile deed failed");
    let done = await_said(&truth, "done");
    drop(fuse);
    // Fails without FUSE, where it was never mounted.
    let _ = umount2(&place.path().join("fuse"), MntFlags::MNT_DETACH);
    run(&["delete", "--force", &victim]);

    eprintln!("hostile: seed {seed}: {:?}, {memory} KiB, ended within {took:?}", done.facts);
    let limit = if strict { Duration::from_secs(1) } else { BOUND / 4 };
    assert!(took.iter().all(|(_, time)| *time < limit), "each ends on request: {took:?}");
    assert!(memory < CEILING_KB * u64::from(SLOWNESS), "{memory} KiB");
    let mut all = events(&trace);
    all.extend(parse_lines(&fs::read(&recording).unwrap()).into_iter().map(|line| line.event));
    no_false_names(&all, &victim, &ran);
    for tracer in &others {
        let text = tracer.text();
        let is_control = |byte: &u8| *byte < b' ' && *byte != b'\n' || *byte == 0x7f;
        assert!(!text.iter().any(is_control), "{}: a control character gets through", tracer.name);
        let text = String::from_utf8(text).expect("what is shown is text");
        assert!(!text.chars().any(|c| ('\u{80}'..='\u{9f}').contains(&c)), "{}: so does one of C1", tracer.name);
    }
    for line in &trace.lines {
        assert!(!line.text.bytes().any(|byte| byte < b' ' || byte == 0x7f), "{}", line.text);
    }
}

/// Returns the anonymous memory of a process, in KiB.
fn anonymous_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
}

fn no_false_names(events: &[Event], victim: &str, ran: &BTreeSet<String>) {
    for event in events {
        if event.process.as_ref().is_some_and(|process| process.uid == Some(NOBODY)) {
            assert_eq!(container(event), None, "a process of the user has a container: {event:?}");
        }
        if let Some(container) = event.container() {
            let said = serde_json::to_string(container).unwrap();
            assert!(!said.contains(FALSE_NAME), "the user's description is used: {said}");
        }
    }
    for id in ran.iter().map(String::as_str).chain([victim]) {
        assert!(about(events, id).next().is_some() || id == victim, "{id} is reported");
        let hosts = about(events, id).filter_map(|event| event.container()?.args.as_ref());
        let args: BTreeSet<Vec<&str>> = hosts.map(|args| args.iter().collect()).collect();
        assert!(args.iter().all(|args| args.last() == Some(&id) || args.last() == Some(&"300")), "{id}: {args:?}");
    }
}
