//! `tracer tree` and `tracer doctor` on the live machine.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::pty::OnTerminal;
use crate::support::{
    BOUND, Case, Finished, Guarded, Need, TruthLog, case, command, copy_program, deed_arguments, kernel_version,
    open_directory, proc, run_bounded, truth,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("cli::verbose_says_what_is_done", verbose),
        case("cli::tree_of_a_family", tree_of_a_family),
        case("cli::tree_of_everything_agrees_with_proc", tree_of_everything),
        case("cli::tree_without_root", tree_without_root).needs(&[Need::Nothing]),
        case("cli::tree_of_nobody", tree_of_nobody).needs(&[Need::Nothing]),
        case("cli::tree_as_pstree_draws_it", tree_as_pstree).needs(&[Need::Tool("pstree"), Need::Nothing]),
        case("cli::tree_with_oneself_highlighted", highlighted),
        case("cli::tree_on_a_terminal_of_zero_width", zero_width),
        case("cli::doctor_says_yes", doctor_says_yes),
        case("cli::doctor_says_no_without_root", doctor_says_no),
        case("cli::wrong_usage", wrong_usage).needs(&[Need::Nothing]),
    ]
}

/// The family of the deed, which runs as long as this value exists.
struct Family {
    deed: Guarded,
    _alive: ChildStdin,
    /// Pids by name.
    members: BTreeMap<String, u32>,
    _place: tempfile::TempDir,
}

impl Family {
    fn new() -> Self {
        let place = open_directory();
        let truth_file = place.path().join("truth");
        let arguments = deed_arguments("family", &truth_file, &[]);
        let mut deed = Guarded::spawn(
            Command::new(&arguments[0]).args(&arguments[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()),
        );
        let mut line = String::new();
        BufReader::new(deed.child().stdout.take().expect("it was piped")).read_line(&mut line).expect("UTF-8");
        assert_eq!(line, "ready\n");
        let members = TruthLog::read(&mut truth::reopen(&truth_file))
            .all("member")
            .iter()
            .map(|said| (said.get("name"), said.get("pid")))
            .collect();
        let alive = deed.child().stdin.take().expect("it was piped");
        Self { deed, _alive: alive, members, _place: place }
    }
}

fn tree(arguments: &[&str]) -> Finished {
    let mut all = vec!["tree"];
    all.extend(arguments);
    let finished = run_bounded(&mut command(&all), BOUND);
    assert_eq!((finished.code(), &*finished.stderr), (0, ""), "{finished:?}");
    finished
}

/// Parses a tree with `-p`. Each process is `name(pid)`; the column where a name begins shows its level. A parent is
/// the nearest name to the left, on the same line or above.
fn parse(drawn: &str) -> BTreeMap<u32, Option<u32>> {
    let mut parents = BTreeMap::new();
    // (column of the name, pid), outermost first: the path to the last process that was drawn.
    let mut path: Vec<(usize, u32)> = Vec::new();
    for line in drawn.lines() {
        let chars: Vec<char> = line.chars().collect();
        let drawing = |c: char| matches!(c, ' ' | '─' | '┬' | '├' | '│' | '└' | '-' | '+' | '|' | '`');
        let mut at = 0;
        while at < chars.len() {
            if drawing(chars[at]) {
                at += 1;
                continue;
            }
            let column = at;
            // A name may contain spaces, but the pid in parentheses ends it.
            let rest: String = chars[at..].iter().collect();
            let Some((pid, length)) = leading_process(&rest) else { break };
            at += length;
            path.retain(|(other, _)| *other < column);
            parents.insert(pid, path.last().map(|(_, parent)| *parent));
            path.push((column, pid));
        }
    }
    parents
}

/// Returns the pid of `name(pid)` at the start of a text, and its number of characters.
fn leading_process(text: &str) -> Option<(u32, usize)> {
    let open = text.char_indices().filter(|(_, c)| *c == '(').find_map(|(index, _)| {
        let digits: String = text[index + 1..].chars().take_while(char::is_ascii_digit).collect();
        text[index + 1 + digits.len()..]
            .starts_with([')', ','])
            .then(|| digits.parse().ok().map(|pid: u32| (index, pid)))?
    })?;
    let (index, pid) = open;
    let close = index + text[index..].find(')')? + 1;
    Some((pid, text[..close].chars().count()))
}

fn tree_as_pstree() {
    let family = Family::new();
    let pid = family.deed.pid().to_string();
    for options in [
        &["-A"][..],
        &["-U"],
        &["-A", "-p"],
        &["-A", "-c"],
        &["-A", "-u", "-p"],
        &["-A", "-n"],
        &["-A", "-p", "-s"],
        &["-A", "-a"],
        &["-A", "-a", "-p"],
    ] {
        let theirs = run_bounded(Command::new("pstree").args(["-T", "-l"]).args(options).arg(&pid), BOUND);
        assert_eq!(theirs.code(), 0, "{theirs:?}");
        assert!(!theirs.stdout().is_empty(), "{theirs:?}");
        // pstree prints control characters in octal, tracer as it prints them everywhere.
        let theirs = theirs.stdout().replace("\\033", "\\x1b");
        assert_eq!(tree(&[options, &[&pid]].concat()).stdout(), theirs, "{options:?}");
    }
}

fn tree_of_a_family() {
    let family = Family::new();
    let granny = family.deed.pid();
    let finished = tree(&["-p", &granny.to_string()]);
    let drawn = finished.stdout();
    let parents = parse(&drawn);
    let pid = |name: &str| family.members[name];
    let expected: BTreeMap<u32, Option<u32>> = [
        (granny, None),
        (pid("aunt"), Some(granny)),
        (pid("mother"), Some(granny)),
        (pid("child\u{1b}[31m"), Some(pid("mother"))),
        (pid("child b"), Some(pid("mother"))),
    ]
    .into();
    assert_eq!(parents, expected, "{drawn}");
    assert!(!drawn.contains('\u{1b}'), "names are escaped: {drawn:?}");
    assert!(drawn.starts_with(&format!("granny({granny})")), "{drawn}");
    let with_arguments = tree(&["-p", "-a", "-l", &granny.to_string()]).stdout();
    assert!(with_arguments.contains("--deed"), "-a shows arguments: {with_arguments}");
}

/// `-h`: highlights tracer itself and its ancestors, and nothing else.
fn highlighted() {
    let family = Family::new();
    let plain = tree(&["-A", "-p", "-h", "--color=never"]).stdout();
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let finished = tree(&["-A", "-p", "-h", "--color=always"]);
    let drawn = finished.stdout();
    // Bold begins just before the name and ends just after the pid.
    let bold = |pid: u32| {
        let at = drawn.find(&format!("({pid})")).unwrap_or_else(|| panic!("{pid} is not in {drawn}"));
        let before = &drawn[..at];
        before.rfind('\u{1b}').is_some_and(|escape| before[escape..].starts_with("\u{1b}[1m"))
    };
    let mut above = finished.pid;
    while above != 0 {
        assert!(bold(above), "{above} is tracer or its ancestor: {drawn}");
        above = if above == finished.pid { std::process::id() } else { proc::stat(above).map_or(0, |stat| stat.ppid) };
    }
    for pid in family.members.values() {
        assert!(!bold(*pid), "{pid} is in another branch: {drawn}");
    }
}

fn tree_of_everything() {
    let family = Family::new();
    let before = proc::all();
    let drawn = tree(&["-p", "-l"]).stdout();
    let after = proc::all();
    let parents = parse(&drawn);
    let mut compared = 0;
    for (pid, stat) in &before {
        let same = after.get(pid).is_some_and(|now| now.start == stat.start && now.ppid == stat.ppid);
        // pstree omits kernel threads by default.
        if !same || stat.is_kthread() || stat.is_zombie() || *pid == 1 {
            continue;
        }
        let parent = parents.get(pid).unwrap_or_else(|| panic!("{stat:?} is not in {drawn}"));
        assert_eq!(*parent, (stat.ppid != 0).then_some(stat.ppid), "{stat:?} in {drawn}");
        compared += 1;
    }
    assert!(compared >= family.members.len(), "the family and others: {compared}");
}

/// A terminal that does not know its size reports 0 by 0.
fn zero_width() {
    let family = Family::new();
    let granny = family.deed.pid().to_string();
    let mut tree = OnTerminal::start(0, 0, &mut command(["tree", "-p", &granny]));
    let (code, shown) = (tree.ends(), tree.text());
    assert_eq!(code, Some(0), "{shown}");
    for pid in family.members.values() {
        assert!(shown.contains(&format!("({pid})")), "no process is missing: {shown}");
    }
}

fn by_nobody(arguments: &[&str], place: &Path) -> Finished {
    use std::os::unix::process::CommandExt as _;
    let binary = place.join("tracer");
    copy_program(crate::support::tracer_binary(), &binary);
    let mut command = Command::new(&binary);
    command.args(arguments).stdin(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    run_bounded(&mut command, BOUND)
}

fn tree_without_root() {
    let place = open_directory();
    let finished = by_nobody(&["tree", "-p"], place.path());
    assert_eq!((finished.code(), &*finished.stderr), (0, ""), "{finished:?}");
    let parents = parse(&finished.stdout());
    let me = std::process::id();
    let parent = proc::stat(me).map(|stat| stat.ppid).filter(|ppid| *ppid != 0);
    assert_eq!(parents.get(&me), Some(&parent), "this process is in it: {}", finished.stdout());
}

fn tree_of_nobody() {
    // The largest possible pid. It is almost certainly unused.
    let finished = run_bounded(&mut command(["tree", "4194303"]), BOUND);
    let line = finished.assert_one_line_failure();
    assert!(line.contains("4194303"), "{line}");
}

fn doctor_says_yes() {
    let finished = run_bounded(&mut command(["doctor"]), BOUND);
    assert_eq!(finished.code(), 0, "tracing works here: {finished:?}");
    let finished = run_bounded(&mut command(["doctor", "--json"]), BOUND);
    assert_eq!((finished.code(), &*finished.stderr), (0, ""));
    let report: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
    assert!(report.is_object() || report.is_array(), "{report}");
    let text = report.to_string();
    let forks = if kernel_version().0 < 7 { "sched_process_fork" } else { "sched_wakeup_new" };
    for hook in [forks, "sched_process_exec", "sched_process_exit", "signal_generate"] {
        assert!(text.contains(hook), "{hook} is reported on: {report}");
    }
}

fn doctor_says_no() {
    let place = open_directory();
    let finished = by_nobody(&["doctor", "--json"], place.path());
    assert_eq!(finished.code(), 1, "tracing does not work for nobody: {finished:?}");
    let report: serde_json::Value = serde_json::from_str(&finished.stdout()).expect("one object");
    assert_eq!(report["works"], false);
    let checks = report["checks"].as_array().expect("a list");
    let bpf = checks.iter().find(|check| check["name"] == "CAP_BPF").expect("it is checked");
    assert_eq!(bpf["status"], "failed", "{bpf}");
    assert!(bpf["remedy"].as_str().is_some_and(|remedy| remedy.contains("root")), "with the remedy: {bpf}");
}

fn wrong_usage() {
    for arguments in [
        &["stream", "--no-such-option"][..],
        &["stream", "--pid", "none"],
        &["stream", "--comm", "[a"],
        &["no-such-command"],
        &["run"],
        &["tree", "minus one"],
    ] {
        let finished = run_bounded(&mut command(arguments), BOUND);
        assert_eq!(finished.code(), 2, "{arguments:?}: {finished:?}");
        assert!(!finished.stderr.is_empty() && finished.stdout.is_empty(), "{arguments:?}: {finished:?}");
    }
}

/// `-v` names the hooks and the processes that were found. Without it stderr is empty.
fn verbose() {
    let said = |options: &[&str]| {
        let arguments = [options, &["stream", "--count", "1", "-o", "/dev/null"]].concat();
        let finished = run_bounded(&mut command(&arguments), BOUND);
        assert_eq!(finished.code(), 0, "{finished:?}");
        finished.stderr
    };
    assert_eq!(said(&[]), "");
    let text = said(&["-v"]);
    let deaths = if kernel_version().0 < 7 { "sched_process_exit" } else { "sched:sched_process_exit" };
    assert!(text.contains("hooks: ") && text.contains(deaths) && text.contains("processes found within"), "{text}");
}
