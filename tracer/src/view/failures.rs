//! Failed execs in the summary of `tracer run`: each path once, with the error, the count and the process.

use rustc_hash::FxHashMap;

use super::glyphs::Glyphs;
use super::line::{Line, Role};
use super::{escape, label, units};
use crate::event::Event;

/// Most failures with a line.
const MAX_LINES: usize = 20;

/// Most failures that are distinguished.
const MAX_KEPT: usize = 1000;

/// Most bytes of an attempt that are kept.
const MAX_TEXT: usize = 1024;

/// The attempt and its error.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FailureKey {
    attempt: String,
    errno: String,
}

#[derive(Clone, Debug)]
struct Failure {
    /// The position among all failures.
    order: usize,
    times: u64,
    meaning: &'static str,
    /// Pid and name of the first process that tried.
    by: (u32, String),
    /// The number of paths of a search.
    paths: u64,
}

/// Collects failed execs.
#[derive(Debug, Default)]
pub(super) struct Failures {
    kept: FxHashMap<FailureKey, Failure>,
    /// The number of failures that are not distinguished.
    more: u64,
    /// The number of all attempts.
    total: u64,
}

impl Failures {
    /// Adds a failed exec.
    pub(super) fn add(&mut self, event: &Event) {
        let (Some(failed), Some(process)) = (event.exec_failed(), &event.process) else { return };
        let times = failed.attempts.unwrap_or(1);
        self.total += times;
        let (errno, meaning) = label::refusal(failed);
        // A search along PATH is named by its argument, not by its last path.
        let mut attempt = match failed.attempts.and(failed.argv.as_ref()) {
            Some(argv) => escape::command_line(argv),
            None => label::attempt(failed),
        };
        if attempt.len() > MAX_TEXT {
            attempt = attempt.chars().take(MAX_TEXT / 4).chain(['…']).collect();
        }
        let order = self.kept.len();
        let key = FailureKey { attempt, errno };
        if order >= MAX_KEPT && !self.kept.contains_key(&key) {
            self.more += times;
            return;
        }
        let by = || (process.pid, label::name(process));
        let failure = self.kept.entry(key).or_insert_with(|| Failure { order, times: 0, meaning, by: by(), paths: 0 });
        failure.times += if failed.attempts.is_some() { 1 } else { times };
        failure.paths += failed.attempts.unwrap_or(0);
    }

    /// Returns a heading and a line for each failure, or nothing if there is none.
    pub(super) fn lines(&self, glyphs: &Glyphs) -> Vec<Line> {
        if self.total == 0 {
            return Vec::new();
        }
        let heading = format!("{} failed:", units::counted(self.total, "exec"));
        let mut lines = vec![Line::new().with(Role::Bad, &heading)];
        let mut kept: Vec<_> = self.kept.iter().collect();
        kept.sort_by_key(|(_, failure)| failure.order);
        let mut more = self.more;
        for (i, (key, failure)) in kept.into_iter().enumerate() {
            if i >= MAX_LINES {
                more += failure.times.max(failure.paths);
                continue;
            }
            let mut line = Line::new().with(Role::Bad, &format!("  {:<8} ", key.errno));
            line.push(Role::Plain, &key.attempt);
            let mut notes = vec![failure.meaning.to_owned()];
            if failure.paths > 0 {
                notes.push(format!("{} looked at", units::counted(failure.paths, "path")));
            }
            if failure.times > 1 {
                notes.push(format!("{}{}", glyphs.times, units::count(failure.times)));
            }
            notes.push(format!("by {} {}", failure.by.0, failure.by.1));
            lines.push(line.with(Role::Dim, &format!("  ({})", notes.join(", "))));
        }
        if more > 0 {
            let text = format!("  {} and {} more (-o FILE gets all)", glyphs.ellipsis, units::count(more));
            lines.push(Line::new().with(Role::Dim, &text));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Detail, ExecFailed, Kind};
    use crate::view::glyphs::UNICODE;
    use crate::view::samples::event;

    fn failed(path: &str, code: i32, attempts: Option<u64>) -> Event {
        let mut event = event(Kind::ExecFailed, 7, 1, "make");
        event.detail = Detail::ExecFailed(Box::new(ExecFailed {
            errno: crate::sys::errno::name(code),
            code,
            filename: Some(path.into()),
            argv: Some(path.rsplit('/').take(1).collect()),
            attempts,
            ..ExecFailed::default()
        }));
        event
    }

    fn drawn(events: impl IntoIterator<Item = Event>) -> String {
        let mut failures = Failures::default();
        events.into_iter().for_each(|event| failures.add(&event));
        failures.lines(&UNICODE).iter().map(|line| line.plain() + "\n").collect()
    }

    #[test]
    fn each_failure_is_shown_once_with_count_and_process() {
        assert_eq!(drawn([]), "");
        let events = [
            failed("/etc/passwd", 13, None),
            failed("/bin/cc", 2, None),
            failed("/etc/passwd", 13, None),
            failed("/bin/gcc", 2, Some(5)),
            failed("/sbin/gcc", 2, Some(6)),
        ];
        insta::assert_snapshot!(drawn(events), @r#"
        14 execs failed:
          EACCES   /etc/passwd  (Permission denied, ×2, by 7 make)
          ENOENT   /bin/cc  (No such file or directory, by 7 make)
          ENOENT   gcc  (No such file or directory, 11 paths looked at, ×2, by 7 make)
        "#);
    }

    #[test]
    fn memory_and_lines_are_bounded() {
        let text = drawn((0..5000).map(|n| failed(&format!("/bin/{n}"), 2, None)));
        assert_eq!(text.lines().count(), MAX_LINES + 2);
        assert!(text.contains("5,000 execs failed") && text.contains("and 4,980 more"), "{text}");
    }
}
