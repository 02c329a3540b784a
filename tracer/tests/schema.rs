//! The contract of the JSON lines: the schema is up to date, the lines are valid, and keys keep their order.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tracer::event::id::ProcessId;
use tracer::event::schema;
use tracer::event::time::Timestamp;
use tracer::event::{
    Ancestor, ArgvInfo, Bye, Capture, Cause, Container, ContainerEnd, Detail, Dropped, Event, Exec, ExecFailed, Exit,
    Filtering, Hello, HelloSource, Image, Kind, Kubernetes, Lost, Origin, Process, ProcessContainer, Provenance, Reap,
    Reparent, ReparentReason, Storm, StormCommand, StormPhase, StormStatus, Usage, Zombie,
};
use tracer::sink::{Encoder as _, JsonLines};

const TIME: Timestamp = Timestamp(1_700_000_000_123_456_789);

/// Returns an event of each kind, with every key that it can have.
fn samples() -> Vec<Event> {
    let events: Vec<_> = details().into_iter().zip(0..).map(|(detail, seq)| sample(detail, seq)).collect();
    assert_eq!(events.iter().map(Event::kind).collect::<Vec<_>>(), Kind::ALL, "one of each kind");
    events
}

fn sample(detail: Detail, seq: u64) -> Event {
    let mut event = Event { seq, ..Event::new(detail, TIME) };
    let kind = event.kind();
    if !kind.is_framing() || kind == Kind::Storm {
        event.boot_ns = Some(123_456_789_012);
        event.cpu = (kind != Kind::Storm).then_some(1);
        if !matches!(kind, Kind::ContainerInfo | Kind::ContainerExit | Kind::ContainerRemove) {
            event.process = Some(process());
            event.ancestors = Some(vec![Ancestor { id: id(1), pid: 1, comm: text("init"), exe: text("/sbin/init") }]);
        }
    }
    event
}

fn details() -> Vec<Detail> {
    let (after_boot_ns, before_boot_ns) = (Some(1), Some(2));
    let reason = ReparentReason::Subreaper;
    let reparent = Reparent { from_id: id(4700), to_id: Some(id(1)), to_pid: 1, reason };
    let (by_pid, by_id, by_comm) = (Some(1), Some(id(1)), text("init"));
    let reap = Reap { zombie_ns: Some(7), by_pid, by_id, by_comm, inferred: true };
    let (parent_pid, parent_id, parent_comm) = (Some(4700), Some(id(4700)), text("lazy"));
    let zombie = Zombie { zombie_ns: 10, parent_pid, parent_id, parent_comm, unreaped: 3 };
    let lost = Lost {
        cpu: 1,
        total: 10,
        forks: 1,
        execs: 2,
        exits: 3,
        signals: 4,
        passed_over: 10,
        after_boot_ns,
        before_boot_ns,
        ..Lost::default()
    };
    let dropped = Dropped { total: 7, forks: 1, execs: 2, exits: 3, after_boot_ns, before_boot_ns };
    vec![
        Detail::Hello(hello().into()),
        Detail::Process,
        Detail::Fork,
        Detail::Exec(Some(exec().into())),
        Detail::ExecFailed(exec_failed().into()),
        Detail::Exit(exit().into()),
        Detail::Reparent(reparent.into()),
        Detail::Reap(reap.into()),
        Detail::Zombie(zombie.into()),
        Detail::ThreadStart,
        Detail::ThreadExit(exit().into()),
        Detail::ContainerCreate(container(None).into()),
        Detail::ContainerInfo(container_info().into()),
        Detail::ContainerStart(container(None).into()),
        Detail::ContainerExec(container(None).into()),
        Detail::ContainerExit(container(Some(end())).into()),
        Detail::ContainerRemove(container(Some(end())).into()),
        Detail::Lost(lost.into()),
        Detail::Dropped(dropped.into()),
        Detail::Storm(storm().into()),
        Detail::Bye(Bye { seen: 3, emitted: 2, filtered: 1, ..Bye::default() }.into()),
    ]
}

fn container(end: Option<ContainerEnd>) -> Container {
    let (engine, pod_uid) = (text("docker"), text("f7d3c1b2-8a49-4a57-9be1-0c2d3e4f5a6b"));
    Container {
        name: text("web"),
        image: text("nginx:1"),
        hostname: text("web-1"),
        runtime: text("runc"),
        engine,
        pod_uid,
        end,
        ..Container::new("0123456789ab".into(), "/docker/0123456789ab".into())
    }
}

fn container_info() -> Container {
    Container {
        kubernetes: Some(Kubernetes {
            pod: text("web-1"),
            namespace: text("default"),
            container: text("web"),
            sandbox_id: text("ba9876543210"),
        }),
        bundle: text("/run/b"),
        args: Some(["nginx", "-g"].iter().collect()),
        annotations: Some(Arc::new([("a/b".into(), "c".into())].into())),
        ..container(None)
    }
}

fn end() -> ContainerEnd {
    let (init_id, lifetime_ns) = (Some(id(4711)), Some(5_000_000));
    ContainerEnd {
        code: Some(1),
        signal: text("SIGKILL"),
        init_id,
        lifetime_ns,
        processes: 3,
        peak_memory_bytes: Some(1 << 20),
        ..ContainerEnd::default()
    }
}

fn id(pid: u32) -> ProcessId {
    ProcessId::from_ticks(12_345, pid)
}

#[expect(clippy::unnecessary_wraps, reason = "it fills fields that may be absent")]
fn text(text: &str) -> Option<Arc<str>> {
    Some(text.into())
}

fn process() -> Process {
    let strings = |texts: &[&str]| Some(texts.iter().collect());
    let image = Image {
        comm: text("caf\u{fffd}"),
        comm_b64: text("Y2Fm6Q=="),
        exe: text("/bin/caf\u{fffd}"),
        exe_b64: text("L2Jpbi9jYWbp"),
        exe_deleted: true,
        argv: strings(&["caf\u{fffd}", "-x"]),
        argv_b64: strings(&["Y2Fm6Q==", "LXg="]),
        cwd: text("/caf\u{fffd}"),
        cwd_b64: text("L2NhZuk="),
        cwd_deleted: true,
    };
    Process {
        tid: Some(4712),
        ns_pids: Some([4711, 7].into()),
        ppid: Some(1),
        parent_id: Some(id(1)),
        creator_id: Some(id(4700)),
        uid: Some(1000),
        gid: Some(1000),
        euid: Some(0),
        egid: Some(0),
        loginuid: Some(1000),
        sid: Some(4000),
        pgid: Some(4711),
        tty: text("pts/0"),
        image: image.into(),
        start_time: Some(TIME),
        execs: 2,
        cgroup: text("/system.slice/x.service"),
        unit: text("x.service"),
        container: Some(Arc::new(ProcessContainer {
            id: "0123456789ab".into(),
            name: text("web"),
            image: text("nginx:1"),
            pod: text("web-1"),
            namespace: text("default"),
        })),
        origin: Some(Origin::Exec),
        kthread: true,
        zombie: true,
        inferred: true,
        ..Process::new(id(4711), Provenance::Kernel)
    }
}

fn exec() -> Exec {
    let reason = Some(Capture::Cut);
    Exec {
        argv_info: Some(ArgvInfo { argc: 3, bytes: 99, captured: 64, truncated: true, reason }),
        filename: text("./caf\u{fffd}"),
        filename_b64: text("Li9jYWbp"),
        interpreter: text("/bin/sh"),
        memfd: true,
        deleted: true,
        setid: true,
        previous_euid: Some(1000),
        previous_egid: Some(1000),
        caps_gained: true,
        previous_exe: text("/bin/bash"),
        from_tid: Some(4712),
        exe_capture: Some(Capture::Unreadable),
        cwd_capture: Some(Capture::Degraded),
    }
}

fn exec_failed() -> ExecFailed {
    ExecFailed {
        argv_info: Some(ArgvInfo { argc: 1, bytes: 5, captured: 5, truncated: false, reason: None }),
        errno: "ENOENT".into(),
        code: 2,
        filename: text("./caf\u{fffd}"),
        filename_b64: text("Li9jYWbp"),
        filename_capture: Some(Capture::Cut),
        argv: Some(["caf\u{fffd}"].iter().collect()),
        argv_b64: Some(["Y2Fm6Q=="].iter().collect()),
        dirfd: Some(7),
        from_tid: Some(4712),
        attempts: Some(2),
        paths: Some(vec!["/bin/x".into(), "./caf\u{fffd}".into()]),
    }
}

fn exit() -> Exit {
    let cause = Cause {
        sender_pid: Some(1),
        sender_id: Some(id(1)),
        sender_comm: text("init"),
        sender_uid: Some(0),
        kernel: true,
        raised_again: true,
        oom: true,
    };
    Exit {
        code: Some(0),
        signal: text("SIGKILL"),
        core: true,
        duration_ns: Some(1),
        cause: Some(cause),
        usage: Some(Usage::default()),
        own_usage: Some(Usage::default()),
        usage_partial: true,
    }
}

fn storm() -> Storm {
    Storm {
        phase: StormPhase::Ongoing,
        rate: 12,
        threshold: 10,
        began_boot_ns: 122_456_789_012,
        period_ns: 1_000_000_000,
        events: 12,
        folded: 12,
        forks: 4,
        execs: 3,
        exits: 3,
        reparents: 1,
        others: 1,
        failed: 2,
        commands: vec![StormCommand { exe: "/bin/false".into(), execs: 2 }],
        other_execs: 1,
        statuses: vec![
            StormStatus { code: Some(0), signal: None, exits: 1 },
            StormStatus { code: Some(1), signal: None, exits: 1 },
            StormStatus { code: None, signal: text("SIGKILL"), exits: 1 },
        ],
        user_ns: 1,
        system_ns: 2,
        total_events: 24,
    }
}

fn hello() -> Hello {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    Hello {
        source: Some(HelloSource::Kernel),
        version: "0.1.0".into(),
        hooks: texts(&["sched_process_fork"]),
        fallbacks: texts(&["none"]),
        filter: Some(Filtering { kernel: texts(&["uid"]), user: texts(&["comm"]), why: Some("so".into()) }),
        ..Hello::default()
    }
}

fn lines(events: &[Event]) -> String {
    let mut bytes = Vec::new();
    events.iter().try_for_each(|event| JsonLines.encode(event, &mut bytes)).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema::value()).unwrap()
}

fn complaints(validator: &jsonschema::Validator, line: &Value) -> Vec<String> {
    validator.iter_errors(line).map(|error| format!("{}: {error}", error.instance_path)).collect()
}

#[test]
fn the_committed_schema_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/v1.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema::text(),
        "docs/schema/v1.json is stale: cargo run -p tracer -- schema > docs/schema/v1.json"
    );
}

/// Some readers parse every number as floating-point. The schema must warn them where a number can exceed that
/// precision.
#[test]
fn numbers_beyond_2_53_are_exact_and_documented() {
    let boot_ns = (1u64 << 53) + 1;
    let event = Event { boot_ns: Some(boot_ns), ..Event::new(Detail::Lost(Box::default()), Timestamp(0)) };
    let line = serde_json::to_string(&event).unwrap();
    assert!(line.contains("9007199254740993"), "{line}");
    assert_eq!(serde_json::from_str::<Event>(&line).unwrap().boot_ns, Some(boot_ns));
    let mut left = vec![schema::value()];
    let mut found = 0;
    while let Some(value) = left.pop() {
        for (name, property) in value["properties"].as_object().into_iter().flatten() {
            if name.ends_with("boot_ns") {
                found += 1;
                assert!(
                    property["description"].as_str().is_some_and(|text| text.contains("2^53")),
                    "{name}: {property}"
                );
            }
        }
        left.extend(value.as_object().into_iter().flatten().map(|(_, below)| below.clone()));
    }
    assert!(found >= 6, "{found}");
}

#[test]
fn events_of_every_kind_are_valid() {
    let validator = validator();
    for (line, event) in lines(&samples()).lines().zip(samples()) {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(complaints(&validator, &value), [""; 0], "{line}");
        assert_eq!(serde_json::from_str::<Event>(line).unwrap(), event, "a line can be read back");
    }
}

#[test]
fn an_event_with_few_known_values_is_valid() {
    let validator = validator();
    for event in samples() {
        let detail = match event.detail {
            Detail::Exec(_) => Detail::Exec(None),
            Detail::Exit(_) => Detail::Exit(Box::default()),
            Detail::ThreadExit(_) => Detail::ThreadExit(Box::default()),
            detail => detail,
        };
        let process = event.process.map(|_| Process::new(id(1), Provenance::Procfs));
        let event = Event { process, ..Event::new(detail, TIME) };
        let line = serde_json::to_value(&event).unwrap();
        assert_eq!(complaints(&validator, &line), [""; 0]);
        assert_eq!(serde_json::from_value::<Event>(line).unwrap(), event);
    }
}

#[test]
fn what_is_not_in_the_schema_is_not_valid() {
    let validator = validator();
    let valid = serde_json::to_value(sample(Detail::Exit(exit().into()), 0)).unwrap();
    let with = |path: &str, value: Value| {
        let mut line = valid.clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        line.pointer_mut(parent).unwrap()[key] = value;
        line
    };
    for (path, value) in [
        ("/unknown", json!(1)),
        ("/process/unknown", json!(1)),
        ("/exit/usage/unknown", json!(1)),
        ("/v", json!(2)),
        ("/event", json!("death")),
        ("/cpu", Value::Null),
        ("/cpu", json!(-1)),
        ("/time", json!("yesterday")),
        ("/process/id", json!("4711")),
        ("/process/pid", json!("4711")),
        ("/exit/code", json!(256)),
    ] {
        assert!(!validator.is_valid(&with(path, value.clone())), "{path} = {value}");
    }
    let mut without = valid.clone();
    without.as_object_mut().unwrap().remove("exit");
    assert!(!validator.is_valid(&without), "an exit without its exit");
}

#[test]
fn each_kind_has_its_own_keys_and_no_others() {
    let validator = validator();
    let lines: Vec<Value> = samples().iter().map(|event| serde_json::to_value(event).unwrap()).collect();
    for (line, kind) in lines.iter().zip(Kind::ALL) {
        // Every key of the details of every other kind.
        for (key, value) in lines.iter().flat_map(|other| other.as_object().unwrap()) {
            if line.get(key).is_none() && !["boot_ns", "cpu", "process", "ancestors"].contains(&key.as_str()) {
                let mut with = line.clone();
                with[key] = value.clone();
                assert!(!validator.is_valid(&with), "{kind} with {key}");
            }
        }
    }
}

#[test]
fn a_line_without_its_details_is_refused() {
    for event in samples() {
        let line = serde_json::to_value(&event).unwrap();
        for key in ["exec_failed", "exit", "reparent", "reap", "zombie", "container", "lost", "dropped", "storm", "bye"]
        {
            let mut without = line.clone();
            if without.as_object_mut().unwrap().remove(key).is_some() {
                let error = serde_json::from_value::<Event>(without).unwrap_err().to_string();
                assert_eq!(error, format!("missing field `{key}`"), "{}", event.kind());
            }
        }
    }
}

#[test]
fn keys_keep_their_order() {
    insta::assert_snapshot!(lines(&samples()));
}

#[test]
fn the_schema_allows_no_null_and_no_other_keys() {
    let text = schema::text();
    assert!(!text.contains("\"null\"") && !text.contains("null,"), "{text}");
    let schema = schema::value();
    let objects = schema["$defs"].as_object().unwrap().values().filter(|def| def["properties"].is_object());
    assert!(objects.chain([&schema]).all(|def| def["additionalProperties"] == json!(false)));
}

#[test]
fn lines_are_as_serde_json_writes_them() {
    let theirs: String = samples().iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    assert_eq!(lines(&samples()), theirs);
}
