//! Parents that exit before their children, and adoptions.

use std::thread;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit::{self, Gate, fork, reap_and_record};
use crate::support::{Ident, Truth, proc};

pub(super) const DEEDS: &[(&str, Deed)] = &[
    ("tree-orphan", orphan),
    ("tree-daemon", daemon),
    ("tree-subreaper-dies", subreaper_dies),
    ("tree-subreaper-nearest", subreaper_nearest),
    ("tree-subreaper-leaderless", subreaper_leaderless),
    ("tree-many", many),
    ("tree-thread", thread_parent),
    ("tree-clone-parent", clone_parent),
    ("tree-left-behind", left_behind),
    ("tree-deep", deep),
];

/// Makes this process a child subreaper, or no longer one.
pub(super) fn set_subreaper(on: bool) {
    // SAFETY: an integer.
    let done = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(on), 0, 0, 0) };
    assert_eq!(done, 0, "PR_SET_CHILD_SUBREAPER");
}

/// Returns the parent of this process as `/proc` shows it: in the outermost pid namespace.
pub(super) fn parent() -> Ident {
    Ident::of(proc::stat("self").expect("/proc/self/stat").ppid)
}

/// Records this process and its parent, which must not exit meanwhile.
pub(super) fn record_fork(truth: Truth) -> Ident {
    record_fork_of(truth, parent())
}

/// Likewise, for a process whose parent is not its creator.
pub(super) fn record_fork_of(truth: Truth, creator: Ident) -> Ident {
    let (me, parent) = (Ident::me(), parent());
    truth.say(
        "born",
        json!({ "pid": me.pid, "start": me.start, "parent": parent, "creator": creator, "ns_pids": proc::ns_pids(me.pid) }),
    );
    me
}

/// Waits until this process has another parent than `from`, and records it.
pub(super) fn await_adoption(truth: Truth, from: Ident) -> Ident {
    kit::until("another parent", || proc::stat("self").is_some_and(|stat| stat.ppid != from.pid));
    let (me, to) = (Ident::me(), parent());
    truth.say("adopted", json!({ "pid": me.pid, "start": me.start, "from": from, "to": to }));
    to
}

/// Waits until a process that is not our child has exited.
pub(super) fn await_gone(ident: Ident) {
    kit::until("it ends", || proc::stat(ident.pid).is_none_or(|stat| stat.start != ident.start || stat.is_zombie()));
}

/// Reads an identity that another process has sent.
fn receive(read: &mut impl std::io::Read) -> Ident {
    let mut bytes = [0u8; 12];
    read.read_exact(&mut bytes).expect("the other side writes all of it");
    let (pid, start) = bytes.split_at(4);
    Ident {
        pid: u32::from_ne_bytes(pid.try_into().expect("four bytes")),
        start: u64::from_ne_bytes(start.try_into().expect("eight bytes")),
    }
}

/// Sends the identity of this process.
fn send(write: &mut impl std::io::Write, ident: Ident) {
    let bytes: Vec<u8> = ident.pid.to_ne_bytes().into_iter().chain(ident.start.to_ne_bytes()).collect();
    write.write_all(&bytes).expect("a pipe takes twelve bytes");
}

/// A child that loses its parent. The relation of this process to it decides which process adopts it.
fn orphan(truth: Truth, arguments: &[String]) {
    let kind = arguments[0].as_str();
    let ready = Gate::new();
    let lonely = Gate::new();
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    if matches!(kind, "subreaper" | "unset") {
        set_subreaper(true);
    }
    let middle = fork(|| {
        let from = record_fork(truth);
        fork(|| {
            let me = record_fork(truth);
            send(&mut write, me);
            ready.open();
            await_adoption(truth, from);
            0
        });
        // The child waits for its exit.
        lonely.pass();
        0
    });
    ready.pass();
    match kind {
        // Too late for processes that inherit it at their fork, but in time for the kernel, which checks at the exit.
        "late" => set_subreaper(true),
        "unset" => set_subreaper(false),
        _ => {}
    }
    lonely.open();
    reap_and_record(truth, "ended", middle);
    let orphan = receive(&mut read);
    if matches!(kind, "subreaper" | "late") {
        reap_and_record(truth, "ended", orphan.pid);
    } else {
        await_gone(orphan);
    }
}

/// The classic: fork, setsid, fork, and both parents exit.
fn daemon(truth: Truth, _: &[String]) {
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let first = fork(|| {
        record_fork(truth);
        let second = fork(|| {
            let from = record_fork(truth);
            // SAFETY: no arguments; it is not a group leader.
            assert!(unsafe { libc::setsid() } > 0, "setsid");
            let recorded = Gate::new();
            fork(|| {
                let me = record_fork(truth);
                recorded.open();
                await_adoption(truth, from);
                send(&mut write, me);
                0
            });
            recorded.pass();
            0
        });
        reap_and_record(truth, "ended", second);
        0
    });
    reap_and_record(truth, "ended", first);
    await_gone(receive(&mut read));
}

/// A subreaper adopts, and exits itself. Then the next outer one adopts.
fn subreaper_dies(truth: Truth, _: &[String]) {
    set_subreaper(true);
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let subreaper = fork(|| {
        let subreaper = record_fork(truth);
        set_subreaper(true);
        let (recorded, adopted) = (Gate::new(), Gate::new());
        let middle = fork(|| {
            let from = record_fork(truth);
            fork(|| {
                let me = record_fork(truth);
                recorded.open();
                assert_eq!(await_adoption(truth, from), subreaper);
                adopted.open();
                await_adoption(truth, subreaper);
                send(&mut write, me);
                0
            });
            recorded.pass();
            0
        });
        reap_and_record(truth, "ended", middle);
        adopted.pass();
        0
    });
    reap_and_record(truth, "ended", subreaper);
    reap_and_record(truth, "ended", receive(&mut read).pid);
}

/// The nearer one of two subreapers adopts, across an ancestor that is not a subreaper.
fn subreaper_nearest(truth: Truth, _: &[String]) {
    set_subreaper(true);
    let near = fork(|| {
        let near = record_fork(truth);
        set_subreaper(true);
        let (mut read, mut write) = std::io::pipe().expect("a pipe");
        let between = fork(|| {
            record_fork(truth);
            let recorded = Gate::new();
            let middle = fork(|| {
                let from = record_fork(truth);
                fork(|| {
                    let me = record_fork(truth);
                    recorded.open();
                    assert_eq!(await_adoption(truth, from), near);
                    send(&mut write, me);
                    0
                });
                recorded.pass();
                0
            });
            reap_and_record(truth, "ended", middle);
            // It stays until the orphan has been adopted past it.
            let orphan = receive(&mut read);
            await_gone(orphan);
            send(&mut write, orphan);
            0
        });
        reap_and_record(truth, "ended", between);
        reap_and_record(truth, "ended", receive(&mut read).pid);
        0
    });
    reap_and_record(truth, "ended", near);
}

/// A subreaper whose leader thread has exited is still one.
fn subreaper_leaderless(truth: Truth, _: &[String]) {
    let subreaper = fork(|| {
        let subreaper = record_fork(truth);
        set_subreaper(true);
        let (read, mut write) = std::io::pipe().expect("a pipe");
        let (recorded, lonely) = (Gate::new(), Gate::new());
        let middle = fork(|| {
            let from = record_fork(truth);
            fork(|| {
                let me = record_fork(truth);
                recorded.open();
                assert_eq!(await_adoption(truth, from), subreaper);
                send(&mut write, me);
                0
            });
            recorded.pass();
            lonely.pass();
            0
        });
        let mut read = read;
        thread::spawn(move || {
            let leader = subreaper.pid;
            kit::until("the leader is a zombie", || {
                proc::stat(format!("{leader}/task/{leader}")).is_some_and(|stat| stat.is_zombie())
            });
            lonely.open();
            reap_and_record(truth, "ended", middle);
            reap_and_record(truth, "ended", receive(&mut read).pid);
            kit::exit_group(0)
        });
        kit::exit_thread(0)
    });
    reap_and_record(truth, "ended", subreaper);
}

/// A parent of many children exits: all are adopted.
fn many(truth: Truth, _: &[String]) {
    const CHILDREN: usize = 50;
    set_subreaper(true);
    let (mut read, write) = std::io::pipe().expect("a pipe");
    let parent = fork(|| {
        let from = record_fork(truth);
        let recorded = Gate::new();
        for _ in 0..CHILDREN {
            fork(|| {
                let me = record_fork(truth);
                recorded.open();
                await_adoption(truth, from);
                send(&mut &write, me);
                0
            });
            recorded.pass();
        }
        0
    });
    reap_and_record(truth, "ended", parent);
    for _ in 0..CHILDREN {
        reap_and_record(truth, "ended", receive(&mut read).pid);
    }
}

/// The thread that forked exits, its process continues: the child keeps its parent. Then the process exits too.
fn thread_parent(truth: Truth, arguments: &[String]) {
    let process_ends = arguments[0] == "then-process";
    set_subreaper(true);
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let parent = fork(|| {
        let me = record_fork(truth);
        let (recorded, goes_on) = (Gate::new(), Gate::new());
        let child = thread::scope(|scope| {
            let forker = scope.spawn(|| {
                fork(|| {
                    let child = record_fork(truth);
                    recorded.open();
                    goes_on.pass();
                    truth.say("unmoved", json!({ "pid": child.pid, "start": child.start, "parent": parent() }));
                    recorded.open();
                    if process_ends {
                        await_adoption(truth, me);
                    }
                    send(&mut write, child);
                    0
                })
            });
            forker.join().expect("it only forks")
        });
        // The forking thread was joined, but the kernel may not have released it yet.
        kit::until("the thread is gone", || std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1));
        recorded.pass();
        goes_on.open();
        recorded.pass();
        if !process_ends {
            reap_and_record(truth, "ended", child);
        }
        0
    });
    reap_and_record(truth, "ended", parent);
    let child = receive(&mut read);
    if process_ends {
        reap_and_record(truth, "ended", child.pid);
    }
}

/// CLONE_PARENT: a sibling, not a child. Then its creator exits, which does not affect it.
fn clone_parent(truth: Truth, _: &[String]) {
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let goes_on = Gate::new();
    let maker = fork(|| {
        let me = record_fork(truth);
        let recorded = Gate::new();
        let flags = libc::CLONE_PARENT as u64;
        kit::clone3(flags, &[], || {
            let brother = record_fork_of(truth, me);
            recorded.open();
            goes_on.pass();
            truth.say("unmoved", json!({ "pid": brother.pid, "start": brother.start, "parent": parent() }));
            send(&mut write, brother);
            0
        });
        recorded.pass();
        0
    });
    reap_and_record(truth, "ended", maker);
    goes_on.open();
    reap_and_record(truth, "ended", receive(&mut read).pid);
}

/// Exits while its daemon continues. The daemon exits when the file named in the truth is removed.
fn left_behind(truth: Truth, arguments: &[String]) {
    let flag = std::path::PathBuf::from(&arguments[0]);
    std::fs::write(&flag, "").expect("a new file");
    let middle = fork(|| {
        let recorded = Gate::new();
        fork(|| {
            let me = Ident::me();
            truth.say("daemon", json!(me));
            kit::set_name(b"left-behind");
            // SAFETY: no arguments.
            unsafe { libc::setsid() };
            recorded.open();
            kit::until("the flag is removed", || !flag.exists());
            0
        });
        recorded.pass();
        0
    });
    reap_and_record(truth, "ended", middle);
}

/// An orphan has more ancestors below its subreaper than the BPF program walks.
fn deep(truth: Truth, arguments: &[String]) {
    let depth: u32 = arguments[0].parse().expect("a number");
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let mut bottom = || {
        let (ready, lonely) = (Gate::new(), Gate::new());
        let middle = fork(|| {
            let from = record_fork(truth);
            fork(|| {
                let me = record_fork(truth);
                ready.open();
                await_adoption(truth, from);
                send(&mut write, me);
                0
            });
            lonely.pass();
            0
        });
        ready.pass();
        lonely.open();
        reap_and_record(truth, "ended", middle);
    };
    set_subreaper(true);
    descend(depth, &mut bottom);
    let orphan = receive(&mut read);
    reap_and_record(truth, "ended", orphan.pid);
}

/// Runs `body` in a descendant, `depth` generations down, and reaps it.
fn descend(depth: u32, body: &mut dyn FnMut()) {
    if depth == 0 {
        return body();
    }
    let child = fork(|| {
        descend(depth - 1, body);
        0
    });
    assert_eq!(kit::wait(child).status, 0, "a generation failed");
}
