//! Makes tracer lose records: it is stopped while many events happen.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit::{self, Gate, fork, reap_and_record};
use super::tree::{await_adoption, record_fork, set_subreaper};
use crate::support::{Ident, Truth, proc};

pub(super) const DEEDS: &[(&str, Deed)] =
    &[("overflow", overflow), ("stalled", stalled), ("filling", filling), ("zombie", zombie)];

/// Stops its parent, which is tracer, and makes many processes. Then continues tracer, waits until it reports a loss,
/// and does something that must be reported correctly again.
fn overflow(truth: Truth, arguments: &[String]) {
    let [many, output] = arguments else { panic!("COUNT OUTPUT") };
    let many: u32 = many.parse().expect("a count");
    let tracer = kit::getppid();
    // Forked before the loss, and recorded.
    let ready = Gate::new();
    let witness = fork(|| {
        record_fork(truth);
        ready.open();
        kit::until("it is killed", || false);
        0
    });
    ready.pass();
    kit::kill(tracer, libc::SIGSTOP);
    kit::until("tracer is stopped", || proc::stat(tracer).is_some_and(|stat| stat.state == 'T'));
    let from = proc::boot_ns();
    // These outlive the loss.
    set_subreaper(true);
    let (recorded, stay) = (Gate::new(), Gate::new());
    for _ in 0..many {
        kit::wait(fork(|| 5));
    }
    let survivor = fork(|| {
        truth.say("survivor", json!(Ident::me()));
        recorded.open();
        stay.pass();
        say_now(truth);
        6
    });
    recorded.pass();
    // It exits while tracer is stopped.
    kit::kill(witness, libc::SIGKILL);
    reap_and_record(truth, "lost end", witness);
    truth.say("overflow", json!({ "many": many, "from": from, "to": proc::boot_ns() }));
    kit::kill(tracer, libc::SIGCONT);
    // A gap shows only when a record follows it.
    let mut more = 0;
    let mut next = || {
        let child = fork(|| 5);
        let id = Ident::of(child).id();
        kit::wait(child);
        more += 1;
        // Few enough that they are not lost themselves.
        thread::sleep(Duration::from_millis(20));
        (id, fs::read_to_string(Path::new(output)).unwrap_or_default())
    };
    kit::until("tracer reports the loss", || next().1.contains("\"event\":\"lost\""));
    // The ring is empty once the process that forked just now is reported.
    kit::until("tracer is up to date", || {
        let (id, text) = next();
        text.contains(&format!("\"id\":\"{id}\""))
    });
    truth.say("more", json!({ "more": more }));
    // From here on nothing may be lost.
    let middle = fork(|| {
        let from = record_fork(truth);
        let recorded = Gate::new();
        fork(|| {
            record_fork(truth);
            recorded.open();
            await_adoption(truth, from);
            9
        });
        recorded.pass();
        8
    });
    reap_and_record(truth, "ended", middle);
    stay.open();
    reap_and_record(truth, "ended", survivor);
    while kit::any_child() {
        let (ended, status) = kit::wait_any();
        truth.say("ended", json!({ "pid": ended.pid, "start": ended.start, "status": status }));
    }
}

/// Stops its parent, which is tracer, while it makes processes. Each of them is in the truth.
fn stalled(truth: Truth, arguments: &[String]) {
    let many: u32 = arguments[0].parse().expect("a count");
    let tracer = kit::getppid();
    kit::kill(tracer, libc::SIGSTOP);
    kit::until("tracer is stopped", || proc::stat(tracer).is_some_and(|stat| stat.state == 'T'));
    for round in 0..many {
        let child = fork(|| {
            record_fork(truth);
            (round % 256) as i32
        });
        reap_and_record(truth, "ended", child);
    }
    kit::kill(tracer, libc::SIGCONT);
}

/// Stops its parent, which is tracer, while it runs programs with long arguments: the ring fills.
fn filling(_: Truth, arguments: &[String]) {
    let many: u32 = arguments[0].parse().expect("a count");
    let tracer = kit::getppid();
    kit::kill(tracer, libc::SIGSTOP);
    kit::until("tracer is stopped", || proc::stat(tracer).is_some_and(|stat| stat.state == 'T'));
    for _ in 0..many {
        let done = std::process::Command::new("/bin/true").arg("x".repeat(8000)).status();
        assert!(done.expect("there is /bin/true").success());
    }
    kit::kill(tracer, libc::SIGCONT);
}

fn say_now(truth: Truth) {
    truth.say("now", json!({ "parent": super::tree::parent() }));
}

/// Has a zombie child, until its standard input is closed.
fn zombie(truth: Truth, _: &[String]) {
    let child = fork(|| 77);
    kit::await_end(child);
    truth.say("zombie", json!(Ident::of(child)));
    println!("ready");
    std::io::Write::flush(&mut std::io::stdout()).expect("standard output is open");
    std::io::stdin().read_line(&mut String::new()).expect("standard input is open");
    reap_and_record(truth, "ended", child);
}
