use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Size;

use super::batch;
use super::draw::draw;
use super::rows::rows;
use super::state::{ContainersState, Sort};
use crate::analysis::roster::{ContainerState, Listed, RosterFrame};
use crate::event::time::Timestamp;
use crate::event::{Container, ContainerEnd, Kubernetes};
use crate::view::glyphs::{ASCII, UNICODE};
use crate::view::screen::{Overlay, Request};
use crate::view::style::TextStyle;
use crate::view::users::Users;

const S: i64 = 1_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000 * S + seconds * S)
}

/// A container with given numbers of processes and execs.
fn one(id: &str, state: ContainerState, started: i64, (processes, execs): (u64, f64)) -> Listed {
    Listed {
        v: 1,
        time: at(1000),
        container: Container::new(id.into(), format!("/docker/{id}").into()),
        state,
        removed: false,
        created: Some(at(started)),
        started: Some(at(started)).filter(|_| state != ContainerState::Created),
        ended: None,
        up_ns: Some((1000 - started) as u64 * S as u64).filter(|_| state == ContainerState::Running),
        processes,
        processes_ever: processes + 40,
        execs_ever: 12,
        execs_per_second: execs,
        interval_ns: 2 * S as u64,
    }
}

fn ended(id: &str, at_seconds: i64, code: Option<u8>, signal: Option<&str>) -> Listed {
    let mut gone = one(id, ContainerState::Exited, at_seconds - 3, (0, 0.0));
    let end =
        ContainerEnd { code, signal: signal.map(Into::into), lifetime_ns: Some(2_700_000_000), ..Default::default() };
    gone.container.end = Some(end);
    (gone.up_ns, gone.ended, gone.removed) = (Some(2_700_000_000), Some(at(at_seconds)), true);
    gone
}

fn frame() -> RosterFrame {
    let mut web = one(&"0123456789abcdef".repeat(4), ContainerState::Running, 100, (12, 1234.5));
    web.container.name = Some("web".into());
    web.container.image = Some("docker.io/library/nginx:1.27-with-a-tag-that-is-longer-than-anybody-reads".into());
    (web.container.engine, web.container.runtime) = (Some("docker".into()), Some("runc".into()));
    web.container.args = Some(["nginx", "-g", "daemon off;"].iter().collect());
    let mut pod = one(&"fedcba9876543210".repeat(4), ContainerState::Running, 900, (1, 0.5));
    (pod.container.engine, pod.container.name) = (Some("containerd".into()), Some("api".into()));
    let kubernetes =
        Kubernetes { pod: Some("api-7d4".into()), namespace: Some("shop".into()), ..Kubernetes::default() };
    pod.container.kubernetes = Some(kubernetes);
    let mut evil = one("evil\x1b[31m", ContainerState::Created, 950, (1, 0.0));
    evil.container.engine = Some("runc".into());
    let containers = vec![
        ended("old", 300, Some(0), None),
        web,
        evil,
        ended("bad", 400, Some(1), None),
        pod,
        ended("killed", 500, None, Some("SIGKILL")),
    ];
    RosterFrame { time: at(1000), interval_ns: 2 * S as u64, lost: 0, containers }
}

fn style() -> TextStyle {
    TextStyle { glyphs: &UNICODE, zone: TimeZone::UTC, users: Users::new(|_| None) }
}

fn text(frame: &RosterFrame, state: &ContainersState) -> String {
    batch::lines(frame, state, &style(), None).iter().map(|line| line.plain() + "\n").collect()
}

fn drawn(frame: &RosterFrame, state: &mut ContainersState, style: &TextStyle, (columns, rows): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    state.layout(frame, Size::new(columns, rows));
    terminal.draw(|screen| draw(screen, frame, state, style, true)).unwrap();
    // A screen without columns has no text.
    if columns == 0 { String::new() } else { terminal.backend().to_string() }
}

fn press(state: &mut ContainersState, code: KeyCode, frame: &RosterFrame) -> Option<Request> {
    state.layout(frame, Size::new(80, 13));
    state.key(&KeyEvent::new(code, KeyModifiers::NONE))
}

fn ids(frame: &RosterFrame, state: &ContainersState) -> Vec<String> {
    rows(frame, state).iter().map(|one| one.called().chars().take(4).collect()).collect()
}

#[test]
fn frames() {
    insta::assert_snapshot!("batch", text(&frame(), &ContainersState::default()));
    let empty = RosterFrame { time: at(0), ..RosterFrame::default() };
    insta::assert_snapshot!("nothing", text(&empty, &ContainersState::default()));
    insta::assert_snapshot!("screen", drawn(&frame(), &mut ContainersState::default(), &style(), (120, 12)));
    let mut help = ContainersState { overlay: Overlay::Help, ..ContainersState::default() };
    insta::assert_snapshot!("help", drawn(&frame(), &mut help, &style(), (90, 24)));
    let mut details = ContainersState { overlay: Overlay::Details, selected: 1, ..ContainersState::default() };
    insta::assert_snapshot!("details", drawn(&frame(), &mut details, &style(), (100, 24)));
    let mut filter = ContainersState { overlay: Overlay::Filter, filter: "SIG".into(), ..ContainersState::default() };
    insta::assert_snapshot!("narrow", drawn(&frame(), &mut filter, &style(), (40, 8)));
}

#[test]
fn running_and_new_containers_come_first() {
    let frame = frame();
    assert_eq!(ids(&frame, &ContainersState::default()), ["api", "web", "evil", "kill", "bad", "old"]);
    for (sort, first) in [
        (Sort::Up, "web"),
        (Sort::Processes, "web"),
        (Sort::Ever, "web"),
        (Sort::Execs, "web"),
        (Sort::Name, "api"),
        (Sort::Image, "api"),
    ] {
        let state = ContainersState { sort, ..ContainersState::default() };
        assert_eq!(ids(&frame, &state)[0], first, "{sort:?}");
    }
    let inverted = ContainersState { sort: Sort::Name, inverted: true, ..ContainersState::default() };
    assert_eq!(ids(&frame, &inverted)[0], "web");
}

#[test]
fn rows_are_filtered() {
    let frame = frame();
    let only = |only: &str| ids(&frame, &ContainersState { only: vec![only.into()], ..ContainersState::default() });
    assert_eq!((only("web"), only("fedcba"), only("we")), (vec!["web".into()], vec!["api".into()], vec![]));
    let filter = |filter: &str| ids(&frame, &ContainersState { filter: filter.into(), ..ContainersState::default() });
    assert_eq!((filter("shop/API"), filter("nginx")), (vec!["api".to_owned()], vec!["web".to_owned()]));
    assert_eq!((filter("exited").len(), filter("sigk")), (3, vec!["kill".to_owned()]));
    assert!(
        text(&frame, &ContainersState { filter: "zzz".into(), ..ContainersState::default() })
            .contains("No container is like that.")
    );
}

#[test]
fn keys_do_what_the_help_says() {
    let frame = frame();
    let mut state = ContainersState::default();
    assert_eq!(press(&mut state, KeyCode::Char('e'), &frame), Some(Request::Redraw));
    assert_eq!((state.sort, state.inverted), (Sort::Execs, false));
    press(&mut state, KeyCode::Char('I'), &frame);
    assert!(state.inverted);
    press(&mut state, KeyCode::F(6), &frame);
    assert_eq!((state.sort, state.inverted), (Sort::Name, false));
    press(&mut state, KeyCode::Char('<'), &frame);
    assert_eq!(state.sort, Sort::Execs);
    for code in ['/', 'w', 'e', 'b'] {
        press(&mut state, KeyCode::Char(code), &frame);
    }
    press(&mut state, KeyCode::Enter, &frame);
    assert_eq!((ids(&frame, &state), state.overlay), (vec!["web".to_owned()], Overlay::None));
    press(&mut state, KeyCode::Enter, &frame);
    assert_eq!(state.overlay, Overlay::Details);
    press(&mut state, KeyCode::Char('q'), &frame);
    assert_eq!(state.overlay, Overlay::None, "any key closes it");
    press(&mut state, KeyCode::Char('Z'), &frame);
    assert!(state.paused);
    assert_eq!(press(&mut state, KeyCode::Char(' '), &frame), Some(Request::Refresh));
    assert_eq!(press(&mut state, KeyCode::Char('q'), &frame), Some(Request::End));
}

#[test]
fn names_are_escaped_and_ascii_signs_suffice() {
    let frame = frame();
    let style = TextStyle { glyphs: &ASCII, ..style() };
    for overlay in [Overlay::None, Overlay::Details] {
        let mut state = ContainersState { overlay, selected: 2, ..ContainersState::default() };
        let shown = drawn(&frame, &mut state, &style, (160, 24));
        assert!(shown.is_ascii() && shown.contains(r"evil\x1b[31m"), "{shown}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_keys_on_any_screen(codes in proptest::collection::vec(0u8..128, 0..30), columns in 0u16..130, rows in 0u16..40) {
        let frame = frame();
        let mut state = ContainersState::default();
        for code in codes {
            let code = match code {
                1..=12 => KeyCode::F(code),
                13 => KeyCode::Enter,
                14 => KeyCode::Down,
                15 => KeyCode::Up,
                16 => KeyCode::PageDown,
                17 => KeyCode::PageUp,
                20 => KeyCode::Backspace,
                27 => KeyCode::Esc,
                code => KeyCode::Char(char::from(code)),
            };
            press(&mut state, code, &frame);
            drawn(&frame, &mut state, &style(), (columns, rows));
        }
    }
}
