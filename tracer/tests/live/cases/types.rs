//! The running kernel's types: only its own are accepted, and every variation of the programs passes its verifier.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use tracer::event::Kind;
use tracer::kernel::hook::REAP;
use tracer::kernel::load::Kernel;
use tracer::kernel::options::{KernelOptions, Selection};
use tracer_common::limits::RING_DEFAULT_BYTES;
use tracer_common::offsets::{Offsets, Want};
use tracer_common::record::{KIND_EXEC, KIND_EXEC_FAILED, KIND_EXIT, KIND_FORK, KIND_SIGNAL};

use crate::support::{BOUND, Case, Finished, Need, SLOWNESS, case, command, kernel_version, parse_lines, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("types::of_another_kernel_are_refused", of_another),
        case("types::of_this_kernel_are_taken_from_a_file", of_this),
        case("types::come_from_the_kernel_where_sysfs_is_not", without_sysfs).needs(&[Need::Kernel(5, 11)]),
        case("types::every_variation_is_verified", every_variation),
        case("types::without_each_member_is_verified", without_members),
        // Alone: the memlock of other tracers of the same user counts too.
        case("types::a_low_memlock_limit_leaves_a_smaller_ring", low_memlock).needs(&[Need::Alone]),
        case("types::without_the_kernels_own_a_file_is_refused", unchecked).needs(&[Need::Check(own_is_available)]),
    ]
}

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The types of a kernel with two members of the same size swapped: everything would load.
fn of_another() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("other");
    let mut types = fs::read(VMLINUX).expect("BTF");
    let names: [&[u8]; 2] = [b"\0min_flt\0", b"\0maj_flt\0"];
    let places = names.map(|name| {
        let found: Vec<usize> =
            types.windows(name.len()).enumerate().filter(|(_, at)| *at == name).map(|f| f.0).collect();
        assert_eq!(found.len(), 1, "each name occurs once");
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
    assert_eq!(lines.first().map(|line| line.event.kind()), Some(Kind::Hello));
    assert!(lines.iter().any(|line| line.event.kind() == Kind::Process), "it found the running processes");
}

/// The kernel's BTF is hidden in sysfs, in a private mount namespace of tracer.
fn without_sysfs() {
    let mut stream = command(["stream", "--duration", "300ms"]);
    hide_sysfs(&mut stream);
    assert_streams(&run_bounded(&mut stream, BOUND));
}

fn hide_sysfs(command: &mut Command) {
    let directory = Path::new(VMLINUX).parent().expect("it has a parent directory");
    let hide = move || {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("none"), directory, Some("tmpfs"), MsFlags::empty(), none)?;
        Ok(())
    };
    // SAFETY: `hide` only makes system calls.
    unsafe { command.pre_exec(hide) };
}

fn own_is_available() -> Option<String> {
    (kernel_version() >= (5, 11)).then(|| "since Linux 5.11 bpf(2) returns the types of the kernel too".to_owned())
}

/// Without the running kernel's own types, nothing confirms that a file belongs to this kernel.
fn unchecked() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("same");
    fs::copy(VMLINUX, &file).expect("a new file");
    let file = file.to_str().expect("UTF-8");
    let mut stream = command(["stream", "--duration", "300ms", "--btf", file]);
    hide_sysfs(&mut stream);
    let finished = run_bounded(&mut stream, BOUND);
    let line = finished.assert_one_line_failure();
    assert!(line.contains(file) && line.contains("sysfs"), "it names the file, and the remedy: {line}");
}

const LOW_MEMLOCK: u64 = 4 << 20;

/// Lowers the memlock limit of a process below the defaults of BPF.
fn lower_memlock() -> std::io::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, LOW_MEMLOCK, LOW_MEMLOCK)?;
    // SAFETY: it takes numbers. At its exec, root does not get a capability that was dropped from the bounding set.
    match unsafe {
        libc::prctl(libc::PR_CAPBSET_DROP, 24 /* CAP_SYS_RESOURCE */, 0, 0, 0)
    } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Root that may not raise the limit, which counts before Linux 5.11: tracer uses a smaller ring.
fn low_memlock() {
    let mut stream = command(["stream", "--duration", "300ms"]);
    // SAFETY: `lower_memlock` only makes system calls.
    unsafe { stream.pre_exec(lower_memlock) };
    let finished = run_bounded(&mut stream, BOUND);
    assert_streams(&finished);
    let lines = parse_lines(&finished.stdout);
    let hello = lines[0].event.hello().expect("the first line says what is in use");
    let is_reported = hello.fallbacks.iter().any(|fallback| fallback.contains("locked memory"));
    if kernel_version() < (5, 11) {
        assert!(hello.ring_bytes < LOW_MEMLOCK && is_reported, "it uses less, and reports it: {hello:?}");
    } else {
        assert!(hello.ring_bytes == u64::from(RING_DEFAULT_BYTES) && !is_reported, "it does not count: {hello:?}");
    }
}

/// A constant that is off removes its branch before the verifier sees it. So each switch is tested on and off.
fn every_variation() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let selections = [
        Selection::All,
        Selection::Only,
        Selection::Subtree(Vec::new()),
        Selection::Users(vec![54321]),
        Selection::Cgroups,
        Selection::Containers,
    ];
    // Each filter with both values of every switch, and any two switches of one program in all four combinations.
    let switches = [
        [false, false, false, false],
        [true, false, true, true],
        [false, true, true, true],
        [true, true, false, false],
    ];
    for (switches, selection) in
        switches.into_iter().flat_map(|set| selections.clone().map(|selection| (set, selection)))
    {
        let [threads, reap, exec_failed, unpreempted] = switches;
        let unpreempted = Some(unpreempted);
        let options = KernelOptions { threads, selection, exec_failed, reap, unpreempted, ..KernelOptions::default() };
        let (kernel, ring) = Kernel::start(&options).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let is_there = |kind| kernel.hooks.iter().any(|hook| hook.kind == Some(kind));
        for kind in [KIND_FORK, KIND_EXEC, KIND_EXIT, KIND_SIGNAL] {
            assert!(is_there(kind), "{options:?}: no program for kind {kind}: {:?}", kernel.hooks);
        }
        assert_eq!(is_there(KIND_EXEC_FAILED), exec_failed, "{options:?}");
        assert_eq!(kernel.hooks.contains(&REAP), reap, "{options:?}");
        drop((kernel, ring));
    }
}

/// Code that reads a member is removed if the kernel lacks the member. Today's kernels have almost all. So each
/// member is hidden here, so that the verifier sees the rest: each alone (not under emulation), and with all others.
fn without_members() {
    let all: Vec<&str> =
        Offsets::MEMBERS.iter().filter(|member| member.want != Want::Needed).map(|member| member.field).collect();
    let alone = if SLOWNESS == 1 { all.chunks(1) } else { [].chunks(1) };
    let variations: Mutex<Vec<&[&'static str]>> = Mutex::new(alone.chain([&all[..]]).collect());
    let refused = Mutex::new(Vec::new());
    let next = || variations.lock().expect("not poisoned").pop();
    let load_all = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _entered = runtime.enter();
        while let Some(without) = next() {
            // One variation for each member alone. In the others, only the first program differs.
            for options in ways(without).into_iter().take(if without.len() == 1 { 1 } else { 2 }) {
                if let Err(error) = Kernel::start(&options) {
                    refused.lock().expect("not poisoned").push(format!("without {without:?}: {error}"));
                }
            }
        }
    };
    // They mostly wait for the kernel.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(load_all);
        }
    });
    let refused = refused.into_inner().expect("not poisoned");
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Returns both ways to record failed execs and forks, execs and exits, with all other options on.
fn ways(without: &[&'static str]) -> [KernelOptions; 2] {
    let options = KernelOptions {
        ring_bytes: 1 << 20,
        threads: true,
        selection: Selection::Containers,
        reap: true,
        without: without.to_vec(),
        ..KernelOptions::default()
    };
    let by_tracepoint = KernelOptions {
        exec_failed: kernel_version() >= (5, 15),
        exec_failed_by_function: Some(false),
        ..options.clone()
    };
    [by_tracepoint, KernelOptions { exec_failed: true, unpreempted: Some(false), ..options }]
}
