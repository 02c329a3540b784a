//! What processes used, compared with `wait4` and `/proc/PID/io`; and death by the OOM killer.

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tracer::event::Usage;

use crate::deeds::memory_hierarchy;
use crate::support::{Case, Need, Run, SLOWNESS, Trace, TruthLine, case, check_sound};

use super::exit::assert_ends;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("exit::usage_counts_as_wait4_does", counters),
        // Alone: the CPU clock stops while others have the CPU, but their interrupts are counted.
        case("exit::usage_cpu_of_threads_and_leader", cpu).needs(&[Need::Alone]),
        case("exit::usage_with_and_without_children", children).needs(&[Need::Alone]),
        case("exit::usage_io", io),
        case("exit::oom_kill", oom).needs(&[Need::Alone, Need::Check(no_memory_cgroup)]),
    ]
}

fn no_memory_cgroup() -> Option<String> {
    memory_hierarchy().is_none().then(|| "there is no memory cgroup controller".to_owned())
}

/// Asserts the counters. They are read when the last thread starts to exit. After that it frees its memory, notifies
/// its parent and gives up the CPU. `wait4` counts that, the trace cannot. Each of `threads` does so only a few
/// times.
#[track_caller]
fn assert_counters(usage: &Usage, said: &TruthLine, threads: u64) {
    let near = |name: &str, got: u64, least_missing: u64| {
        let truth: u64 = said.get(name);
        assert!(got <= truth && truth <= got + least_missing, "{name}: {got}, wait4 says {truth}: {usage:?}");
    };
    near("minor_faults", usage.minor_faults, threads);
    near("major_faults", usage.major_faults, threads);
    near("voluntary_switches", usage.voluntary_switches, 4 * threads);
    near("involuntary_switches", usage.involuntary_switches, 8 * threads * u64::from(SLOWNESS));
    let (rss, truth) = (usage.max_rss_bytes, said.get::<u64>("max_rss_bytes"));
    // The kernel sums its per-CPU page counters lazily: up to 64 pages per CPU and counter are missing.
    assert!(rss.abs_diff(truth) <= truth / 50 + (1 << 20), "max_rss_bytes: {rss}, wait4 says {truth}");
}

/// CPU time that may be missing: the kernel releases the process after its exit is reported.
const END_NS: u64 = 20_000_000 * SLOWNESS as u64;

/// Asserts the CPU time. By the CPU clock itself, the process used `burnt_ms` before its exit.
#[track_caller]
fn assert_cpu(usage: &Usage, said: &TruthLine, burnt_ms: u64) {
    let (got, truth) = (usage.user_ns + usage.system_ns, said.get::<u64>("user_ns") + said.get::<u64>("system_ns"));
    // Under emulation the exit may take as long as everything before.
    let missing = if SLOWNESS == 1 { truth.abs_diff(got) } else { got.saturating_sub(truth) };
    let burnt = burnt_ms * 1_000_000 * u64::from(SLOWNESS);
    assert!(missing <= END_NS && missing * 5 <= truth, "CPU {got} ns, wait4 says {truth} ns: {usage:?} {said:?}");
    assert!(got + 10_000_000 >= burnt, "CPU {got} ns, burnt {burnt} ns: {usage:?} {said:?}");
}

fn usage(trace: &Trace, said: &TruthLine) -> Usage {
    let exit = trace.exit(said.id());
    assert!(!exit.usage_partial, "{exit:?}");
    exit.usage.clone().expect("this kernel reports the usage")
}

fn counters() {
    let trace = Run::deed("usage-counters").trace();
    check_sound(&trace);
    let said = assert_ends(&trace)[0];
    let usage = usage(&trace, said);
    assert_counters(&usage, said, 3);
    assert!(usage.minor_faults >= 8192, "32 MiB were touched: {usage:?}");
    assert!(usage.voluntary_switches >= 50, "a thread slept 20 times, the leader 30 times: {usage:?}");
    assert!(usage.max_rss_bytes >= 32 << 20, "32 MiB were touched: {usage:?}");
    assert_eq!(trace.exit(said.id()).own_usage, None, "it had no children");
}

fn cpu() {
    let trace = Run::deed("usage-cpu").trace();
    check_sound(&trace);
    let said = assert_ends(&trace)[0];
    let usage = usage(&trace, said);
    assert_cpu(&usage, said, 3 * 70);
    assert!(usage.user_ns >= 100_000_000, "most of it in user mode: {usage:?}");
}

fn children() {
    let trace = Run::deed("usage-children").trace();
    check_sound(&trace);
    let said = assert_ends(&trace)[0];
    let usage = usage(&trace, said);
    assert_counters(&usage, said, 1);
    assert_cpu(&usage, said, 120);
    let busy = trace.truth.one("busy");
    assert_cpu(trace.exit(busy.id()).usage.as_ref().expect("usage"), busy, 120);
    let exit = trace.exit(said.id());
    let own = exit.own_usage.as_ref().expect("it waited for a child");
    let truth = trace.truth.one("own");
    let (cpu, truth_cpu) = (own.user_ns + own.system_ns, truth.get::<u64>("cpu_ns"));
    assert!(cpu.abs_diff(truth_cpu) <= END_NS, "own CPU {cpu} ns, getrusage says {truth_cpu} ns");
    assert!(cpu < 100_000_000 * u64::from(SLOWNESS), "it contains neither child: {own:?}");
    assert!(own.minor_faults.abs_diff(truth.get("minor_faults")) <= 32, "{own:?} {truth:?}");
    assert!(own.max_rss_bytes.abs_diff(truth.get("max_rss_bytes")) <= 1 << 20, "{own:?} {truth:?}");
    assert!(usage.max_rss_bytes >= 24 << 20, "the larger one, the child's: {usage:?}");
}

fn io() {
    // Not on a tmpfs, if possible: it has no storage.
    let directory = tempfile::tempdir_in(std::env::current_dir().expect("a working directory"))
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary directory");
    let trace = Run::deed_with("usage-io", &[directory.path().to_str().expect("UTF-8")]).trace();
    check_sound(&trace);
    let said = assert_ends(&trace)[0];
    for said in [said, trace.truth.one("grandchild")] {
        let usage = usage(&trace, said);
        assert_eq!(
            (usage.read_bytes, usage.write_bytes),
            (said.get("read_bytes"), said.get("write_bytes")),
            "{said:?}"
        );
    }
    // Since 6.6 a tmpfs accepts direct I/O too, and reads from no storage.
    let kind = statfs(directory.path()).expect("our own directory").filesystem_type();
    if trace.truth.all("no direct I/O").is_empty() && kind != TMPFS_MAGIC {
        let usage = usage(&trace, said);
        assert!(usage.read_bytes >= 4 << 20 && usage.write_bytes >= 4 << 20, "4 MiB each way: {usage:?}");
    }
}

fn oom() {
    let trace = Run::deed("usage-oom").trace();
    check_sound(&trace);
    let said = assert_ends(&trace)[0];
    let exit = trace.exit(said.id());
    assert_eq!(exit.signal.as_deref(), Some("SIGKILL"));
    let cause = exit.cause.as_ref().expect("the OOM killer sent it");
    assert!(cause.oom, "{cause:?}");
    assert_eq!(cause.sender_pid, None, "no process sent it: {cause:?}");
}
