//! Parents that end before their children, and who takes over.

use std::thread;

use nix::libc;
use serde_json::json;

use super::Deed;
use super::kit::{self, Gate, fork, wait_and_say};
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

/// Makes this process a child subreaper, or none any more.
pub(super) fn set_subreaper(on: bool) {
    // SAFETY: an integer.
    let done = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(on), 0, 0, 0) };
    assert_eq!(done, 0, "PR_SET_CHILD_SUBREAPER");
}

/// The parent of this process, as `/proc` shows it: in the outermost pid namespace.
pub(super) fn parent() -> Ident {
    Ident::of(proc::stat("self").expect("/proc/self/stat").ppid)
}

/// Says who this process is and whose child. Its parent must not end meanwhile.
pub(super) fn say_born(truth: Truth) -> Ident {
    say_born_of(truth, parent())
}

/// Likewise, for one whose parent is not who made it.
pub(super) fn say_born_of(truth: Truth, creator: Ident) -> Ident {
    let (me, parent) = (Ident::me(), parent());
    truth.say(
        "born",
        json!({ "pid": me.pid, "start": me.start, "parent": parent, "creator": creator, "ns_pids": proc::ns_pids(me.pid) }),
    );
    me
}

/// Waits until this process has another parent than `from`, and says which.
pub(super) fn await_adoption(truth: Truth, from: Ident) -> Ident {
    kit::until("another parent", || proc::stat("self").is_some_and(|stat| stat.ppid != from.pid));
    let (me, to) = (Ident::me(), parent());
    truth.say("adopted", json!({ "pid": me.pid, "start": me.start, "from": from, "to": to }));
    to
}

/// Waits until a process that is not our child has ended.
pub(super) fn await_gone(ident: Ident) {
    kit::until("it ends", || proc::stat(ident.pid).is_none_or(|stat| stat.start != ident.start || stat.is_zombie()));
}

/// Reads an identity that another process has sent.
fn receive(read: &mut impl std::io::Read) -> Ident {
    let mut bytes = [0u8; 12];
    read.read_exact(&mut bytes).expect("the other side writes it whole");
    let (pid, start) = bytes.split_at(4);
    Ident {
        pid: u32::from_ne_bytes(pid.try_into().expect("four bytes")),
        start: u64::from_ne_bytes(start.try_into().expect("eight bytes")),
    }
}

/// Sends this process's identity.
fn send(write: &mut impl std::io::Write, ident: Ident) {
    let bytes: Vec<u8> = ident.pid.to_ne_bytes().into_iter().chain(ident.start.to_ne_bytes()).collect();
    write.write_all(&bytes).expect("a pipe takes twelve bytes");
}

/// A child that loses its parent: what this process is to it decides who takes over.
fn orphan(truth: Truth, arguments: &[String]) {
    let kind = arguments[0].as_str();
    let ready = Gate::new();
    let lonely = Gate::new();
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    if matches!(kind, "subreaper" | "unset") {
        set_subreaper(true);
    }
    let middle = fork(|| {
        let from = say_born(truth);
        fork(|| {
            let me = say_born(truth);
            send(&mut write, me);
            ready.open();
            await_adoption(truth, from);
            0
        });
        // Its end is what the child waits for.
        lonely.pass();
        0
    });
    ready.pass();
    match kind {
        // Too late for those who were told of it at their birth, in time for the kernel, which looks when it matters.
        "late" => set_subreaper(true),
        "unset" => set_subreaper(false),
        _ => {}
    }
    lonely.open();
    wait_and_say(truth, "ended", middle);
    let orphan = receive(&mut read);
    if matches!(kind, "subreaper" | "late") {
        wait_and_say(truth, "ended", orphan.pid);
    } else {
        await_gone(orphan);
    }
}

/// The classic: fork, setsid, fork, and both parents end.
fn daemon(truth: Truth, _: &[String]) {
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let first = fork(|| {
        say_born(truth);
        let second = fork(|| {
            let from = say_born(truth);
            // SAFETY: no arguments; it is not a group leader.
            assert!(unsafe { libc::setsid() } > 0, "setsid");
            let told = Gate::new();
            fork(|| {
                let me = say_born(truth);
                told.open();
                await_adoption(truth, from);
                send(&mut write, me);
                0
            });
            told.pass();
            0
        });
        wait_and_say(truth, "ended", second);
        0
    });
    wait_and_say(truth, "ended", first);
    await_gone(receive(&mut read));
}

/// A subreaper takes over, and ends itself: then the next one out does.
fn subreaper_dies(truth: Truth, _: &[String]) {
    set_subreaper(true);
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let subreaper = fork(|| {
        let subreaper = say_born(truth);
        set_subreaper(true);
        let (told, adopted) = (Gate::new(), Gate::new());
        let middle = fork(|| {
            let from = say_born(truth);
            fork(|| {
                let me = say_born(truth);
                told.open();
                assert_eq!(await_adoption(truth, from), subreaper);
                adopted.open();
                await_adoption(truth, subreaper);
                send(&mut write, me);
                0
            });
            told.pass();
            0
        });
        wait_and_say(truth, "ended", middle);
        adopted.pass();
        0
    });
    wait_and_say(truth, "ended", subreaper);
    wait_and_say(truth, "ended", receive(&mut read).pid);
}

/// Of two subreapers the nearer one takes over, across an ancestor that is none.
fn subreaper_nearest(truth: Truth, _: &[String]) {
    set_subreaper(true);
    let near = fork(|| {
        let near = say_born(truth);
        set_subreaper(true);
        let (mut read, mut write) = std::io::pipe().expect("a pipe");
        let between = fork(|| {
            say_born(truth);
            let told = Gate::new();
            let middle = fork(|| {
                let from = say_born(truth);
                fork(|| {
                    let me = say_born(truth);
                    told.open();
                    assert_eq!(await_adoption(truth, from), near);
                    send(&mut write, me);
                    0
                });
                told.pass();
                0
            });
            wait_and_say(truth, "ended", middle);
            // It stays until the orphan has been adopted past it.
            let orphan = receive(&mut read);
            await_gone(orphan);
            send(&mut write, orphan);
            0
        });
        wait_and_say(truth, "ended", between);
        wait_and_say(truth, "ended", receive(&mut read).pid);
        0
    });
    wait_and_say(truth, "ended", near);
}

/// A subreaper whose leader thread has ended is one still.
fn subreaper_leaderless(truth: Truth, _: &[String]) {
    let subreaper = fork(|| {
        let subreaper = say_born(truth);
        set_subreaper(true);
        let (read, mut write) = std::io::pipe().expect("a pipe");
        let (told, lonely) = (Gate::new(), Gate::new());
        let middle = fork(|| {
            let from = say_born(truth);
            fork(|| {
                let me = say_born(truth);
                told.open();
                assert_eq!(await_adoption(truth, from), subreaper);
                send(&mut write, me);
                0
            });
            told.pass();
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
            wait_and_say(truth, "ended", middle);
            wait_and_say(truth, "ended", receive(&mut read).pid);
            kit::exit_group(0)
        });
        kit::exit_thread(0)
    });
    wait_and_say(truth, "ended", subreaper);
}

/// A parent of many children ends: all are taken over.
fn many(truth: Truth, _: &[String]) {
    const CHILDREN: usize = 50;
    set_subreaper(true);
    let (mut read, write) = std::io::pipe().expect("a pipe");
    let parent = fork(|| {
        let from = say_born(truth);
        let told = Gate::new();
        for _ in 0..CHILDREN {
            fork(|| {
                let me = say_born(truth);
                told.open();
                await_adoption(truth, from);
                send(&mut &write, me);
                0
            });
            told.pass();
        }
        0
    });
    wait_and_say(truth, "ended", parent);
    for _ in 0..CHILDREN {
        wait_and_say(truth, "ended", receive(&mut read).pid);
    }
}

/// The thread that forked ends, its process lives: the child stays where it is. Then the process ends too.
fn thread_parent(truth: Truth, arguments: &[String]) {
    let process_ends = arguments[0] == "then-process";
    set_subreaper(true);
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let parent = fork(|| {
        let me = say_born(truth);
        let (told, goes_on) = (Gate::new(), Gate::new());
        let child = thread::scope(|scope| {
            let forker = scope.spawn(|| {
                fork(|| {
                    let child = say_born(truth);
                    told.open();
                    goes_on.pass();
                    truth.say("unmoved", json!({ "pid": child.pid, "start": child.start, "parent": parent() }));
                    told.open();
                    if process_ends {
                        await_adoption(truth, me);
                    }
                    send(&mut write, child);
                    0
                })
            });
            forker.join().expect("it only forks")
        });
        // The forking thread has been joined; that the kernel is done with it is another matter.
        kit::until("the thread is gone", || std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1));
        told.pass();
        goes_on.open();
        told.pass();
        if !process_ends {
            wait_and_say(truth, "ended", child);
        }
        0
    });
    wait_and_say(truth, "ended", parent);
    let child = receive(&mut read);
    if process_ends {
        wait_and_say(truth, "ended", child.pid);
    }
}

/// CLONE_PARENT: a brother, not a child. Then its maker ends, which changes nothing for it.
fn clone_parent(truth: Truth, _: &[String]) {
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let goes_on = Gate::new();
    let maker = fork(|| {
        let me = say_born(truth);
        let told = Gate::new();
        let flags = libc::CLONE_PARENT as u64;
        kit::clone3(flags, &[], || {
            let brother = say_born_of(truth, me);
            told.open();
            goes_on.pass();
            truth.say("unmoved", json!({ "pid": brother.pid, "start": brother.start, "parent": parent() }));
            send(&mut write, brother);
            0
        });
        told.pass();
        0
    });
    wait_and_say(truth, "ended", maker);
    goes_on.open();
    wait_and_say(truth, "ended", receive(&mut read).pid);
}

/// Ends while a daemon of its own lives on, which ends when the file named in the truth is gone.
fn left_behind(truth: Truth, arguments: &[String]) {
    let flag = std::path::PathBuf::from(&arguments[0]);
    std::fs::write(&flag, "").expect("a new file");
    let middle = fork(|| {
        let told = Gate::new();
        fork(|| {
            let me = Ident::me();
            truth.say("daemon", json!(me));
            kit::set_name(b"left-behind");
            // SAFETY: no arguments.
            unsafe { libc::setsid() };
            told.open();
            kit::until("the flag is taken down", || !flag.exists());
            0
        });
        told.pass();
        0
    });
    wait_and_say(truth, "ended", middle);
}

/// An orphan has more ancestors below its subreaper than the kernel side looks at.
fn deep(truth: Truth, arguments: &[String]) {
    let depth: u32 = arguments[0].parse().expect("a number");
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    let mut bottom = || {
        let (ready, lonely) = (Gate::new(), Gate::new());
        let middle = fork(|| {
            let from = say_born(truth);
            fork(|| {
                let me = say_born(truth);
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
        wait_and_say(truth, "ended", middle);
    };
    set_subreaper(true);
    descend(depth, &mut bottom);
    let orphan = receive(&mut read);
    wait_and_say(truth, "ended", orphan.pid);
}

/// Runs `body` in a descendant, so many generations down, and waits for it.
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
