//! Places from which one cannot trace: each is told in one line, with the remedy.

use std::process::Command;

use crate::support::{BOUND, Case, Finished, Need, case, run_bounded, tracer_binary};

pub(super) fn cases() -> Vec<Case> {
    let needs = &[Need::Tool("unshare"), Need::Tool("mount")];
    vec![
        case("place::a_pid_namespace_of_its_own", pid_namespace).needs(needs),
        case("place::proc_of_another_pid_namespace", foreign_proc).needs(needs),
        case("place::without_proc", without_proc).needs(needs),
    ]
}

/// Runs a script in namespaces of its own; `$0` is tracer.
fn within(options: &[&str], script: &str) -> Finished {
    let mut command = Command::new("unshare");
    command.args(options).args(["sh", "-c", script]).arg(tracer_binary());
    run_bounded(&mut command, BOUND)
}

const TRACING: [&str; 2] = ["run -o /dev/null -- sh -c 'echo it was run; exit 3'", "stream -n 1"];

fn pid_namespace() {
    for options in [&["-pf", "--mount-proc"][..], &["-pf"]] {
        for what in TRACING {
            // Not the last command: a shell would become it, and then it is pid 1.
            let finished = within(options, &format!("\"$0\" {what}; exit $?"));
            let line = finished.assert_one_line_failure();
            for remedy in ["on the host", "docker run --pid=host", "nsenter -t 1 -p"] {
                assert!(line.contains(remedy), "{what}: {line}");
            }
            assert_eq!(finished.stdout(), "", "nothing was run or told");
        }
        let finished = within(options, "\"$0\" doctor; exit $?");
        assert_eq!(finished.code(), 1, "{finished:?}");
        assert!(finished.stdout().contains("nsenter -t 1 -p"), "{finished:?}");
    }
}

/// In the initial pid namespace, with the `/proc` of another.
fn foreign_proc() {
    let script = "unshare -pf mount -t proc proc /proc; for what in 'stream -n 1' 'run true' 'tree'; do
        \"$0\" $what 2>&1; echo $?; done";
    let finished = within(&["-m"], script);
    let out = finished.stdout();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 6, "{finished:?}");
    for pair in lines.chunks(2) {
        assert!(pair[0].contains("another pid namespace") && pair[0].contains("mount -t proc proc /proc"), "{out}");
        assert_eq!(pair[1], "1", "{out}");
    }
}

fn without_proc() {
    for unmount in ["umount -l /proc", "mount -t tmpfs none /proc"] {
        for what in TRACING.iter().chain(&["tree"]) {
            let finished = within(&["-m"], &format!("{unmount}; exec \"$0\" {what}"));
            let line = finished.assert_one_line_failure();
            assert!(line.contains("/proc is not mounted") && line.contains("mount -t proc proc /proc"), "{line}");
            assert_eq!(finished.stdout(), "", "nothing was run or told");
        }
    }
}
