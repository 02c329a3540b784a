use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Size;

use super::batch;
use super::draw::draw;
use super::model::{Sums, Top, TopFrame};
use super::rows::{Row, rows};
use super::state::{Group, Sort, TopState};
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, Exit, Image, Kind, Process, ProcessContainer, Provenance, Usage};
use crate::view::glyphs::{ASCII, UNICODE};
use crate::view::screen::{Overlay, Request};
use crate::view::style::TextStyle;
use crate::view::users::Users;

const S: u64 = 1_000_000_000;
const T0: Timestamp = Timestamp(1_700_000_000_000_000_000);

fn id(pid: u32) -> ProcessId {
    ProcessId::from_ticks(u64::from(pid), pid)
}

fn event(kind: Kind, pid: u32, parent: u32, comm: &str) -> Event {
    let image = Image {
        comm: Some(comm.into()),
        exe: Some(format!("/bin/{comm}").into()),
        argv: Some([comm, "-x"].iter().collect()),
        ..Image::default()
    };
    let process = Process {
        parent_id: (parent > 0).then(|| id(parent)),
        uid: Some(if parent == 12 { 33 } else { 0 }),
        image: image.into(),
        container: (parent == 12).then(|| Arc::new(ProcessContainer::new("0123456789ab".into()))),
        ..Process::new(id(pid), Provenance::Kernel)
    };
    Event { process: Some(process), ..Event::new(kind.into(), T0) }
}

fn exit(pid: u32, parent: u32, comm: &str, code: u8, (cpu_ns, lived_ns): (u64, u64)) -> Event {
    let usage = Usage { user_ns: cpu_ns, ..Usage::default() };
    let ending = Exit { code: Some(code), duration_ns: Some(lived_ns), usage: Some(usage), ..Exit::default() };
    Event { detail: Detail::Exit(Box::new(ending)), ..event(Kind::Exit, pid, parent, comm) }
}

/// A process that executes a program, uses 5 ms of CPU time and exits.
fn life(pid: u32, parent: u32, comm: &str, code: u8) -> [Event; 3] {
    [
        event(Kind::Fork, pid, parent, "sh"),
        event(Kind::Exec, pid, parent, comm),
        exit(pid, parent, comm, code, (5_000_000, 6_000_000)),
    ]
}

fn feed(top: &mut Top, events: &[Event]) {
    for event in events {
        top.apply(event, true);
    }
}

/// init, a session, a poller, and a web server.
fn machine() -> Top {
    let machine = [(1, 0, "init"), (10, 1, "bash"), (11, 10, "poll.sh"), (12, 1, "nginx")];
    let machine = machine.map(|(pid, parent, comm)| event(Kind::Process, pid, parent, comm));
    let mut top = Top::new(0);
    top.learn(&machine);
    feed(&mut top, &machine);
    top
}

/// Two seconds of a poller that forks a hundred processes, half of which fail, and of a server that forks one.
fn stormy() -> (Top, TopFrame) {
    let mut top = machine();
    for n in 0..100 {
        feed(&mut top, &life(100 + n, 11, if n % 2 == 0 { "date" } else { "pgrep" }, (n % 2) as u8));
    }
    feed(&mut top, &life(300, 12, "php", 0));
    let frame = top.tick(2 * S, T0);
    (top, frame)
}

fn style() -> TextStyle {
    let users = Users::new(|uid| (uid == 33).then(|| "www".into()));
    TextStyle { glyphs: &UNICODE, zone: TimeZone::UTC, users }
}

fn text(frame: &TopFrame, state: &TopState) -> String {
    batch::lines(frame, state, &style(), None).iter().map(|line| line.plain() + "\n").collect()
}

fn table(frame: &TopFrame, state: &TopState) -> Vec<Row> {
    let style = style();
    rows(frame, state, &style.users, style.glyphs)
}

fn state(group: Group) -> TopState {
    TopState { group, ..TopState::default() }
}

fn drawn(frame: &TopFrame, state: &mut TopState, size: (u16, u16)) -> Terminal<TestBackend> {
    drawn_in(frame, state, size, &style())
}

fn drawn_in(
    frame: &TopFrame,
    state: &mut TopState,
    (columns, rows): (u16, u16),
    style: &TextStyle,
) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    state.layout(frame, style, Size::new(columns, rows));
    terminal.draw(|screen| draw(screen, frame, state, style, true)).unwrap();
    terminal
}

fn screen(frame: &TopFrame, state: &mut TopState, size: (u16, u16)) -> String {
    drawn(frame, state, size).backend().to_string()
}

fn press(state: &mut TopState, code: KeyCode, frame: &TopFrame) -> Option<Request> {
    state.layout(frame, &style(), Size::new(80, 16));
    state.key(&KeyEvent::new(code, KeyModifiers::NONE))
}

fn press_all(state: &mut TopState, keys: &str, frame: &TopFrame) {
    for key in keys.chars() {
        press(state, KeyCode::Char(key), frame);
    }
}

/// Returns the name of the selected row.
fn selected(frame: &TopFrame, state: &mut TopState) -> String {
    state.layout(frame, &style(), Size::new(80, 16));
    state.rows[state.selected].name.clone()
}

#[test]
fn short_lived_processes_count_in_full_for_their_parent() {
    let (_, frame) = stormy();
    let poller = frame.find(id(11)).unwrap();
    let sums = Sums { forks: 100, execs: 100, exits: 100, failures: 50, cpu_ns: 500_000_000 };
    assert_eq!((poller.own, poller.below), ((sums, sums), (sums, sums)));
    assert_eq!(frame.find(id(10)).unwrap().own.1, Sums::default());
    assert_eq!(frame.find(id(10)).unwrap().below.1, sums);
    assert_eq!(frame.find(id(1)).unwrap().below.1.forks, 101);
    assert_eq!(frame.culprit, Some(id(11)), "not bash and not init, below which it is too");
    let executed: Vec<_> = poller.commands.iter().map(|(what, n)| (&**what, *n)).collect();
    assert_eq!(executed, [("/bin/date", 50), ("/bin/pgrep", 50)]);
}

#[test]
fn a_tick_ends_the_interval() {
    let (mut top, _) = stormy();
    let next = top.tick(4 * S, T0);
    assert_eq!((next.all, next.total.forks, next.culprit), (Sums::default(), 101, None));
    assert_eq!(next.find(id(11)).unwrap().own.0, Sums::default());
    assert_eq!(next.history, [151, 0]);
}

#[test]
fn an_exited_spawner_is_in_the_frame_of_its_interval() {
    let mut top = machine();
    top.apply(&event(Kind::Fork, 20, 11, "sh"), true);
    feed(&mut top, &life(21, 20, "true", 0));
    top.apply(&exit(20, 11, "sh", 0, (0, 0)), true);
    let frame = top.tick(S, T0);
    let gone = frame.find(id(20)).unwrap();
    assert_eq!((gone.running, gone.own.0.forks), (false, 1));
    assert!(top.tick(2 * S, T0).find(id(20)).is_none());
}

#[test]
fn a_long_lived_process_adds_no_cpu_time() {
    let mut top = machine();
    top.apply(&event(Kind::Fork, 20, 11, "sh"), true);
    top.apply(&exit(20, 11, "sh", 0, (3600 * S, 7200 * S)), true);
    assert_eq!(top.tick(S, T0).all, Sums { forks: 1, exits: 1, ..Sums::default() });
}

#[test]
fn a_filtered_event_is_not_counted_but_known() {
    let mut top = machine();
    top.apply(&event(Kind::Fork, 20, 11, "sh"), false);
    feed(&mut top, &life(21, 20, "true", 0));
    let frame = top.tick(S, T0);
    assert_eq!((frame.all.forks, frame.find(id(11)).unwrap().below.0.forks), (1, 1));
}

#[test]
fn groups() {
    let (_, frame) = stormy();
    let all: String = Group::ALL.map(|group| text(&frame, &state(group))).join("\n");
    insta::assert_snapshot!(all);
}

#[test]
fn rows_are_sorted_by_the_chosen_column() {
    let (_, frame) = stormy();
    let first = |sort| table(&frame, &TopState { sort, ..state(Group::Command) })[0].name.clone();
    assert_eq!(
        (first(Sort::Forks), first(Sort::Failures), first(Sort::Name)),
        ("sh".into(), "pgrep".into(), "date".into())
    );
    let inverted = TopState { sort: Sort::Name, inverted: true, ..state(Group::Command) };
    assert_eq!(table(&frame, &inverted)[0].name, "sh");
}

#[test]
fn rows_are_filtered_and_folded() {
    let (_, frame) = stormy();
    let only = |group, filter: &str| table(&frame, &TopState { filter: filter.into(), ..state(group) }).len();
    assert_eq!((only(Group::Process, "POLL"), only(Group::Process, "12"), only(Group::Process, "nobody")), (1, 1, 0));
    assert_eq!(only(Group::Ancestor, "poll"), 3, "with all above it");
    let mut folded = state(Group::Ancestor);
    press(&mut folded, KeyCode::Down, &frame);
    press(&mut folded, KeyCode::Char('-'), &frame);
    let names: Vec<_> = table(&frame, &folded).into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["init -x", "├─[+] bash -x", "└─nginx -x"]);
    press(&mut folded, KeyCode::Char('*'), &frame);
    assert_eq!(table(&frame, &folded).len(), 4);
}

#[test]
fn keys_are_as_in_htop() {
    let (_, frame) = stormy();
    let mut state = TopState::default();
    assert_eq!(press(&mut state, KeyCode::F(5), &frame), Some(Request::Redraw));
    assert_eq!(state.group, Group::Ancestor);
    press(&mut state, KeyCode::Char('t'), &frame);
    assert_eq!(state.group, Group::Process);
    press(&mut state, KeyCode::Char('P'), &frame);
    assert_eq!(state.sort, Sort::Cpu);
    press(&mut state, KeyCode::Char('I'), &frame);
    assert!(state.inverted);
    press(&mut state, KeyCode::Char('Z'), &frame);
    assert!(state.paused);
    press(&mut state, KeyCode::End, &frame);
    assert_eq!(state.selected, 1);
    for c in ['\\', 'q', 'x'] {
        assert_eq!(press(&mut state, KeyCode::Char(c), &frame), Some(Request::Redraw), "q is typed, and does not end");
    }
    assert_eq!((state.filter.as_str(), state.overlay), ("qx", Overlay::Filter));
    press(&mut state, KeyCode::Esc, &frame);
    assert_eq!((state.filter.as_str(), state.overlay), ("", Overlay::None));
    press(&mut state, KeyCode::Char('?'), &frame);
    assert_eq!(state.overlay, Overlay::Help);
    press(&mut state, KeyCode::Char('q'), &frame);
    assert_eq!(state.overlay, Overlay::None);
    assert_eq!(press(&mut state, KeyCode::Char(' '), &frame), Some(Request::Refresh));
    assert_eq!(press(&mut state, KeyCode::F(10), &frame), Some(Request::End));
}

#[test]
fn a_selected_row_stays_selected_when_it_moves() {
    let (mut top, frame) = stormy();
    let mut state = state(Group::Process);
    assert_eq!(selected(&frame, &mut state), "poll.sh -x");
    press(&mut state, KeyCode::Down, &frame);
    assert_eq!(selected(&frame, &mut state), "nginx -x");
    // Now the server forks more than the poller.
    for n in 0..300 {
        feed(&mut top, &life(1000 + n, 12, "php", 0));
    }
    let next = top.tick(4 * S, T0);
    assert_eq!((selected(&next, &mut state), state.selected), ("nginx -x".into(), 0));
    // If no key has moved the selection, the first row is selected, whichever it is.
    let mut first = TopState { group: Group::Process, ..TopState::default() };
    assert_eq!((selected(&frame, &mut first), selected(&next, &mut first)), ("poll.sh -x".into(), "nginx -x".into()));
}

#[test]
fn details_stay_after_the_exit() {
    let mut top = machine();
    top.apply(&event(Kind::Fork, 20, 11, "sh"), true);
    feed(&mut top, &life(21, 20, "true", 0));
    top.apply(&exit(20, 11, "sh", 0, (0, 0)), true);
    let frame = top.tick(S, T0);
    let mut state = state(Group::Process);
    press_all(&mut state, "/sh -x", &frame);
    press(&mut state, KeyCode::Enter, &frame);
    press(&mut state, KeyCode::Enter, &frame);
    assert!(screen(&frame, &mut state, (100, 30)).contains("20 (has ended)"));
    feed(&mut top, &life(22, 11, "date", 0));
    let next = top.tick(2 * S, T0);
    assert!(next.find(id(20)).is_none() && screen(&next, &mut state, (100, 30)).contains("20 (has ended)"));
}

#[test]
fn a_long_help_is_scrolled() {
    let (_, frame) = stormy();
    let mut state = state(Group::Process);
    press(&mut state, KeyCode::F(1), &frame);
    let first = screen(&frame, &mut state, (80, 12));
    press(&mut state, KeyCode::End, &frame);
    let last = screen(&frame, &mut state, (80, 12));
    assert!(first.contains("this help") && !first.contains("TOTAL"), "{first}");
    assert!(last.contains("TOTAL") && !last.contains("this help"), "{last}");
    press(&mut state, KeyCode::Up, &frame);
    assert!(screen(&frame, &mut state, (80, 12)) != last, "from there on it goes back at once");
    press(&mut state, KeyCode::Char('x'), &frame);
    assert_eq!(state.overlay, Overlay::None);
}

#[test]
fn a_search_goes_from_match_to_match() {
    let (_, frame) = stormy();
    let mut state = state(Group::Ancestor);
    press_all(&mut state, "/-x", &frame);
    assert_eq!(selected(&frame, &mut state), "init -x");
    press(&mut state, KeyCode::F(3), &frame);
    assert_eq!(selected(&frame, &mut state), "├─bash -x");
    press(&mut state, KeyCode::Enter, &frame);
    press_all(&mut state, "nnn", &frame);
    assert_eq!(selected(&frame, &mut state), "init -x", "after the last comes the first");
    press_all(&mut state, "/12", &frame);
    assert_eq!(selected(&frame, &mut state), "└─nginx -x");
    press(&mut state, KeyCode::Esc, &frame);
    press_all(&mut state, "c", &frame);
    assert_eq!(selected(&frame, &mut state), "│ └─poll.sh -x", "most comes from it");
}

#[test]
fn menus_set_sort_column_and_user() {
    let (_, frame) = stormy();
    let mut state = state(Group::Process);
    press(&mut state, KeyCode::F(6), &frame);
    insta::assert_snapshot!("menu", screen(&frame, &mut state, (60, 16)));
    press(&mut state, KeyCode::End, &frame);
    press(&mut state, KeyCode::Enter, &frame);
    assert_eq!((state.sort, state.overlay), (Sort::Name, Overlay::None));
    // The children of the server belong to another user. Processes of that user have forked none.
    press_all(&mut state, "u", &frame);
    assert_eq!(state.choices, ["(all users)", "0", "www"]);
    press(&mut state, KeyCode::Down, &frame);
    press(&mut state, KeyCode::Enter, &frame);
    assert_eq!((state.user.as_deref(), table(&frame, &state).len()), (Some("0"), 2));
    state.user = Some("www".into());
    assert_eq!(table(&frame, &state).len(), 0);
    assert!(text(&frame, &state).contains(", of www"));
    press(&mut state, KeyCode::Esc, &frame);
    assert_eq!(table(&frame, &state).len(), 2);
    press_all(&mut state, "uq", &frame);
    assert_eq!((state.user.as_deref(), state.overlay), (None, Overlay::None), "another key leaves it as it was");
}

#[test]
fn a_container_has_its_name() {
    let (mut top, _) = stormy();
    let mut container = crate::event::Container::new("0123456789abcdef".into(), "/x".into());
    container.name = Some("web\x1b".into());
    top.apply(&Event::new(Detail::ContainerInfo(container.into()), T0), true);
    let mut forked = event(Kind::Fork, 40, 12, "php");
    forked.process.as_mut().unwrap().container = Some(Arc::new(ProcessContainer::new("0123456789abcdef".into())));
    top.apply(&forked, true);
    let frame = top.tick(4 * S, T0);
    let names: Vec<String> = table(&frame, &state(Group::Container)).into_iter().map(|row| row.name).collect();
    assert_eq!(names[0], r"web\x1b (0123456789ab)");
    assert!(names.contains(&"0123456789ab".to_owned()) && names.contains(&"(no container)".to_owned()), "{names:?}");
}

#[test]
fn a_screen() {
    let (_, frame) = stormy();
    insta::assert_snapshot!("screen", screen(&frame, &mut state(Group::Ancestor), (100, 24)));
    let mut help = TopState { overlay: Overlay::Help, ..TopState::default() };
    insta::assert_snapshot!("help", screen(&frame, &mut help, (80, 24)));
    let mut details = TopState::default();
    press(&mut details, KeyCode::Enter, &frame);
    insta::assert_snapshot!("details", screen(&frame, &mut details, (100, 24)));
    let mut filter = TopState { overlay: Overlay::Filter, filter: "po\x1b".into(), ..TopState::default() };
    insta::assert_snapshot!("narrow", screen(&frame, &mut filter, (40, 10)));
}

#[test]
fn a_terminal_without_unicode_gets_none() {
    let (_, frame) = stormy();
    let style = TextStyle { glyphs: &ASCII, ..style() };
    for keys in ["", "i", "u"] {
        let mut state = state(Group::Ancestor);
        press_all(&mut state, keys, &frame);
        let shown = drawn_in(&frame, &mut state, (100, 24), &style).backend().to_string();
        assert!(shown.is_ascii(), "{shown}");
    }
}

#[test]
fn there_are_no_rates_before_the_end_of_the_first_interval() {
    assert!(screen(&TopFrame::default(), &mut TopState::default(), (80, 5)).contains("being counted"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_keys_on_any_screen(codes in proptest::collection::vec(0u8..128, 0..30), columns in 0u16..130, rows in 0u16..40) {
        let (_, frame) = stormy();
        let mut state = TopState::default();
        for code in codes {
            let code = match code {
                1..=12 => KeyCode::F(code),
                13 => KeyCode::Enter,
                14 => KeyCode::Down,
                15 => KeyCode::Up,
                16 => KeyCode::PageDown,
                17 => KeyCode::PageUp,
                18 => KeyCode::Tab,
                19 => KeyCode::BackTab,
                20 => KeyCode::Backspace,
                27 => KeyCode::Esc,
                code => KeyCode::Char(char::from(code)),
            };
            press(&mut state, code, &frame);
            drawn(&frame, &mut state, (columns, rows));
        }
    }

    /// Whatever the tree of processes, the root counts everything once.
    #[test]
    fn the_root_has_all_counts(parents in proptest::collection::vec(any::<usize>(), 1..60)) {
        let mut top = Top::new(0);
        let root = event(Kind::Process, 1, 0, "init");
        top.learn(std::slice::from_ref(&root));
        let mut pids = vec![1];
        for (i, parent) in parents.iter().enumerate() {
            let (pid, parent) = (2 + i as u32, pids[parent % pids.len()]);
            top.apply(&event(Kind::Fork, pid, parent, "sh"), true);
            pids.push(pid);
        }
        let frame = top.tick(S, T0);
        let forks = parents.len() as u64;
        prop_assert_eq!(frame.find(id(1)).unwrap().below.0.forks, forks);
        prop_assert_eq!(frame.processes.iter().map(|spawned| spawned.own.0.forks).sum::<u64>(), forks);
        prop_assert_eq!(frame.commands.iter().map(|(_, sums, _)| sums.forks).sum::<u64>(), forks);
        prop_assert_eq!(rows(&frame, &state(Group::Ancestor), &style().users, &UNICODE).len(), frame.processes.len());
    }
}
