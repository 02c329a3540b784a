//! Two streams side by side, of the same: one whose filter is in the kernel, one whose filter is in user space.

use std::collections::BTreeMap;

use serde_json::Value;
use tracer::event::{Event, Kind};

use super::stream::{ROOM, Stream};
use super::trace::{Line, Trace};

/// Both of them, from their `hello` on.
pub(crate) struct Pair {
    kernel: Stream,
    user: Stream,
}

/// What differs in each line, and between any two tracers: when each program ran, to the nanosecond, and where (in between the
/// process may be moved), and what was used by then.
const OWN: [&str; 4] = ["seq", "time", "boot_ns", "cpu"];
const OWN_OF_EXIT: [&str; 4] = ["duration_ns", "usage", "own_usage", "usage_partial"];

/// A line without what differs between any two tracers.
struct Told {
    line: Value,
    /// Start of its process since boot. Each tracer measures the offset to UTC itself, before or after the clock is set.
    start: Option<i64>,
}

/// `/proc` gives the start of a process in ticks of this length.
const TICK_NS: u64 = 10_000_000;

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        // One tracer may know the start from the kernel, the other from `/proc`.
        let near = |a: i64, b: i64| a.abs_diff(b) <= TICK_NS;
        let starts = match (self.start, other.start) {
            (Some(a), Some(b)) => near(a, b),
            (a, b) => a == b,
        };
        starts && self.line == other.line
    }
}

impl Told {
    fn of_no_past(&self) -> Self {
        let mut line = self.line.clone();
        past_unknown(&mut line);
        Self { line, start: self.start }
    }
}

/// Members of a line that need not be alike.
pub(crate) type But = fn(&mut Value);

impl Pair {
    /// The kernel side is to leave out what `by` does not ask for.
    pub(crate) fn start(options: &[&str], by: &[&str]) -> Self {
        let start = |more: &[&str]| Stream::start(&[options, &[ROOM], more].concat());
        let pair = Self { user: start(&["--filter-in=user"]), kernel: start(&["-v"]) };
        pair.user.wait_for("\"why\":\"--filter-in user\"");
        let names: Vec<String> = by.iter().map(|name| format!("\"{name}\"")).collect();
        pair.kernel.wait_for(&format!("\"filter\":{{\"kernel\":[{}]", names.join(",")));
        pair
    }

    pub(crate) fn kernel(&self) -> &Stream {
        &self.kernel
    }

    /// Waits until both have told so many events of a kind.
    pub(crate) fn both_told_the(&self, count: usize, wanted: &dyn Fn(&Event) -> bool) {
        for stream in [&self.kernel, &self.user] {
            stream.events_until_the(count, wanted);
        }
    }

    /// Ends both and asserts that they told the same. Gives what the one in the kernel told.
    pub(crate) fn alike(self) -> Trace {
        self.alike_but(|_| {})
    }

    /// The same, but for some members.
    pub(crate) fn alike_but(self, but: But) -> Trace {
        self.told_the_same(but, |kernel, user| kernel == user)
    }

    /// The same, where others are moved in while they run: who execs at that very moment does so after it for one tracer, and
    /// before it, and so in a place that is not asked for, for the other.
    pub(crate) fn alike_but_moments_of_moves(self, but: But) -> Trace {
        fn same(kernel: &[Told], user: &[Told]) -> bool {
            let (more, less) = if kernel.len() < user.len() { (user, kernel) } else { (kernel, user) };
            let begins_earlier = more.len() == less.len() + 1 && more[0].line["event"] == "exec" && !less.is_empty();
            let of_no_past = |told: &[Told]| -> Vec<Told> { told.iter().map(Told::of_no_past).collect() };
            kernel == user || begins_earlier && of_no_past(&more[1..]) == of_no_past(less)
        }
        self.told_the_same(but, same)
    }

    fn told_the_same(self, but: But, same: fn(&[Told], &[Told]) -> bool) -> Trace {
        let tracers = [self.kernel.pid(), self.user.pid()];
        // Both go on until all is told to both.
        let (kernel, user) = (self.kernel.stop(), self.user.stop());
        for trace in [&kernel, &user] {
            let bye = trace.bye();
            assert_eq!((bye.lost, bye.untracked), (0, 0), "{bye:?}");
            assert_eq!(bye.seen, bye.emitted + bye.filtered, "{bye:?}");
        }
        Self::compare(&kernel, &user, &tracers, but, same);
        kernel
    }

    /// Asserts that two traces of the same workload have the same lines of each process.
    pub(crate) fn assert_alike(told: &Trace, wanted: &Trace) {
        Self::compare(told, wanted, &[], |_| {}, |told, wanted| told == wanted);
    }

    fn compare(told: &Trace, wanted: &Trace, tracers: &[u32], but: But, same: fn(&[Told], &[Told]) -> bool) {
        let [told, wanted] = [told, wanted].map(|trace| by_subject(trace, tracers, but));
        for (subject, wanted) in &wanted {
            let told = told.get(subject).map_or(&[][..], Vec::as_slice);
            let show = |lines: &[Told]| {
                lines.iter().map(|told| format!("{} {:?}", told.line, told.start)).collect::<Vec<_>>().join("\n  ")
            };
            let shown =
                || format!("of {subject} the first trace has\n  {}\nand the second\n  {}", show(told), show(wanted));
            assert!(same(told, wanted), "{}", shown());
        }
        let extra: Vec<&String> = told.keys().filter(|subject| !wanted.contains_key(*subject)).collect();
        assert!(extra.is_empty(), "only in the first trace: {extra:?}");
    }
}

/// Takes from the lines what is not known of one whose past was left out.
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

/// The lines about each process and container, in their order.
fn by_subject(trace: &Trace, tracers: &[u32], but: But) -> BTreeMap<String, Vec<Told>> {
    let mut out = BTreeMap::<String, Vec<Told>>::new();
    for Line { text, event } in &trace.lines {
        // When the files of a container were read is a matter of luck.
        if event.kind().is_framing() || event.kind() == Kind::ContainerInfo {
            continue;
        }
        let subject = match (&event.process, event.container()) {
            (Some(process), _) if tracers.contains(&process.pid) => continue,
            (Some(process), _) => process.id.to_string(),
            (None, Some(container)) => container.id.to_string(),
            (None, None) => panic!("about nothing: {text}"),
        };
        let mut line: Value = serde_json::from_str(text).expect("it is JSON");
        let members = line.as_object_mut().expect("an object");
        for name in OWN {
            members.remove(name);
        }
        // What is known of a container beside its id comes from its files, and its sums are of CPU time.
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
        but(&mut line);
        out.entry(subject).or_default().push(Told { line, start });
    }
    out
}
