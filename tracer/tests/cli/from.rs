//! `--from`: views and filters of a recording, which need no privileges.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::{NamedTempFile, tempdir};

use crate::pty::OnTerminal;
use crate::{complaint, output, printed, text, tracer};

fn capture(name: &str) -> String {
    format!("{}/tests/captures/{name}.jsonl", env!("CARGO_MANIFEST_DIR"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns lines without `seq`, and without the framing lines.
fn events(text: &str) -> Vec<Value> {
    let mut lines = lines(text);
    lines.retain(|line| line["event"] != "hello" && line["event"] != "bye");
    for line in &mut lines {
        line["seq"] = Value::Null;
    }
    lines
}

#[test]
fn a_stream_of_a_recording_is_the_recording() {
    let file = capture("docker");
    let recorded = std::fs::read_to_string(&file).unwrap();
    let streamed = printed(&["stream", "--from", &file]);
    assert_eq!(events(&streamed), events(&recorded));
    let all = lines(&streamed);
    assert_eq!(all[0]["hello"]["source"], "recording");
    assert_eq!(all[0]["hello"]["boot_id"], lines(&recorded)[0]["hello"]["boot_id"]);
    let bye = &all.last().unwrap()["bye"];
    assert_eq!(bye["duration_ns"], lines(&recorded).last().unwrap()["bye"]["duration_ns"]);
    assert_eq!(bye["seen"], bye["emitted"]);

    // From standard input, and compressed.
    let piped = tracer(&["stream", "--from", "-"]).stdin(File::open(&file).unwrap()).output().unwrap();
    assert_eq!((text(&piped.stdout), text(&piped.stderr)), (streamed.clone(), String::new()));
    let mut packed = NamedTempFile::new().unwrap();
    packed.write_all(&zstd::encode_all(recorded.as_bytes(), 0).unwrap()).unwrap();
    assert_eq!(printed(&["stream", "--from", packed.path().to_str().unwrap()]), streamed);
    // As text, with a head and an end.
    let shown = printed(&["stream", "--format", "text", "--from", &file]);
    assert!(shown.starts_with("# tracer 0.1.0 on ") && shown.lines().count() == all.len() + 1, "{shown}");
}

#[test]
fn filters_choose_from_a_recording() {
    let file = capture("docker");
    let recorded = events(&std::fs::read_to_string(&file).unwrap());
    let chosen = |arguments: &[&str]| events(&printed(&[&["stream", "--from", &file], arguments].concat()));
    let count = |which: &dyn Fn(&Value) -> bool| recorded.iter().filter(|event| which(event)).count();
    let exec = |event: &Value| event["event"] == "exec";
    assert_eq!(chosen(&["--event", "exec"]).len(), count(&exec));
    assert_eq!(chosen(&["--event", "exec,exit", "-n", "2", "--no-snapshot"]).len(), 2);
    let runc = |event: &Value| event["process"]["comm"] == "runc";
    assert_eq!(chosen(&["--comm", "runc"]).len(), count(&runc));
    let exe = |event: &Value| event["process"]["exe"].as_str().is_some_and(|exe| exe.ends_with("/runc"));
    assert_eq!(chosen(&["--exe", "*/runc"]).len(), count(&exe));
    assert!(count(&runc) > 0 && count(&exe) > 0 && count(&exec) > 2);
    let pid = &recorded.iter().find(|event| exec(event)).unwrap()["process"]["pid"];
    let below = chosen(&["--pid", &pid.to_string()]);
    assert!(below.iter().any(|event| event["process"]["pid"] == *pid) && below.len() < recorded.len());
    let said = lines(&printed(&["stream", "--from", &file, "--comm", "runc"]));
    let user = said[0]["hello"]["filter"]["user"].as_array().unwrap();
    assert!(user.contains(&"comm".into()), "{user:?}");
}

#[test]
fn a_tree_and_sums_come_from_a_recording() {
    let file = capture("docker");
    let tree = printed(&["tree", "-p", "--dead", "--from", &file]);
    assert!(tree.contains("runc(") && tree.contains("[exit 0]"), "{tree}");
    assert!(!printed(&["tree", "-p", "--from", &file]).contains("[exit"), "only processes that run at its end");
    let missing = complaint(&mut tracer(&["tree", "4194303", "--from", &file]), 1);
    assert!(missing.contains("there is no process 4194303"), "{missing}");

    let recorded = lines(&std::fs::read_to_string(&file).unwrap());
    let of_kind = |kind: &str| recorded.iter().filter(|line| line["event"] == kind).count();
    let top = printed(&["top", "-b", "--from", &file]);
    // The totals of the whole recording, at its last moment.
    assert!(top.starts_with("tracer top - "), "{top}");
    let forks = format!("{} forks", of_kind("fork"));
    assert!(top.contains(&forks), "{forks}: {top}");
    let none = printed(&["top", "-b", "--from", &file, "--comm", "no-such-name"]);
    assert!(none.contains(" 0 forks"), "{none}");

    let runc = capture("runc");
    let summary = printed(&["tree", "--summary", "--from", &runc]);
    assert!(summary.contains("runc --root /run/demo/runc run") && summary.contains(" execs "), "{summary}");
    assert_eq!(printed(&["tree", "--summary", "2092", "--from", &runc]), summary);
}

#[test]
fn a_whole_recording_can_be_browsed() {
    let mut top = OnTerminal::start(100, 30, &mut tracer(&["top", "--from", &capture("docker")]));
    top.await_text("all:");
    top.press("?");
    top.await_text("any other key closes it");
    top.press("xq");
    crate::top::ends_well(&mut top);
}

#[test]
fn a_torn_recording_is_read_with_a_note() {
    let dir = tempdir().unwrap();
    let file: PathBuf = dir.path().join("torn.jsonl");
    let recorded = std::fs::read(capture("docker")).unwrap();
    std::fs::write(&file, &recorded[..recorded.len() / 2]).unwrap();
    let file = file.to_str().unwrap();
    let output = output(&["stream", "--from", file]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("ends in the middle of line"), "{}", text(&output.stderr));
    let all = lines(&text(&output.stdout));
    let lost: Vec<_> = all.iter().filter(|line| line["event"] == "lost").collect();
    assert_eq!((lost.len(), &lost[0]["lost"]["reason"]), (1, &Value::from("recording")));
    let bye = &all.last().unwrap()["bye"];
    assert_eq!((&bye["lost"], all[all.len() - 2]["event"].as_str()), (&Value::from(1), Some("lost")));
}

#[test]
fn an_unreadable_recording_is_refused_with_the_remedy() {
    let dir = tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let empty = write("empty", "");
    let newer = write("newer", "{\"v\":2,\"event\":\"hello\"}\n");
    let whole = std::fs::read_to_string(capture("docker")).unwrap();
    let broken = write("broken", &whole.replacen("\"event\":\"exec\"", "\"event\":exec", 1));
    let missing = dir.path().join("missing");
    let cases = [
        (missing.to_str().unwrap(), "tracer stream -o FILE"),
        (dir.path().to_str().unwrap(), "directory"),
        (&empty, "is empty"),
        ("/proc/version", "is no recording"),
        (&newer, "schema version 2"),
        (&broken, "is no event"),
    ];
    for command in
        [&["stream", "--event", "bye"][..], &["tree"], &["top", "-b"], &["containers"], &["containers", "--audit"]]
    {
        for (file, wanted) in &cases {
            let output = tracer(command).args(["--from", file]).output().unwrap();
            let complaint = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command:?} {file}");
            assert!(complaint.contains(wanted) && complaint.lines().count() == 1, "{command:?} {file}: {complaint}");
        }
    }
    // The input is not truncated.
    let copy = write("copy", &whole);
    let both = complaint(&mut tracer(&["stream", "--from", &copy, "-o", &copy]), 1);
    assert!(both.contains("at once") && std::fs::read_to_string(&copy).unwrap() == whole, "{both}");
    let kept = write("kept", "kept");
    complaint(&mut tracer(&["containers", "--from", &empty, "-o", &kept]), 1);
    complaint(&mut tracer(&["stream", "--from", missing.to_str().unwrap(), "-o", &kept]), 1);
    let file = capture("docker");
    for wrong in [
        &["stream", "--threads"][..],
        &["stream", "--ancestors"],
        &["stream", "--duration", "1s"],
        &["stream", "--ring-size", "1M"],
        &["top", "--threads"],
        &["top", "-n", "1"],
        &["tree", "--watch"],
        &["containers", "--diff", "a", "b"],
    ] {
        complaint(tracer(wrong).args(["--from", &file]), 2);
    }
    for wrong in [&["tree", "--summary"][..], &["tree", "--dead"]] {
        complaint(&mut tracer(wrong), 2);
    }
}
