//! Outputs that are closed, full, or cannot be made.

use std::fs::File;
use std::process::Stdio;

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
fn who_cannot_be_told_gets_the_status_all_the_same() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(tracer(&["tree", "4194303"]).stderr(full()).status().unwrap().code(), Some(1));
    assert_eq!(tracer(&["tree", "--dead"]).stderr(full()).status().unwrap().code(), Some(2));
    assert_eq!(tracer(&["tree", "-vv"]).stdout(Stdio::null()).stderr(full()).status().unwrap().code(), Some(0));
}

#[test]
fn an_output_that_cannot_be_made_is_one_line() {
    let said = complaint(&mut tracer(&["tree", "-o", "/nonexistent/x\ny"]), 1);
    assert_eq!(said, "tracer: cannot open /nonexistent/x\\ny: No such file or directory: create its directory first\n");
}

#[test]
fn a_file_is_made_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tree");
    assert_eq!(printed(&["tree", "-o", path.to_str().unwrap()]), "");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(path).unwrap().contains("tracer"));
    assert!(printed(&["tree", "-o", "-"]).contains("tracer"));
}
