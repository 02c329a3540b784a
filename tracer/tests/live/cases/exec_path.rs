//! Where programs are, as the kernel resolves their paths, and which user runs them.

use std::collections::BTreeMap;

use tracer::event::{Capture, Exec, Process};

use crate::deeds::exec_cred::{NOBODY, SOME_GROUP};
use crate::support::{Case, Need, Run, Trace, case, check_sound};

use super::exec_argv::decode;
use super::exit::assert_ends;

pub(super) fn cases() -> Vec<Case> {
    let by_descriptor = |kind: &'static str| move || descriptor(kind);
    let mounted = |kind: &'static str| move || mounted(kind);
    vec![
        case("exec::relative_path_after_chdir", relative),
        case("exec::symbolic_link", symlink),
        case("exec::of_a_descriptor", by_descriptor("file")),
        case("exec::of_a_deleted_file", by_descriptor("deleted")),
        case("exec::of_a_memfd", by_descriptor("memfd")),
        case("exec::relative_to_a_descriptor", by_descriptor("directory")),
        case("exec::cwd_of_55_components", || deep(55, 20)),
        case("exec::cwd_of_3500_bytes", || deep(14, 246)),
        case("exec::cwd_of_4000_bytes_is_whole_or_told_as_cut", || deep(16, 246)),
        case("exec::cwd_of_120_components_is_whole_or_told_as_cut", || deep(120, 5)),
        case("exec::cwd_longer_than_path_max_is_told_as_cut", || deep(20, 246)),
        case("exec::in_a_chroot", chroot),
        case("exec::in_another_mount_namespace", mounted("tmpfs")),
        case("exec::on_a_bind_mount", mounted("bind")),
        case("exec::on_a_mount_on_a_mount", mounted("bind-twice")),
        case("exec::of_a_bind_mounted_file", mounted("bind-file")),
        case("exec::on_overlayfs", mounted("overlay")).needs(&[Need::Check(no_overlayfs)]),
        case("exec::by_nobody", plain),
        case("exec::setuid_root", setuid),
        case("exec::setgid", setgid),
        case("exec::file_capabilities", file_capabilities),
        case("exec::of_a_file_with_a_registered_interpreter", registered).needs(&[Need::Check(no_binfmt_misc)]),
        case("exec::setuid_with_a_registered_interpreter", registered_setuid).needs(&[Need::Check(no_binfmt_misc)]),
    ]
}

fn no_overlayfs() -> Option<String> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    (!known.lines().any(|line| line.ends_with("\toverlay"))).then(|| "the kernel has no overlayfs".to_owned())
}

fn no_binfmt_misc() -> Option<String> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    (!known.lines().any(|line| line.ends_with("\tbinfmt_misc"))).then(|| "the kernel has no binfmt_misc".to_owned())
}

fn bytes<'a>(text: Option<&'a str>, encoded: Option<&str>) -> Option<std::borrow::Cow<'a, [u8]>> {
    encoded.map(|encoded| decode(encoded).into()).or_else(|| text.map(|text| text.as_bytes().into()))
}

/// Returns a link of `/proc/PID/…` from the root of the process's mount namespace, as tracer reports paths. The mark
/// of a deleted file is removed.
fn true_path(trace: &Trace, link: &str) -> Option<Vec<u8>> {
    let path = decode(&trace.truth.one("seen").get::<Option<String>>(link)?);
    Some(path.strip_suffix(b" (deleted)").map_or_else(|| path.clone(), <[u8]>::to_vec))
}

/// Asserts that exe and cwd of the recorded exec are those that `/proc` shows.
#[track_caller]
fn assert_paths(trace: &Trace) -> (&Process, &Exec) {
    check_sound(trace);
    assert_ends(trace);
    let (process, exec, _) = trace.exec(trace.truth.one("seen").id());
    assert_eq!(exec.exe_capture, None, "exe is complete: {process:?}");
    assert_eq!(exec.cwd_capture, None, "cwd is complete: {process:?}");
    assert_eq!(
        bytes(process.image.exe.as_deref(), process.image.exe_b64.as_deref()).as_deref(),
        true_path(trace, "exe").as_deref()
    );
    assert_eq!(
        bytes(process.image.cwd.as_deref(), process.image.cwd_b64.as_deref()).as_deref(),
        true_path(trace, "cwd").as_deref()
    );
    assert_eq!(process.image.comm.as_deref(), Some(&*trace.truth.one("seen").get::<String>("comm")));
    (process, exec)
}

fn relative() {
    let trace = Run::deed_with("path-relative", &["@dir"]).trace();
    let (process, exec) = assert_paths(&trace);
    assert_eq!(exec.filename.as_deref(), Some("../program"), "as given");
    assert!(process.image.exe.as_deref().is_some_and(|exe| exe.ends_with("/place/program")), "{process:?}");
    assert!(process.image.cwd.as_deref().is_some_and(|cwd| cwd.ends_with("/place/below")), "{process:?}");
    assert_eq!((exec.deleted, exec.memfd), (false, false));
    assert_eq!(exec.interpreter, None, "a program needs no interpreter");
}

fn symlink() {
    let trace = Run::deed_with("path-symlink", &["@dir"]).trace();
    let (_, exec) = assert_paths(&trace);
    assert!(exec.filename.as_deref().is_some_and(|filename| filename.ends_with("/place/link")), "{exec:?}");
}

fn descriptor(kind: &str) {
    let trace = Run::deed_with("path-descriptor", &["@dir", kind]).trace();
    let (_, exec) = assert_paths(&trace);
    let fd: i32 = trace.truth.one("descriptor").get("fd");
    let filename = if kind == "directory" { format!("/dev/fd/{fd}/program") } else { format!("/dev/fd/{fd}") };
    assert_eq!(exec.filename.as_deref(), Some(&*filename), "as the kernel names a descriptor");
    assert_eq!(exec.memfd, kind == "memfd", "{exec:?}");
    // A memfd never had a name that could be unlinked, but `/proc` calls it deleted.
    assert!(kind == "memfd" || exec.deleted == (kind == "deleted"), "{exec:?}");
}

/// A path is complete, or it is reported as truncated and the captured part is correct.
fn deep(depth: usize, length: usize) {
    let trace = Run::deed_with("path-deep", &["@dir", &depth.to_string(), &length.to_string()]).trace();
    if depth < 60 && depth * length < 3600 {
        let (_, exec) = assert_paths(&trace);
        assert_eq!(exec.filename.as_deref(), Some("./program"), "as given");
        return;
    }
    check_sound(&trace);
    assert_ends(&trace);
    let (process, exec, _) = trace.exec(trace.truth.one("seen").id());
    let names: Vec<String> = (0..depth).map(|level| format!("{level:0length$}")).collect();
    let whole = format!("/place/{}", names.join("/"));
    for (path, capture, whole) in [
        (&process.image.cwd, exec.cwd_capture, whole.clone()),
        (&process.image.exe, exec.exe_capture, whole + "/program"),
    ] {
        let path = path.as_deref().expect("a part of it is there");
        match capture {
            None => assert!(path.ends_with(&whole), "neither complete nor reported as truncated: {path}"),
            Some(capture) => {
                assert_eq!(capture, Capture::Cut, "{path}");
                let last = path.rsplit('/').next().expect("split returns at least one");
                assert!(whole.ends_with(last) && path.len() > 300, "the innermost components are kept: {path}");
            }
        }
    }
    assert!(depth * length < 4096 || exec.cwd_capture.is_some(), "no path is longer than PATH_MAX");
}

fn chroot() {
    let trace = Run::deed_with("path-chroot", &["@dir"]).trace();
    let (process, exec) = assert_paths(&trace);
    assert_eq!(exec.filename.as_deref(), Some("/bin/program"), "as given, in its own root");
    let outside = |path: Option<&str>, end: &str| path.is_some_and(|path| path.ends_with(end));
    assert!(outside(process.image.exe.as_deref(), "/place/root/bin/program"), "{process:?}");
    assert!(outside(process.image.cwd.as_deref(), "/place/root/bin"), "{process:?}");
}

fn mounted(kind: &str) {
    let trace = Run::deed_with("path-mounted", &["@dir", kind]).trace();
    assert!(trace.truth.all("no overlay").is_empty(), "overlayfs refused: this test proves nothing");
    let (process, exec) = assert_paths(&trace);
    assert_eq!(
        process.image.exe, exec.filename,
        "it was absolute, and has no links except those of the test's directory"
    );
    let end = match kind {
        "bind-file" => "/place/alias",
        "bind-twice" => "/place/mounted/deeper/program",
        _ => "/place/mounted/program",
    };
    assert!(process.image.exe.as_deref().is_some_and(|exe| exe.ends_with(end)), "{process:?}");
}

/// Returns real and effective ids as tracer reports them: the effective ones only when they differ.
fn ids(process: &Process) -> [Option<u32>; 4] {
    [process.uid, process.euid.or(process.uid), process.gid, process.egid.or(process.gid)]
}

/// Asserts that the ids are those that the program itself observed.
#[track_caller]
fn assert_ids(trace: &Trace) -> (&Process, &Exec) {
    let (process, exec) = assert_paths(trace);
    let truth: BTreeMap<String, u32> = trace.truth.one("report").get("ids");
    assert_eq!(ids(process), ["uid", "euid", "gid", "egid"].map(|key| truth.get(key).copied()), "{process:?}");
    assert!(process.euid.is_none_or(|euid| Some(euid) != process.uid), "only when it differs");
    (process, exec)
}

fn cred(kind: &str) -> Trace {
    Run::deed_with("cred-exec", &["@dir", kind]).trace()
}

fn plain() {
    let trace = cred("plain");
    let (process, exec) = assert_ids(&trace);
    assert_eq!(ids(process), [NOBODY; 4].map(Some));
    assert_eq!((exec.setid, exec.caps_gained, exec.previous_euid, exec.previous_egid), (false, false, None, None));
}

fn setuid() {
    let trace = cred("setuid");
    let (process, exec) = assert_ids(&trace);
    assert_eq!(ids(process), [NOBODY, 0, NOBODY, NOBODY].map(Some), "the truth, or the filesystem is mounted nosuid");
    assert_eq!((exec.setid, exec.previous_euid, exec.previous_egid), (true, Some(NOBODY), None));
    assert!(exec.caps_gained, "root's");
}

fn setgid() {
    let trace = cred("setgid");
    let (process, exec) = assert_ids(&trace);
    assert_eq!(ids(process), [NOBODY, NOBODY, NOBODY, SOME_GROUP].map(Some));
    assert_eq!((exec.setid, exec.previous_euid, exec.previous_egid), (true, None, Some(NOBODY)));
    assert!(!exec.caps_gained);
}

fn file_capabilities() {
    let trace = cred("caps");
    let (process, exec) = assert_ids(&trace);
    assert_eq!(ids(process), [NOBODY; 4].map(Some));
    assert_eq!((exec.setid, exec.previous_euid, exec.previous_egid), (false, None, None));
    assert!(exec.caps_gained, "CAP_NET_RAW");
}

/// Root opened the interpreter when it was registered. Nobody runs it.
fn registered() {
    let trace = cred("registered");
    let (process, exec) = assert_ids(&trace);
    assert_eq!(ids(process), [NOBODY; 4].map(Some));
    assert_eq!((exec.setid, exec.caps_gained, exec.previous_euid, exec.previous_egid), (false, false, None, None));
}

fn registered_setuid() {
    let trace = cred("registered-setuid");
    let (process, exec) = assert_ids(&trace);
    assert_eq!(ids(process), [NOBODY, 0, NOBODY, NOBODY].map(Some), "the truth, or the filesystem is mounted nosuid");
    assert_eq!((exec.setid, exec.previous_euid, exec.previous_egid), (true, Some(NOBODY), None));
    assert!(exec.caps_gained, "root's");
}
