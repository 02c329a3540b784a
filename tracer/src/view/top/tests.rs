use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::batch::{self, Look};
use super::draw::draw;
use super::model::{Picture, Sums, Top};
use super::rows::{Row, rows};
use super::state::{Group, Over, Shown, Sort, State, Wish};
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;
use crate::event::{Detail, Event, Exit, Image, Kind, Process, ProcessContainer, Provenance, Usage};
use crate::view::glyphs::{ASCII, UNICODE};
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

/// A process that runs a program and ends, 5 ms of CPU later.
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

/// Two seconds of a poller that makes a hundred processes, half of which fail, and of a server that makes one.
fn stormy() -> (Top, Picture) {
    let mut top = machine();
    for n in 0..100 {
        feed(&mut top, &life(100 + n, 11, if n % 2 == 0 { "date" } else { "pgrep" }, (n % 2) as u8));
    }
    feed(&mut top, &life(300, 12, "php", 0));
    let picture = top.tick(2 * S, T0);
    (top, picture)
}

fn look() -> Look {
    let users = Users::new(|uid| (uid == 33).then(|| "www".into()));
    Look { glyphs: &UNICODE, zone: TimeZone::UTC, users }
}

fn text(picture: &Picture, state: &State) -> String {
    batch::lines(picture, state, &look(), None).iter().map(|line| line.plain() + "\n").collect()
}

fn table(picture: &Picture, state: &State) -> Vec<Row> {
    let look = look();
    rows(picture, state, &look.users, look.glyphs)
}

fn state(group: Group) -> State {
    State { group, ..State::default() }
}

fn drawn(picture: &Picture, state: &mut State, (columns, rows): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| drop(draw(frame, picture, state, &look(), true))).unwrap();
    terminal
}

fn screen(picture: &Picture, state: &mut State, size: (u16, u16)) -> String {
    drawn(picture, state, size).backend().to_string()
}

fn press(state: &mut State, code: KeyCode, picture: &Picture) -> Option<Wish> {
    let rows = table(picture, state);
    let users = super::rows::users(picture, &look().users);
    state.key(&KeyEvent::new(code, KeyModifiers::NONE), Shown { rows: &rows, page: 10, users: &users })
}

fn press_all(state: &mut State, keys: &str, picture: &Picture) {
    for key in keys.chars() {
        press(state, KeyCode::Char(key), picture);
    }
}

/// What is selected, once it is drawn.
fn selected(picture: &Picture, state: &mut State) -> String {
    let rows = table(picture, state);
    state.clamp(&rows, 10);
    rows[state.selected].name.clone()
}

#[test]
fn short_lived_processes_count_in_full_for_who_made_them() {
    let (_, picture) = stormy();
    let poller = picture.find(id(11)).unwrap();
    let sums = Sums { forks: 100, execs: 100, exits: 100, failures: 50, cpu_ns: 500_000_000 };
    assert_eq!((poller.own, poller.below), ((sums, sums), (sums, sums)));
    assert_eq!(picture.find(id(10)).unwrap().own.1, Sums::default());
    assert_eq!(picture.find(id(10)).unwrap().below.1, sums);
    assert_eq!(picture.find(id(1)).unwrap().below.1.forks, 101);
    assert_eq!(picture.culprit, Some(id(11)), "not bash and not init, below which it is too");
    let executed: Vec<_> = poller.commands.iter().map(|(what, n)| (&**what, *n)).collect();
    assert_eq!(executed, [("/bin/date", 50), ("/bin/pgrep", 50)]);
}

#[test]
fn an_interval_is_over_when_it_is() {
    let (mut top, _) = stormy();
    let next = top.tick(4 * S, T0);
    assert_eq!((next.all, next.total.forks, next.culprit), (Sums::default(), 101, None));
    assert_eq!(next.find(id(11)).unwrap().own.0, Sums::default());
    assert_eq!(next.history, [151, 0]);
}

#[test]
fn who_spawned_and_ended_is_in_the_picture_of_that_interval() {
    let mut top = machine();
    top.apply(&event(Kind::Fork, 20, 11, "sh"), true);
    feed(&mut top, &life(21, 20, "true", 0));
    top.apply(&exit(20, 11, "sh", 0, (0, 0)), true);
    let picture = top.tick(S, T0);
    let gone = picture.find(id(20)).unwrap();
    assert_eq!((gone.living, gone.own.0.forks), (false, 1));
    assert!(top.tick(2 * S, T0).find(id(20)).is_none());
}

#[test]
fn a_long_life_is_no_burst_of_cpu() {
    let mut top = machine();
    top.apply(&event(Kind::Fork, 20, 11, "sh"), true);
    top.apply(&exit(20, 11, "sh", 0, (3600 * S, 7200 * S)), true);
    assert_eq!(top.tick(S, T0).all, Sums { forks: 1, exits: 1, ..Sums::default() });
}

#[test]
fn who_is_not_wanted_counts_for_nothing_and_is_known() {
    let mut top = machine();
    top.apply(&event(Kind::Fork, 20, 11, "sh"), false);
    feed(&mut top, &life(21, 20, "true", 0));
    let picture = top.tick(S, T0);
    assert_eq!((picture.all.forks, picture.find(id(11)).unwrap().below.0.forks), (1, 1));
}

#[test]
fn groups() {
    let (_, picture) = stormy();
    let all: String = Group::ALL.map(|group| text(&picture, &state(group))).join("\n");
    insta::assert_snapshot!(all);
}

#[test]
fn rows_are_sorted_as_wished() {
    let (_, picture) = stormy();
    let first = |sort| table(&picture, &State { sort, ..state(Group::Command) })[0].name.clone();
    assert_eq!(
        (first(Sort::Forks), first(Sort::Failures), first(Sort::Name)),
        ("sh".into(), "pgrep".into(), "date".into())
    );
    let inverted = State { sort: Sort::Name, inverted: true, ..state(Group::Command) };
    assert_eq!(table(&picture, &inverted)[0].name, "sh");
}

#[test]
fn a_filter_and_a_fold() {
    let (_, picture) = stormy();
    let only = |group, filter: &str| table(&picture, &State { filter: filter.into(), ..state(group) }).len();
    assert_eq!((only(Group::Process, "POLL"), only(Group::Process, "12"), only(Group::Process, "nobody")), (1, 1, 0));
    assert_eq!(only(Group::Ancestor, "poll"), 3, "with all above it");
    let mut folded = state(Group::Ancestor);
    press(&mut folded, KeyCode::Down, &picture);
    press(&mut folded, KeyCode::Char('-'), &picture);
    let names: Vec<_> = table(&picture, &folded).into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["init -x", "├─[+] bash -x", "└─nginx -x"]);
    press(&mut folded, KeyCode::Char('*'), &picture);
    assert_eq!(table(&picture, &folded).len(), 4);
}

#[test]
fn keys_are_as_in_htop() {
    let (_, picture) = stormy();
    let mut state = State::default();
    assert_eq!(press(&mut state, KeyCode::F(5), &picture), Some(Wish::Redraw));
    assert_eq!(state.group, Group::Ancestor);
    press(&mut state, KeyCode::Char('t'), &picture);
    assert_eq!(state.group, Group::Process);
    press(&mut state, KeyCode::Char('P'), &picture);
    assert_eq!(state.sort, Sort::Cpu);
    press(&mut state, KeyCode::Char('I'), &picture);
    assert!(state.inverted);
    press(&mut state, KeyCode::Char('Z'), &picture);
    assert!(state.paused);
    press(&mut state, KeyCode::End, &picture);
    assert_eq!(state.selected, 1);
    for c in ['\\', 'q', 'x'] {
        assert_eq!(press(&mut state, KeyCode::Char(c), &picture), Some(Wish::Redraw), "q is typed, and does not end");
    }
    assert_eq!((state.filter.as_str(), state.over), ("qx", Over::Filter));
    press(&mut state, KeyCode::Esc, &picture);
    assert_eq!((state.filter.as_str(), state.over), ("", Over::Nothing));
    press(&mut state, KeyCode::Char('?'), &picture);
    assert_eq!(state.over, Over::Help);
    press(&mut state, KeyCode::Char('q'), &picture);
    assert_eq!(state.over, Over::Nothing);
    assert_eq!(press(&mut state, KeyCode::Char(' '), &picture), Some(Wish::Refresh));
    assert_eq!(press(&mut state, KeyCode::F(10), &picture), Some(Wish::End));
}

#[test]
fn a_row_stays_selected_wherever_it_goes() {
    let (mut top, picture) = stormy();
    let mut state = state(Group::Process);
    assert_eq!(selected(&picture, &mut state), "poll.sh -x");
    press(&mut state, KeyCode::Down, &picture);
    assert_eq!(selected(&picture, &mut state), "nginx -x");
    // Now the server makes more than the poller.
    for n in 0..300 {
        feed(&mut top, &life(1000 + n, 12, "php", 0));
    }
    let next = top.tick(4 * S, T0);
    assert_eq!((selected(&next, &mut state), state.selected), ("nginx -x".into(), 0));
    // Of who has moved nowhere the first is selected, whichever that is.
    let mut first = super::state::State { group: Group::Process, ..State::default() };
    assert_eq!((selected(&picture, &mut first), selected(&next, &mut first)), ("poll.sh -x".into(), "nginx -x".into()));
}

#[test]
fn details_stay_with_their_process_after_it_is_gone() {
    let mut top = machine();
    top.apply(&event(Kind::Fork, 20, 11, "sh"), true);
    feed(&mut top, &life(21, 20, "true", 0));
    top.apply(&exit(20, 11, "sh", 0, (0, 0)), true);
    let picture = top.tick(S, T0);
    let mut state = state(Group::Process);
    press_all(&mut state, "/sh -x", &picture);
    press(&mut state, KeyCode::Enter, &picture);
    press(&mut state, KeyCode::Enter, &picture);
    assert!(screen(&picture, &mut state, (100, 30)).contains("20 (has ended)"));
    feed(&mut top, &life(22, 11, "date", 0));
    let next = top.tick(2 * S, T0);
    assert!(next.find(id(20)).is_none() && screen(&next, &mut state, (100, 30)).contains("20 (has ended)"));
}

#[test]
fn what_does_not_fit_is_scrolled() {
    let (_, picture) = stormy();
    let mut state = state(Group::Process);
    press(&mut state, KeyCode::F(1), &picture);
    let first = screen(&picture, &mut state, (80, 12));
    press(&mut state, KeyCode::End, &picture);
    let last = screen(&picture, &mut state, (80, 12));
    assert!(first.contains("this help") && !first.contains("TOTAL"), "{first}");
    assert!(last.contains("TOTAL") && !last.contains("this help"), "{last}");
    press(&mut state, KeyCode::Up, &picture);
    assert!(screen(&picture, &mut state, (80, 12)) != last, "from there on it goes back at once");
    press(&mut state, KeyCode::Char('x'), &picture);
    assert_eq!(state.over, Over::Nothing);
}

#[test]
fn a_search_goes_from_one_to_the_next() {
    let (_, picture) = stormy();
    let mut state = state(Group::Ancestor);
    press_all(&mut state, "/-x", &picture);
    assert_eq!(selected(&picture, &mut state), "init -x");
    press(&mut state, KeyCode::F(3), &picture);
    assert_eq!(selected(&picture, &mut state), "├─bash -x");
    press(&mut state, KeyCode::Enter, &picture);
    press_all(&mut state, "nnn", &picture);
    assert_eq!(selected(&picture, &mut state), "init -x", "after the last comes the first");
    press_all(&mut state, "/12", &picture);
    assert_eq!(selected(&picture, &mut state), "└─nginx -x");
    press(&mut state, KeyCode::Esc, &picture);
    press_all(&mut state, "c", &picture);
    assert_eq!(selected(&picture, &mut state), "│ └─poll.sh -x", "most comes from it");
}

#[test]
fn menus_are_for_choosing() {
    let (_, picture) = stormy();
    let mut state = state(Group::Process);
    press(&mut state, KeyCode::F(6), &picture);
    insta::assert_snapshot!("menu", screen(&picture, &mut state, (60, 16)));
    press(&mut state, KeyCode::End, &picture);
    press(&mut state, KeyCode::Enter, &picture);
    assert_eq!((state.sort, state.over), (Sort::Name, Over::Nothing));
    // Children of the server are another user's; processes of that user have made none.
    press_all(&mut state, "u", &picture);
    assert_eq!(state.choices, ["(all users)", "0", "www"]);
    press(&mut state, KeyCode::Down, &picture);
    press(&mut state, KeyCode::Enter, &picture);
    assert_eq!((state.user.as_deref(), table(&picture, &state).len()), (Some("0"), 2));
    state.user = Some("www".into());
    assert_eq!(table(&picture, &state).len(), 0);
    assert!(text(&picture, &state).contains(", of www"));
    press(&mut state, KeyCode::Esc, &picture);
    assert_eq!(table(&picture, &state).len(), 2);
    press_all(&mut state, "uq", &picture);
    assert_eq!((state.user.as_deref(), state.over), (None, Over::Nothing), "another key leaves it as it was");
}

#[test]
fn a_container_has_its_name() {
    let (mut top, _) = stormy();
    let mut container = crate::event::Container::new("0123456789abcdef".into(), "/x".into());
    container.name = Some("web\x1b".into());
    top.apply(&Event::new(Detail::ContainerInfo(container.into()), T0), true);
    let mut born = event(Kind::Fork, 40, 12, "php");
    born.process.as_mut().unwrap().container = Some(Arc::new(ProcessContainer::new("0123456789abcdef".into())));
    top.apply(&born, true);
    let picture = top.tick(4 * S, T0);
    let names: Vec<String> = table(&picture, &state(Group::Container)).into_iter().map(|row| row.name).collect();
    assert_eq!(names[0], r"web\x1b (0123456789ab)");
    assert!(names.contains(&"0123456789ab".to_owned()) && names.contains(&"(no container)".to_owned()), "{names:?}");
}

#[test]
fn a_screen() {
    let (_, picture) = stormy();
    insta::assert_snapshot!("screen", screen(&picture, &mut state(Group::Ancestor), (100, 24)));
    let mut help = State { over: Over::Help, ..State::default() };
    insta::assert_snapshot!("help", screen(&picture, &mut help, (80, 24)));
    let mut details = State::default();
    press(&mut details, KeyCode::Enter, &picture);
    insta::assert_snapshot!("details", screen(&picture, &mut details, (100, 24)));
    let mut filter = State { over: Over::Filter, filter: "po\x1b".into(), ..State::default() };
    insta::assert_snapshot!("narrow", screen(&picture, &mut filter, (40, 10)));
}

#[test]
fn a_terminal_without_unicode_gets_none() {
    let (_, picture) = stormy();
    let look = Look { glyphs: &ASCII, ..look() };
    for keys in ["", "i", "u"] {
        let mut terminal = Terminal::new(TestBackend::new(100, 24)).unwrap();
        let mut state = state(Group::Ancestor);
        press_all(&mut state, keys, &picture);
        terminal.draw(|frame| drop(draw(frame, &picture, &mut state, &look, false))).unwrap();
        let shown = terminal.backend().to_string();
        assert!(shown.is_ascii(), "{shown}");
    }
}

#[test]
fn nothing_is_told_before_the_first_interval_is_over() {
    assert!(screen(&Picture::default(), &mut State::default(), (80, 5)).contains("being counted"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_keys_on_any_screen(codes in proptest::collection::vec(0u8..128, 0..30), columns in 0u16..130, rows in 0u16..40) {
        let (_, picture) = stormy();
        let mut state = State::default();
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
            press(&mut state, code, &picture);
            drawn(&picture, &mut state, (columns, rows));
        }
    }

    /// However a tree of processes spawns, all is counted once at its root.
    #[test]
    fn the_root_has_it_all(parents in proptest::collection::vec(any::<usize>(), 1..60)) {
        let mut top = Top::new(0);
        let root = event(Kind::Process, 1, 0, "init");
        top.learn(std::slice::from_ref(&root));
        let mut pids = vec![1];
        for (i, parent) in parents.iter().enumerate() {
            let (pid, parent) = (2 + i as u32, pids[parent % pids.len()]);
            top.apply(&event(Kind::Fork, pid, parent, "sh"), true);
            pids.push(pid);
        }
        let picture = top.tick(S, T0);
        let forks = parents.len() as u64;
        prop_assert_eq!(picture.find(id(1)).unwrap().below.0.forks, forks);
        prop_assert_eq!(picture.processes.iter().map(|spawned| spawned.own.0.forks).sum::<u64>(), forks);
        prop_assert_eq!(picture.commands.iter().map(|(_, sums, _)| sums.forks).sum::<u64>(), forks);
        prop_assert_eq!(rows(&picture, &state(Group::Ancestor), &look().users, &UNICODE).len(), picture.processes.len());
    }
}
