use super::*;
use crate::event::{Detail, Event, Exit, Kind};
use crate::view::forest::Shape;
use crate::view::glyphs::{ASCII, UNICODE};
use crate::view::samples::{ended, event, id, with_argv};

/// A tree similar to the example in pstree's manual.
fn sample() -> Forest {
    let process = |pid, parent, comm| event(Kind::Process, pid, parent, comm);
    let mut events = vec![
        process(1, 0, "systemd"),
        process(900, 1, "sshd"),
        with_argv(process(901, 900, "bash"), &["-bash"]),
        with_argv(process(950, 901, "make"), &["make", "-j4", "all the things"]),
        process(951, 950, "cc1"),
        process(953, 950, "cc1"),
        process(952, 950, "cc1"),
        process(40, 1, "cron"),
    ];
    for pid in [300, 400, 500] {
        events.push(process(pid, 1, "mid"));
        events.push(process(pid + 1, pid, "leafa"));
        events.push(process(pid + 2, pid, "leafb"));
        events.push(process(pid + 3, pid + 2, "deep"));
        events.push(process(pid + 4, pid + 2, "deep"));
    }
    events[2].process.as_mut().unwrap().uid = Some(1000);
    for event in &mut events[3..7] {
        event.process.as_mut().unwrap().uid = Some(1000);
    }
    Forest::from_events(Shape::Current, &events)
}

/// Draws the tree of a process with options of the command line. `-w` truncates to 20 columns.
fn drawn(forest: &Forest, root: u32, flags: &str) -> String {
    let users = Users::new(|uid| (uid == 1000).then(|| "alice".into()));
    let has = |flag| flags.contains(flag);
    let options = Options {
        pids: has('p'),
        users: has('u').then_some(&users),
        arguments: has('a'),
        by_pid: has('n'),
        compact: !has('c'),
        width: has('w').then_some(20),
        ..Options::new(if has('A') { &ASCII } else { &UNICODE })
    };
    text(&draw(forest, &[id(root)], &options))
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| line.plain() + "\n").collect()
}

#[test]
fn identical_subtrees_are_compacted() {
    insta::assert_snapshot!(drawn(&sample(), 1, ""), @"
    systemd─┬─cron
            ├─3*[mid─┬─leafa
            │        └─leafb───2*[deep]]
            └─sshd───bash───make───3*[cc1]
    ");
}

#[test]
fn pids_prevent_compaction() {
    insta::assert_snapshot!(drawn(&sample(), 900, "-p"), @"
    sshd(900)───bash(901)───make(950)─┬─cc1(951)
                                      ├─cc1(952)
                                      └─cc1(953)
    ");
    insta::assert_snapshot!(drawn(&sample(), 500, "-c"), @"
    mid─┬─leafa
        └─leafb─┬─deep
                └─deep
    ");
}

#[test]
fn arguments_put_each_process_on_its_own_line() {
    insta::assert_snapshot!(drawn(&sample(), 900, "-a"), @"
    sshd
      └─bash
          └─make -j4 'all the things'
              ├─cc1
              ├─cc1
              └─cc1
    ");
}

#[test]
fn a_change_of_user_is_shown() {
    insta::assert_snapshot!(drawn(&sample(), 900, "-u"), @"sshd───bash(alice)───make───3*[cc1]");
    insta::assert_snapshot!(drawn(&sample(), 901, "-upa"), @"
    bash,901,alice
      └─make,950 -j4 'all the things'
          ├─cc1,951
          ├─cc1,952
          └─cc1,953
    ");
}

#[test]
fn siblings_are_sorted_by_name_or_pid() {
    insta::assert_snapshot!(drawn(&sample(), 1, "-nA"), @"
    systemd-+-cron
            |-3*[mid-+-leafa
            |        `-leafb---2*[deep]]
            `-sshd---bash---make---3*[cc1]
    ");
}

#[test]
fn lines_are_truncated_to_the_width() {
    let cut = drawn(&sample(), 1, "-w");
    insta::assert_snapshot!(cut, @"
    systemd─┬─cron
            ├─3*[mid─┬─…
            │        └─…
            └─sshd───ba…
    ");
    assert!(cut.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 20));
}

#[test]
fn ancestors_come_first_without_their_other_children() {
    let lines = draw_with_ancestors(&sample(), id(950), &Options::new(&UNICODE));
    insta::assert_snapshot!(text(&lines), @"systemd───sshd───bash───make───3*[cc1]");
}

#[test]
fn exited_processes_show_their_status() {
    let mut killed = ended(3, 1, "sleep", 0);
    killed.detail = Detail::Exit(Exit { signal: Some("SIGTERM".into()), ..Exit::default() }.into());
    let events = [event(Kind::Process, 1, 0, "sh"), ended(2, 1, "false", 1), killed, event(Kind::Fork, 4, 1, "sleep")];
    let forest = Forest::from_events(Shape::Current, &events);
    let options = Options { changes_since: Some(Timestamp(0)), ..Options::new(&UNICODE) };
    let lines = draw(&forest, &[id(1)], &options);
    insta::assert_snapshot!(text(&lines), @"
    sh─┬─false [exit 1]
       ├─sleep [SIGTERM]
       └─sleep
    ");
    insta::assert_snapshot!(lines[2].render(true).escape_debug().to_string(), @r"   └─\u{1b}[32msleep\u{1b}[0m");
}

#[test]
fn the_current_process_and_its_ancestors_are_highlighted() {
    let options = Options { highlight: Some(id(951)), ..Options::new(&UNICODE) };
    let lines = draw(&sample(), &[id(950)], &options);
    insta::assert_snapshot!(lines[0].render(true).escape_debug().to_string(), @r"\u{1b}[1mmake\u{1b}[0m─┬─\u{1b}[1mcc1\u{1b}[0m");
    insta::assert_snapshot!(text(&lines), @"
    make─┬─cc1
         └─2*[cc1]
    ");
}

#[test]
fn names_are_escaped() {
    let evil = with_argv(event(Kind::Process, 2, 1, "\x1b]0;own"), &["x", "\u{202e}gpj.exe", "a\nb"]);
    let forest = Forest::from_events(Shape::Current, &[event(Kind::Process, 1, 0, "init"), evil]);
    insta::assert_snapshot!(drawn(&forest, 1, "-a"), @r"
    init
      └─\x1b]0;own $'\u202egpj.exe' $'a\nb'
    ");
}

#[test]
fn a_chain_of_a_hundred_thousand_is_drawn() {
    let events: Vec<Event> = (1..=100_000).map(|pid| event(Kind::Process, pid, pid - 1, "s")).collect();
    let forest = Forest::from_events(Shape::Current, &events);
    let lines = draw(&forest, &[id(1)], &Options::new(&UNICODE));
    assert_eq!((lines.len(), lines[0].width()), (1, 100_000 + 99_999 * 3));
}

#[test]
fn a_circle_of_parents_ends() {
    let events = [event(Kind::Process, 1, 2, "a"), event(Kind::Process, 2, 1, "b")];
    let forest = Forest::from_events(Shape::Current, &events);
    insta::assert_snapshot!(drawn(&forest, 1, ""), @"a───b───a");
}
