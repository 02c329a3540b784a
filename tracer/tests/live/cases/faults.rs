//! Faults in the middle of a storm. Each ends with a plain error or a correct `lost`, never with silence.
//!
//! What fails, and when, is drawn from a seed (`TRACER_SEED`).

use std::fs;
use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use super::stream::Storm;
use crate::deeds::blocked_memory::{FILE, UnansweredWrites};
use crate::support::{
    BOUND, Case, Guarded, Need, Rng, Stream, case, command, deed_arguments, open_directory, parse_lines, proc,
    run_bounded, tracer_binary,
};

pub(super) fn cases() -> Vec<Case> {
    let blocked = case("faults::a_process_that_blocks_its_readers", blocks_its_readers)
        .needs(&[Need::Check(no_fuse), Need::Alone]);
    let storms = seeds().into_iter().map(|seed| case(format!("faults::in_a_storm_{seed}"), move || in_a_storm(seed)));
    storms.chain([blocked]).collect()
}

/// Two by default, to keep it short; others on request.
fn seeds() -> Vec<u64> {
    let given = std::env::var("TRACER_SEED").unwrap_or_default();
    let seeds: Vec<u64> = given.split(',').filter_map(|seed| seed.trim().parse().ok()).collect();
    if seeds.is_empty() { vec![1, 2] } else { seeds }
}

/// Injects a fault and checks the result.
type Fault = fn(&mut Rng, &Path);

const FAULTS: [(&str, Fault); 11] = [
    ("stopped for a while", stopped),
    ("killed", killed),
    ("the reader goes", reader_goes),
    ("few descriptors", few_descriptors),
    ("little address space", little_memory),
    ("a control group without memory", little_cgroup_memory),
    ("a limit on the size of files", small_files),
    ("a full disk", full_disk),
    ("the held command is killed", held_killed),
    ("the held command is stopped", held_stopped),
    ("the waker of a stopped command is killed", waker_killed),
];

fn in_a_storm(seed: u64) {
    let mut rng = Rng::new(seed);
    let storm = Storm::start();
    let mut faults = FAULTS;
    // Each once, in a different order for each seed.
    for i in (1..faults.len()).rev() {
        faults.swap(i, rng.below(i as u64 + 1) as usize);
    }
    for (name, fault) in faults {
        eprintln!("faults, seed {seed}: {name}");
        let place = open_directory();
        fault(&mut rng, place.path());
    }
    storm.stop();
}

fn a_moment(rng: &mut Rng) {
    std::thread::sleep(Duration::from_millis(rng.below(300)));
}

/// Starts a stream into a file, with its stderr in another file.
fn stream(place: &Path, set_up: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) -> Guarded {
    let mut command = command(["stream", "--no-snapshot", "-o"]);
    command.arg(place.join("events")).stderr(fs::File::create(place.join("complaint")).expect("a new file"));
    // SAFETY: the tests set limits here, which is safe between fork and exec.
    unsafe { command.pre_exec(set_up) };
    Guarded::spawn(&mut command)
}

fn complaint(place: &Path) -> String {
    fs::read_to_string(place.join("complaint")).expect("it was created")
}

/// Asserts that it ended in order and accounts for every event, or gives the reason in one line why it could not.
fn check_honest(tracer: &mut Guarded, place: &Path) {
    let status = tracer.wait(BOUND);
    let said = complaint(place);
    match status.code() {
        Some(0) => check_balance(place),
        Some(1) => {
            let last = said.lines().last().unwrap_or_default();
            assert!(last.starts_with("tracer: ") && last.contains(": "), "no reason: {said:?}");
            assert!(!said.contains("panicked"), "{said}");
        }
        _ => panic!("it exited with {status}: {said}"),
    }
}

/// Asserts that `bye` is there, and counts the events that are missing.
fn check_balance(place: &Path) {
    let lines = parse_lines(&fs::read(place.join("events")).expect("it was written"));
    let bye = lines.last().and_then(|line| line.event.bye()).expect("`bye` is last");
    assert_eq!(bye.seen, bye.emitted + bye.filtered + bye.folded + bye.dropped + bye.lost, "{bye:?}");
    let lost: u64 = lines.iter().filter_map(|line| line.event.lost()).map(|lost| lost.total).sum();
    assert_eq!(bye.lost, lost, "every loss has a line");
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line.event.seq, number as u64, "no line is missing: {}", line.text);
    }
}

fn await_events(tracer: &mut Guarded, place: &Path) {
    let end = std::time::Instant::now() + BOUND;
    while fs::metadata(place.join("events")).map_or(0, |events| events.len()) == 0 {
        assert!(std::time::Instant::now() < end, "nothing was written:\n{}", proc::process_tree(tracer.pid()));
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn stopped(rng: &mut Rng, place: &Path) {
    let mut tracer = stream(place, || Ok(()));
    await_events(&mut tracer, place);
    for _ in 0..3 {
        tracer.signal(Signal::SIGSTOP);
        a_moment(rng);
        tracer.signal(Signal::SIGCONT);
        a_moment(rng);
    }
    tracer.signal(Signal::SIGTERM);
    check_honest(&mut tracer, place);
    assert_eq!(tracer.wait(BOUND).code(), Some(0), "{}", complaint(place));
}

/// Its output ends with a complete line, and the next tracer works.
fn killed(rng: &mut Rng, place: &Path) {
    let mut tracer = stream(place, || Ok(()));
    await_events(&mut tracer, place);
    a_moment(rng);
    tracer.signal(Signal::SIGKILL);
    tracer.wait(BOUND);
    let bytes = fs::read(place.join("events")).expect("it was written");
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let lines = parse_lines(&bytes[..whole]);
    assert!(lines.iter().all(|line| line.event.bye().is_none()), "no `bye`: so the output is recognizably incomplete");
    let finished =
        crate::support::run_bounded(command(["stream", "-n", "5", "--append", "-o"]).arg(place.join("events")), BOUND);
    assert_eq!(finished.code(), 0, "{finished:?}");
}

fn reader_goes(rng: &mut Rng, place: &Path) {
    let complaint_file = fs::File::create(place.join("complaint")).expect("a new file");
    let mut tracer = Guarded::spawn(command(["stream"]).stdout(Stdio::piped()).stderr(complaint_file));
    let mut reader = tracer.child().stdout.take().expect("it was piped");
    let mut some = vec![0; 1 + rng.below(200_000) as usize];
    reader.read_exact(&mut some).expect("there is a storm");
    drop(reader);
    assert_eq!((tracer.wait(BOUND).code(), complaint(place)), (Some(0), String::new()));
}

fn limit(resource: Resource, most: u64) -> impl FnMut() -> std::io::Result<()> {
    move || setrlimit(resource, most, most).map_err(Into::into)
}

/// Lets it run for a moment, then asks it to end. It may have exited before.
fn check_limited(mut tracer: Guarded, rng: &mut Rng, place: &Path) {
    a_moment(rng);
    a_moment(rng);
    if tracer.runs() {
        // It catches the signal only once it has started.
        let end = std::time::Instant::now() + BOUND;
        while tracer.runs() && fs::metadata(place.join("events")).map_or(0, |events| events.len()) == 0 {
            assert!(
                std::time::Instant::now() < end,
                "it neither starts nor exits:\n{}",
                proc::process_tree(tracer.pid())
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    if tracer.runs() {
        tracer.signal(Signal::SIGTERM);
    }
    check_honest(&mut tracer, place);
}

fn few_descriptors(rng: &mut Rng, place: &Path) {
    for _ in 0..4 {
        let most = 4 + rng.below(60);
        let tracer = stream(place, limit(Resource::RLIMIT_NOFILE, most));
        check_limited(tracer, rng, place);
        let _ = fs::remove_file(place.join("events"));
    }
}

fn little_memory(rng: &mut Rng, place: &Path) {
    for _ in 0..4 {
        let most = (96 + rng.below(400)) << 20;
        let mut tracer = stream(place, limit(Resource::RLIMIT_AS, most));
        a_moment(rng);
        if tracer.runs() {
            check_limited(tracer, rng, place);
        } else if tracer.wait(BOUND).code() != Some(127) {
            // 127: even the dynamic linker ran out of memory, and reports it.
            check_honest(&mut tracer, place);
        }
        assert!(!complaint(place).is_empty() || place.join("events").exists(), "it reported nothing");
        let _ = fs::remove_file(place.join("events"));
    }
}

/// A v1 or v2 memory control group, which ends with this.
struct MemoryGroup(std::path::PathBuf);

impl MemoryGroup {
    /// None where no memory controller is mounted.
    fn new(most: u64) -> Option<Self> {
        let name = format!("tracer-faults-{}-{most}", std::process::id());
        for (root, file) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
            let group = Path::new(root).join(&name);
            if !Path::new(root).join("cgroup.procs").exists() || fs::create_dir(&group).is_err() {
                continue;
            }
            let group = Self(group);
            if fs::write(group.0.join(file), most.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The kernel ends it without a word if it must. Otherwise it says why it ended, or accounts for all it saw.
fn little_cgroup_memory(rng: &mut Rng, place: &Path) {
    for _ in 0..2 {
        let Some(group) = MemoryGroup::new((8 + rng.below(64)) << 20) else {
            eprintln!("no memory controller is mounted: not tried");
            return;
        };
        let procs = group.0.join("cgroup.procs");
        let mut tracer = stream(place, move || fs::write(&procs, "0"));
        a_moment(rng);
        a_moment(rng);
        if tracer.runs() {
            tracer.signal(Signal::SIGTERM);
        }
        let status = tracer.wait(BOUND);
        if status.signal() == Some(libc::SIGKILL) {
            let oom = fs::read_to_string(group.0.join("memory.events"))
                .or_else(|_| fs::read_to_string(group.0.join("memory.oom_control")))
                .expect("the control group counts");
            let kills = oom.lines().find_map(|line| line.strip_prefix("oom_kill ")).map(str::trim);
            assert_ne!(kills, Some("0"), "it was killed, but not for its memory: {}", complaint(place));
        } else {
            check_honest(&mut tracer, place);
        }
        let _ = fs::remove_file(place.join("events"));
    }
}

fn small_files(rng: &mut Rng, place: &Path) {
    let mut tracer = stream(place, limit(Resource::RLIMIT_FSIZE, rng.below(100_000)));
    assert_eq!(tracer.wait(BOUND).code(), Some(1), "{}", complaint(place));
    assert!(
        complaint(place).contains("File too large") && complaint(place).contains("ulimit -f"),
        "{}",
        complaint(place)
    );
}

/// A file system of a few pages in a private mount namespace.
fn full_disk(rng: &mut Rng, place: &Path) {
    let script = "mount -t tmpfs -o size=$2k tmpfs \"$1\" && exec \"$0\" stream -o \"$1/events\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(tracer_binary()).arg(place).arg((64 + rng.below(1000)).to_string());
    let finished = crate::support::run_bounded(command.stdin(Stdio::null()), BOUND);
    let line = finished.assert_one_line_failure();
    assert!(line.contains("No space left on device"), "{line}");
}

/// Starts `tracer run` and waits until its command is held before the exec.
fn held(place: &Path) -> (Guarded, u32) {
    let mut command = command(["run", "-o"]);
    command.arg(place.join("events")).args(["--", "sh", "-c", "exit 5"]);
    command.stderr(fs::File::create(place.join("complaint")).expect("a new file"));
    let mut tracer = Guarded::spawn(&mut command);
    let end = std::time::Instant::now() + BOUND;
    loop {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", tracer.pid())).unwrap_or_default();
        if let Some(child) = children.split_whitespace().next().and_then(|child| child.parse().ok()) {
            return (tracer, child);
        }
        assert!(std::time::Instant::now() < end && tracer.runs(), "the command is held");
        std::thread::yield_now();
    }
}

fn held_killed(rng: &mut Rng, place: &Path) {
    let (mut tracer, child) = held(place);
    std::thread::sleep(Duration::from_millis(rng.below(100)));
    // SAFETY: integers only. It is a child of a process that we have not reaped.
    unsafe { libc::kill(child as i32, libc::SIGKILL) };
    // It may have been released, and have exited, by then.
    let code = tracer.wait(BOUND).code();
    assert!(matches!(code, Some(137 | 5)), "{code:?}: {}", complaint(place));
}

fn held_stopped(rng: &mut Rng, place: &Path) {
    let (mut tracer, child) = held(place);
    std::thread::sleep(Duration::from_millis(rng.below(50)));
    // SAFETY: integers only, as above.
    unsafe { libc::kill(child as i32, libc::SIGSTOP) };
    a_moment(rng);
    // It may have exited by then. SAFETY: integers only, as above.
    unsafe { libc::kill(child as i32, libc::SIGCONT) };
    assert_eq!(tracer.wait(BOUND).code(), Some(5), "{}", complaint(place));
    check_balance(place);
}

/// The command stops, and with it tracer. Without the process that would continue tracer, SIGCONT to tracer does.
fn waker_killed(rng: &mut Rng, place: &Path) {
    let mut command = command(["run", "-o"]);
    command.arg(place.join("events")).args(["--", "sh", "-c", "kill -STOP $$; exit 5"]);
    command.stderr(fs::File::create(place.join("complaint")).expect("a new file"));
    let mut tracer = Guarded::spawn(&mut command);
    let end = std::time::Instant::now() + BOUND;
    let in_time = |what: &str| {
        assert!(std::time::Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    };
    while proc::stat(tracer.pid()).is_some_and(|stat| stat.state != 'T') {
        in_time("tracer does not stop with its command");
    }
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", tracer.pid())).expect("it is stopped");
    let children: Vec<i32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    let stopped = |pid: i32| proc::stat(pid).is_some_and(|stat| stat.state == 'T');
    let (shells, wakers): (Vec<i32>, Vec<i32>) = children.into_iter().partition(|&pid| stopped(pid));
    std::thread::sleep(Duration::from_millis(rng.below(50)));
    // SAFETY: integers. They are children of a process that we have not waited for, and which cannot wait for them.
    unsafe {
        for waker in wakers {
            assert_eq!(libc::kill(waker, libc::SIGKILL), 0);
        }
        for shell in shells {
            assert_eq!(libc::kill(shell, libc::SIGCONT), 0);
        }
    }
    std::thread::sleep(Duration::from_millis(rng.below(50)));
    tracer.signal(Signal::SIGCONT);
    assert_eq!(tracer.wait(BOUND).code(), Some(5), "{}", complaint(place));
    check_balance(place);
}

fn no_fuse() -> Option<String> {
    (!Path::new("/dev/fuse").exists()).then(|| "there is no /dev/fuse".to_owned())
}

/// The memory map of a process is locked for as long as its file system does not answer. Each command works, and says whose
/// arguments are missing.
fn blocks_its_readers() {
    let place = open_directory();
    let (mounted, truth) = (place.path().join("fuse"), place.path().join("truth"));
    fs::create_dir(&mounted).expect("a new directory");
    let unanswered = UnansweredWrites::mount(&mounted).expect("FUSE can be mounted");
    let arguments = deed_arguments("blocked-memory", &truth, &[mounted.join(FILE).into()]);
    let mut deed = Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::null()));
    let end = std::time::Instant::now() + BOUND;
    while !unanswered.has_written() {
        assert!(std::time::Instant::now() < end && deed.runs(), "its page is not written back");
        std::thread::sleep(Duration::from_millis(2));
    }
    // Its second thread waits for the lock by now, and this reader does as well.
    std::thread::sleep(Duration::from_millis(600));
    let mut reader =
        Guarded::spawn(Command::new("cat").arg(format!("/proc/{}/cmdline", deed.pid())).stdout(Stdio::null()));
    std::thread::sleep(Duration::from_millis(300));
    assert!(reader.runs(), "nothing blocks: this test shows nothing");

    let warning = format!("the arguments of process {} are left out", deed.pid());
    for arguments in [&["stream", "-n", "5"][..], &["tree"], &["top", "--batch", "-n", "1"]] {
        let finished = run_bounded(&mut command(arguments), BOUND);
        assert_eq!(finished.code(), 0, "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(&warning), "{arguments:?}: {}", finished.stderr);
    }
    let trace = Stream::start(&[]).stop();
    let found = trace.events().filter_map(|event| event.process.as_ref()).find(|process| process.pid == deed.pid());
    assert_eq!(found.map(|process| process.image.argv.is_none()), Some(true), "{found:?}");
    drop(unanswered);
    deed.wait(BOUND);
    reader.wait(BOUND);
}
