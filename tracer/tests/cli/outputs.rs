//! Outputs that are closed, full, or cannot be created.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::{complaint, output, printed, text, tracer};

/// Commands that write to standard output and need no privileges.
const WRITERS: [&[&str]; 5] = [&["tree"], &["--help"], &["schema"], &["completions", "bash"], &["doctor"]];

#[test]
fn a_closed_pipe_ends_quietly() {
    for arguments in WRITERS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = tracer(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_is_one_line() {
    for arguments in WRITERS {
        let said = complaint(tracer(arguments).stdout(File::options().write(true).open("/dev/full").unwrap()), 1);
        assert_eq!(
            said,
            "tracer: cannot write to standard output: No space left on device: free some space, or name another file with -o\n",
            "{arguments:?}"
        );
        if arguments != ["--help"] {
            let said = complaint(tracer(arguments).args(["-o", "/dev/full"]), 1);
            assert!(said.starts_with("tracer: cannot write to /dev/full: No space left on device: "), "{said}");
            assert_eq!(said.lines().count(), 1);
        }
    }
}

#[test]
fn a_stream_ends_with_its_reader_or_says_why_it_cannot_begin() {
    let works = output(&["doctor"]).status.success();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = tracer(&["stream"]).stdout(writer).output().unwrap();
    let said = text(&output.stderr);
    if works {
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
        let said = complaint(&mut tracer(&["stream", "-o", "/dev/full"]), 1);
        assert!(said.starts_with("tracer: cannot write to /dev/full: No space left on device: "), "{said}");
    } else {
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.starts_with("tracer: "), "{said}");
    }
}

#[test]
fn the_status_is_right_even_if_stderr_is_full() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(tracer(&["tree", "4194303"]).stderr(full()).status().unwrap().code(), Some(1));
    assert_eq!(tracer(&["tree", "--dead"]).stderr(full()).status().unwrap().code(), Some(2));
    assert_eq!(tracer(&["tree", "-vv"]).stdout(Stdio::null()).stderr(full()).status().unwrap().code(), Some(0));
}

#[test]
fn an_output_that_cannot_be_created_is_one_line() {
    let said = complaint(&mut tracer(&["tree", "-o", "/nonexistent/x\ny"]), 1);
    assert_eq!(said, "tracer: cannot open /nonexistent/x\\ny: No such file or directory: create its directory first\n");
}

#[test]
fn a_file_is_created_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tree");
    assert_eq!(printed(&["tree", "-o", path.to_str().unwrap()]), "");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(path).unwrap().contains("tracer"));
    assert!(printed(&["tree", "-o", "-"]).contains("tracer"));
}

/// Returns a command that a shell starts after some preparation.
fn by_shell(set_up: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{set_up}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tracer")]).args(arguments);
    command.stdin(Stdio::null());
    command
}

#[test]
fn a_closed_output_is_an_error_with_its_reason() {
    for arguments in WRITERS {
        let said = complaint(&mut by_shell("exec >&-", arguments), 1);
        let wanted = "tracer: cannot open standard output: it is closed: name another file with -o\n";
        assert_eq!(said, wanted, "{arguments:?}");
    }
    for set_up in ["exec <&-", "exec 2>&-", "exec <&- 2>&-"] {
        assert_eq!(by_shell(set_up, &["schema"]).output().unwrap().status.code(), Some(0), "{set_up}");
    }
    assert_eq!(by_shell("exec 2>&- >&-", &["schema"]).output().unwrap().status.code(), Some(1));
}

#[test]
fn a_descriptor_by_name_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, "before\n").unwrap();
    let log = || File::options().append(true).open(&path).unwrap();
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"] {
        assert!(tracer(&["tree", "-o", name]).stdout(log()).status().unwrap().success(), "{name}");
    }
    let written = fs::read_to_string(&path).unwrap();
    assert!(written.starts_with("before\n"), "the earlier content stays: {written}");
    assert_eq!(written.matches("tracer").count(), 4, "each adds its own: {written}");
    let (socket, mut peer) = UnixStream::pair().unwrap();
    let mut command = tracer(&["schema", "-o", "/dev/stdout"]);
    let mut child = command.stdout(std::os::fd::OwnedFd::from(socket)).spawn().unwrap();
    drop(command);
    let mut taken = String::new();
    std::io::Read::read_to_string(&mut peer, &mut taken).unwrap();
    assert!(child.wait().unwrap().success() && taken.starts_with('{'), "a socket: {taken}");
}

#[test]
fn a_limit_on_the_size_of_files_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("schema");
    let said = complaint(&mut by_shell("ulimit -f 1", &["schema", "-o", path.to_str().unwrap()]), 1);
    assert!(
        said.ends_with(": File too large: raise the limit on the size of files (`ulimit -f unlimited`)\n"),
        "{said}"
    );
    assert!(path.metadata().unwrap().len() > 0, "as much as the limit allows");
}

#[test]
fn a_recording_is_not_overwritten_without_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = path.to_str().unwrap();
    // Any other file is replaced as usual.
    for _ in 0..2 {
        assert_eq!(printed(&["tree", "-o", file]), "");
    }
    let recording = "{\"v\":1,\"event\":\"hello\",\"seq\":0}\n";
    fs::write(&path, recording).unwrap();
    let said = complaint(&mut tracer(&["tree", "-o", file]), 1);
    assert!(said.contains("it holds a recording") && said.contains("--append") && said.contains("--force"), "{said}");
    for recorder in [&["stream", "-o", file][..], &["run", "-o", file, "--", "true"]] {
        let said = complaint(&mut tracer(recorder), 1);
        assert!(said.contains("--append") && said.lines().count() == 1, "{said}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), recording, "nothing was changed");
    printed(&["tree", "--append", "-o", file]);
    let both = fs::read_to_string(&path).unwrap();
    assert!(both.starts_with(recording) && both.contains("tracer"), "{both}");
    printed(&["tree", "--force", "-o", file]);
    assert!(!fs::read_to_string(&path).unwrap().contains("hello"));
    complaint(&mut tracer(&["tree", "--force", "--append", "-o", file]), 2);
}
