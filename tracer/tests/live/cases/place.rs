//! Environments in which tracing does not work. Each is reported in one line, with the remedy.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tracer::event::Kind;

use crate::support::{
    BOUND, Case, Finished, Need, capabilities, case, command, open_directory, parse_lines, run_bounded, tracer_binary,
};

pub(super) fn cases() -> Vec<Case> {
    let needs = &[Need::Tool("unshare"), Need::Tool("mount")];
    vec![
        case("place::a_pid_namespace_of_its_own", pid_namespace).needs(needs),
        case("place::proc_of_another_pid_namespace", foreign_proc).needs(needs),
        case("place::without_proc", without_proc).needs(needs),
        case("place::without_tracefs", without_tracefs).needs(needs),
        case("place::without_tracefs_and_not_allowed_to_mount_it", tracefs_refused),
    ]
}

/// Runs a script in separate namespaces; `$0` is tracer.
fn within(options: &[&str], script: &str) -> Finished {
    let mut command = Command::new("unshare");
    command.args(options).args(["sh", "-c", script]).arg(tracer_binary());
    run_bounded(&mut command, BOUND)
}

const TRACING: [&str; 2] = ["run -o /dev/null -- sh -c 'echo it was run; exit 3'", "stream -n 1"];

fn pid_namespace() {
    for options in [&["-pf", "--mount-proc"][..], &["-pf"]] {
        for what in TRACING {
            // Not as the last command: the shell would exec it as pid 1.
            let finished = within(options, &format!("\"$0\" {what}; exit $?"));
            let line = finished.assert_one_line_failure();
            for remedy in ["on the host", "docker run --pid=host", "nsenter -t 1 -p"] {
                assert!(line.contains(remedy), "{what}: {line}");
            }
            assert_eq!(finished.stdout(), "", "nothing was run or reported");
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
            assert_eq!(finished.stdout(), "", "nothing was run or reported");
        }
    }
}

/// It is mounted for a moment where it is needed. Otherwise the error names it.
fn without_tracefs() {
    let place = open_directory();
    let events = place.path().join("events");
    let hide = "for at in /sys/kernel/tracing /sys/kernel/debug; do
            while umount -l $at 2>/dev/null; do :; done
            test -d $at && mount -t tmpfs tmpfs $at
        done
        test -e /sys/kernel/tracing/events || test -e /sys/kernel/debug/tracing && exit 99";
    for (what, kinds) in [
        (
            "run --exec-failed --force -o \"$1\" -- sh -c '/no/such/program; exit 3'",
            &[Kind::ExecFailed, Kind::Exec, Kind::Exit][..],
        ),
        ("run --force -o \"$1\" -- sh -c 'exit 3'", &[Kind::Exec, Kind::Exit]),
        ("stream --force -o \"$1\" --duration 300ms; test $? = 0 && exit 3", &[Kind::Process]),
        ("stream --exec-failed --force -o \"$1\" --duration 300ms; test $? = 0 && exit 3", &[Kind::Process]),
    ] {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &format!("{hide}\n\"$0\" {what}; exit $?")]);
        let finished = run_bounded(command.arg(tracer_binary()).arg(&events), BOUND);
        assert_eq!(finished.code(), 3, "{what}: {finished:?}");
        assert!(!finished.stderr.contains("tracer:"), "{what}: {finished:?}");
        let lines = parse_lines(&fs::read(&events).expect("it was written"));
        for kind in kinds {
            assert!(lines.iter().any(|line| line.event.kind() == *kind), "{what}: no {kind} line");
        }
        let bye = lines.last().and_then(|line| line.event.bye()).expect("`bye` is last");
        assert_eq!(bye.lost, 0, "{what}: {bye:?}");
    }
}

/// Only failed execs may need it, and then the error names it. On a kernel that takes fexit nothing needs it.
fn tracefs_refused() {
    for (options, needs_it) in [(&["--exec-failed"][..], true), (&[], false)] {
        let mut command = command([&["run", "-o", "/dev/null"], options, &["--", "sh", "-c", "exit 3"]].concat());
        // SAFETY: only system calls, which are safe between fork and exec, with strings that end with NUL.
        unsafe {
            command.pre_exec(|| {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let nothing = None::<&std::ffi::CStr>;
                mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
                for at in [c"/sys/kernel/tracing", c"/sys/kernel/debug"] {
                    while umount2(at, MntFlags::MNT_DETACH).is_ok() {}
                }
                Ok(())
            });
        }
        capabilities::only(&mut command, 0, &[capabilities::BPF, capabilities::PERFMON]);
        let finished = run_bounded(&mut command, BOUND);
        if needs_it && finished.status.code() != Some(3) {
            let line = finished.assert_one_line_failure();
            assert!(line.contains("mount -t tracefs") && line.contains("CAP_SYS_ADMIN"), "{line}");
        } else {
            assert_eq!((finished.code(), &*finished.stderr), (3, ""), "{options:?}: {finished:?}");
        }
    }
}
