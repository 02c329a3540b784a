//! Real workloads, traced machine-wide: every line valid, every process accounted for, nothing lost.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tracer::event::Kind;
use tracer::event::id::ProcessId;

use crate::support::{
    BOUND, Case, Finished, Ident, Need, Run, Stream, Trace, case, check_schema, check_sound, open_directory,
    run_bounded, write_script,
};

/// Number of sources of the small C project.
const SOURCES: usize = 12;

/// Number of checks of the small configure script.
const CHECKS: usize = 120;

/// A small package of every Debian.
const PACKAGE: &str = "hostname";

/// The stressors of stress-ng that fork.
const STRESSORS: [&str; 6] = ["fork", "vfork", "exec", "clone", "daemon", "zombie"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("stream::make_j4", make).needs(&[Need::Tool("make"), Need::Tool("gcc")]),
        case("stream::configure_script", configure).needs(&[Need::Check(shell_of_busybox)]),
        case("stream::apt_get_reinstall", apt_get).needs(&[
            Need::Alone,
            Need::Tool("apt-get"),
            Need::Check(no_package),
        ]),
        case("run::stress_ng_session", || stress("session")).needs(&[Need::Tool("stress-ng")]),
    ];
    cases.extend(STRESSORS.into_iter().map(|name| {
        case(format!("run::stress_ng_{name}"), move || stress(name))
            .needs(&[Need::Tool("stress-ng"), Need::Tool("setpriv")])
    }));
    cases
}

/// Runs a command beside a machine-wide tracer, and makes all general checks.
fn traced(command: &mut Command, bound: Duration) -> (Trace, BTreeSet<ProcessId>) {
    let stream = Stream::start(&[]);
    let finished = run_bounded(command.stdin(Stdio::null()), bound);
    assert!(finished.status.success(), "{command:?}: {finished:?}");
    let trace = stream.stop();
    check_sound(&trace);
    check_schema(&trace);
    let tree = check_balance(&trace, &finished);
    (trace, tree)
}

/// Asserts that every descendant of the command forked once and exited once, and that no exec belongs to another
/// process.
fn check_balance(trace: &Trace, finished: &Finished) -> BTreeSet<ProcessId> {
    let mut tree = BTreeSet::new();
    let mut ended = BTreeSet::new();
    for event in trace.events() {
        let Some(process) = &event.process else { continue };
        match event.kind() {
            Kind::Fork => {
                let maker = process.creator_id.or(process.parent_id);
                let of_tree = maker.is_some_and(|maker| tree.contains(&maker));
                let is_it = process.pid == finished.pid && maker == Some(Ident::me().id());
                if of_tree || (tree.is_empty() && is_it) {
                    assert!(tree.insert(process.id), "forked twice: {process:?}");
                }
            }
            Kind::Exit if tree.contains(&process.id) => {
                assert!(ended.insert(process.id), "exited twice: {process:?}");
            }
            _ => {}
        }
    }
    assert!(!tree.is_empty(), "the command's own fork is reported");
    assert_eq!(tree, ended, "forks and exits balance");
    tree
}

/// Returns how many execs of a tree were of a program of this name.
fn execs_of(trace: &Trace, tree: &BTreeSet<ProcessId>, program: &str) -> usize {
    trace
        .of_kind(Kind::Exec)
        .filter_map(|event| event.process.as_ref())
        .filter(|process| tree.contains(&process.id))
        .filter(|process| process.image.exe.as_deref().is_some_and(|exe| Path::new(exe).ends_with(program)))
        .count()
}

fn make() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut makefile = String::from("all: program\nOBJECTS =");
    for n in 0..SOURCES {
        let next = (n + 1) % SOURCES;
        let source = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint f{next}(int);\n\
             int f{n}(int x) {{ printf(\"%d\\n\", x); return x > 0 ? f{next}(x - 1) : (int)strlen(\"{n}\"); }}\n{}",
            if n == 0 { "int main(void) { return f0(30) == 1 ? 0 : 1; }\n" } else { "" }
        );
        fs::write(place.path().join(format!("f{n}.c")), source).expect("a new file");
        let _ = write!(makefile, " f{n}.o");
    }
    makefile.push_str("\nprogram: $(OBJECTS)\n\tgcc -o $@ $(OBJECTS)\n%.o: %.c\n\tgcc -O1 -c -o $@ $<\n");
    fs::write(place.path().join("Makefile"), makefile).expect("a new file");
    let mut command = Command::new("make");
    // A make that runs the tests must not share its job slots.
    command.arg("-j4").arg("-C").arg(place.path()).env_remove("MAKEFLAGS").env_remove("MFLAGS");
    let (trace, tree) = traced(&mut command, BOUND);
    assert_eq!(execs_of(&trace, &tree, "cc1"), SOURCES, "one compiler for each source");
    assert!(tree.len() > 3 * SOURCES, "gcc, cc1 and as for each: {}", tree.len());
}

/// A busybox shell runs its builtin programs without an exec.
fn shell_of_busybox() -> Option<String> {
    let shell = std::fs::canonicalize("/bin/sh").unwrap_or_default();
    shell.ends_with("busybox").then(|| "/bin/sh is busybox, which runs sed without an exec".to_owned())
}

/// What configure scripts do: subshells, pipes, here-documents, substitutions, small programs.
fn configure() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let script = place.path().join("configure");
    let text = format!(
        r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
exec 5>>config.log
n=0
while [ $n -lt {CHECKS} ]; do
    printf 'checking for feature %d... ' $n
    cat >conftest.$n <<END
#define FEATURE_$n 1
END
    value=$(sed -n "s/#define FEATURE_$n \(.*\)/\1/p" conftest.$n | tr -d ' ')
    if test "$value" = 1 && (expr "x$n" : 'x[0-9]*$') >/dev/null 2>&5; then
        echo yes
    else
        echo no; exit 1
    fi
    rm -f conftest.$n
    n=$((n + 1))
done
"#
    );
    write_script(&script, &text);
    let (trace, tree) = traced(&mut Command::new(&script), BOUND);
    for program in ["sed", "tr", "expr", "cat", "rm"] {
        assert_eq!(execs_of(&trace, &tree, program), CHECKS, "{program}");
    }
}

/// Downloads only the package, so that the test itself needs no network.
fn no_package() -> Option<String> {
    let mut command = Command::new("apt-get");
    command
        .args([
            "-y",
            "-q",
            "-o",
            "Acquire::Retries=0",
            "-o",
            "Acquire::http::Timeout=8",
            "-o",
            "DPkg::Lock::Timeout=10",
        ])
        .args(["install", "--reinstall", "--download-only", PACKAGE])
        .stdin(Stdio::null());
    let finished = run_bounded(&mut command, Duration::from_secs(60));
    (!finished.status.success()).then(|| format!("apt-get cannot download {PACKAGE}"))
}

fn apt_get() {
    let mut command = Command::new("apt-get");
    command
        .args(["-y", "-q", "-o", "DPkg::Lock::Timeout=30", "install", "--reinstall", PACKAGE])
        .env("DEBIAN_FRONTEND", "noninteractive");
    let (trace, tree) = traced(&mut command, Duration::from_secs(120));
    assert!(execs_of(&trace, &tree, "dpkg") >= 1, "dpkg installs it");
}

/// Runs a stressor for a given number of operations, so that the number of processes does not depend on the load of
/// the machine. Only the trace is checked, not stress-ng's own verdict.
fn stress(stressor: &str) {
    // One of the stressors does not work as root.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let place = open_directory();
    let path = place.path().to_str().expect("UTF-8");
    let (instances, operations) = (format!("--{stressor}"), format!("--{stressor}-ops"));
    let command = ["stress-ng", "--quiet", "--temp-path", path, &instances, "2", &operations, "400"];
    // It does not count the processes that it forks at the same time.
    let (as_whom, at_once): (&[&str], &[&str]) =
        if stressor == "exec" { (&nobody, &["--exec-max", "64"]) } else { (&[], &[]) };
    let trace = Run::of(as_whom.iter().chain(&command).chain(at_once).chain(&["--timeout", "60s"]).copied())
        .option("--wait")
        .bound(Duration::from_secs(90))
        .trace();
    check_sound(&trace);
    check_schema(&trace);
    let bye = trace.bye();
    assert!(bye.forks > 20 && bye.exits > 20, "it forked processes: {bye:?}");
    // All have exited, because it was reaped.
    let born: BTreeSet<ProcessId> =
        trace.of_kind(Kind::Fork).filter_map(|event| Some(event.process.as_ref()?.id)).collect();
    let ended: BTreeSet<ProcessId> =
        trace.of_kind(Kind::Exit).filter_map(|event| Some(event.process.as_ref()?.id)).collect();
    assert!(born.is_subset(&ended), "forked but not exited: {:?}", born.difference(&ended).collect::<Vec<_>>());
}
