//! Faults inside the BPF programs are shown on request.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use tracer::event::Kind;
use tracer::kernel::load::Kernel;
use tracer_common::limits::PATH_DEPTH;

use crate::support::{BOUND, Case, Finished, Need, case, command, parse_lines, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        // Up to 6.2 the verifier tracks numbers exactly in a program with subprograms, and the log adds subprograms.
        case("kernel_log::a_path_deeper_than_the_walk_is_shown", shown)
            .needs(&[Need::Kernel(6, 3), Need::Check(not_built)]),
        case("kernel_log::is_silent_unless_it_is_wanted", silent),
    ]
}

/// `cargo xtask build` builds the object with the log. Other builds may not.
fn not_built() -> Option<String> {
    (!Kernel::has_log()).then(|| "the object of programs with a log was not built".to_owned())
}

const WALKED: &str = "cwd is cut";

/// Makes a directory deeper than the programs walk.
fn deep() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let deep = place.path().join(["d"; PATH_DEPTH as usize + 6].join("/"));
    fs::create_dir_all(&deep).expect("a deep directory");
    (place, deep)
}

/// Runs a program in a deep directory and traces its exec.
fn trace(wanted: bool) -> Finished {
    let (place, deep) = deep();
    let out = place.path().join("out");
    let mut run = command(["run", "-o"]);
    run.arg(&out).args(["--", "/bin/true"]).current_dir(&deep);
    if wanted {
        run.env("TRACER_KERNEL_LOG", "1");
    } else {
        run.env_remove("TRACER_KERNEL_LOG");
    }
    let finished = run_bounded(&mut run, BOUND);
    assert_eq!(finished.code(), 0, "{finished:?}");
    let lines = parse_lines(&fs::read(&out).expect("the events"));
    let exec = lines.iter().find(|line| line.event.kind() == Kind::Exec).expect("its exec");
    let cwd = exec.event.process.as_ref().and_then(|process| process.image.cwd.as_deref());
    assert!(cwd.is_some_and(|cwd| cwd.starts_with('…')), "it is too deep: {cwd:?}");
    finished
}

fn shown() {
    let finished = trace(true);
    assert!(finished.stderr.contains("in the kernel: exec by ") && finished.stderr.contains(WALKED), "{finished:?}");
}

fn silent() {
    let finished = trace(false);
    assert!(!finished.stderr.contains("in the kernel"), "{finished:?}");
}
