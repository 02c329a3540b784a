use jiff::tz::TimeZone;

use super::*;
use crate::event::id::ProcessId;
use crate::event::{ArgvInfo, Cause, ContainerEnd, Detail, Exec, Provenance, StormCommand, Usage};
use crate::view::glyphs::{ASCII, Glyphs, UNICODE};
use crate::view::users::Users;

/// 22:13:20 UTC.
const T0: i64 = 1_700_000_000_123_456_789;

fn event(kind: Kind, pid: u32, comm: &str) -> Event {
    let mut process = Process::new(ProcessId::from_ticks(5, pid), Provenance::Kernel);
    process.ppid = Some(4700);
    process.uid = Some(1000);
    process.image_mut().comm = Some(comm.into());
    let mut event = Event::new(kind.into(), Timestamp(T0));
    event.process = Some(process);
    event
}

fn exec(pid: u32, argv: &[&str]) -> Event {
    let mut event = event(Kind::Exec, pid, argv[0]);
    let process = event.process.as_mut().unwrap();
    process.image_mut().argv = Some(argv.iter().collect());
    process.execs = 1;
    event
}

fn exit(pid: u32, argv: &[&str], exit: Exit) -> Event {
    let mut event = exec(pid, argv);
    let usage = Usage { user_ns: 2_000_000, system_ns: 340_000, max_rss_bytes: 3_500_000, ..Usage::default() };
    event.detail = Detail::Exit(Box::new(Exit { duration_ns: Some(1_234_567_890), usage: Some(usage), ..exit }));
    event
}

fn encoder(colour: bool, glyphs: &'static Glyphs) -> TextLines {
    let users = Users::new(|uid| (uid == 1000).then(|| "alice".into()));
    TextLines::new(TextStyle { glyphs, zone: TimeZone::UTC, users }, colour)
}

fn lines(mut encoder: TextLines, events: &[Event]) -> String {
    let mut bytes = Vec::new();
    events.iter().try_for_each(|event| encoder.encode(event, &mut bytes)).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn story() -> Vec<Event> {
    let mut hello = Event::new(Kind::Hello.into(), Timestamp(T0));
    hello.detail = Detail::Hello(Box::new(Hello {
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        arch: "x86_64".into(),
        host: "host\x1b".into(),
        hooks: vec!["sched_process_fork".into()],
        fallbacks: vec!["no BTF for x: y instead".into()],
        ..Hello::default()
    }));
    let mut kthread = event(Kind::Process, 2, "kthreadd");
    kthread.process.as_mut().unwrap().kthread = true;
    kthread.process.as_mut().unwrap().uid = Some(0);
    let mut script = exec(4711, &["./build.sh", "all the things", "it's"]);
    let argv_info = Some(ArgvInfo { argc: 9000, bytes: 70_000, captured: 65_536, truncated: true, reason: None });
    let interpreter = Some("/bin/sh".into());
    script.detail = Detail::Exec(Some(Exec { argv_info, interpreter, setid: true, ..Exec::default() }.into()));
    script.process.as_mut().unwrap().euid = Some(77);
    let mut orphan = event(Kind::Reparent, 4713, "daemon");
    let reason = ReparentReason::Init;
    orphan.detail =
        Detail::Reparent(Reparent { from_id: ProcessId::from_ticks(5, 4711), to_id: None, to_pid: 1, reason }.into());
    let cause = Cause { sender_pid: Some(99), sender_comm: Some("ev\x1bil".into()), ..Cause::default() };
    let killed = Exit { signal: Some("SIGSEGV".into()), core: true, cause: Some(cause), ..Exit::default() };
    let mut lost = Event::new(Kind::Lost.into(), Timestamp(T0));
    lost.detail = Detail::Lost(Lost { cpu: 1, total: 1203, forks: 1200, exits: 3, ..Lost::default() }.into());
    let mut thread = event(Kind::ThreadStart, 4713, "worker");
    thread.process.as_mut().unwrap().tid = Some(4800);
    let mut bye = Event::new(Kind::Bye.into(), Timestamp(T0));
    let totals = Bye { seen: 12_345, emitted: 1000, filtered: 10_142, lost: 1203, ..Bye::default() };
    bye.detail = Detail::Bye(Box::new(Bye {
        duration_ns: 61_000_000_000,
        user_ns: 5_000_000,
        max_rss_bytes: 9 << 20,
        ..totals
    }));
    let mut inferred = event(Kind::Fork, 4714, "sh");
    inferred.process.as_mut().unwrap().inferred = true;
    vec![
        hello,
        kthread,
        event(Kind::Fork, 4711, "bash"),
        script,
        inferred,
        exit(4711, &["./build.sh"], Exit { code: Some(0), ..Exit::default() }),
        orphan,
        exit(4712, &["\x1b[2J", "\u{202e}"], killed),
        thread,
        lost,
        bye,
    ]
}

#[test]
fn each_event_is_a_line() {
    insta::assert_snapshot!(lines(encoder(false, &UNICODE), &story()), @r#"
    # tracer 0.1.0 on host\x1b, Linux 6.18.0 x86_64; hooks: sched_process_fork; no BTF for x: y instead
    TIME         EVENT       PID    PPID USER       DETAILS
    22:13:20.123 process        2    4700 0          [kthreadd]
    22:13:20.123 fork        4711    4700 alice      bash
    22:13:20.123 exec        4711    4700 77         ./build.sh 'all the things' "it's"  (4,464 more bytes of arguments, by /bin/sh, set-id)
    22:13:20.123 fork        4714    4700 alice      sh  (inferred)
    22:13:20.123 exit        4711    4700 alice      0         1.23s  cpu 2.34ms  mem  3.3M  ./build.sh
    22:13:20.123 reparent    4713    4700 alice      daemon: 4711 → 1, init
    22:13:20.123 exit        4712    4700 alice      SIGSEGV   1.23s  cpu 2.34ms  mem  3.3M  $'\x1b[2J' $'\u202e'  (core dumped, by 99 (ev\x1bil))
    22:13:20.123 thread+     4800    4700 alice      worker
    22:13:20.123 lost           -       -            1,203 records of CPU 1 lost for want of room: 1,200 forks, 3 exits; a larger --ring-size would hold more
    # 12,345 events in 1m01s: 1,000 shown, 10,142 filtered, 1,203 lost; tracer itself used 5.00ms CPU, 9.0M
    "#);
}

#[test]
fn each_event_of_a_container_is_a_line() {
    let of = |about: fn(Box<Container>) -> Detail, event: Event, end: Option<ContainerEnd>| {
        let mut container = Container::new("0123456789abcdef".repeat(4).into(), "/docker/x".into());
        (container.engine, container.name) = (Some("docker".into()), Some("web\x1b".into()));
        container.end = end;
        Event { detail: about(container.into()), ..event }
    };
    let without = || Event::new(Kind::ContainerExit.into(), Timestamp(T0));
    let end = ContainerEnd {
        code: Some(3),
        lifetime_ns: Some(2_700_000_000),
        processes: 1259,
        execs: 83,
        user_ns: 2_000_000,
        system_ns: 340_000,
        max_rss_bytes: 3_500_000,
        ..ContainerEnd::default()
    };
    let killed = ContainerEnd {
        signal: Some("SIGKILL".into()),
        processes: 1,
        execs: 2,
        peak_memory_bytes: Some(9 << 20),
        ..ContainerEnd::default()
    };
    let events = [
        of(Detail::ContainerCreate, exec(4711, &["runc", "create"]), None),
        of(Detail::ContainerStart, exec(4712, &["nginx", "-g"]), None),
        of(Detail::ContainerExit, without(), Some(end)),
        of(Detail::ContainerExit, without(), Some(killed)),
        of(Detail::ContainerRemove, without(), None),
    ];
    insta::assert_snapshot!(lines(encoder(false, &UNICODE), &events), @r#"
    TIME         EVENT       PID    PPID USER       DETAILS
    22:13:20.123 c-create    4711    4700 alice      0123456789ab web\x1b (docker)
    22:13:20.123 c-start     4712    4700 alice      0123456789ab web\x1b (docker): nginx -g
    22:13:20.123 c-exit         -       -            0123456789ab web\x1b (docker): 3 after 2.70s  1,259 processes, cpu 2.34ms, mem 3.3M
    22:13:20.123 c-exit         -       -            0123456789ab web\x1b (docker): SIGKILL  1 process, cpu 0, mem 9.0M
    22:13:20.123 c-remove       -       -            0123456789ab web\x1b (docker)
    "#);
}

#[test]
fn a_storm_is_a_line() {
    let storm = exec(4711, &["make", "-j8"]);
    let sums = |phase| Storm {
        phase,
        rate: 1234,
        threshold: 500,
        began_boot_ns: 1,
        period_ns: 1_000_000_000,
        events: 1234,
        folded: 1234,
        forks: 400,
        execs: 434,
        exits: 400,
        reparents: 0,
        others: 0,
        failed: 1,
        commands: vec![StormCommand { exe: "/usr/bin/\x1bcc".into(), execs: 434 }],
        other_execs: 0,
        statuses: Vec::new(),
        user_ns: 1_000_000,
        system_ns: 500_000,
        total_events: 1234,
    };
    let phases = [StormPhase::Begin, StormPhase::Ongoing, StormPhase::End, StormPhase::Cut];
    let story = phases.map(|phase| Event { detail: Detail::Storm(Box::new(sums(phase))), ..storm.clone() });
    insta::assert_snapshot!(lines(encoder(false, &UNICODE), &story));
}

#[test]
fn failed_execs_reaps_and_zombies_are_lines() {
    let mut refused = event(Kind::ExecFailed, 4711, "sh");
    refused.detail = Detail::ExecFailed(Box::new(ExecFailed {
        errno: "ENOENT".into(),
        code: 2,
        filename: Some("/bin/no\x1bthing".into()),
        argv: Some(["no\x1bthing", "-x"].iter().collect()),
        attempts: Some(2),
        paths: Some(vec!["/usr/bin/nothing".into(), "/bin/no\x1bthing".into()]),
        ..ExecFailed::default()
    }));
    let mut by_descriptor = event(Kind::ExecFailed, 4711, "sh");
    by_descriptor.detail = Detail::ExecFailed(Box::new(ExecFailed {
        errno: "EACCES".into(),
        code: 13,
        filename: Some("".into()),
        dirfd: Some(3),
        ..ExecFailed::default()
    }));
    let mut reaped = exec(4712, &["sleep", "1"]);
    let (by_pid, by_comm) = (Some(4700), Some("ba\x1bsh".into()));
    reaped.detail =
        Detail::Reap(Reap { zombie_ns: Some(1_500_000), by_pid, by_id: None, by_comm, inferred: false }.into());
    let mut gone = reaped.clone();
    gone.detail = Detail::Reap(Reap { inferred: true, ..Reap::default() }.into());
    let mut lies = exec(4713, &["sleep", "2"]);
    lies.detail = Detail::Zombie(
        Zombie { zombie_ns: 10_000_000_000, parent_pid: Some(4700), unreaped: 3, ..Zombie::default() }.into(),
    );
    insta::assert_snapshot!(lines(encoder(false, &UNICODE), &[refused, by_descriptor, reaped, gone, lies]), @r#"
    TIME         EVENT       PID    PPID USER       DETAILS
    22:13:20.123 execfail    4711    4700 alice      ENOENT   $'/bin/no\x1bthing': $'no\x1bthing' -x  (No such file or directory; by sh)  (2 attempts: /usr/bin/nothing, $'/bin/no\x1bthing')
    22:13:20.123 execfail    4711    4700 alice      EACCES   /dev/fd/3  (Permission denied; by sh)
    22:13:20.123 reap        4712    4700 alice      sleep 1  (a zombie for 1.50ms, reaped by 4700 (ba\x1bsh))
    22:13:20.123 reap        4712    4700 alice      sleep 1  (reaped by someone unknown)  (inferred)
    22:13:20.123 zombie      4713    4700 alice      sleep 2  (a zombie for 10.0s: 4700 (?) has left 3 unreaped)
    "#);
}

#[test]
fn colours_only_if_requested() {
    let coloured = lines(encoder(true, &UNICODE), &story());
    assert!(coloured.contains("\x1b["));
    assert!(!lines(encoder(false, &UNICODE), &story()).contains('\x1b'), "names and arguments are escaped");
    insta::assert_snapshot!(coloured.lines().nth(3).unwrap().escape_debug().to_string(), @r"\u{1b}[2m22:13:20.123\u{1b}[0m\u{1b}[32m fork    \u{1b}[0m    4711    4700 alice      bash");
}

#[test]
fn ascii_signs_suffice() {
    let events: Vec<_> = story().into_iter().filter(|event| event.kind() != Kind::Hello).collect();
    assert!(lines(encoder(false, &ASCII), &events).is_ascii());
}

#[test]
fn a_child_without_an_exec_does_not_show_its_parents_arguments() {
    let mut fork = exit(5, &["make", "all"], Exit { code: Some(1), ..Exit::default() });
    fork.process.as_mut().unwrap().execs = 0;
    insta::assert_snapshot!(lines(encoder(false, &UNICODE), &[fork]).lines().nth(1).unwrap(), @"22:13:20.123 exit           5    4700 alice      1         1.23s  cpu 2.34ms  mem  3.3M  (make)");
}
