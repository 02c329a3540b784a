//! Values that must agree between lines, and with changes while a process runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tracer::event::{Event, Kind, Process};
use tracer::kernel::hierarchy::Hierarchy;
use tracer::source::live::Live;

use crate::pty::OnTerminal;
use crate::support::{
    BOUND, Case, Guarded, Need, Run, STORM_RING, Stream, case, check_sound, command, deed_arguments, open_directory,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("values::a_renamed_control_group", renamed_cgroup).needs(&[Need::Check(no_v1)]),
        case("values::names_of_kernel_threads", kernel_threads),
        case("values::one_start_time", one_start_time),
        case("values::times_are_in_order", in_order),
        case("values::a_new_name_and_user_are_reported_again", reported_again),
        case("values::a_new_name_shows_in_a_live_tree", shown_again),
    ]
}

/// Returns the v1 hierarchy that tracer uses: only in version 1 can cgroups be renamed.
fn v1_mount() -> Option<PathBuf> {
    let hierarchy = Hierarchy::of_proc();
    hierarchy.controller.and(hierarchy.mount).filter(|mount| mount.root == "/").map(|mount| mount.at)
}

fn no_v1() -> Option<String> {
    let Some(mount) = v1_mount() else { return Some("no v1 cgroup hierarchy is in use".to_owned()) };
    let tried = mount.join(format!("tracer-try-{}", std::process::id()));
    let made = fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried));
    made.err().map(|error| format!("cannot make a cgroup in {}: {error}", mount.display()))
}

/// A shell enters a cgroup that is then renamed, and so is its parent.
fn renamed_cgroup() {
    let mount = v1_mount().expect("the case needs it");
    let name = format!("tracer-rename-{}", std::process::id());
    let script = r#"
        set -e
        mkdir "$1/$2" "$1/$2/in"
        echo $$ > "$1/$2/in/cgroup.procs"
        sh -c : before
        mv "$1/$2/in" "$1/$2/out"
        sh -c : after
        mv "$1/$2" "$1/$2-too"
        sh -c : last
        echo $$ > "$1/cgroup.procs"
        rmdir "$1/$2-too/out" "$1/$2-too""#;
    let mount = mount.to_str().expect("UTF-8");
    let trace = Run::of(["sh", "-c", script, "sh", mount, &name]).trace();
    check_sound(&trace);
    let cgroup = |mark: &str| -> Vec<&str> {
        let marked = |process: &&Process| process.image.argv.as_ref().is_some_and(|argv| argv.last() == Some(mark));
        let execs = trace.of_kind(Kind::Exec).chain(trace.of_kind(Kind::Exit));
        execs
            .filter_map(|event| event.process.as_ref())
            .filter(marked)
            .filter_map(|process| process.cgroup.as_deref())
            .collect()
    };
    assert_eq!(cgroup("before"), [format!("/{name}/in"), format!("/{name}/in")]);
    assert_eq!(cgroup("after"), [format!("/{name}/out"), format!("/{name}/out")]);
    assert_eq!(cgroup("last"), [format!("/{name}-too/out"), format!("/{name}-too/out")]);
}

/// `/proc` shows more of a kernel thread's name than the kernel keeps and reports with an exit.
fn kernel_threads() {
    let trace = Stream::start(&[]).stop();
    let names: Vec<&str> = trace
        .of_kind(Kind::Process)
        .filter_map(|event| event.process.as_ref())
        .filter(|process| process.kthread)
        .filter_map(|process| process.image.comm.as_deref())
        .collect();
    assert!(names.contains(&"kthreadd") && names.len() > 5, "{names:?}");
    for name in names {
        assert!(name.len() <= 15, "{name}");
        let worker = name.strip_prefix("kworker/").filter(|rest| !rest.starts_with("R-"));
        assert!(worker.is_none_or(|rest| !rest.contains(['-', '+'])), "{name}");
    }
}

/// `/proc` counts in ticks of 10 ms, the records in nanoseconds.
fn one_start_time() {
    let (read, write) = std::io::pipe().expect("a pipe");
    let mut child = Command::new("cat").stdin(read).spawn().expect("cat");
    let pid = child.id();
    let stream = Stream::start(&[]);
    drop(write);
    child.wait().expect("it is a child");
    let ended =
        |event: &Event| event.kind() == Kind::Exit && event.process.as_ref().is_some_and(|process| process.pid == pid);
    stream.events_until(&ended);
    let trace = stream.stop();
    let mut starts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for process in trace.events().filter_map(|event| event.process.as_ref()) {
        starts.entry(process.id).or_default().push(process.start_time);
    }
    for (id, starts) in &starts {
        assert!(starts.iter().all(|start| start == &starts[0]), "{id:?}: {starts:?}");
    }
    assert!(starts.values().any(|starts| starts.len() > 1), "one that existed before has exited");
}

/// Two storms, each on a separate CPU.
fn in_order() {
    let mut stream = Stream::start(&[STORM_RING]);
    stream.deed("pinned-storms", &["1000"]);
    let trace = stream.stop();
    check_sound(&trace);
    let (mut by_cpu, mut by_process) = (BTreeMap::new(), BTreeMap::new());
    let (mut latest, mut late) = (0, Vec::new());
    for event in trace.events() {
        let (Some(now), Some(cpu)) = (event.boot_ns, event.cpu) else { continue };
        assert!(by_cpu.insert(cpu, now).is_none_or(|before| before <= now), "CPU {cpu}: {event:?}");
        // A reparent is caused by the exit of the parent.
        if event.kind() != Kind::Reparent {
            let id = event.process.as_ref().map(|process| process.id);
            assert!(by_process.insert(id, now).is_none_or(|before| before <= now), "{event:?}");
        }
        late.push(u64::saturating_sub(latest, now));
        latest = latest.max(now);
    }
    assert!(late.len() >= 4000, "{} lines", late.len());
    late.sort_unstable();
    // A hypervisor may stop a CPU between reading the clock and writing the record, for any time, but rarely.
    let typical = late[late.len() - 1 - late.len() / 200];
    assert!(typical < 1_000_000, "{typical} ns, and at most {:?}", late.last());
}

/// Starts a process that waits until it must change.
fn changing(place: &std::path::Path) -> Guarded {
    let arguments = deed_arguments("changing", &place.join("truth"), &[]);
    let mut deed =
        Guarded::spawn(Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut output = BufReader::new(deed.child().stdout.take().expect("it was piped"));
    output.read_line(&mut String::new()).expect("it says that it is ready");
    deed
}

fn change(deed: &mut Guarded) {
    deed.child().stdin.as_mut().expect("it was piped").write_all(b"\n").expect("it listens");
}

fn reported_again() {
    let place = open_directory();
    let mut deed = changing(place.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut tracer = Live::builder().refresh_every(Duration::from_millis(50)).start().expect("tracing begins");
        tracer.take_snapshot();
        let mut events = Vec::new();
        change(&mut deed);
        let pid = deed.pid();
        for kind in [Kind::Process, Kind::Exit] {
            let of = |event: &&Event| {
                event.kind() == kind && event.process.as_ref().is_some_and(|process| process.pid == pid)
            };
            let process = loop {
                let batch = tokio::time::timeout(BOUND, tracer.next_batch(&mut events)).await;
                batch.expect("it is reported again").expect("the ring can be read");
                // It may be read while it changes.
                let found = events.iter().rev().find(of).and_then(|event| event.process.clone());
                if let Some(process) = found.filter(|process| process.uid == Some(1234)) {
                    break process;
                }
            };
            assert_eq!((process.image.comm.as_deref(), process.euid), (Some("renamed-now"), None), "{process:?}");
            let argv: Vec<&str> = process.image.argv.iter().flatten().collect();
            assert_eq!(argv, ["changed-argv", "one"], "{process:?}");
            drop(deed.child().stdin.take());
        }
        tracer.stop(&mut events);
    });
    assert!(deed.wait(BOUND).success(), "the deed failed");
}

fn shown_again() {
    let place = open_directory();
    let mut deed = changing(place.path());
    let pid = deed.pid();
    let mut screen = OnTerminal::start(200, 40, &mut command(["tree", "--watch", "-p", &pid.to_string()]));
    screen.await_text(&format!("({pid})"));
    change(&mut deed);
    screen.await_text(&format!("renamed-now({pid})"));
    screen.press("q");
    assert_eq!(screen.ends(), Some(0), "{}", screen.text());
    drop(deed.child().stdin.take());
    assert!(deed.wait(BOUND).success(), "the deed failed");
}
