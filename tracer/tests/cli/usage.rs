//! Help, completions, and the messages for wrong usage.

use std::fs::File;
use std::process::Command;

use unicode_width::UnicodeWidthStr as _;

use crate::{complaint, output, printed, text, tracer};

/// Commands for people, each with something that its long help must explain.
const COMMANDS: [(&str, &str); 9] = [
    ("stream", "process.id"),
    ("run", "127"),
    ("tree", "--dead"),
    ("top", "--batch"),
    ("containers", "LASTED"),
    ("doctor", "remedy"),
    ("schema", "JSON Schema"),
    ("completions", "bash_completion"),
    ("man", "man1"),
];

#[test]
fn short_help_is_stable() {
    insta::assert_snapshot!("help", printed(&["-h"]));
    for (command, _) in COMMANDS {
        // `tree -h` highlights, as in pstree.
        let flag = if command == "tree" { "--help" } else { "-h" };
        insta::assert_snapshot!(format!("help_{command}"), printed(&[command, flag]));
    }
}

#[test]
fn long_help_teaches() {
    let all = printed(&["--help"]);
    for part in ["Examples:", "Exit status:", "Environment:", "NO_COLOR", "tracer run -- make -j4"] {
        assert!(all.contains(part), "{part}");
    }
    for (command, part) in COMMANDS {
        let help = printed(&[command, "--help"]);
        assert!(help.contains(part), "{command}: {part}\n{help}");
        assert!(help.lines().all(|line| line.width() <= 120), "{command}");
        assert_eq!(printed(&["help", command]).lines().next(), help.lines().next(), "{command}");
    }
    for word in ["--version", "-V"] {
        assert_eq!(printed(&[word]), concat!("tracer ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}

#[test]
fn wrong_usage_exits_with_2_and_names_the_right_usage() {
    for (arguments, part) in [
        (&[][..], "Usage:"),
        (&["strem"], "'stream'"),
        (&["stream", "--evnt", "exec"], "'--event'"),
        (&["stream", "--event", "death"], "possible values: process, fork, exec, exec_failed, exit"),
        (&["stream", "--pid", "me"], "1 to 4194303"),
        (&["stream", "--pid", "0"], "1 to 4194303"),
        (&["stream", "--comm", "[a"], "unclosed character class"),
        (&["stream", "--exe", "{a"], "globs know"),
        (&["stream", "--uid", "no such user"], "getent passwd"),
        (&["stream", "--uid", "!no such user"], "getent passwd"),
        (&["stream", "--event", "!death"], "possible values: process, fork, exec"),
        (&["stream", "--pid", "!x"], "a process id is"),
        (&["stream", "--container", "!"], "a name or an id"),
        (&["stream", "--cgroup", "system.slice"], "begins with /"),
        (&["stream", "--keep-going"], "--pid"),
        (&["stream", "--exec-failed=some"], "possible values: all, summary"),
        (&["stream", "--collapse", "0"], "--collapse"),
        (&["stream", "--collapse", "9", "--storm-alert", "9"], "--storm-alert"),
        (&["top", "-d", "soon"], "500ms"),
        (&["top", "-d", "0"], "10ms"),
        (&["top", "--sort", "age"], "possible values: pid, forks"),
        (&["stream", "--format", "xml"], "possible values: json, text"),
        (&["stream", "--argv-max", "7M"], "6M"),
        (&["stream", "--argv-max", "lots"], "e.g. 64K"),
        (&["stream", "--ring-size", "5M"], "power of two"),
        (&["stream", "--ring-size", "64K", "--argv-max", "64K"], "make it larger"),
        (&["stream", "--duration", "soon"], "1h30m"),
        (&["stream", "--count", "0"], "1.."),
        (&["run"], "CMD"),
        (&["run", "--format", "json", "--", "true"], "--output"),
        (&["run", "--event", "exec", "--", "true"], "give -o FILE"),
        (&["run", "--reap", "--", "true"], "give -o FILE"),
        (&["top", "--exec-failed"], "tracer stream"),
        (&["top", "--reap"], "tracer stream"),
        (&["run", "-o", "/dev/null", "--pid", "1", "--", "docker", "run", "web"], "--containers=never"),
        (&["run", "-o", "/dev/null", "--pid", "1", "--containers", "--", "make"], "--containers=never"),
        (&["run", "--frobnicate", "true"], "--frobnicate"),
        (&["tree", "nobody"], "1 to 4194303"),
        (&["tree", "--dead"], "--watch"),
        (&["tree", "--watch"], "needs a terminal"),
        (&["tree", "-A", "-U"], "cannot be used with"),
        (&["completions", "tcl"], "possible values: bash"),
        (&["doctor", "--color", "maybe"], "auto, always, never"),
    ] {
        let said = complaint(&mut tracer(arguments), 2);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn a_command_takes_all_words_that_follow_it() {
    // Wrong usage would exit with 2, and clap's own options would print something.
    for arguments in [&["run", "/nonexistent/x", "--help"][..], &["run", "--", "/nonexistent/x", "-o", "y"]] {
        let output = output(arguments);
        assert!(matches!(output.status.code(), Some(1 | 127)), "{arguments:?}: {output:?}");
        assert!(!text(&output.stdout).contains("Usage"), "{arguments:?}");
    }
}

#[test]
fn completions_know_commands_and_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for word in ["stream", "doctor", "no-snapshot", "thread_start"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("__hold"), "{shell}: internal commands are not completed");
        let checked = Command::new(shell).arg("-n").stdin(file_with(&script)).output();
        if let Ok(checked) = checked {
            assert!(checked.status.success(), "{shell}: {}", text(&checked.stderr));
        }
    }
}

fn file_with(text: &str) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, text).unwrap();
    File::open(path).unwrap()
}

#[test]
fn the_schema_is_printed() {
    let schema: serde_json::Value = serde_json::from_str(&printed(&["schema"])).unwrap();
    assert_eq!(schema["properties"]["v"]["const"], 1);
}

#[test]
fn doctors_findings_as_json() {
    let output = output(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let works = report["works"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!works)));
    let failed = report["checks"].as_array().unwrap().iter().any(|check| check["status"] == "failed");
    assert_eq!(works, !failed);
    for check in report["checks"].as_array().unwrap() {
        assert!(check["name"].is_string() && check["detail"].is_string() && check["area"].is_string(), "{check}");
        assert!(check["status"] != "failed" || check["remedy"].is_string(), "what fails has a remedy: {check}");
    }
}

/// Each page is well-formed roff with a name section, and every command of the help has one.
#[test]
fn man_pages_exist_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    assert!(tracer(&["man", "--dir", dir.path().to_str().unwrap()]).output().unwrap().status.success());
    for name in std::iter::once("tracer".to_owned()).chain(COMMANDS.iter().map(|(name, _)| format!("tracer-{name}"))) {
        let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(&format!(".TH {name} 1")), "{name}");
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
    }
    let page = printed(&["man", "run"]);
    assert!(page.contains(r"\-\-exec\-failed"), "{page}");
    let said = complaint(&mut tracer(&["man", "nosuch"]), 2);
    assert!(said.contains("there is no page tracer-nosuch"), "{said}");
}
