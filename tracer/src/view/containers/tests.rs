use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw::draw;
use super::rows::rows;
use super::state::{Over, Sort, State, Wish};
use super::{Look, batch};
use crate::analysis::roster::{ContainerState, Listed, Picture};
use crate::event::time::Timestamp;
use crate::event::{Container, ContainerEnd, Kubernetes};
use crate::view::glyphs::{ASCII, UNICODE};

const S: i64 = 1_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000 * S + seconds * S)
}

/// A container of which the numbers say how it is.
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

fn picture() -> Picture {
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
    Picture { time: at(1000), interval_ns: 2 * S as u64, lost: 0, containers }
}

fn look() -> Look {
    Look { glyphs: &UNICODE, zone: TimeZone::UTC }
}

fn text(picture: &Picture, state: &State) -> String {
    batch::lines(picture, state, &look(), None).iter().map(|line| line.plain() + "\n").collect()
}

fn drawn(picture: &Picture, state: &mut State, look: &Look, (columns, rows): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal
        .draw(|frame| {
            draw(frame, picture, state, look, true);
        })
        .unwrap();
    // Nothing of no width can be looked at.
    if columns == 0 { String::new() } else { terminal.backend().to_string() }
}

fn press(state: &mut State, code: KeyCode, picture: &Picture) -> Option<Wish> {
    let count = rows(picture, state).len();
    state.key(&KeyEvent::new(code, KeyModifiers::NONE), count, 10)
}

fn ids(picture: &Picture, state: &State) -> Vec<String> {
    rows(picture, state).iter().map(|one| one.called().chars().take(4).collect()).collect()
}

#[test]
fn pictures() {
    insta::assert_snapshot!("batch", text(&picture(), &State::default()));
    let empty = Picture { time: at(0), ..Picture::default() };
    insta::assert_snapshot!("nothing", text(&empty, &State::default()));
    insta::assert_snapshot!("screen", drawn(&picture(), &mut State::default(), &look(), (120, 12)));
    let mut help = State { over: Over::Help, ..State::default() };
    insta::assert_snapshot!("help", drawn(&picture(), &mut help, &look(), (90, 24)));
    let mut details = State { over: Over::Details, selected: 1, ..State::default() };
    insta::assert_snapshot!("details", drawn(&picture(), &mut details, &look(), (100, 24)));
    let mut filter = State { over: Over::Filter, filter: "SIG".into(), ..State::default() };
    insta::assert_snapshot!("narrow", drawn(&picture(), &mut filter, &look(), (40, 8)));
}

#[test]
fn what_runs_stands_first_and_the_newest_of_it() {
    let picture = picture();
    assert_eq!(ids(&picture, &State::default()), ["api", "web", "evil", "kill", "bad", "old"]);
    for (sort, first) in [
        (Sort::Up, "web"),
        (Sort::Processes, "web"),
        (Sort::Ever, "web"),
        (Sort::Execs, "web"),
        (Sort::Name, "api"),
        (Sort::Image, "api"),
    ] {
        let state = State { sort, ..State::default() };
        assert_eq!(ids(&picture, &state)[0], first, "{sort:?}");
    }
    let inverted = State { sort: Sort::Name, inverted: true, ..State::default() };
    assert_eq!(ids(&picture, &inverted)[0], "web");
}

#[test]
fn rows_can_be_chosen() {
    let picture = picture();
    let only = |only: &str| ids(&picture, &State { only: vec![only.into()], ..State::default() });
    assert_eq!((only("web"), only("fedcba"), only("we")), (vec!["web".into()], vec!["api".into()], vec![]));
    let filter = |filter: &str| ids(&picture, &State { filter: filter.into(), ..State::default() });
    assert_eq!((filter("shop/API"), filter("nginx")), (vec!["api".to_owned()], vec!["web".to_owned()]));
    assert_eq!((filter("exited").len(), filter("sigk")), (3, vec!["kill".to_owned()]));
    assert!(text(&picture, &State { filter: "zzz".into(), ..State::default() }).contains("No container is like that."));
}

#[test]
fn keys_do_what_help_says() {
    let picture = picture();
    let mut state = State::default();
    assert_eq!(press(&mut state, KeyCode::Char('e'), &picture), Some(Wish::Redraw));
    assert_eq!((state.sort, state.inverted), (Sort::Execs, false));
    press(&mut state, KeyCode::Char('I'), &picture);
    assert!(state.inverted);
    press(&mut state, KeyCode::F(6), &picture);
    assert_eq!((state.sort, state.inverted), (Sort::Name, false));
    press(&mut state, KeyCode::Char('<'), &picture);
    assert_eq!(state.sort, Sort::Execs);
    for code in ['/', 'w', 'e', 'b'] {
        press(&mut state, KeyCode::Char(code), &picture);
    }
    press(&mut state, KeyCode::Enter, &picture);
    assert_eq!((ids(&picture, &state), state.over), (vec!["web".to_owned()], Over::Nothing));
    press(&mut state, KeyCode::Enter, &picture);
    assert_eq!(state.over, Over::Details);
    press(&mut state, KeyCode::Char('q'), &picture);
    assert_eq!(state.over, Over::Nothing, "any key closes it");
    press(&mut state, KeyCode::Char('Z'), &picture);
    assert!(state.paused);
    assert_eq!(press(&mut state, KeyCode::Char(' '), &picture), Some(Wish::Refresh));
    assert_eq!(press(&mut state, KeyCode::Char('q'), &picture), Some(Wish::End));
}

#[test]
fn no_name_reaches_the_terminal_raw_and_ascii_is_enough() {
    let picture = picture();
    let look = Look { glyphs: &ASCII, ..look() };
    for over in [Over::Nothing, Over::Details] {
        let mut state = State { over, selected: 2, ..State::default() };
        let shown = drawn(&picture, &mut state, &look, (160, 24));
        assert!(shown.is_ascii() && shown.contains(r"evil\x1b[31m"), "{shown}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_keys_on_any_screen(codes in proptest::collection::vec(0u8..128, 0..30), columns in 0u16..130, rows in 0u16..40) {
        let picture = picture();
        let mut state = State::default();
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
            press(&mut state, code, &picture);
            drawn(&picture, &mut state, &look(), (columns, rows));
        }
    }
}
