//! The start of containers, from recordings of real ones (`captures/*.jsonl`).

#![expect(clippy::unwrap_used, reason = "a test")]

mod diff;

use std::path::Path;
use std::process::{Command, Stdio};

use tracer::analysis::audit::role::Role;
use tracer::analysis::audit::{Evidence, Start, Starts};
use tracer::event::{Detail, Event, Kind, Lost};
use tracer::view::{glyphs, start};

fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name).display().to_string()
}

fn events(name: &str) -> Vec<Event> {
    let text = std::fs::read_to_string(file(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn starts(events: &[Event]) -> Vec<Start> {
    let mut starts = Starts::default();
    let mut out = Vec::new();
    for event in events {
        starts.apply(event);
        out.extend(starts.take_by_events());
    }
    out.extend(starts.finish());
    out
}

fn one(name: &str) -> Start {
    let mut all = starts(&events(name));
    assert_eq!(all.len(), 1, "{name}");
    all.remove(0)
}

fn waterfall(start: &Start) -> String {
    let lines = start::lines(start, Some(130), &glyphs::UNICODE);
    lines.iter().map(|line| line.plain() + "\n").collect()
}

#[test]
fn a_start_is_a_waterfall() {
    for name in ["docker", "podman", "runc"] {
        insta::assert_snapshot!(name, waterfall(&one(&format!("{name}.jsonl"))));
    }
}

#[test]
fn steps_are_in_order_and_add_up() {
    for name in ["docker", "docker-again", "docker-changed", "podman", "runc"] {
        let start = one(&format!("{name}.jsonl"));
        assert!(start.steps.is_sorted_by_key(|step| step.at_ns), "{name}");
        let took: u64 = start.steps.iter().filter_map(|step| step.took_ns).sum();
        assert_eq!(Some(took), start.total_ns, "{name}");
        assert_eq!(Some(start.step(Role::Entrypoint).unwrap().at_ns), start.total_ns, "{name}");
        assert_eq!(start.ready.unwrap().0 - start.began.0, i64::try_from(took).unwrap(), "{name}");
        assert!(start.others.iter().all(|other| Some(other.at_ns) < start.total_ns), "{name}");
        // The recording's own times of both ends.
        let events = events(&format!("{name}.jsonl"));
        let ready = events.iter().find(|event| event.kind() == Kind::ContainerStart).unwrap();
        let client = events.iter().find(|event| event.kind() == Kind::Exec).unwrap();
        assert_eq!(ready.boot_ns.unwrap() - client.boot_ns.unwrap(), took, "{name}");
    }
}

#[test]
fn each_runtime_has_its_own_way() {
    use Role::{Client, Daemon, Entrypoint, FirstChild, Init, Runtime, Shim, Start};
    let init = [Init; 4];
    let ways: [(&str, Vec<Role>); 3] = [
        (
            "docker.jsonl",
            [&[Client, Daemon, Shim, Shim, Runtime], &init[..], &[Start, Entrypoint, FirstChild]].concat(),
        ),
        ("podman.jsonl", [&[Client, Shim, Shim, Runtime], &init[..], &[Start, Entrypoint, FirstChild]].concat()),
        ("runc.jsonl", [&[Runtime], &init[..], &[Entrypoint, FirstChild]].concat()),
    ];
    for (name, way) in ways {
        let roles: Vec<Role> = one(name).steps.iter().filter_map(|step| step.role).collect();
        assert_eq!(roles, way, "{name}");
    }
}

#[test]
fn a_client_is_known_by_ancestry_or_by_its_command_line() {
    assert_eq!(one("docker.jsonl").client, Some(Evidence::Id), "its command line has --name");
    let mut nameless = events("docker.jsonl");
    nameless.retain(|event| event.kind() != Kind::ContainerInfo);
    for event in &mut nameless {
        if let Detail::ContainerCreate(container)
        | Detail::ContainerStart(container)
        | Detail::ContainerExec(container)
        | Detail::ContainerExit(container)
        | Detail::ContainerRemove(container) = &mut event.detail
        {
            container.name = None;
        }
    }
    assert_eq!(starts(&nameless)[0].client, Some(Evidence::Argv), "its last arguments are the entrypoint's");
    assert_eq!(one("podman.jsonl").client, Some(Evidence::Line));
    assert_eq!(one("runc.jsonl").client, Some(Evidence::Line));
}

#[test]
fn other_commands_are_reported_with_the_reason() {
    let start = one("docker.jsonl");
    let others: Vec<_> =
        start.others.iter().map(|other| (other.argv.as_ref().unwrap().first().unwrap(), other.tie)).collect();
    assert_eq!(others, [("libnetwork-setkey", Evidence::Line), ("set-ipv6", Evidence::Time)]);
}

#[test]
fn a_start_without_its_client_begins_with_the_first_step() {
    let events: Vec<Event> = events("docker.jsonl");
    let of_docker = |event: &&Event| event.process.as_ref().and_then(|p| p.image.comm.as_deref()) != Some("docker");
    let rest: Vec<Event> = events.iter().filter(of_docker).cloned().collect();
    let all = starts(&rest);
    let [start] = &all[..] else { panic!("one start") };
    assert_eq!((start.client, start.steps[0].role, start.steps[0].at_ns), (None, Some(Role::Daemon), 0));
}

/// As `tracer stream --no-snapshot` writes it when a shell that existed before execs the client.
#[test]
fn a_client_that_existed_before_begins_with_its_exec() {
    for name in ["docker.jsonl", "podman.jsonl", "runc.jsonl"] {
        let mut events = events(name);
        events.retain(|event| event.kind() != Kind::Process);
        let [start] = &starts(&events)[..] else { panic!("one start") };
        let whole = one(name);
        assert_eq!((start.total_ns, start.steps.len()), (whole.total_ns, whole.steps.len()), "{name}");
        assert!(!start.incomplete && start.began == whole.began, "{name}");
    }
}

#[test]
fn a_failed_start_is_reported_as_failed() {
    let mut events = events("docker.jsonl");
    let ready = events.iter().position(|event| event.kind() == Kind::ContainerStart).unwrap();
    let init = events[ready].process.as_ref().unwrap().id;
    // The entrypoint and everything after it is missing.
    events.retain(|event| {
        let inside = event.process.as_ref().is_some_and(|process| process.id == init && process.execs > 0);
        let after = matches!(event.kind(), Kind::ContainerStart | Kind::ContainerExit);
        !inside && !after
    });
    let all = starts(&events);
    let [start] = &all[..] else { panic!("one start") };
    assert_eq!((start.ready, start.total_ns, start.step(Role::Entrypoint)), (None, None, None));
    assert!(start.step(Role::Runtime).is_some() && waterfall(start).contains("never became ready"));
}

#[test]
fn a_loss_during_the_start_is_reported() {
    let mut events = events("docker.jsonl");
    let ready = events.iter().position(|event| event.kind() == Kind::ContainerStart).unwrap();
    let lost = Detail::Lost(Lost { total: 1, ..Lost::default() }.into());
    events.insert(ready, Event::new(lost, events[ready].time));
    assert!(starts(&events)[0].incomplete && !one("docker.jsonl").incomplete);
}

fn tracer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracer"));
    command.args(arguments).env("LANG", "C.UTF-8").env_remove("LC_ALL").stdin(Stdio::null());
    command
}

#[test]
fn the_command_reads_files_and_writes_json() {
    let file = file("podman.jsonl");
    let output = tracer(&["containers", "--audit", "--json", "--from", &file]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let printed: Start = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, one("podman.jsonl"));
    let id = &printed.container.id[..12];
    for (only, lines) in [(id, 1), ("nothing-like-it", 0)] {
        let output = tracer(&["containers", "--audit", only, "--json", "--from", &file]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), lines, "{only}");
    }
    let output = tracer(&["containers", "--audit", "--from", "/proc/version"]).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && complaint.contains("/proc/version is no recording: line 1 is no event"),
        "{complaint}"
    );
}

#[test]
fn the_schema_is_up_to_date_and_starts_are_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/start-v1.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let stale = "docs/schema/start-v1.json is stale: cargo run -p tracer -- schema --audit > docs/schema/start-v1.json";
    assert!(committed == tracer::event::schema::start_text(), "{stale}");
    let validator = jsonschema::draft202012::new(&serde_json::from_str(&committed).unwrap()).unwrap();
    for name in ["docker", "podman", "runc"] {
        let start = serde_json::to_value(one(&format!("{name}.jsonl"))).unwrap();
        assert!(validator.is_valid(&start), "{name}: {start}");
    }
}
