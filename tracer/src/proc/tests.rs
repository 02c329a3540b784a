use std::process::{Command, Stdio};

use super::dir::kernel_name;
use super::*;
use crate::record::text::Argv;

fn strings(argv: &Argv) -> Vec<&str> {
    argv.lossy.iter().collect()
}

#[test]
fn a_name_may_contain_anything() {
    let line = b"42 (a) R 1\n(\xff) S 7 42 -1 34816 42 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
    let stat = Stat::parse(line).unwrap();
    assert_eq!(stat.comm, b"a) R 1\n(\xff");
    assert_eq!((stat.state, stat.ppid, stat.pgid, stat.sid), (b'S', 7, Some(42), None));
    assert_eq!((stat.tty, stat.flags, stat.start_ticks), (tty::mkdev(136, 0), 0x40_0000, 987_654));
}

#[test]
fn kernel_threads_have_the_name_in_task_struct() {
    for (shown, kept) in [
        ("kthreadd", "kthreadd"),
        ("kworker/0:1", "kworker/0:1"),
        ("kworker/0:1-events", "kworker/0:1"),
        ("kworker/u8:2+flush-254:0", "kworker/u8:2"),
        ("kworker/1:0H-kblockd", "kworker/1:0H"),
        ("kworker/R-dm-crypt", "kworker/R-dm-cr"),
        ("kworker/R-mld+mld", "kworker/R-mld"),
        ("jbd2/vda1-8", "jbd2/vda1-8"),
        ("rcu_tasks_rude_kthread", "rcu_tasks_rude_"),
    ] {
        assert_eq!(kernel_name(shown.as_bytes()), kept.as_bytes());
    }
}

#[test]
fn a_task_without_a_pid_differs_from_an_exiting_one() {
    // From 6.18: the leader that an exec'ing thread replaced, a zombie, and a leader whose other threads are still
    // running.
    let replaced = b"30801 (exe) X 0 -1 -1 0 -1 4228108 406 0 0 0 0 0 0 0 20 0 0 0 61609 0 0";
    let zombie = b"30801 (exe) Z 1 30801 30801 0 -1 4228108 406 0 0 0 0 0 0 0 20 0 1 0 61609 0 0";
    let first = b"30801 (exe) Z 1 30801 30801 0 -1 4228108 406 0 0 0 0 0 0 0 20 0 2 0 61609 0 0";
    let [replaced, zombie, first] = [&replaced[..], zombie, first].map(|stat| Stat::parse(stat).unwrap());
    assert_eq!([replaced.pid, zombie.pid, first.pid], [30801; 3]);
    assert!([&replaced, &zombie, &first].iter().all(|stat| stat.is_exiting()));
    assert_eq!([&replaced, &zombie, &first].map(Stat::is_released), [true, false, false]);
    assert_eq!([&zombie, &first].map(Stat::is_zombie), [true, false]);
}

#[test]
fn remains_of_a_process_are_recognized() {
    let of = |state: &str, threads: u32, start: u64| {
        let stat = format!("42 (sh) {state} 7 42 42 0 -1 4194308 1 2 3 4 5 6 7 8 20 0 {threads} 0 {start} 0 0");
        remains_from_stat(stat.as_bytes(), ProcessId::from_ticks(987_654, 42))
    };
    assert_eq!(of("Z", 1, 987_654), Remains::Zombie);
    assert_eq!(of("Z", 2, 987_654), Remains::Ending, "another thread is not done yet");
    assert_eq!(of("D", 1, 987_654), Remains::Ending);
    assert_eq!(of("X", 0, 987_654), Remains::Ending, "just being waited for");
    assert_eq!(of("Z", 1, 987_655), Remains::None, "another has its pid");
}

#[test]
fn a_child_is_a_zombie_until_it_is_reaped() {
    let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    let id = read(child.id(), 0, &Hierarchy::of_proc()).unwrap().process.id;
    while remains(id) == Remains::Ending {
        std::thread::yield_now();
    }
    assert_eq!(remains(id), Remains::Zombie);
    child.wait().unwrap();
    assert_eq!(remains(id), Remains::None);
}

#[test]
fn a_truncated_stat_is_rejected() {
    let line = b"42 (sh) S 7 42 42 34816 42 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654";
    assert!(Stat::parse(line).is_some());
    // A number without its last digits is still a number: only missing fields are noticed.
    for end in 0..line.len() - 6 {
        assert_eq!(Stat::parse(&line[..end]), None, "{end}");
    }
}

#[test]
fn ids_are_read_from_status() {
    let text = b"Name:\tx\\nUid:\t9\nTgid:\t5\nUid:\t1000\t0\t0\t0\nGid:\t100\t101\t1\t1\nNStgid:\t5\t2\t1\n";
    let expected = Status { tgid: 5, uid: 1000, euid: 0, gid: 100, egid: 101, ns_pids: vec![5, 2, 1] };
    assert_eq!(Status::parse(text), Some(expected));
    assert_eq!(Status::parse(b"Name:\tx\nTgid:\t5\n"), None);
}

#[test]
fn empty_arguments_of_a_running_process_are_kept() {
    // It writes to a pipe without a reader, so it runs until it is killed.
    let mut child = Command::new("yes").args(["", "", ""]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let argv = std::iter::repeat_with(|| read(child.id(), 0, &Hierarchy::of_proc()).unwrap())
        .inspect(|_| std::thread::sleep(Duration::from_millis(1)))
        .take(60_000)
        .filter(|seed| seed.process.image.comm.as_deref() == Some("yes"))
        .find_map(|seed| seed.process.image.argv.clone());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(argv.unwrap().iter().collect::<Vec<_>>(), ["yes", "", "", ""]);
}

#[test]
fn a_name_that_ends_in_deleted_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("s (deleted)");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut child = Command::new(&program).arg("60").current_dir(place.path()).stdin(Stdio::null()).spawn().unwrap();
    let read_image = || read(child.id(), 0, &Hierarchy::of_proc()).unwrap().process.image;
    let exe = std::iter::repeat_with(read_image)
        .inspect(|_| std::thread::sleep(Duration::from_millis(1)))
        .take(60_000)
        .filter_map(|image| image.exe.clone())
        .find(|exe| exe.contains("s (deleted)"));
    std::fs::remove_file(&program).unwrap();
    let after = read_image();
    let gone = after.exe.clone();
    child.kill().unwrap();
    child.wait().unwrap();
    let real = std::fs::canonicalize(place.path()).unwrap().join("s (deleted)");
    assert_eq!(exe.as_deref(), real.to_str());
    assert_eq!(gone, exe, "the mark is not part of the name");
    assert_eq!((after.exe_deleted, after.cwd_deleted), (true, false));
}

#[test]
fn a_child_is_read_completely() {
    let mut child = Command::new("sleep").arg("60").current_dir("/").stdin(Stdio::null()).spawn().unwrap();
    let before = boot_ns();
    // spawn() returns in the middle of the child's exec.
    let seed = std::iter::repeat_with(|| read(child.id(), 0, &Hierarchy::of_proc()).unwrap())
        .inspect(|_| std::thread::sleep(Duration::from_millis(1)))
        .take(60_000)
        .find(|seed| seed.process.image.argv.is_some())
        .unwrap();
    let process = &seed.process;
    assert_eq!((process.pid, seed.ppid, process.source), (child.id(), std::process::id(), Provenance::Procfs));
    assert_eq!(process.image.comm.as_deref(), Some("sleep"));
    assert_eq!(strings(&Argv { lossy: process.image.argv.clone().unwrap(), b64: None }), ["sleep", "60"]);
    assert!(process.image.exe.as_deref().is_some_and(|exe| exe.starts_with('/') && !exe.contains("deleted")));
    assert_eq!(process.image.cwd.as_deref(), Some("/"));
    assert_eq!(process.uid, Some(nix::unistd::getuid().as_raw()));
    assert!(!process.zombie && !seed.exiting && !seed.gone && !process.kthread);
    assert!(before <= seed.read_from_ns && seed.read_from_ns <= seed.read_until_ns);
    assert_eq!(process.id, ProcessId::from_ticks(seed.start_ticks, child.id()));
    assert_eq!(process.start_time, Some(Timestamp((seed.start_ticks * TICK_NS) as i64)));

    child.kill().unwrap();
    // A process that exits while it is read may partly show its earlier state.
    let attempts =
        std::iter::repeat_with(|| remains(process.id)).inspect(|_| std::thread::sleep(Duration::from_millis(1)));
    assert!(attempts.take(60_000).any(|remains| remains == Remains::Zombie));
    let zombie = read(child.id(), 0, &Hierarchy::of_proc()).unwrap();
    assert!(zombie.process.zombie && zombie.exiting);
    let Image { comm, exe, .. } = &*zombie.process.image;
    assert_eq!((comm.as_deref(), exe), (Some("sleep"), &None));
    child.wait().unwrap();
    assert_eq!(read(child.id(), 0, &Hierarchy::of_proc()), None);
}

#[test]
fn a_snapshot_contains_this_process_and_its_parent() {
    let seeds = snapshot(0, &Hierarchy::of_proc()).unwrap();
    let me = seeds.iter().find(|seed| seed.process.pid == std::process::id()).unwrap();
    assert_eq!(me.process.image.exe.as_deref().map(Into::into), std::env::current_exe().ok());
    assert!(seeds.iter().any(|seed| seed.process.pid == me.ppid));
    assert!(seeds.iter().any(|seed| seed.process.pid == 1));
}

#[test]
fn a_thread_is_not_a_process() {
    let (tid_sender, tid) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tid_sender.send(nix::unistd::gettid().as_raw() as u32).unwrap();
        let _ = wait.recv();
    });
    assert_eq!(read(tid.recv().unwrap(), 0, &Hierarchy::of_proc()), None);
    drop(go);
    thread.join().unwrap();
}
