//! `tracer tree` of the running processes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{complaint, printed, text, tracer};

/// A shell with children that sleep, for as long as this value exists.
pub(crate) struct Family {
    shell: Child,
}

impl Family {
    pub(crate) fn new() -> Self {
        let script = "sleep 1001 & sleep 1001 & sleep 1002 & wait";
        let shell = Command::new("sh").args(["-c", script]).stdout(Stdio::null()).spawn().unwrap();
        let family = Self { shell };
        // Until each of them execs, they are copies of the shell, with its arguments.
        let runs = |drawn: &str, command| drawn.lines().filter(|line| line.ends_with(command)).count();
        drawn_as(&["-a", &family.pid()], |drawn| runs(drawn, "─sleep 1001") == 2 && runs(drawn, "─sleep 1002") == 1);
        // The pids may have wrapped around in between; then their order is not that of age.
        if family.children().is_sorted() { family } else { Self::new() }
    }

    /// Returns their pids, by age.
    fn children(&self) -> Vec<u32> {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    pub(crate) fn pid(&self) -> String {
        self.shell.id().to_string()
    }

    /// Returns `tree` of this family, with its pids as `#1`, `#2` … by age.
    fn tree(&self, options: &[&str]) -> String {
        let mut drawn = printed(&[&["tree", &self.pid()], options].concat());
        let mut pids = self.children();
        pids.insert(0, self.shell.id());
        for (n, pid) in pids.iter().enumerate() {
            drawn = drawn.replace(&format!(",{pid} "), &format!(",#{n} "));
        }
        drawn
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

/// Returns the output of `tree` once a condition holds: a process that was just started may not have exec'd yet.
fn drawn_as(options: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let drawn = printed(&[&["tree"], options].concat());
        if wanted(&drawn) || Instant::now() > end {
            assert!(wanted(&drawn), "{drawn}");
            return drawn;
        }
        thread::sleep(Duration::from_millis(10));
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
}

#[test]
fn a_missing_process_is_one_line() {
    let said = complaint(&mut tracer(&["tree", "4194303"]), 1);
    assert_eq!(said, "tracer: there is no process 4194303: `tracer tree -p` shows all processes\n");
}

#[test]
fn a_name_with_escapes_does_not_reach_the_terminal_raw() {
    let dir = tempfile::tempdir().unwrap();
    let evil = dir.path().join("\x1b[31mred\n");
    std::os::unix::fs::symlink(which_sleep(), &evil).unwrap();
    let mut child = Command::new(&evil).arg("1000").spawn().unwrap();
    let drawn = drawn_as(&["-a", &child.id().to_string()], |drawn| drawn.ends_with(" 1000\n"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(drawn, "\\x1b[31mred\\n 1000\n");
}

fn which_sleep() -> &'static Path {
    let places = ["/bin/sleep", "/usr/bin/sleep"].map(Path::new);
    places.into_iter().find(|path| path.exists()).unwrap()
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
