use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Size;

use super::draw::draw;
use super::model::{AFTERGLOW_NS, LiveTree, MAX_EXITED};
use super::state::WatchState;
use crate::event::Kind;
use crate::event::time::Timestamp;
use crate::view::glyphs::UNICODE;
use crate::view::line::Line;
use crate::view::samples::{ended, event};
use crate::view::screen::Request;
use crate::view::tree::Options;

const T0: i64 = 1_700_000_000_000_000_000;

fn live_tree(keep_exited: bool) -> LiveTree {
    let mut tree = LiveTree::new(None, keep_exited);
    let mut kthread = event(Kind::Process, 2, 0, "kthreadd");
    kthread.process.as_mut().unwrap().kthread = true;
    let events = [
        event(Kind::Process, 1, 0, "init"),
        kthread,
        event(Kind::Process, 10, 1, "bash"),
        event(Kind::Fork, 11, 10, "bash"),
        event(Kind::Exec, 11, 10, "true"),
        ended(11, 10, "true", 0),
        event(Kind::Fork, 12, 10, "bash"),
    ];
    for event in &events {
        tree.apply(event);
    }
    tree
}

/// A tree of a process with ten children.
fn large_tree() -> LiveTree {
    let mut tree = LiveTree::new(Some(1), false);
    tree.apply(&event(Kind::Process, 1, 0, "init"));
    (2..12).for_each(|pid| tree.apply(&event(Kind::Process, pid, 1, &format!("child{pid:02}"))));
    tree
}

fn layout(state: &mut WatchState, tree: &LiveTree, now: Timestamp, (columns, rows): (u16, u16)) -> Vec<Line> {
    state.layout(tree, now, Size::new(columns, rows), &Options::new(&UNICODE));
    state.lines.clone()
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| line.plain() + "\n").collect()
}

fn press(state: &mut WatchState, code: KeyCode) -> Option<Request> {
    state.key(&KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn changes_are_marked_and_exited_processes_go() {
    let mut state = WatchState::default();
    let mut tree = live_tree(false);
    assert!(tree.tick(Timestamp(T0)));
    let frame = layout(&mut state, &tree, Timestamp(T0), (80, 24));
    insta::assert_snapshot!(text(&frame), @"
    3 processes · 2 forks · 1 exec · 1 exit   q ends, j and k scroll
    init───bash─┬─bash
                └─true [exit 0]
    ");
    insta::assert_snapshot!(frame[1].render(true).escape_debug().to_string(), @r"init───bash─┬─\u{1b}[32mbash\u{1b}[0m");
    let later = Timestamp(T0 + AFTERGLOW_NS + 1);
    assert!(tree.tick(later));
    let frame = layout(&mut state, &tree, later, (80, 24));
    insta::assert_snapshot!(text(&frame[1..]), @"init───bash───bash");
    assert_eq!(frame[1].render(true), frame[1].plain());
    assert!(!tree.tick(Timestamp(T0 + 3 * AFTERGLOW_NS)), "a frame without a change is not drawn again");
}

#[test]
fn exited_processes_stay_if_requested() {
    let mut tree = live_tree(true);
    let later = Timestamp(T0 + 100 * AFTERGLOW_NS);
    tree.tick(later);
    let frame = layout(&mut WatchState::default(), &tree, later, (80, 24));
    insta::assert_snapshot!(text(&frame[1..]), @"
    init───bash─┬─bash
                └─true [exit 0]
    ");
}

#[test]
fn exited_processes_that_stay_are_bounded() {
    let mut tree = LiveTree::new(None, true);
    for pid in 1..=2 * MAX_EXITED as u32 {
        tree.apply(&ended(pid, 0, "x", 0));
    }
    tree.tick(Timestamp(T0));
    assert_eq!(tree.len(), MAX_EXITED);
}

#[test]
fn a_small_screen_shows_a_part_and_says_so() {
    let tree = large_tree();
    let mut state = WatchState::default();
    insta::assert_snapshot!(text(&layout(&mut state, &tree, Timestamp(T0), (24, 5))), @"
    11 processes · 0 forks …
    init─┬─child02
         ├─child03
         ├─child04
    … 7 more lines
    ");
    assert_eq!(press(&mut state, KeyCode::Char('G')), Some(Request::Redraw));
    insta::assert_snapshot!(text(&layout(&mut state, &tree, Timestamp(T0), (24, 5))), @"
    11 processes · 0 forks …
         ├─child08
         ├─child09
         ├─child10
         └─child11
    ");
    assert_eq!(layout(&mut state, &tree, Timestamp(T0), (1, 1)).len(), 1);
}

#[test]
fn keys_scroll_and_end() {
    let tree = large_tree();
    let mut state = WatchState::default();
    let mut first_after = |code| {
        layout(&mut state, &tree, Timestamp(T0), (24, 5));
        assert_eq!(press(&mut state, code), Some(Request::Redraw), "{code:?}");
        layout(&mut state, &tree, Timestamp(T0), (24, 5))[1].plain().trim_start().to_owned()
    };
    assert_eq!(first_after(KeyCode::Char('j')), "├─child03");
    assert_eq!(first_after(KeyCode::Char(' ')), "├─child06", "a page, less one line");
    assert_eq!(first_after(KeyCode::Char('k')), "├─child05");
    assert_eq!(first_after(KeyCode::Char('b')), "init─┬─child02");
    assert_eq!(first_after(KeyCode::End), "├─child08");
    assert_eq!(first_after(KeyCode::Up), "├─child07", "it scrolls back at once");
    assert_eq!(first_after(KeyCode::Char('g')), "init─┬─child02");
    assert_eq!(press(&mut state, KeyCode::Char('x')), None);
    for end in [KeyCode::Char('q'), KeyCode::Esc] {
        assert_eq!(press(&mut state, end), Some(Request::End));
    }
    for (letter, request) in [('c', Request::End), ('d', Request::End), ('l', Request::Clear)] {
        let key = KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!(state.key(&key), Some(request));
    }
}

#[test]
fn a_screen() {
    let mut state = WatchState::default();
    layout(&mut state, &large_tree(), Timestamp(T0), (24, 5));
    let mut terminal = Terminal::new(TestBackend::new(24, 5)).unwrap();
    terminal.draw(|frame| draw(frame, &state, &UNICODE, true)).unwrap();
    insta::assert_snapshot!(terminal.backend().to_string(), @r#"
    "11 processes · 0 forks …"
    "init─┬─child02          "
    "     ├─child03          "
    "     ├─child04          "
    "… 7 more lines          "
    "#);
}
