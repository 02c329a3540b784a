//! A randomised workload in which every actor logs each of its actions.
//!
//! An actor makes children in every possible way, and reaps all its children, adopted ones too. So only the order is
//! random: every parent, adoption, exec and exit is in the log. The same seed gives the same actors.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::thread;

use nix::libc;
use serde_json::{Value, json};

use super::Deed;
use super::kit::{self, Gate, fork};
use super::report::base64;
use super::tree::{await_adoption, record_fork, record_fork_of, set_subreaper};
use crate::support::{Ident, Rng, Truth, this_binary};

pub(super) const DEEDS: &[(&str, Deed)] = &[("oracle", oracle)];

/// Environment variable that makes this binary continue as an actor, whatever its arguments. It holds the truth's
/// descriptor, the rest of the actor's part, and the thread that exec'd it.
const ACTOR: &str = "TRACER_LIVE_ACTOR";

/// Deepest nesting of actors.
const DEPTH: u32 = 7;

/// The part of an actor.
#[derive(Clone, Debug)]
struct Part {
    rng: Rng,
    depth: u32,
    /// Number of processes that it and its descendants may make.
    budget: u32,
}

/// SEED BUDGET, and `held` if it must wait for a line on its standard input.
fn oracle(truth: Truth, arguments: &[String]) {
    let [seed, budget, held @ ..] = arguments else { panic!("SEED BUDGET [held]") };
    if !held.is_empty() {
        std::io::stdin().read_line(&mut String::new()).expect("a pipe");
    }
    set_subreaper(true);
    let mut part =
        Part { rng: Rng::new(seed.parse().expect("a seed")), depth: 0, budget: budget.parse().expect("a count") };
    while part.budget > 0 {
        act(truth, &mut part);
    }
    wait_for_all(truth);
}

/// Continues as an actor, if this process was exec'd as one.
pub(super) fn dispatch() -> Option<ExitCode> {
    let value = std::env::var(ACTOR).ok()?;
    let fields: Vec<u64> = value.split(',').map(|field| field.parse().expect("a number")).collect();
    let [truth, state, depth, budget, from_tid] = fields[..] else { panic!("{ACTOR}={value}") };
    let truth = Truth::inherited(truth as i32);
    say_exec(truth, from_tid as u32);
    let part = Part { rng: Rng::new(state), depth: depth as u32, budget: budget as u32 };
    kit::end_with(|| play(truth, part));
}

fn say_exec(truth: Truth, from_tid: u32) {
    let me = Ident::me();
    let argv: Vec<String> = std::env::args_os().map(|argument| base64(argument.as_bytes())).collect();
    let from_tid = (from_tid != me.pid).then_some(from_tid);
    truth.say("exec", json!({ "pid": me.pid, "start": me.start, "argv": argv, "from_tid": from_tid }));
}

/// Plays a part to its end. Returns the code to exit with, if it does not end otherwise.
fn play(truth: Truth, mut part: Part) -> i32 {
    // Only while it has no descendants. A tracer observes an exit a moment before the kernel looks for a subreaper.
    // In that moment a new subreaper could appear.
    if part.rng.chance(8) && !kit::any_child() {
        set_subreaper(true);
    }
    while part.budget > 0 && part.depth < DEPTH {
        act(truth, &mut part);
        if part.rng.chance(30) {
            wait_for_all(truth);
        }
        if part.rng.chance(5) {
            break;
        }
    }
    if part.rng.chance(12) {
        // Its remaining children stay its children. Ending this thread ends all others.
        if part.rng.chance(50) { exec_here(truth, &mut part) } else { exec_from_thread(truth, &mut part) }
    }
    wait_for_all(truth);
    end(truth, &mut part)
}

/// Ends in one of the possible ways.
fn end(truth: Truth, part: &mut Part) -> i32 {
    let code = part.rng.below(256) as i32;
    match part.rng.below(10) {
        0 => {
            let signal = *part.rng.pick(&[libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1, libc::SIGALRM]);
            let me = Ident::me();
            truth.say("killed", json!({ "pid": me.pid, "start": me.start, "by": me }));
            // The pid of this process here; no namespaces are made.
            kit::kill(me.pid, signal);
            thread::sleep(kit::PATIENCE);
        }
        1 => {
            thread::spawn(move || kit::exit_group(code));
            thread::sleep(kit::PATIENCE);
        }
        2 => {
            let leader = Ident::me().pid;
            thread::spawn(move || {
                kit::until("the leader is a zombie", || {
                    crate::support::proc::stat(format!("{leader}/task/{leader}")).is_some_and(|stat| stat.is_zombie())
                });
                kit::exit_group(code)
            });
            kit::exit_thread(0)
        }
        _ => {}
    }
    code
}

/// Reaps every child, its own and adopted ones. Logs how each exited and which process reaped it.
fn wait_for_all(truth: Truth) {
    let me = Ident::me();
    while kit::any_child() {
        let (ended, status) = kit::wait_any();
        truth.say("ended", json!({ "pid": ended.pid, "start": ended.start, "status": status, "by": me }));
    }
}

/// Does one thing. Children are not reaped here.
fn act(truth: Truth, part: &mut Part) {
    part.budget -= 1;
    // The root has many children with a small share each, others a few.
    let most = if part.depth == 0 { part.budget / 16 } else { part.budget };
    let share = part.rng.below(u64::from(most) + 1) as u32;
    part.budget -= share;
    let child = Part { rng: Rng::new(part.rng.next()), depth: part.depth + 1, budget: share };
    match part.rng.below(100) {
        0..30 => {
            fork(|| record_fork_and_play(truth, child));
        }
        30..40 => {
            kit::clone3(0, &[], || record_fork_and_play(truth, child));
        }
        40..55 => spawn(truth, part, child, false),
        55..65 => spawn(truth, part, child, true),
        65..75 => fork_from_thread(truth, child),
        75..80 if part.depth > 0 => brother(truth, child),
        80..90 => daemon(truth, child),
        _ => victim(truth, part),
    }
}

fn record_fork_and_play(truth: Truth, part: Part) -> i32 {
    record_fork(truth);
    play(truth, part)
}

/// A thread forks and exits, while the process continues.
fn fork_from_thread(truth: Truth, child: Part) {
    thread::scope(|scope| {
        // Join the thread. The scope alone waits only for the closure. On its way out the thread takes locks of the
        // library, and the next fork would copy them, locked forever.
        scope.spawn(|| fork(|| record_fork_and_play(truth, child))).join().expect("it only forks");
    });
}

/// CLONE_PARENT: a child of its own parent, which reaps every child.
fn brother(truth: Truth, child: Part) {
    let (me, recorded) = (Ident::me(), Gate::new());
    kit::clone3(libc::CLONE_PARENT as u64, &[], || {
        record_fork_of(truth, me);
        recorded.open();
        play(truth, child)
    });
    // Its parent must be recorded as it is now.
    recorded.pass();
}

/// A process whose parent exits immediately.
fn daemon(truth: Truth, child: Part) {
    fork(|| {
        let from = record_fork(truth);
        let recorded = Gate::new();
        fork(|| {
            record_fork(truth);
            // SAFETY: no arguments; it is not a group leader.
            unsafe { libc::setsid() };
            recorded.open();
            await_adoption(truth, from);
            play(truth, child)
        });
        recorded.pass();
        0
    });
}

/// A child that waits to be killed.
fn victim(truth: Truth, part: &mut Part) {
    let me = Ident::me();
    let ready = Gate::new();
    let pid = fork(|| {
        let victim = record_fork(truth);
        truth.say("killed", json!({ "pid": victim.pid, "start": victim.start, "by": me }));
        ready.open();
        thread::sleep(kit::PATIENCE);
        0
    });
    ready.pass();
    kit::kill(pid, *part.rng.pick(&[libc::SIGKILL, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR2, libc::SIGSYS]));
}

/// Returns random arguments of any bytes except NUL.
fn random_argv(rng: &mut Rng) -> Vec<CString> {
    let count = rng.below(6);
    (0..=count)
        .map(|_| {
            let length = if rng.chance(5) { rng.below(3000) } else { rng.below(24) };
            let text = rng.chance(70);
            let bytes: Vec<u8> =
                (0..length).map(|_| if text { 32 + rng.below(95) as u8 } else { 1 + rng.below(255) as u8 }).collect();
            CString::new(bytes).expect("NUL is left out")
        })
        .collect()
}

/// Everything that an exec needs, prepared before it: a vfork child may not allocate.
struct Program {
    path: CString,
    _argv: Vec<CString>,
    _environment: CString,
    argv: Vec<*const libc::c_char>,
    environment: [*const libc::c_char; 2],
}

impl Program {
    fn new(truth: Truth, argv: Vec<CString>, part: &mut Part, from_tid: u32) -> Self {
        let environment =
            format!("{ACTOR}={},{},{},{},{from_tid}", truth.fd(), part.rng.next(), part.depth, part.budget);
        let environment = CString::new(environment).expect("no NUL in numbers");
        let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|argument| argument.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self {
            path: CString::new(this_binary().as_os_str().as_bytes()).expect("a path has no NUL"),
            environment: [environment.as_ptr(), std::ptr::null()],
            argv: pointers,
            _argv: argv,
            _environment: environment,
        }
    }

    fn exec(&self) -> ! {
        // SAFETY: both arrays end with a null pointer and outlive the call.
        unsafe {
            libc::execve(self.path.as_ptr(), self.argv.as_ptr(), self.environment.as_ptr());
            libc::_exit(126)
        }
    }
}

/// Execs this program again, with other arguments. Its children stay its children.
fn exec_here(truth: Truth, part: &mut Part) -> ! {
    let argv = random_argv(&mut part.rng);
    Program::new(truth, argv, part, kit::gettid()).exec()
}

/// Likewise, from a thread that is not the leader.
fn exec_from_thread(truth: Truth, part: &mut Part) -> ! {
    let argv = random_argv(&mut part.rng);
    thread::scope(|scope| {
        scope.spawn(|| thread::sleep(kit::PATIENCE));
        scope.spawn(|| Program::new(truth, argv, part, kit::gettid()).exec());
    });
    kit::exit_group(125)
}

/// A child that execs immediately. A vfork child shares its parent's memory, so the new program logs its fork.
fn spawn(truth: Truth, part: &mut Part, mut child: Part, vfork: bool) {
    let argv = random_argv(&mut part.rng);
    if !vfork {
        fork(|| {
            record_fork(truth);
            let tid = kit::gettid();
            Program::new(truth, argv, &mut child, tid).exec()
        });
        return;
    }
    let program = Program::new(truth, argv, &mut child, 0);
    let mut stack = vec![0u128; 4096];
    // SAFETY: the child has a separate stack, which outlives it because CLONE_VFORK suspends us until it has exec'd
    // or exited. It makes system calls only.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        libc::clone(vforked, top.cast(), flags, (&raw const program).cast_mut().cast())
    };
    assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
    let (child, me): (Ident, Value) = (Ident::of(pid as u32), json!(Ident::me()));
    truth.say(
        "born",
        json!({ "pid": child.pid, "start": child.start, "parent": me, "creator": me, "ns_pids": [child.pid] }),
    );
}

extern "C" fn vforked(program: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent passes its program and is suspended while we use it.
    unsafe { (*program.cast::<Program>()).exec() }
}
