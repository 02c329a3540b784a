//! The running kernel's types: its own are taken, no other's; and every variation of the programs passes its verifier.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tracer::event::Kind;
use tracer::kernel::load::{Kernel, KernelFilter, KernelOptions, REAPS};

use crate::support::{BOUND, Case, Finished, Need, case, command, parse_lines, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("types::of_another_kernel_are_refused", of_another),
        case("types::of_this_kernel_are_taken_from_a_file", of_this),
        case("types::come_from_the_kernel_where_sysfs_is_not", without_sysfs).needs(&[Need::Kernel(5, 11)]),
        case("types::every_variation_is_verified", every_variation),
    ]
}

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The types of a kernel where two members of the same size have changed places: all of it would load.
fn of_another() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("other");
    let mut types = fs::read(VMLINUX).expect("BTF");
    let names: [&[u8]; 2] = [b"\0min_flt\0", b"\0maj_flt\0"];
    let places = names.map(|name| {
        let found: Vec<usize> =
            types.windows(name.len()).enumerate().filter(|(_, at)| *at == name).map(|f| f.0).collect();
        assert_eq!(found.len(), 1, "each name is there once");
        found[0]
    });
    for (at, name) in places.into_iter().zip(names.into_iter().rev()) {
        types[at..at + name.len()].copy_from_slice(name);
    }
    fs::write(&file, types).expect("a new file");
    let file = file.to_str().expect("UTF-8");
    for arguments in [&["stream", "--btf", file][..], &["run", "--btf", file, "--", "true"]] {
        let finished = run_bounded(&mut command(arguments), BOUND);
        let line = finished.assert_one_line_failure();
        assert!(line.contains(file) && line.contains("_flt"), "it names the file and what differs: {line}");
    }
    let doctor = run_bounded(&mut command(["doctor", "--btf", file]), BOUND);
    assert_eq!(doctor.code(), 1, "{doctor:?}");
}

fn of_this() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("same");
    fs::copy(VMLINUX, &file).expect("a new file");
    let file = file.to_str().expect("UTF-8");
    assert_streams(&run_bounded(&mut command(["stream", "--duration", "300ms", "--btf", file]), BOUND));
}

fn assert_streams(finished: &Finished) {
    assert_eq!((finished.code(), &*finished.stderr), (0, ""));
    let lines = parse_lines(&finished.stdout);
    assert_eq!(lines.first().map(|line| line.event.kind), Some(Kind::Hello));
    assert!(lines.iter().any(|line| line.event.kind == Kind::Process), "it found what runs");
}

/// Nobody sees the kernel's BTF in sysfs, in a mount namespace of the tracer's own.
fn without_sysfs() {
    let directory = Path::new(VMLINUX).parent().expect("it lies in a directory");
    let hide = move || {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("none"), directory, Some("tmpfs"), MsFlags::empty(), none)?;
        Ok(())
    };
    let mut stream = command(["stream", "--duration", "300ms"]);
    // SAFETY: `hide` makes system calls only.
    unsafe { stream.pre_exec(hide) };
    assert_streams(&run_bounded(&mut stream, BOUND));
}

/// A branch that a constant switches off is cut away before the verifier sees it: so each has to be seen on and off.
fn every_variation() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let filters = [
        KernelFilter::None,
        KernelFilter::Only,
        KernelFilter::Subtree,
        KernelFilter::Users(vec![54321]),
        KernelFilter::Cgroups,
        KernelFilter::Containers,
    ];
    // Each filter with both values of every switch, and any two switches of one program in all four ways.
    let switches = [
        [false, false, false, false],
        [true, false, true, true],
        [false, true, true, true],
        [true, true, false, false],
    ];
    for (switches, filter) in switches.into_iter().flat_map(|set| filters.clone().map(|filter| (set, filter))) {
        let [threads, reap, exec_failed, unpreempted] = switches;
        let unpreempted = Some(unpreempted);
        let options = KernelOptions { threads, filter, exec_failed, reap, unpreempted, ..KernelOptions::default() };
        let (kernel, ring) = Kernel::start(&options).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let programs: Vec<&str> = kernel.hooks.iter().map(|hook| hook.program).collect();
        let is_there = |names: &[&str]| programs.iter().any(|program| names.contains(program));
        for names in [
            &["fork", "fork_waking"][..],
            &["exec", "exec_event"],
            &["exit", "exit_by_live", "exit_event"],
            &["signal"],
        ] {
            assert!(is_there(names), "{options:?}: {programs:?}");
        }
        assert_eq!(is_there(&["execve_failed", "execve_exit"]), exec_failed, "{options:?}");
        assert_eq!(programs.contains(&REAPS.program), reap, "{options:?}");
        drop((kernel, ring));
    }
}
