use super::*;
use crate::event::{Cause, Detail, Exit, Kind, Usage};
use crate::view::glyphs::{ASCII, UNICODE};
use crate::view::samples::{event, id, with_argv};

const T0: i64 = 1_700_000_000_000_000_000;
const MS: i64 = 1_000_000;

/// Tells a summary what happens to processes, in milliseconds since the start.
#[derive(Default)]
struct Story {
    summary: Summary,
    execs: FxHashMap<u32, u32>,
    born: FxHashMap<u32, i64>,
}

impl Story {
    fn tell(&mut self, mut event: Event, pid: u32, ms: i64) {
        event.time = Timestamp(T0 + ms * MS);
        let process = event.process.as_mut().unwrap();
        process.execs = self.execs.get(&pid).copied().unwrap_or(0);
        process.start_time = Some(Timestamp(T0 + self.born[&pid] * MS));
        self.summary.apply(&event);
    }

    fn fork(&mut self, ms: i64, pid: u32, parent: u32, comm: &str) {
        self.born.insert(pid, ms);
        self.tell(event(Kind::Fork, pid, parent, comm), pid, ms);
    }

    fn exec(&mut self, ms: i64, pid: u32, parent: u32, argv: &[&str]) {
        *self.execs.entry(pid).or_default() += 1;
        self.tell(with_argv(event(Kind::Exec, pid, parent, argv[0]), argv), pid, ms);
    }

    fn exit(&mut self, ms: i64, pid: u32, parent: u32, argv: &[&str], exit: Exit) {
        let mut event = with_argv(event(Kind::Exit, pid, parent, argv[0]), argv);
        let duration_ns = ((ms - self.born[&pid]) * MS) as u64;
        let user_ns = duration_ns / 2;
        let usage = Usage { user_ns, system_ns: user_ns / 4, max_rss_bytes: 3 << 20, ..Usage::default() };
        event.detail = Detail::Exit(Box::new(Exit { duration_ns: Some(duration_ns), usage: Some(usage), ..exit }));
        self.tell(event, pid, ms);
    }

    /// A whole life: fork, exec, exit.
    fn life(&mut self, from: i64, to: i64, pid: u32, parent: u32, argv: &[&str], code: u8) {
        self.fork(from, pid, parent, "sh");
        self.exec(from, pid, parent, argv);
        self.exit(to, pid, parent, argv, status(code));
    }

    fn picture(&self, width: Option<usize>, lost: u64) -> String {
        let bye = Bye { lost, ..Bye::default() };
        let lines = self.summary.lines(1, &bye, Timestamp(T0 + 9000 * MS), width, &UNICODE);
        lines.iter().map(|line| line.plain().trim_end().to_owned() + "\n").collect()
    }
}

fn status(code: u8) -> Exit {
    Exit { code: Some(code), ..Exit::default() }
}

/// A root that was held for half a second before it ran.
fn story() -> Story {
    let mut story = Story::default();
    story.fork(-500, 1, 0, "tracer");
    story.exec(0, 1, 0, &["make", "-j4"]);
    story
}

#[test]
fn a_small_run_shows_each_process() {
    let mut story = story();
    story.fork(5, 2, 1, "make");
    story.exec(6, 2, 1, &["env", "CC=gcc", "sh", "-c", "gcc -c a.c"]);
    story.exec(7, 2, 1, &["sh", "-c", "gcc -c a.c"]);
    story.life(8, 900, 3, 2, &["gcc", "-c", "a.c", "-o", "a file.o"], 0);
    story.exit(905, 2, 1, &["sh", "-c", "gcc -c a.c"], status(0));
    story.life(10, 20, 4, 1, &["false"], 1);
    story.fork(30, 5, 1, "make");
    story.exit(31, 5, 1, &["make"], status(0));
    story.fork(40, 6, 1, "make");
    story.exec(41, 6, 1, &["evil\x1b[2J"]);
    let cause = Cause { sender_pid: Some(1), sender_comm: Some("make".into()), ..Cause::default() };
    let killed = Exit { signal: Some("SIGKILL".into()), core: true, cause: Some(cause), ..Exit::default() };
    story.exit(1040, 6, 1, &["evil\x1b[2J"], killed);
    story.fork(50, 7, 1, "make");
    story.exec(51, 7, 1, &["daemon", "--detach"]);
    story.exit(1500, 1, 0, &["make", "-j4"], status(2));
    insta::assert_snapshot!(story.picture(Some(80), 0), @r"

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
    insta::assert_snapshot!(story.picture(Some(50), 3), @r"

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
    assert_eq!(story.picture(Some(0), 0), story.picture(None, 0));
}

#[test]
fn identical_leaves_become_one_line_in_a_larger_run() {
    let mut story = story();
    for n in 0..60 {
        let code = u8::from(n % 10 == 0);
        story.life(n, n + 10, 100 + n as u32, 1, &["true"], code);
    }
    story.fork(80, 200, 1, "sh");
    story.life(81, 82, 201, 200, &["true"], 0);
    story.exit(90, 200, 1, &["sh"], status(0));
    story.exit(100, 1, 0, &["make"], status(0));
    insta::assert_snapshot!(story.picture(Some(80), 0), @"

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
fn of_very_many_children_the_costliest_are_shown_and_the_rest_is_told() {
    let mut story = story();
    for n in 0..5000u32 {
        let (from, to) = (i64::from(n), i64::from(n) + 1 + i64::from(n % 100));
        story.life(from, to, 100 + n, 1, &["cc", &format!("{n}.c")], u8::from(n == 4321));
    }
    story.exit(6000, 1, 0, &["make"], status(0));
    let picture = story.picture(Some(80), 0);
    assert!((100..=210).contains(&picture.lines().count()), "{}", picture.lines().count());
    let told = picture.lines().filter(|line| line.contains("cc 4321.c") || line.contains("more"));
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
    22.0ms  13.8ms   3.0M  1        ├─ cc 4321.c
    97.0ms   2m28s   3.0M           └─ … and 4,844 more (-o FILE gets all)
    ");
    insta::assert_snapshot!(picture.lines().last().unwrap(), @"6.00s · 2m41s CPU (2698 %) · largest 3.0M");
}

#[test]
fn a_deep_chain_is_bounded_too() {
    let mut story = story();
    for pid in 2..2000 {
        story.fork(i64::from(pid), pid, pid - 1, "sh");
    }
    let picture = story.picture(Some(80), 0);
    assert!(picture.lines().count() < 210);
    let told: Vec<_> = picture.lines().skip(14).take(4).chain([picture.lines().nth_back(3).unwrap()]).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    8.99s                 running                                   └─ (sh)
    8.99s                 running                                      … 12 (sh)
    8.98s                 running                                      … 13 (sh)
    8.98s                 running                                      … 14 (sh)
    8.80s                          … and 1,799 more (-o FILE gets all)
    ");
}

#[test]
fn what_is_kept_is_bounded_and_what_is_told_is_whole() {
    let mut story = story();
    story.summary.max_kept = 100;
    for n in 0..1000u32 {
        // A middle process that ends before its child: the grandchild must not keep it for good.
        story.fork(0, 10 + 2 * n, 1, "sh");
        story.fork(0, 11 + 2 * n, 10 + 2 * n, "sh");
        story.exit(1, 10 + 2 * n, 1, &["sh"], status(0));
        story.exit(3, 11 + 2 * n, 10 + 2 * n, &["sh"], status(u8::from(n % 2 == 0)));
    }
    assert!(story.summary.forest.count() <= 103, "{}", story.summary.forest.count());
    let picture = story.picture(Some(80), 0);
    insta::assert_snapshot!(picture.lines().last().unwrap(), @"9.00s · 2.50s CPU (28 %) · largest 3.0M");
}

#[test]
fn long_command_lines_are_not_kept_whole() {
    let mut story = story();
    let long = "x".repeat(100_000);
    story.life(1, 2, 2, 1, &["echo", "a", &long, &long], 0);
    let node = story.summary.forest.get(id(2)).unwrap();
    let kept: usize = node.process.image.argv.as_ref().unwrap().iter().map(str::len).sum();
    assert!(kept <= MAX_COMMAND, "{kept}");
    assert!(story.picture(Some(40), 0).lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 40));
}

#[test]
fn ascii_is_enough() {
    let mut story = story();
    story.life(1, 2, 2, 1, &["true"], 0);
    let lines = story.summary.lines(1, &Bye::default(), Timestamp(T0 + MS), Some(60), &ASCII);
    assert!(lines.iter().all(|line| line.plain().is_ascii()), "{lines:?}");
}

#[test]
fn nothing_run_is_no_picture() {
    assert!(Summary::default().lines(1, &Bye::default(), Timestamp(0), None, &UNICODE).is_empty());
}
