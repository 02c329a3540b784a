//! Comparing two starts.

use std::fs::File;
use std::io::Write as _;

use tracer::analysis::audit::diff::{Change, Command, Diff, Pace, Time};
use tracer::analysis::audit::role::Role;
use tracer::analysis::audit::{Evidence, Ran, Start};
use tracer::event::id::ProcessId;
use tracer::view::{glyphs, start_diff};

use crate::{file, one, tracer};

fn lines(a: &str, b: &str) -> String {
    let diff = Diff::new(&one(&format!("{a}.jsonl")), &one(&format!("{b}.jsonl")));
    let lines = start_diff::lines(&diff, [a, b], Some(140), &glyphs::UNICODE);
    lines.iter().map(|line| line.plain() + "\n").collect()
}

#[test]
fn differences_are_reported() {
    insta::assert_snapshot!("diff", lines("docker", "docker-changed"));
    insta::assert_snapshot!("diff_of_engines", lines("docker", "podman"));
}

#[test]
fn two_starts_of_the_same_container_differ_only_in_times() {
    let (a, b) = (one("docker.jsonl"), one("docker-again.jsonl"));
    assert!(a.container.id != b.container.id && a.steps[0].argv != b.steps[0].argv, "made-up names differ");
    for (a, b) in [(&a, &b), (&b, &a), (&a, &a)] {
        let diff = Diff::new(a, b);
        assert!(diff.same, "{diff:?}");
        assert_eq!(diff.commands.len(), a.steps.len() + a.others.len());
        assert!(diff.commands.iter().all(|command| command.changes.is_empty() && command.time.is_some()), "{diff:?}");
    }
    assert!(lines("docker", "docker-again").contains("No difference but times: 14 commands"));
}

/// Compares a start with an edited copy, in both directions.
fn against(change: impl FnOnce(&mut Start)) -> (Diff, Diff) {
    let a = one("docker.jsonl");
    let mut b = one("docker-again.jsonl");
    change(&mut b);
    (Diff::new(&a, &b), Diff::new(&b, &a))
}

fn hook(pid: u32, creator: u32, argv: &[&str]) -> Ran {
    Ran {
        role: None,
        tie: Evidence::Line,
        id: ProcessId::from_ticks(1, pid),
        pid,
        creator_pid: Some(creator),
        uid: Some(0),
        comm: Some("hook".into()),
        exe: Some("/usr/bin/hook".into()),
        argv: Some(argv.iter().collect()),
        execed: true,
        at_ns: 300_000_000,
        took_ns: None,
        lasted_ns: Some(5_000_000),
        code: Some(0),
        signal: None,
    }
}

/// Returns the only command that differs, and how it differs.
fn only(diff: &Diff) -> (&Command, Vec<Change>) {
    let changed: Vec<&Command> = diff.commands.iter().filter(|command| !command.changes.is_empty()).collect();
    let [command] = changed[..] else { panic!("expected one changed command: {changed:?}") };
    assert!(!diff.same);
    (command, command.changes.clone())
}

fn runtime(start: &Start) -> u32 {
    start.step(Role::Runtime).unwrap().pid
}

#[test]
fn commands_of_only_one_start_are_new_or_gone() {
    let (there, back) = against(|b| {
        let creator = runtime(b);
        b.others.push(hook(7, creator, &["/usr/bin/hook", "prestart"]));
    });
    let (command, changes) = only(&there);
    assert_eq!((changes, command.a.is_none()), (vec![Change::New], true));
    let path: Vec<&str> = command.b.as_ref().unwrap().path.iter().map(|name| &**name).collect();
    assert_eq!(path, ["runtime", "hook"]);
    let (command, changes) = only(&back);
    assert_eq!((changes, command.b.is_none()), (vec![Change::Gone], true));
}

#[test]
fn repeated_commands_are_one_with_a_count() {
    let a = {
        let mut a = one("docker.jsonl");
        let creator = runtime(&a);
        a.others.extend((0..2).map(|n| hook(10 + n, creator, &["/usr/bin/hook", "/tmp/tmp.x8Kq0a2LzP"])));
        a
    };
    let mut b = one("docker-again.jsonl");
    let creator = runtime(&b);
    b.others.extend((0..5).map(|n| hook(10 + n, creator, &["/usr/bin/hook", &format!("/tmp/tmp.y0{n}p1w2LzP")])));
    let diff = Diff::new(&a, &b);
    let (command, changes) = only(&diff);
    let counts = [&command.a, &command.b].map(|ran| ran.as_ref().unwrap().count);
    assert_eq!((changes, counts, command.time), (vec![Change::Count], [2, 5], None));
    assert_eq!(command.a.as_ref().unwrap().time_ns, Some(10_000_000));
}

#[test]
fn a_command_with_other_arguments_is_found_by_its_place() {
    let mut a = one("docker.jsonl");
    let creator = runtime(&a);
    a.others.push(hook(7, creator, &["/usr/bin/hook", "--mode", "slow", "x"]));
    a.others.push(hook(8, creator, &["/usr/bin/hook", "other"]));
    let mut b = one("docker-again.jsonl");
    let creator = runtime(&b);
    b.others.push(hook(7, creator, &["/usr/bin/hook", "other"]));
    b.others.push(Ran { uid: Some(33), ..hook(8, creator, &["/usr/bin/hook", "--mode", "fast", "x"]) });
    let diff = Diff::new(&a, &b);
    let (command, changes) = only(&diff);
    assert_eq!(changes, [Change::Argv, Change::User]);
    let [words] = &command.words[..] else { panic!("one place: {:?}", command.words) };
    assert!(words.a.iter().eq(["slow"]) && words.b.iter().eq(["fast"]), "{words:?}");
}

#[test]
fn a_command_with_another_parent_has_moved() {
    let mut a = one("docker.jsonl");
    let creator = runtime(&a);
    a.others.push(hook(7, creator, &["/usr/bin/hook"]));
    let mut b = one("docker-again.jsonl");
    let creator = b.step(Role::Client).unwrap().pid;
    b.others.push(hook(7, creator, &["/usr/bin/hook"]));
    assert_eq!(only(&Diff::new(&a, &b)).1, [Change::Place]);
}

#[test]
fn the_status_of_a_command_counts_once_both_exited() {
    let failing = |code: Option<u8>, signal: Option<&str>| {
        let diff = against(|b| {
            (b.others[0].code, b.others[0].signal) = (code, signal.map(Into::into));
        });
        diff.0.commands.iter().flat_map(|command| command.changes.clone()).collect::<Vec<_>>()
    };
    assert_eq!(failing(Some(0), None), []);
    assert_eq!(failing(None, None), []);
    assert_eq!(failing(Some(3), None), [Change::Status]);
    assert_eq!(failing(None, Some("SIGKILL")), [Change::Status]);
}

#[test]
fn a_helper_in_the_line_is_the_only_one_that_is_new() {
    let (diff, _) = against(|b| {
        let at = b.steps.iter().position(|step| step.role == Some(Role::Runtime)).unwrap();
        let helper = Ran { role: Some(Role::Helper), ..hook(7, b.steps[at - 1].pid, &["/usr/bin/hook"]) };
        b.steps[at].creator_pid = Some(7);
        b.steps.insert(at, helper);
    });
    assert_eq!(only(&diff).1, [Change::New]);
}

#[test]
fn known_values_of_the_container_are_compared() {
    let (diff, back) = against(|b| b.container.image = None);
    assert!(diff.same && back.same, "the other image is unknown");
    let mut a = one("docker.jsonl");
    a.container.image = Some("web:1".into());
    let b = Start { ready: None, total_ns: None, ..a.clone() };
    let mut c = a.clone();
    c.container.image = Some("web:2".into());
    for (b, name) in [(b, "ready"), (c, "image")] {
        let diff = Diff::new(&a, &b);
        let names: Vec<&str> = diff.container.iter().map(|fact| fact.what.name()).collect();
        assert_eq!((names, diff.same), (vec![name], false));
    }
}

#[test]
fn only_notably_longer_commands_are_slower() {
    const MS: u64 = 1_000_000;
    for (a, b, pace) in [
        (0, 0, None),
        (0, 10 * MS, Some(Pace::Slower)),
        (MS, 9 * MS, None),
        (20 * MS, 30 * MS, Some(Pace::Slower)),
        (20 * MS, 30 * MS - 1, None),
        (100 * MS, 149 * MS, None),
        (100 * MS, 150 * MS, Some(Pace::Slower)),
        (150 * MS, 100 * MS, Some(Pace::Faster)),
        (u64::MAX, 0, Some(Pace::Faster)),
    ] {
        assert_eq!(Time::new(a, b).pace, pace, "{a} {b}");
    }
    assert_eq!(Time::new(20 * MS, 15 * MS).more_ns, -5 * 1_000_000);
    assert_eq!((Time::new(0, 5).ratio, Time::new(2, 5).ratio), (None, Some(2.5)));
}

#[test]
fn the_other_way_round_new_is_gone() {
    let names = ["docker", "docker-again", "docker-changed", "podman", "runc"];
    for a in names {
        for b in names {
            let [x, y] = [a, b].map(|name| one(&format!("{name}.jsonl")));
            let (there, back) = (Diff::new(&x, &y), Diff::new(&y, &x));
            let count = |diff: &Diff, change: Change| {
                diff.commands.iter().filter(|command| command.changes.contains(&change)).count()
            };
            assert_eq!(there.same, back.same, "{a} {b}");
            for (one, other) in [(Change::New, Change::Gone), (Change::Gone, Change::New), (Change::Argv, Change::Argv)]
            {
                assert_eq!(count(&there, one), count(&back, other), "{a} {b}");
            }
            // Each command of both starts occurs once.
            for (start, side) in [(&x, 0), (&y, 1)] {
                let ran = there.commands.iter().filter_map(|command| [&command.a, &command.b][side].as_ref());
                let runs: u64 = ran.map(|ran| ran.count).sum();
                assert_eq!(runs, (start.steps.len() + start.others.len()) as u64, "{a} {b}");
            }
        }
    }
}

#[test]
fn the_schema_is_up_to_date_and_differences_are_valid() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/diff-v1.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let stale = "docs/schema/diff-v1.json is stale: cargo run -p tracer -- schema --diff > docs/schema/diff-v1.json";
    assert!(committed == ::tracer::event::schema::diff_text(), "{stale}");
    let validator = jsonschema::draft202012::new(&serde_json::from_str(&committed).unwrap()).unwrap();
    for (a, b) in [("docker", "docker-changed"), ("docker", "podman"), ("runc", "podman")] {
        let files = [a, b].map(|name| file(&format!("{name}.jsonl")));
        let output = tracer(&["containers", "--json", "--diff", &files[0], &files[1]]).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0));
        let diff = Diff::new(&one(&format!("{a}.jsonl")), &one(&format!("{b}.jsonl")));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), serde_json::to_string(&diff).unwrap() + "\n");
        let value = serde_json::to_value(diff).unwrap();
        assert!(validator.is_valid(&value), "{value}");
    }
}

/// Runs tracer and checks the status and standard error, which has at most one line. Returns standard output.
fn ends(arguments: &[&str], status: i32, said: &str) -> String {
    let output = tracer(arguments).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(status) && complaint.contains(said), "{arguments:?}: {complaint}");
    assert!(complaint.lines().count() <= 1 || complaint.contains("Usage"), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_status_is_that_of_diff() {
    let [docker, again, changed] =
        ["docker", "docker-again", "docker-changed"].map(|name| file(&format!("{name}.jsonl")));
    ends(&["containers", "--diff", &docker, &again], 0, "");
    ends(&["containers", "--diff", &docker, &changed], 1, "");
    for (other, said) in [
        ("/nowhere/at/all", "cannot open /nowhere/at/all: "),
        ("/proc/version", "/proc/version is no recording: line 1 is no event"),
        ("/dev/null", "/dev/null is empty, so it is no recording"),
        (env!("CARGO_MANIFEST_DIR"), "is a directory"),
        (env!("CARGO_BIN_EXE_tracer"), "is no recording: line 1 is no event"),
    ] {
        assert_eq!(ends(&["containers", "--diff", &docker, other], 2, said), "");
        assert_eq!(ends(&["containers", "--diff", other, &docker], 2, said), "");
    }
    ends(&["containers", "--diff", &docker], 2, "2 values required");
    ends(&["containers", "--diff", "-", "-"], 2, "only one of the two files can be standard input");
    ends(&["containers", "--container", "web", "--audit"], 2, "cannot be used with");
    ends(&["containers", "--diff", &docker, &again, "--audit"], 2, "cannot be used with");
}

#[test]
fn of_several_containers_one_is_chosen() {
    let mut both = tempfile::NamedTempFile::new().unwrap();
    for name in ["docker.jsonl", "podman.jsonl"] {
        both.write_all(&std::fs::read(file(name)).unwrap()).unwrap();
    }
    let (both, again) = (both.path().to_str().unwrap(), file("docker-again.jsonl"));
    let (docker, podman) = (&*one("docker.jsonl").container.id, &*one("podman.jsonl").container.id);
    let called = [docker, podman].map(|id| format!("web ({})", &id[..12]));
    let said = format!("has 2 container starts: this is the first, of {}", called[0]);
    let first = ends(&["containers", "--diff", both, &again], 0, &said);
    assert!(first.contains("A  ") && first.contains(&docker[..12]), "{first}");
    ends(&["containers", "--diff", both, &again, "--container", podman, "--container", "web-2"], 1, "");
    ends(&["containers", "--diff", both, &again, "--container", "web", "--container", "web-2"], 0, "");
    let same = ["containers", "--diff", both, both, "--container", &docker[..12]];
    assert!(ends(&same, 0, "").contains("No difference but times"));
    let none = format!("has no container web-3: it has {}", called.join(", "));
    ends(&["containers", "--diff", both, &again, "--container", "web-3"], 2, &none);
    ends(&[&same[..], &["--container", "a", "--container", "b"]].concat(), 2, "once for each");
    let standard_input = tracer(&["containers", "--diff", "-", &again])
        .stdin(File::open(file("docker.jsonl")).unwrap())
        .output()
        .unwrap();
    assert_eq!(standard_input.status.code(), Some(0), "{standard_input:?}");
}
