//! The command line without privileges: help, wrong usage, outputs that fail, and the tree of this moment.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::pty::{Winsize, openpty};
use unicode_width::UnicodeWidthStr as _;

/// Commands that are for people, each with something its long help must teach.
const COMMANDS: [(&str, &str); 6] = [
    ("stream", "process.id"),
    ("run", "127"),
    ("tree", "--dead"),
    ("doctor", "remedy"),
    ("schema", "JSON Schema"),
    ("completions", "bash_completion"),
];

fn tracer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracer"));
    for name in ["COLUMNS", "NO_COLOR", "LC_ALL", "LC_CTYPE", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.args(arguments).env("LANG", "C.UTF-8").env("TERM", "xterm").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    tracer(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Standard output of a command that has to succeed without a word on standard error.
fn printed(arguments: &[&str]) -> String {
    let output = output(arguments);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    text(&output.stdout)
}

/// Standard error of a command that has to fail so, without a word on standard output.
fn complaint(command: &mut Command, status: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(status), String::new()), "{command:?}");
    text(&output.stderr)
}

#[test]
fn short_help_is_stable() {
    insta::assert_snapshot!("help", printed(&["-h"]));
    for (command, _) in COMMANDS {
        // `tree -h` highlights, as in pstree.
        let flag = if command == "tree" { "--help" } else { "-h" };
        insta::assert_snapshot!(format!("help_{command}"), printed(&[command, flag]));
    }
}

#[test]
fn long_help_teaches() {
    let all = printed(&["--help"]);
    for part in ["Examples:", "Exit status:", "Environment:", "NO_COLOR", "tracer run -- make -j4"] {
        assert!(all.contains(part), "{part}");
    }
    for (command, part) in COMMANDS {
        let help = printed(&[command, "--help"]);
        assert!(help.contains(part), "{command}: {part}\n{help}");
        assert!(help.lines().all(|line| line.width() <= 120), "{command}");
        assert_eq!(printed(&["help", command]).lines().next(), help.lines().next(), "{command}");
    }
    for word in ["--version", "-V"] {
        assert_eq!(printed(&[word]), concat!("tracer ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}

#[test]
fn wrong_usage_ends_with_2_and_names_what_is_right() {
    for (arguments, part) in [
        (&[][..], "Usage:"),
        (&["strem"], "'stream'"),
        (&["stream", "--evnt", "exec"], "'--event'"),
        (&["stream", "--event", "death"], "possible values: process, fork, exec, exit"),
        (&["stream", "--pid", "me"], "1 to 4194303"),
        (&["stream", "--pid", "0"], "1 to 4194303"),
        (&["stream", "--comm", "[a"], "unclosed character class"),
        (&["stream", "--exe", "{a"], "globs know"),
        (&["stream", "--uid", "no such user"], "getent passwd"),
        (&["stream", "--format", "xml"], "possible values: json, text"),
        (&["stream", "--argv-max", "7M"], "6M"),
        (&["stream", "--argv-max", "lots"], "e.g. 64K"),
        (&["stream", "--ring-size", "5M"], "power of two"),
        (&["stream", "--ring-size", "64K", "--argv-max", "64K"], "make it larger"),
        (&["stream", "--duration", "soon"], "1h30m"),
        (&["stream", "--count", "0"], "1.."),
        (&["run"], "CMD"),
        (&["run", "--format", "json", "--", "true"], "--output"),
        (&["run", "--event", "exec", "--", "true"], "give -o FILE"),
        (&["run", "--frobnicate", "true"], "--frobnicate"),
        (&["tree", "nobody"], "1 to 4194303"),
        (&["tree", "--dead"], "--watch"),
        (&["tree", "--watch"], "needs a terminal"),
        (&["tree", "-A", "-U"], "cannot be used with"),
        (&["completions", "tcl"], "possible values: bash"),
        (&["doctor", "--color", "maybe"], "auto, always, never"),
    ] {
        let said = complaint(&mut tracer(arguments), 2);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn a_command_takes_all_words_that_follow_it() {
    // Wrong usage would end with 2, and what clap knows as its own would be printed.
    for arguments in [&["run", "/nonexistent/x", "--help"][..], &["run", "--", "/nonexistent/x", "-o", "y"]] {
        let output = output(arguments);
        assert!(matches!(output.status.code(), Some(1 | 127)), "{arguments:?}: {output:?}");
        assert!(!text(&output.stdout).contains("Usage"), "{arguments:?}");
    }
}

#[test]
fn completions_know_commands_and_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for word in ["stream", "doctor", "no-snapshot", "thread_start"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("__hold"), "{shell}: what is internal is not completed");
        let checked = Command::new(shell).arg("-n").stdin(file_with(&script)).output();
        if let Ok(checked) = checked {
            assert!(checked.status.success(), "{shell}: {}", text(&checked.stderr));
        }
    }
}

fn file_with(text: &str) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, text).unwrap();
    File::open(path).unwrap()
}

#[test]
fn the_schema_is_printed() {
    let schema: serde_json::Value = serde_json::from_str(&printed(&["schema"])).unwrap();
    assert_eq!(schema["properties"]["v"]["const"], 1);
}

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

/// A shell with children that sleep, as long as this value.
struct Family {
    shell: Child,
}

impl Family {
    fn new() -> Self {
        let script = "sleep 1001 & sleep 1001 & sleep 1002 & wait";
        let shell = Command::new("sh").args(["-c", script]).stdout(Stdio::null()).spawn().unwrap();
        let family = Self { shell };
        // Until all run their program, they are copies of the shell.
        while printed(&["tree", "-c", &family.pid()]).matches("sleep").count() < 3 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        family
    }

    fn pid(&self) -> String {
        self.shell.id().to_string()
    }

    /// `tree` of this family, its pids told as `#1`, `#2` … by age.
    fn tree(&self, options: &[&str]) -> String {
        let mut picture = printed(&[&["tree", &self.pid()], options].concat());
        let mut pids: Vec<u32> = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid()))
            .unwrap()
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        pids.insert(0, self.shell.id());
        for (n, pid) in pids.iter().enumerate() {
            picture = picture.replace(&format!(",{pid} "), &format!(",#{n} "));
        }
        picture
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap_or_default();
        for child in children.split_whitespace() {
            let pid = nix::unistd::Pid::from_raw(child.parse().unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn the_tree_is_pstrees() {
    let family = Family::new();
    insta::assert_snapshot!(family.tree(&[]), @"sh───3*[sleep]");
    insta::assert_snapshot!(family.tree(&["-c", "-A"]), @"
    sh-+-sleep
       |-sleep
       `-sleep
    ");
    insta::assert_snapshot!(family.tree(&["-a", "-n", "-p"]), @"
    sh,#0 -c 'sleep 1001 & sleep 1001 & sleep 1002 & wait'
      ├─sleep,#1 1001
      ├─sleep,#2 1001
      └─sleep,#3 1002
    ");
    // Where pstree is, it draws the same.
    for options in
        [&["-A"][..], &["-U"], &["-A", "-p"], &["-A", "-c"], &["-A", "-u", "-p"], &["-A", "-n"], &["-A", "-p", "-s"]]
    {
        if let Ok(theirs) = Command::new("pstree").arg("-T").args(options).arg("-l").arg(family.pid()).output() {
            let ours = printed(&[&["tree", &family.pid()], options].concat());
            assert_eq!(ours, text(&theirs.stdout), "{options:?}");
        }
    }
}

#[test]
fn a_process_that_is_not_there_is_one_line() {
    let said = complaint(&mut tracer(&["tree", "4194303"]), 1);
    assert_eq!(said, "tracer: there is no process 4194303: `tracer tree -p` shows those there are\n");
}

#[test]
fn a_name_with_escapes_does_not_reach_the_terminal_raw() {
    let dir = tempfile::tempdir().unwrap();
    let evil = dir.path().join("\x1b[31mred\n");
    std::os::unix::fs::symlink(which_sleep(), &evil).unwrap();
    let mut child = Command::new(&evil).arg("1000").spawn().unwrap();
    let picture = printed(&["tree", "-a", &child.id().to_string()]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(picture, "\\x1b[31mred\\n 1000\n");
}

fn which_sleep() -> &'static Path {
    let places = ["/bin/sleep", "/usr/bin/sleep"].map(Path::new);
    places.into_iter().find(|path| path.exists()).unwrap()
}

/// What a command shows on a terminal of some size.
fn on_terminal(columns: u16, rows: u16, command: &mut Command) -> String {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let mut child = command.stdout(pty.slave).spawn().unwrap();
    // Our copy of the terminal's side has to be closed, or reading would never end.
    command.stdout(Stdio::null());
    let shown = read_all(pty.master);
    assert!(child.wait().unwrap().success());
    shown.replace("\r\n", "\n")
}

/// Reads a terminal until nobody has it open any more, which is told as an error.
fn read_all(master: OwnedFd) -> String {
    let mut master = File::from(master);
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = master.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn lines_are_cut_to_the_terminal_unless_its_width_is_not_known() {
    let family = Family::new();
    let tree = |options: &[&str]| tracer(&[&["tree", "-a", &family.pid()], options].concat());
    let whole = text(&tree(&[]).output().unwrap().stdout);
    let cut = on_terminal(16, 24, &mut tree(&[]));
    assert!(cut.lines().all(|line| line.width() <= 16) && cut.contains("sh -c 'sleep 10…"), "{cut}");
    assert_eq!(on_terminal(16, 24, &mut tree(&["-l"])), whole);
    assert_eq!(on_terminal(0, 0, &mut tree(&[])), whole, "a terminal of zero width");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let family = Family::new();
    let tree = |options: &[&str]| tracer(&[&["tree", "-H", &family.pid(), &family.pid()], options].concat());
    let colourful = |shown: &str| shown.contains('\x1b');
    let plain = |command: &mut Command| text(&command.output().unwrap().stdout);
    assert!(!colourful(&plain(&mut tree(&[]))));
    assert!(colourful(&plain(&mut tree(&["--color", "always"]))));
    assert!(colourful(&on_terminal(80, 24, &mut tree(&[]))));
    assert!(!colourful(&on_terminal(80, 24, &mut tree(&["--color=never"]))));
    assert!(!colourful(&on_terminal(80, 24, tree(&[]).env("NO_COLOR", "1"))));
    assert!(colourful(&on_terminal(80, 24, tree(&[]).env("NO_COLOR", ""))), "an empty NO_COLOR does not count");
    assert!(!colourful(&on_terminal(80, 24, tree(&[]).env("TERM", "dumb"))));
}

#[test]
fn the_locale_decides_how_lines_are_drawn() {
    let family = Family::new();
    let drawn =
        |name: &str, locale: &str| text(&tracer(&["tree", &family.pid()]).env(name, locale).output().unwrap().stdout);
    assert!(drawn("LC_ALL", "C").is_ascii());
    assert!(drawn("LC_CTYPE", "C").is_ascii());
    assert!(!drawn("LC_ALL", "de_DE.utf8").is_ascii());
}

#[test]
fn doctors_findings_as_json() {
    let output = output(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let works = report["works"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!works)));
    let failed = report["checks"].as_array().unwrap().iter().any(|check| check["status"] == "failed");
    assert_eq!(works, !failed);
    for check in report["checks"].as_array().unwrap() {
        assert!(check["name"].is_string() && check["detail"].is_string() && check["area"].is_string(), "{check}");
        assert!(check["status"] != "failed" || check["remedy"].is_string(), "what fails has a remedy: {check}");
    }
}

#[test]
fn watching_gives_the_terminal_back() {
    use std::io::Write as _;
    let works = output(&["doctor"]).status.success();
    let size = Winsize { ws_row: 10, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let terminal = File::from(pty.slave);
    let settings = || nix::sys::termios::tcgetattr(&terminal).unwrap();
    let before = settings();
    let mut command = tracer(&["tree", "--watch", "-p"]);
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    if !works {
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(1), 1), "{output:?}");
        return;
    }
    let mut master = File::from(pty.master);
    let mut shown = Vec::new();
    let mut chunk = [0; 4096];
    while !shown.windows(9).any(|bytes| bytes == b"processes") {
        let n = master.read(&mut chunk).unwrap();
        shown.extend_from_slice(&chunk[..n]);
    }
    assert_ne!(settings().local_flags, before.local_flags, "keys are taken one by one");
    master.write_all(b"q").unwrap();
    // What is still drawn has to be read, or drawing would stop.
    drop(std::thread::spawn(move || while matches!(master.read(&mut chunk), Ok(1..)) {}));
    assert!(child.wait().unwrap().success());
    assert_eq!(settings(), before);
}
