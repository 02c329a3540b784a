//! Session, process group, terminal and login uid, as `/proc` shows them.

use tracer::event::{Kind, Process};

use crate::support::{Case, Run, TruthLine, case, check_sound};

use super::exit::assert_ends;

pub(super) fn cases() -> Vec<Case> {
    vec![case("tree::session_group_terminal_and_login_as_proc_shows_them", session)]
}

/// Compares a line with facts from `/proc`. `pgid` is passed separately, because a fork precedes the child's own
/// group.
#[track_caller]
fn assert_shown(process: &Process, facts: &TruthLine, pgid: u32) {
    assert_eq!((process.sid, process.pgid), (Some(facts.get("sid")), Some(pgid)), "{facts:?}");
    assert_eq!(process.tty.as_deref(), facts.get::<Option<String>>("tty").as_deref(), "{facts:?}");
    assert_eq!(process.loginuid, facts.get::<Option<u32>>("loginuid"), "{facts:?}");
}

fn session() {
    let trace = Run::deed("session").trace();
    check_sound(&trace);
    assert_ends(&trace);
    let leader = trace.truth.one("leader");
    let sid: u32 = leader.get("sid");
    assert_eq!((sid, leader.get("pgid")), (leader.ident().pid, sid), "it leads both");
    assert!(leader.get::<Option<String>>("tty").is_some(), "it has a terminal: {leader:?}");
    let at_its_end = trace.truth.one("leader at its end");
    assert_shown(trace.process(leader.id(), Kind::Exit), at_its_end, at_its_end.get("pgid"));
    let seen = trace.truth.one("seen");
    let shown = TruthLine { what: "seen".to_owned(), facts: seen.get("more") };
    let own: u32 = shown.get("pgid");
    assert_eq!((own, shown.get::<u32>("sid")), (seen.ident().pid, sid), "a separate group in the session");
    assert_shown(trace.process(seen.id(), Kind::Fork), leader, leader.get("pgid"));
    assert_shown(trace.process(seen.id(), Kind::Exec), &shown, own);
    assert_shown(trace.process(seen.id(), Kind::Exit), &shown, own);
}
