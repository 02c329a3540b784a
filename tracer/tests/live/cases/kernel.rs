//! Processes that the kernel starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tracer::event::Kind;
use tracer::record::text::Arguments;

use crate::support::proc::{self, Stat};
use crate::support::{BOUND, Case, Ident, Need, Stream, case, check_sound, run_bounded, this_binary};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("tree::kernel_thread_comes_and_goes", kernel_thread).needs(&[
            Need::Alone,
            Need::Path("/dev/loop-control"),
            Need::Tool("mkfs.ext4"),
            Need::Tool("mount"),
            Need::Check(no_ext4),
        ]),
        case("tree::program_that_the_kernel_starts", usermode_helper)
            .needs(&[Need::Alone, Need::Check(no_core_pattern)]),
    ]
}

fn no_ext4() -> Option<String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    (!known.lines().any(|line| line.ends_with("\text4"))).then(|| "the kernel has no ext4".to_owned())
}

const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

fn no_core_pattern() -> Option<String> {
    // Writing the present content back changes nothing.
    let unchanged = fs::read(CORE_PATTERN).and_then(|pattern| fs::write(CORE_PATTERN, pattern));
    unchanged.err().map(|error| format!("{CORE_PATTERN}: {error}"))
}

/// A mounted image. Dropping it unmounts it.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: &Path) -> Self {
        let done =
            run_bounded(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).stdin(Stdio::null()), BOUND);
        assert!(done.status.success(), "{done:?}");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // `mount -o loop` frees the device with its last user.
        let done = run_bounded(Command::new("umount").arg(&self.0).stdin(Stdio::null()), BOUND);
        assert!(done.status.success() || std::thread::panicking(), "{done:?}");
    }
}

fn journal_threads() -> Vec<Stat> {
    proc::all().into_values().filter(|stat| stat.is_kthread() && stat.comm.starts_with("jbd2/loop")).collect()
}

/// The journal of an ext4 file system has a kernel thread from mount to unmount.
fn kernel_thread() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (image, at) = (place.path().join("image"), place.path().join("at"));
    fs::create_dir(&at).expect("a new directory");
    fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("a new file");
    let made = run_bounded(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).stdin(Stdio::null()), BOUND);
    assert!(made.status.success(), "{made:?}");
    let others = journal_threads();
    let stream = Stream::start(&[]);
    let mounted = Mounted::new(&image, &at);
    let thread = journal_threads().into_iter().find(|stat| !others.iter().any(|other| other.pid == stat.pid));
    let thread = thread.expect("a journal has a thread");
    drop(mounted);
    let end = std::time::Instant::now() + BOUND;
    while proc::stat(thread.pid).is_some_and(|stat| stat.start == thread.start) {
        assert!(std::time::Instant::now() < end, "the journal's thread did not exit");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let trace = stream.stop();
    check_sound(&trace);
    let id = Ident { pid: thread.pid, start: thread.start }.id();
    let born = trace.process(id, Kind::Fork);
    assert!(born.kthread, "{born:?}");
    assert_eq!(born.ppid, Some(thread.ppid), "kthreadd is its parent");
    assert_eq!(trace.of(id, Kind::Exec).len(), 0);
    let last = trace.process(id, Kind::Exit);
    assert_eq!((last.kthread, last.image.comm.as_deref()), (true, Some(&*thread.comm)));
    assert_eq!((&last.image.exe, &last.image.argv), (&None, &None), "a kernel thread runs no program: {last:?}");
}

/// The previous `core_pattern`. Dropping it restores that.
struct CorePattern(Vec<u8>);

impl CorePattern {
    fn set(pattern: &str) -> Self {
        let before = fs::read(CORE_PATTERN).expect("it exists");
        fs::write(CORE_PATTERN, pattern).expect("root may");
        Self(before)
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        let done = fs::write(CORE_PATTERN, &self.0);
        assert!(done.is_ok() || std::thread::panicking(), "{CORE_PATTERN} could not be restored: {done:?}");
    }
}

/// A process dumps core to a program that the kernel starts itself: no process forked it.
fn usermode_helper() {
    let mut stream = Stream::start(&[]);
    let truth = stream.truth_file();
    // The pattern holds only 127 bytes; a link is short.
    let helper = truth.with_file_name("helper");
    std::os::unix::fs::symlink(this_binary(), &helper).expect("a new link");
    let pattern = CorePattern::set(&format!("|{} --deed core-helper {}", helper.display(), truth.display()));
    let place = tempfile::tempdir().expect("a temporary directory");
    stream.deed("exit-fault", &["segv", "core", place.path().to_str().expect("UTF-8")]);
    // The kernel waits for the reader of a core before it releases the process.
    stream.wait_for("core-helper");
    let said = stream.await_said("helper");
    stream
        .events_until(&|event| event.kind() == Kind::Exit && event.process.as_ref().is_some_and(|p| p.id == said.id()));
    drop(pattern);
    let trace = stream.stop();
    check_sound(&trace);
    assert!(trace.exit(trace.truth.one("ended").id()).core, "the core went to the program");
    let born = trace.truth.one("born");
    assert_eq!(born.id(), said.id());
    let parent: Ident = born.get("parent");
    assert_eq!(trace.process(said.id(), Kind::Fork).parent_id, Some(parent.id()));
    let (process, exec, _) = trace.exec(said.id());
    assert!(!process.kthread, "it is a program now: {process:?}");
    assert_eq!(exec.filename.as_deref(), helper.to_str());
    assert_eq!(process.image.argv.as_ref().map(Arguments::len), Some(4), "{process:?}");
    let last = trace.process(said.id(), Kind::Exit);
    assert_eq!((last.kthread, last.parent_id), (false, Some(parent.id())));
}
