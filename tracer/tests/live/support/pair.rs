//! Two streams of the same workload. One filters in the kernel, the other in user space.

use std::collections::BTreeMap;

use serde_json::Value;
use tracer::event::{Event, Kind};

use super::stream::{STORM_RING, Stream};
use super::trace::{Line, Trace};

/// Both streams, from their `hello` on.
pub(crate) struct Pair {
    kernel: Stream,
    user: Stream,
}

/// Members that differ between any two tracers: when each program ran, on which CPU, and the usage up to then. The
/// process may move to another CPU between the two programs.
const OWN: [&str; 4] = ["seq", "time", "boot_ns", "cpu"];
const OWN_OF_EXIT: [&str; 4] = ["duration_ns", "usage", "own_usage", "usage_partial"];

/// A line without the members that differ between any two tracers.
struct Comparable {
    line: Value,
    /// Start of its process since boot. Each tracer measures the offset to UTC separately, and the clock may be set
    /// in between.
    start: Option<i64>,
}

/// `/proc` gives the start of a process in ticks of this length.
const TICK_NS: u64 = 10_000_000;

impl PartialEq for Comparable {
    fn eq(&self, other: &Self) -> bool {
        // One tracer may have the start from the kernel, the other from `/proc`.
        let near = |a: i64, b: i64| a.abs_diff(b) <= TICK_NS;
        let starts = match (self.start, other.start) {
            (Some(a), Some(b)) => near(a, b),
            (a, b) => a == b,
        };
        starts && self.line == other.line
    }
}

impl Comparable {
    fn without_past(&self) -> Self {
        let mut line = self.line.clone();
        past_unknown(&mut line);
        Self { line, start: self.start }
    }
}

/// Removes members that may differ from a line.
pub(crate) type Normalize = fn(&mut Value);

impl Pair {
    /// Starts both. The kernel filter drops what does not match `by`.
    pub(crate) fn start(options: &[&str], by: &[&str]) -> Self {
        let start = |more: &[&str]| Stream::start(&[options, &[STORM_RING], more].concat());
        let pair = Self { user: start(&["--filter-in=user"]), kernel: start(&["-v"]) };
        pair.user.wait_for("\"why\":\"--filter-in user\"");
        let names: Vec<String> = by.iter().map(|name| format!("\"{name}\"")).collect();
        pair.kernel.wait_for(&format!("\"filter\":{{\"kernel\":[{}]", names.join(",")));
        pair
    }

    pub(crate) fn kernel(&self) -> &Stream {
        &self.kernel
    }

    /// Waits until both have reported `count` events of a kind.
    pub(crate) fn wait_for_both(&self, count: usize, wanted: &dyn Fn(&Event) -> bool) {
        for stream in [&self.kernel, &self.user] {
            stream.events_until_the(count, wanted);
        }
    }

    /// Stops both and asserts that they reported the same. Returns what the one that filters in the kernel reported.
    pub(crate) fn assert_same(self) -> Trace {
        self.assert_same_except(|_| {})
    }

    /// Like [`Self::assert_same`], except for some members.
    pub(crate) fn assert_same_except(self, normalize: Normalize) -> Trace {
        self.assert_same_by(normalize, |kernel, user| kernel == user)
    }

    /// Like [`Self::assert_same`], for processes that others move between cgroups while they run. An exec at that
    /// moment can be before the move for one tracer and after it for the other. Then only one of them reports it.
    pub(crate) fn assert_same_except_moves(self, normalize: Normalize) -> Trace {
        fn same(kernel: &[Comparable], user: &[Comparable]) -> bool {
            let (more, less) = if kernel.len() < user.len() { (user, kernel) } else { (kernel, user) };
            let begins_earlier = more.len() == less.len() + 1 && more[0].line["event"] == "exec" && !less.is_empty();
            let without_past =
                |lines: &[Comparable]| -> Vec<Comparable> { lines.iter().map(Comparable::without_past).collect() };
            kernel == user || begins_earlier && without_past(&more[1..]) == without_past(less)
        }
        self.assert_same_by(normalize, same)
    }

    fn assert_same_by(self, normalize: Normalize, same: fn(&[Comparable], &[Comparable]) -> bool) -> Trace {
        let tracers = [self.kernel.pid(), self.user.pid()];
        // Both run until each has reported everything.
        let (kernel, user) = (self.kernel.stop(), self.user.stop());
        for trace in [&kernel, &user] {
            let bye = trace.bye();
            assert_eq!((bye.lost, bye.untracked), (0, 0), "{bye:?}");
            assert_eq!(bye.seen, bye.emitted + bye.filtered, "{bye:?}");
        }
        Self::compare(&kernel, &user, &tracers, normalize, same);
        kernel
    }

    /// Asserts that two traces of the same workload have the same lines for each process.
    pub(crate) fn assert_same_lines(first: &Trace, second: &Trace) {
        Self::compare(first, second, &[], |_| {}, |first, second| first == second);
    }

    fn compare(
        first: &Trace,
        second: &Trace,
        tracers: &[u32],
        normalize: Normalize,
        same: fn(&[Comparable], &[Comparable]) -> bool,
    ) {
        let [first, second] = [first, second].map(|trace| by_subject(trace, tracers, normalize));
        for (subject, second) in &second {
            let first = first.get(subject).map_or(&[][..], Vec::as_slice);
            let show = |lines: &[Comparable]| {
                lines.iter().map(|line| format!("{} {:?}", line.line, line.start)).collect::<Vec<_>>().join("\n  ")
            };
            let shown =
                || format!("of {subject} the first trace has\n  {}\nand the second\n  {}", show(first), show(second));
            assert!(same(first, second), "{}", shown());
        }
        let extra: Vec<&String> = first.keys().filter(|subject| !second.contains_key(*subject)).collect();
        assert!(extra.is_empty(), "only in the first trace: {extra:?}");
    }
}

/// Removes the members that are unknown for a process whose past was filtered out.
pub(crate) fn past_unknown(line: &mut Value) {
    if let Some(exec) = line.get_mut("exec").and_then(Value::as_object_mut) {
        exec.remove("previous_exe");
    }
    if let Some(process) = line.get_mut("process").and_then(Value::as_object_mut) {
        for name in ["execs", "source", "creator_id", "origin"] {
            process.remove(name);
        }
        if line["event"] == "exit" {
            for name in ["exe", "argv", "cwd"] {
                line["process"].as_object_mut().expect("as above").remove(name);
            }
        }
    }
}

/// Returns the lines of each process and container, in order.
fn by_subject(trace: &Trace, tracers: &[u32], normalize: Normalize) -> BTreeMap<String, Vec<Comparable>> {
    let mut out = BTreeMap::<String, Vec<Comparable>>::new();
    for Line { text, event } in &trace.lines {
        // The time at which a container's files are read varies.
        if event.kind().is_framing() || event.kind() == Kind::ContainerInfo {
            continue;
        }
        let subject = match (&event.process, event.container()) {
            (Some(process), _) if tracers.contains(&process.pid) => continue,
            (Some(process), _) => process.id.to_string(),
            (None, Some(container)) => container.id.to_string(),
            (None, None) => panic!("neither a process nor a container: {text}"),
        };
        let mut line: Value = serde_json::from_str(text).expect("it is JSON");
        let members = line.as_object_mut().expect("an object");
        for name in OWN {
            members.remove(name);
        }
        // Names and other details of a container come from its files, and its sums contain CPU time.
        if let Some(container) = members.get_mut("container").and_then(Value::as_object_mut) {
            container.retain(|name, _| ["id", "engine", "cgroup"].contains(&&**name));
        }
        if let Some(exit) = members.get_mut("exit").and_then(Value::as_object_mut) {
            exit.retain(|name, _| !OWN_OF_EXIT.contains(&&**name));
        }
        if let Some(process) = members.get_mut("process").and_then(Value::as_object_mut) {
            process.remove("start_time");
        }
        let start = event.process.as_ref().and_then(|process| {
            Some(process.start_time?.0 - event.time.0 + i64::try_from(event.boot_ns?).expect("not for centuries"))
        });
        normalize(&mut line);
        out.entry(subject).or_default().push(Comparable { line, start });
    }
    out
}
