//! With few or no capabilities, the error names what is missing and the remedy. It requests no more than is needed.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use tracer::event::Kind;

use crate::support::capabilities::{BPF, PERFMON, SYS_ADMIN, only};
use crate::support::{
    BOUND, Case, Finished, Need, case, copy_program, open_directory, parse_lines, run_bounded, tracer_binary,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("stream::root_without_capabilities", refused),
        case("stream::root_with_bpf_and_perfmon_only", || works(0, &[BPF, PERFMON])),
        case("stream::root_with_sys_admin_only", || works(0, &[SYS_ADMIN])),
        case("stream::nobody_with_ambient_bpf_and_perfmon", || works(65534, &[BPF, PERFMON])),
        case("stream::root_of_a_user_namespace", namespace).needs(&[Need::Check(no_user_namespace)]),
        case("cli::doctor_of_root_without_capabilities", doctor),
    ]
}

/// Runs `tracer` as a user with some capabilities. It is a copy, because not every user may enter the directory of
/// tracer.
fn restricted(uid: u32, capabilities: &'static [u32], arguments: &[&str]) -> Finished {
    let place = open_directory();
    let binary = place.path().join("tracer");
    copy_program(tracer_binary(), &binary);
    let mut command = Command::new(&binary);
    command.args(arguments).stdin(Stdio::null());
    only(&mut command, uid, capabilities);
    run_bounded(&mut command, BOUND)
}

/// As in a container: uid 0 with few capabilities.
fn refused() {
    let cases: [(&[u32], &[&str], &[&str]); 3] = [
        (&[], &["CAP_BPF", "CAP_PERFMON"], &[]),
        (&[BPF], &["CAP_PERFMON"], &["CAP_BPF"]),
        (&[PERFMON], &["CAP_BPF"], &[]),
    ];
    for (held, lacking, not) in cases {
        for arguments in [&["stream", "-n", "1"][..], &["run", "-o", "/dev/null", "--", "true"]] {
            let finished = restricted(0, held, arguments);
            let line = finished.assert_one_line_failure();
            for name in lacking {
                let added = format!("--cap-add={}", name.trim_start_matches("CAP_"));
                assert!(line.contains(name) && line.contains(&added), "{line}");
            }
            assert!(!not.iter().any(|name| line.contains(name)), "capabilities that it has are not requested: {line}");
            assert!(!line.contains("Verifier output") && !line.contains("sudo"), "{line}");
        }
    }
}

fn no_user_namespace() -> Option<String> {
    let made = Command::new("unshare").args(["-Ur", "true"]).stderr(Stdio::null()).status();
    (!made.is_ok_and(|status| status.success())).then(|| "user namespaces are not available".to_owned())
}

/// It has all capabilities, but only in its user namespace, where they do not count for BPF.
fn namespace() {
    for subcommand in [&["stream", "-n", "1"][..], &["run", "true"]] {
        let mut command = Command::new("unshare");
        command.arg("-Ur").arg(tracer_binary()).args(subcommand).stdin(Stdio::null());
        let finished = run_bounded(&mut command, BOUND);
        let line = finished.assert_one_line_failure();
        assert!(line.contains("outside of the user namespace") && !line.contains("--cap-add"), "{line}");
    }
}

fn works(uid: u32, capabilities: &'static [u32]) {
    let output = open_directory();
    let events = output.path().join("events");
    let path = events.to_str().expect("UTF-8");
    let finished = restricted(uid, capabilities, &["run", "-o", path, "--", "sh", "-c", "exit 3"]);
    assert_eq!((finished.code(), &*finished.stderr), (3, ""), "{finished:?}");
    let lines = parse_lines(&fs::read(&events).expect("it was written"));
    let of = |kind| lines.iter().filter(move |line| line.event.kind() == kind).map(|line| &line.event);
    let ends: Vec<_> = of(Kind::Exit).filter_map(|event| event.exit().map(|exit| exit.code)).collect();
    assert_eq!(ends, [Some(3)]);
    assert_eq!(of(Kind::Exec).count(), 1);
    let streamed = restricted(uid, capabilities, &["stream", "--duration", "200ms"]);
    assert_eq!((streamed.code(), &*streamed.stderr), (0, ""), "{streamed:?}");
    let lines = parse_lines(&streamed.stdout);
    assert!(lines.iter().any(|line| line.event.kind() == Kind::Process), "running processes are found");
    assert_eq!(lines.last().map(|line| line.event.kind()), Some(Kind::Bye));
}

fn doctor() {
    let finished = restricted(0, &[], &["doctor", "--json"]);
    assert_eq!(finished.code(), 1, "{finished:?}");
    let report: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
    assert_eq!(report["works"], false);
    let checks = report["checks"].as_array().expect("a list");
    let failed: Vec<&Value> = checks.iter().filter(|check| check["status"] == "failed").collect();
    for name in ["CAP_BPF", "CAP_PERFMON"] {
        assert!(failed.iter().any(|check| check["name"] == name), "{name}: {report}");
    }
    assert!(failed.len() > 2, "and the checks that depend on it: {report}");
    for check in failed {
        let remedy = check["remedy"].as_str().unwrap_or_default();
        assert!(remedy.contains("--cap-add=") && !remedy.contains("sudo"), "{check}");
    }
    let finished = restricted(0, &[BPF, PERFMON], &["doctor", "--json"]);
    assert_eq!(finished.code(), 0, "with these two it works: {finished:?}");
}
