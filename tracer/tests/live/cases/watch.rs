//! Views on a terminal, while processes start and exit.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::pty::OnTerminal;
use crate::support::{BOUND, Case, Guarded, case, command, open_directory, proc, write_script};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("tree::watched_shows_who_comes_and_how_they_end", watched),
        case("tree::watched_on_a_terminal_of_zero_width", watched_of_zero_width),
        case("run::summary_on_a_terminal_of_zero_width", summary_of_zero_width),
    ]
}

/// A program with a unique name.
const NAME: &str = "short-lived";

/// Starts a shell that runs the commands from its input.
fn shell() -> Guarded {
    Guarded::spawn(Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::null()))
}

fn send_line(shell: &mut Guarded, line: &str) {
    let input = shell.child().stdin.as_mut().expect("it was piped");
    input.write_all(line.as_bytes()).expect("it listens");
}

/// Returns the only child of a process, once it has a name.
fn child_called(parent: u32, name: &str) -> u32 {
    let end = std::time::Instant::now() + BOUND;
    loop {
        let found = proc::all().values().find(|stat| stat.ppid == parent && stat.comm == name).map(|stat| stat.pid);
        if let Some(pid) = found {
            return pid;
        }
        assert!(std::time::Instant::now() < end, "no {name}:\n{}", proc::process_tree(parent));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn watched() {
    let place = open_directory();
    let program = place.path().join(NAME);
    write_script(&program, "#!/bin/sh\nwhile test -e \"$1\"; do sleep 0.02; done\nexit 7\n");
    let flag = place.path().join("flag");
    let mut shell = shell();
    let root = shell.pid();
    for (options, keeps) in [(&["-p", "--dead"][..], true), (&["-p"], false)] {
        fs::write(&flag, "").expect("a new file");
        let pid = root.to_string();
        let mut arguments = vec!["tree", "--watch", &pid];
        arguments.extend(options);
        let mut screen = OnTerminal::start(200, 40, &mut command(arguments));
        screen.await_text(&format!("({root})"));
        send_line(&mut shell, &format!("{} {}; true\n", program.display(), flag.display()));
        let child = child_called(root, NAME);
        screen.await_text(&format!("{NAME}({child})"));
        fs::remove_file(&flag).expect("it is there");
        if keeps {
            screen.await_text(&format!("{NAME}({child}) [exit 7]"));
        }
        screen.press("q");
        assert_eq!(screen.ends(), Some(0), "{}", screen.text());
    }
    drop(shell.child().stdin.take());
    assert!(shell.wait(BOUND).success());
}

/// A terminal that does not know its size reports 0 by 0.
fn watched_of_zero_width() {
    let mut shell = shell();
    let root = shell.pid().to_string();
    let mut screen = OnTerminal::start(0, 0, &mut command(["tree", "--watch", "-p", &root]));
    screen.await_text(&format!("({root})"));
    screen.press("q");
    assert_eq!(screen.ends(), Some(0), "{}", screen.text());
    drop(shell.child().stdin.take());
    assert!(shell.wait(BOUND).success());
}

fn summary_of_zero_width() {
    let long = "x".repeat(300);
    let mut screen = OnTerminal::start(0, 0, &mut command(["run", "--", "sh", "-c", "true; exit 5", &long]));
    let (code, shown) = (screen.ends(), screen.text());
    assert_eq!(code, Some(5), "{shown}");
    assert!(shown.contains("COMMAND") && shown.contains(&long), "nothing is truncated without a width: {shown}");
}
