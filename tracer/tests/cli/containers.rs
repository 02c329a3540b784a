//! `tracer containers`: the table on a terminal, as text, and of a recording.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracer::analysis::roster::{ContainerState, Listed};

use crate::pty::OnTerminal;
use crate::top::{can_trace, ends_well};
use crate::{complaint, output, printed, text, tracer};

/// Returns events of a Docker container, as `tracer run -o` wrote them.
fn recording() -> String {
    format!("{}/tests/captures/docker.jsonl", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn keys_change_what_is_shown_and_q_gives_the_terminal_back() {
    if !can_trace() {
        return;
    }
    let mut table = OnTerminal::start(110, 30, &mut tracer(&["containers", "-d", "0.1"]));
    table.await_text("RUNTIME");
    // No container is needed: the header above the table shows the filter.
    for (keys, wanted) in [("?", "any key closes it"), ("x/zzz\r", ", with zzz"), ("Z", ", paused")] {
        table.press(keys);
        table.await_text(wanted);
    }
    table.press("q");
    ends_well(&mut table);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    if !can_trace() {
        return;
    }
    for (signal, size) in [(Signal::SIGTERM, (80, 24)), (Signal::SIGINT, (1, 1))] {
        let mut table = OnTerminal::start(size.0, size.1, &mut tracer(&["containers", "-d", "0.1"]));
        let wanted = if size.0 == 1 { "" } else { "PROCS" };
        table.await_screen(wanted, |screen| screen.hide_cursor() && screen.contents().contains(wanted));
        kill(Pid::from_raw(table.pid() as i32), signal).unwrap();
        ends_well(&mut table);
    }
}

#[test]
fn it_exits_after_a_given_number_of_frames() {
    if !can_trace() {
        return;
    }
    let frames = text(&output(&["containers", "-d", "0.05", "-n", "3"]).stdout);
    assert_eq!(frames.matches("tracer containers - ").count(), 3, "{frames}");
    // Text mode on a terminal too, where the output stays.
    let mut table = OnTerminal::start(80, 24, &mut tracer(&["containers", "-d", "0.05", "-n", "1"]));
    assert_eq!(table.ends(), Some(0));
    assert!(table.text().contains("tracer containers - ") && !table.ever_left_the_main_screen(), "{}", table.text());
    let narrow = text(&output(&["containers", "-b", "-d0.05", "-n1", "-w", "20"]).stdout);
    assert!(narrow.lines().all(|line| line.chars().count() <= 20), "{narrow}");
}

#[test]
fn a_recording_is_shown_as_of_its_end() {
    let file = recording();
    let table = printed(&["containers", "--from", &file]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("tracer containers - ") && lines[0].contains(" 0 running, 1 exited"), "{table}");
    assert_eq!(lines.len(), 4, "{table}");
    let json = printed(&["containers", "--from", &file, "--json"]);
    let one: Listed = serde_json::from_str(&json).unwrap();
    assert_eq!((one.state, one.status().as_deref(), one.processes), (ContainerState::Exited, Some("0"), 0));
    assert!(lines[3].starts_with(&one.container.id[..12]), "{table}");
    let short = &one.container.id[..12];
    assert_eq!(printed(&["containers", "--from", &file, "--json", "--container", short]), json);
    assert_eq!(printed(&["containers", "--from", &file, "--json", "--container", "nothing-like-it"]), "");
    let wrong = complaint(&mut tracer(&["containers", "--from", "/proc/version"]), 1);
    assert!(wrong.contains("/proc/version is no recording: line 1 is no event"), "{wrong}");
    for pair in [["--audit", "-b"], ["--audit", "--sort=up"]] {
        complaint(tracer(&["containers"]).args(pair), 2);
    }
}

#[test]
fn the_schema_is_up_to_date_and_containers_are_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/container-v1.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let how = "cargo run -p tracer -- schema --containers > docs/schema/container-v1.json";
    assert!(committed == ::tracer::event::schema::container_text(), "docs/schema/container-v1.json is stale: {how}");
    assert_eq!(committed, printed(&["schema", "--containers"]));
    let validator = jsonschema::draft202012::new(&serde_json::from_str(&committed).unwrap()).unwrap();
    for line in printed(&["containers", "--from", &recording(), "--json"]).lines() {
        let one = serde_json::from_str(line).unwrap();
        assert!(validator.is_valid(&one), "{one}");
    }
}
