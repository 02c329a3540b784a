//! What the command of `tracer run` inherits: closed descriptors stay closed, and its environment is complete where
//! tracer is privileged.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;

use crate::support::{BOUND, Case, Need, case, copy_program, open_directory, run_bounded, tracer_binary};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("run::closed_descriptors_stay_closed", closed),
        case("run::environment_with_file_capabilities", environment)
            .needs(&[Need::Path("/usr/bin/env"), Need::Check(no_file_capabilities)]),
    ]
}

/// Prints which of its descriptors are closed, with shell builtins only.
const CLOSED: &str =
    "for n in 0 1 2; do [ -e /proc/$$/fd/$n ] || closed=\"$closed $n\"; done; echo \"$closed\" > \"$0\"";

fn closed() {
    let place = open_directory();
    let (said, events) = (place.path().join("said"), place.path().join("events"));
    for (set_up, wanted) in
        [("", ""), ("exec <&-", " 0"), ("exec >&-", " 1"), ("exec 2>&-", " 2"), ("exec <&- >&- 2>&-", " 0 1 2")]
    {
        let script = format!("{set_up}\nexec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(tracer_binary()).args(["run", "--force", "-o"]).arg(&events);
        command.args(["--", "sh", "-c", CLOSED]).arg(&said).stdin(Stdio::null());
        let finished = run_bounded(&mut command, BOUND);
        assert_eq!(finished.code(), 0, "{finished:?}");
        assert_eq!(std::fs::read_to_string(&said).expect("it was said").trim_end(), wanted, "{set_up}");
    }
}

/// Returns the capabilities that this process may pass on to a program. With any other, the kernel refuses to execute
/// it.
fn bounding_set() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("it is listed").trim();
    u64::from_str_radix(set, 16).expect("hexadecimal")
}

/// Gives a file these capabilities, permitted and effective (`struct vfs_cap_data`, include/uapi/linux/capability.h).
fn give_capabilities(program: &Path) -> std::io::Result<()> {
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
    let set = bounding_set();
    let words = [REVISION_2_EFFECTIVE, set as u32, 0, (set >> 32) as u32, 0];
    let data: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    let path = CString::new(program.as_os_str().as_bytes())?;
    let name = c"security.capability";
    // SAFETY: two strings, and bytes with their length.
    let done = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), data.as_ptr().cast(), data.len(), 0) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn no_file_capabilities() -> Option<String> {
    let place = open_directory();
    let program = place.path().join("program");
    copy_program(tracer_binary(), &program);
    give_capabilities(&program).err().map(|error| format!("files cannot have capabilities here: {error}"))
}

/// The C library drops such variables from the environment of a privileged program.
fn environment() {
    const VARIABLES: [(&str, &str); 5] = [
        ("LD_LIBRARY_PATH", "/nonexistent"),
        ("TMPDIR", "/tmp"),
        ("GCONV_PATH", "/nonexistent"),
        ("PATH", "/usr/bin:/bin"),
        ("NLSPATH", "x y=z"),
    ];
    let place = open_directory();
    let program = place.path().join("tracer");
    copy_program(tracer_binary(), &program);
    give_capabilities(&program).expect("they were given before");
    let start = |command: &mut Command| {
        command.env_clear().envs(VARIABLES).uid(65534).gid(65534).stdin(Stdio::null());
        let finished = run_bounded(command, BOUND);
        assert_eq!(finished.code(), 0, "{finished:?}");
        finished.stdout()
    };
    let by_hand = start(Command::new("/usr/bin/env").arg0("env"));
    let traced = start(Command::new(&program).args(["run", "-o", "/dev/null", "--", "/usr/bin/env"]));
    assert_eq!(traced, by_hand);
    assert!(by_hand.contains("LD_LIBRARY_PATH=/nonexistent"), "{by_hand}");
}
