use super::*;
use crate::event::{Cause, Detail, Exit, Kind, Usage};
use crate::view::glyphs::{ASCII, UNICODE};
use crate::view::samples::{event, id, with_argv};

const T0: i64 = 1_700_000_000_000_000_000;
const MS: i64 = 1_000_000;

/// Feeds events to a summary. Times are in milliseconds since the start.
#[derive(Default)]
struct Scenario {
    summary: Summary,
    execs: FxHashMap<u32, u32>,
    forked: FxHashMap<u32, i64>,
}

impl Scenario {
    fn feed(&mut self, mut event: Event, pid: u32, ms: i64) {
        event.time = Timestamp(T0 + ms * MS);
        let process = event.process.as_mut().unwrap();
        process.execs = self.execs.get(&pid).copied().unwrap_or(0);
        process.start_time = Some(Timestamp(T0 + self.forked[&pid] * MS));
        self.summary.apply(&event);
    }

    fn fork(&mut self, ms: i64, pid: u32, parent: u32, comm: &str) {
        self.forked.insert(pid, ms);
        self.feed(event(Kind::Fork, pid, parent, comm), pid, ms);
    }

    fn exec(&mut self, ms: i64, pid: u32, parent: u32, argv: &[&str]) {
        *self.execs.entry(pid).or_default() += 1;
        self.feed(with_argv(event(Kind::Exec, pid, parent, argv[0]), argv), pid, ms);
    }

    fn exit(&mut self, ms: i64, pid: u32, parent: u32, argv: &[&str], exit: Exit) {
        let mut event = with_argv(event(Kind::Exit, pid, parent, argv[0]), argv);
        let duration_ns = ((ms - self.forked[&pid]) * MS) as u64;
        let user_ns = duration_ns / 2;
        let usage = Usage { user_ns, system_ns: user_ns / 4, max_rss_bytes: 3 << 20, ..Usage::default() };
        event.detail = Detail::Exit(Box::new(Exit { duration_ns: Some(duration_ns), usage: Some(usage), ..exit }));
        self.feed(event, pid, ms);
    }

    /// Fork, exec and exit of a process.
    fn life(&mut self, from: i64, to: i64, pid: u32, parent: u32, argv: &[&str], code: u8) {
        self.fork(from, pid, parent, "sh");
        self.exec(from, pid, parent, argv);
        self.exit(to, pid, parent, argv, status(code));
    }

    fn drawn(&self, width: Option<usize>, lost: u64) -> String {
        let bye = Bye { lost, ..Bye::default() };
        let lines = self.summary.lines(1, &bye, Timestamp(T0 + 9000 * MS), width, &UNICODE);
        lines.iter().map(|line| line.plain().trim_end().to_owned() + "\n").collect()
    }
}

fn status(code: u8) -> Exit {
    Exit { code: Some(code), ..Exit::default() }
}

/// A root that was held for half a second before its exec.
fn scenario() -> Scenario {
    let mut scenario = Scenario::default();
    scenario.fork(-500, 1, 0, "tracer");
    scenario.exec(0, 1, 0, &["make", "-j4"]);
    scenario
}

#[test]
fn a_small_run_shows_each_process() {
    let mut scenario = scenario();
    scenario.fork(5, 2, 1, "make");
    scenario.exec(6, 2, 1, &["env", "CC=gcc", "sh", "-c", "gcc -c a.c"]);
    scenario.exec(7, 2, 1, &["sh", "-c", "gcc -c a.c"]);
    scenario.life(8, 900, 3, 2, &["gcc", "-c", "a.c", "-o", "a file.o"], 0);
    scenario.exit(905, 2, 1, &["sh", "-c", "gcc -c a.c"], status(0));
    scenario.life(10, 20, 4, 1, &["false"], 1);
    scenario.fork(30, 5, 1, "make");
    scenario.exit(31, 5, 1, &["make"], status(0));
    scenario.fork(40, 6, 1, "make");
    scenario.exec(41, 6, 1, &["evil\x1b[2J"]);
    let cause = Cause { sender_pid: Some(1), sender_comm: Some("make".into()), ..Cause::default() };
    let killed = Exit { signal: Some("SIGKILL".into()), core: true, cause: Some(cause), ..Exit::default() };
    scenario.exit(1040, 6, 1, &["evil\x1b[2J"], killed);
    scenario.fork(50, 7, 1, "make");
    scenario.exec(51, 7, 1, &["daemon", "--detach"]);
    scenario.exit(1500, 1, 0, &["make", "-j4"], status(2));
    insta::assert_snapshot!(scenario.drawn(Some(80), 0), @r"

      TIME     CPU    MEM  STATUS   COMMAND
     1.50s   1.25s   3.0M  2        make -j4
     900ms   562ms   3.0M  0        ├─ env → sh -c 'gcc -c a.c'
     892ms   558ms   3.0M  0        │  └─ gcc -c a.c -o 'a file.o'
    10.0ms  6.25ms   3.0M  1        ├─ false
    1.00ms   625µs   3.0M  0        ├─ (make)
     1.00s   625ms   3.0M  SIGKILL  ├─ $'evil\x1b[2J'  (core dumped, by 1 (make))
     8.95s                 running  └─ daemon --detach

    7 processes · 7 execs · 3 failed (1 by a signal) · 1 still running
    1.50s · 3.00s CPU (200 %) · largest 3.0M
    ");
    insta::assert_snapshot!(scenario.drawn(Some(50), 3), @r"

      TIME     CPU    MEM  STATUS   COMMAND
     1.50s   1.25s   3.0M  2        make -j4
     900ms   562ms   3.0M  0        ├─ env → sh -c 'g…
     892ms   558ms   3.0M  0        │  └─ gcc -c a.c …
    10.0ms  6.25ms   3.0M  1        ├─ false
    1.00ms   625µs   3.0M  0        ├─ (make)
     1.00s   625ms   3.0M  SIGKILL  ├─ $'evil\x1b[2J'…
     8.95s                 running  └─ daemon --detach

    7 processes · 7 execs · 3 failed (1 by a signal) …
    1.50s · 3.00s CPU (200 %) · largest 3.0M
    3 events lost for want of room: the tree may lack…
    a larger --ring-size holds more
    ");
    assert_eq!(scenario.drawn(Some(0), 0), scenario.drawn(None, 0));
}

#[test]
fn identical_leaves_become_one_line_in_a_larger_run() {
    let mut scenario = scenario();
    for n in 0..60 {
        let code = u8::from(n % 10 == 0);
        scenario.life(n, n + 10, 100 + n as u32, 1, &["true"], code);
    }
    scenario.fork(80, 200, 1, "sh");
    scenario.life(81, 82, 201, 200, &["true"], 0);
    scenario.exit(90, 200, 1, &["sh"], status(0));
    scenario.exit(100, 1, 0, &["make"], status(0));
    insta::assert_snapshot!(scenario.drawn(Some(80), 0), @"

      TIME     CPU    MEM  STATUS   COMMAND
     100ms   375ms   3.0M  0        make
    10.0ms  37.5ms   3.0M  1        ├─ 6× true
    10.0ms   338ms   3.0M  0        ├─ 54× true
    10.0ms  6.25ms   3.0M  0        └─ (sh)
    1.00ms   625µs   3.0M  0           └─ true

    63 processes · 62 execs · 6 failed
    100ms · 757ms CPU (757 %) · largest 3.0M
    ");
}

#[test]
fn the_most_expensive_of_many_children_are_shown_with_the_sums_of_the_rest() {
    let mut scenario = scenario();
    for n in 0..5000u32 {
        let (from, to) = (i64::from(n), i64::from(n) + 1 + i64::from(n % 100));
        scenario.life(from, to, 100 + n, 1, &["cc", &format!("{n}.c")], u8::from(n == 4321));
    }
    scenario.exit(6000, 1, 0, &["make"], status(0));
    let text = scenario.drawn(Some(80), 0);
    assert!((100..=210).contains(&text.lines().count()), "{}", text.lines().count());
    let shown = text.lines().filter(|line| line.contains("cc 4321.c") || line.contains("more"));
    insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"), @"
    22.0ms  13.8ms   3.0M  1        ├─ cc 4321.c
    97.0ms   2m28s   3.0M           └─ … and 4,844 more (-o FILE gets all)
    ");
    insta::assert_snapshot!(text.lines().last().unwrap(), @"6.00s · 2m41s CPU (2698 %) · largest 3.0M");
}

#[test]
fn a_deep_chain_is_bounded_too() {
    let mut scenario = scenario();
    for pid in 2..2000 {
        scenario.fork(i64::from(pid), pid, pid - 1, "sh");
    }
    let text = scenario.drawn(Some(80), 0);
    assert!(text.lines().count() < 210);
    let shown: Vec<_> = text.lines().skip(14).take(4).chain([text.lines().nth_back(3).unwrap()]).collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    8.99s                 running                                   └─ (sh)
    8.99s                 running                                      … 12 (sh)
    8.98s                 running                                      … 13 (sh)
    8.98s                 running                                      … 14 (sh)
    8.80s                          … and 1,799 more (-o FILE gets all)
    ");
}

#[test]
fn memory_is_bounded_and_sums_are_complete() {
    let mut scenario = scenario();
    scenario.summary.max_kept = 100;
    for n in 0..1000u32 {
        // A middle process that ends before its child: the grandchild must not keep it for good.
        scenario.fork(0, 10 + 2 * n, 1, "sh");
        scenario.fork(0, 11 + 2 * n, 10 + 2 * n, "sh");
        scenario.exit(1, 10 + 2 * n, 1, &["sh"], status(0));
        scenario.exit(3, 11 + 2 * n, 10 + 2 * n, &["sh"], status(u8::from(n % 2 == 0)));
    }
    assert!(scenario.summary.forest.count() <= 103, "{}", scenario.summary.forest.count());
    let text = scenario.drawn(Some(80), 0);
    insta::assert_snapshot!(text.lines().last().unwrap(), @"9.00s · 2.50s CPU (28 %) · largest 3.0M");
}

#[test]
fn long_command_lines_are_truncated() {
    let mut scenario = scenario();
    let long = "x".repeat(100_000);
    scenario.life(1, 2, 2, 1, &["echo", "a", &long, &long], 0);
    let node = scenario.summary.forest.get(id(2)).unwrap();
    let kept: usize = node.process.image.argv.as_ref().unwrap().iter().map(str::len).sum();
    assert!(kept <= MAX_COMMAND, "{kept}");
    assert!(scenario.drawn(Some(40), 0).lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 40));
}

#[test]
fn ascii_signs_suffice() {
    let mut scenario = scenario();
    scenario.life(1, 2, 2, 1, &["true"], 0);
    let lines = scenario.summary.lines(1, &Bye::default(), Timestamp(T0 + MS), Some(60), &ASCII);
    assert!(lines.iter().all(|line| line.plain().is_ascii()), "{lines:?}");
}

#[test]
fn without_processes_there_is_no_summary() {
    assert!(Summary::default().lines(1, &Bye::default(), Timestamp(0), None, &UNICODE).is_empty());
}
