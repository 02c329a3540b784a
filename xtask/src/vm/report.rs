//! The results of a guest, and the table of all guests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::document::Doctor;
use crate::tally::Tally;

/// The results of one guest.
#[derive(Debug, Default)]
pub(super) struct Guest {
    /// Its series of kernels.
    pub(super) series: &'static str,
    /// `uname -r`, or the series if it did not get that far.
    pub(super) release: String,
    pub(super) doctor: Option<Doctor>,
    groups: BTreeMap<String, Counts>,
    failed: Vec<String>,
    /// Tests that failed, and passed when they ran again alone.
    flaky: Vec<String>,
    /// The output of each failed test.
    said: BTreeMap<String, Vec<String>>,
    skipped: Vec<(String, String)>,
    /// Other failures than tests.
    trouble: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    fn shown(self) -> String {
        format!("{}/{}/{}", self.passed, self.failed, self.skipped)
    }
}

impl Guest {
    /// Reads the output of the init script.
    pub(super) fn read(series: &'static str, output: &str) -> Self {
        let mut guest = Self { series, release: series.to_owned(), ..Self::default() };
        let mut section = "";
        let mut doctor = String::new();
        let mut tests = Vec::new();
        let mut reasons = BTreeMap::new();
        let mut status = None;
        let mut passed_alone = Vec::new();
        for line in output.lines().map(str::trim_end) {
            if let Some(marker) = line.strip_prefix("@@") {
                let (name, value) = marker.split_once(' ').unwrap_or((marker, ""));
                match name {
                    "release" => value.clone_into(&mut guest.release),
                    "status" => status = Some(value.to_owned()),
                    "again" => passed_alone.extend(value.strip_suffix(" 0").map(ToOwned::to_owned)),
                    _ => {}
                }
                section = name;
                continue;
            }
            match section {
                "doctor" => doctor.push_str(line),
                "tests" => tests.push(line),
                "reasons" => {
                    let reason = line.split_once(": skipped, ");
                    reasons.extend(reason.map(|(name, why)| (name.to_owned(), why.to_owned())));
                }
                _ => {}
            }
        }
        guest.doctor = serde_json::from_str(&doctor).ok();
        // In this order: the outcomes, the output of each failed test, and the names of the failed tests again.
        let mut parts = tests.split(|line| *line == "failures:");
        let ran = parts.next().unwrap_or_default();
        let outcomes: Vec<_> = ran.iter().filter_map(|line| outcome(line)).collect();
        guest.said = said(parts.next().unwrap_or_default());
        // With one test at a time, output of a test could separate its name from its outcome.
        if let Some(due) = ran.iter().find_map(|line| number_of_tests(line)).filter(|&due| due != outcomes.len()) {
            guest.trouble(format!("{due} tests should have run, and {} have an outcome", outcomes.len()));
        }
        for (name, outcome) in outcomes {
            let counts = guest.groups.entry(group(name).to_owned()).or_default();
            match outcome {
                "ok" => counts.passed += 1,
                "ignored" => {
                    counts.skipped += 1;
                    let why = reasons.get(name).cloned().unwrap_or_else(|| "no reason given".to_owned());
                    guest.skipped.push((name.to_owned(), why));
                }
                _ => {
                    counts.failed += 1;
                    guest.failed.push(name.to_owned());
                }
            }
        }
        if guest.groups.is_empty() {
            guest.trouble("no test ran");
        } else if status.as_deref() != Some("0") && guest.failed.is_empty() {
            guest.trouble("the tests did not end well");
        }
        for name in passed_alone {
            guest.passed_alone(&name);
        }
        if guest.doctor.as_ref().is_none_or(|doctor| !doctor.works) {
            guest.trouble("doctor does not say that tracing works");
        }
        guest
    }

    /// Counts a failed test as passed, and names it as flaky.
    fn passed_alone(&mut self, name: &str) {
        let before = self.failed.len();
        self.failed.retain(|failed| failed != name);
        if self.failed.len() == before {
            return;
        }
        let counts = self.groups.entry(group(name).to_owned()).or_default();
        counts.failed -= 1;
        counts.passed += 1;
        self.flaky.push(name.to_owned());
    }

    /// Adds another failure than a test.
    pub(super) fn trouble(&mut self, what: impl Into<String>) {
        self.trouble.push(what.into());
    }

    pub(super) fn is_well(&self) -> bool {
        self.failed.is_empty() && self.trouble.is_empty()
    }

    /// Returns the results in one line.
    pub(super) fn summary(&self) -> String {
        let sum = |of: fn(&Counts) -> usize| self.groups.values().map(of).sum::<usize>();
        let (passed, failed, skipped) = (sum(|c| c.passed), sum(|c| c.failed), sum(|c| c.skipped));
        let trouble: String = self.trouble.iter().fold(String::new(), |all, what| all + "; " + what);
        format!("{passed} passed, {failed} failed, {skipped} skipped{trouble}")
    }

    pub(super) fn tally(&self) -> Tally {
        let named = |name: &String| format!("Linux {}: {name}", self.release);
        Tally {
            passed: self.groups.values().map(|counts| counts.passed).sum(),
            failed: self.failed.iter().chain(&self.trouble).map(named).collect(),
            skipped: self.skipped.iter().map(|(name, why)| format!("Linux {}: {name}: {why}", self.release)).collect(),
            flaky: self.flaky.iter().map(named).collect(),
        }
    }
}

/// Returns the output of each test, from the lines after `---- exit::every_code ----`.
fn said(lines: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut speaker = "";
    for line in lines.iter().filter(|line| !line.is_empty()) {
        match line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" ----")) {
            Some(next) => speaker = next,
            None => said.entry(speaker.to_owned()).or_default().push((*line).to_owned()),
        }
    }
    said
}

/// Returns 3 for `running 3 tests`.
fn number_of_tests(line: &str) -> Option<usize> {
    line.strip_prefix("running ")?.split(' ').next()?.parse().ok()
}

/// Returns `exit::every_code` and `ok` for `test exit::every_code ... ok`.
fn outcome(line: &str) -> Option<(&str, &str)> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    matches!(outcome, "ok" | "ignored" | "FAILED").then_some((name.trim(), outcome))
}

/// Returns the part of a test's name before `::`.
fn group(name: &str) -> &str {
    name.split_once("::").map_or(name, |(group, _)| group)
}

/// Lines and characters shown of one failed test's output. The guest's console has all of it.
const MOST_LINES: usize = 40;
const MOST_CHARS: usize = 400;

/// Prints each kernel and each group; then what failed and why, and what was skipped where.
pub(super) fn table(guests: &[Guest]) -> String {
    let groups: std::collections::BTreeSet<&String> = guests.iter().flat_map(|guest| guest.groups.keys()).collect();
    let first = groups.iter().map(|group| group.len()).max().unwrap_or(0).max(5);
    let widths: Vec<usize> = guests.iter().map(|guest| guest.release.len().max(9)).collect();
    let mut out = String::from("passed/failed/skipped, by group of tests and kernel\n");
    let mut row = |head: &str, cells: &mut dyn Iterator<Item = String>| {
        let mut line = format!("{head:first$}");
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(line, "  {cell:>width$}");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    };
    row("", &mut guests.iter().map(|guest| guest.release.clone()));
    for group in groups {
        let cell = |guest: &Guest| guest.groups.get(group).map_or_else(|| "-".to_owned(), |counts| counts.shown());
        row(group, &mut guests.iter().map(cell));
    }
    for guest in guests {
        let failed = guest.failed.iter().chain(&guest.trouble).map(|what| ("FAILED", what));
        for (how, what) in failed.chain(guest.flaky.iter().map(|what| ("flaky", what))) {
            let _ = writeln!(out, "{how} on {}: {what}", guest.release);
            let said = guest.said.get(what).map_or(&[][..], Vec::as_slice);
            for line in said.iter().take(MOST_LINES) {
                let cut: String = line.chars().take(MOST_CHARS).collect();
                let _ = writeln!(out, "    {cut}{}", if cut.len() < line.len() { " …" } else { "" });
            }
            if let Some(more) = said.len().checked_sub(MOST_LINES + 1) {
                let _ = writeln!(out, "    … and {} lines more", more + 1);
            }
        }
    }
    let mut skipped: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for guest in guests {
        for (name, why) in &guest.skipped {
            skipped.entry((name, why)).or_default().push(&guest.release);
        }
    }
    for ((name, why), releases) in skipped {
        let place = if releases.len() == guests.len() { "all".to_owned() } else { releases.join(", ") };
        let _ = writeln!(out, "skipped on {place}: {name}: {why}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Guest, table};

    const OUTPUT: &str = "\
@@release 5.10.0-46-cloud-amd64
@@doctor
{
\"works\":true,
\"checks\":[]}
@@tests

running 3 tests
test exit::every_code  ... ok
test exit::oom_kill    ... ignored
test run::status       ... FAILED

failures:

---- run::status ----
it ends with CMD's status
  left: 0

 right: 3


failures:
    run::status

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s

@@reasons
exit::oom_kill: skipped, no memory cgroup
@@status 101
";

    #[test]
    fn a_guest_is_counted_by_group() {
        let guest = Guest::read("5.10", OUTPUT);
        assert_eq!(guest.summary(), "1 passed, 1 failed, 1 skipped");
        let expected = "\
passed/failed/skipped, by group of tests and kernel
       5.10.0-46-cloud-amd64
exit                   1/0/1
run                    0/1/0
FAILED on 5.10.0-46-cloud-amd64: run::status
    it ends with CMD's status
      left: 0
     right: 3
skipped on all: exit::oom_kill: no memory cgroup
";
        assert_eq!(table(&[guest]), expected);
    }

    #[test]
    fn a_test_that_passes_alone_is_flaky() {
        let again = "@@again run::status 0\nrunning 1 test\ntest run::status ... ok\n@@reasons\n";
        let guest = Guest::read("5.10", &OUTPUT.replace("@@reasons\n", again));
        assert!(guest.is_well());
        assert_eq!(guest.summary(), "2 passed, 0 failed, 1 skipped");
        assert_eq!(guest.tally().flaky, ["Linux 5.10.0-46-cloud-amd64: run::status"]);
        let again = again.replace("status 0", "status 101");
        let guest = Guest::read("5.10", &OUTPUT.replace("@@reasons\n", &again));
        assert_eq!(guest.summary(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(guest.tally().flaky, [""; 0]);
    }

    #[test]
    fn a_guest_that_dies_has_failed() {
        let guest = Guest::read(
            "6.1",
            "@@release 6.1.0\n@@doctor\n{\"works\":true,\"checks\":[]}\n@@tests\nrunning 2 tests\ntest exit::a ... ok\n",
        );
        assert!(!guest.is_well());
        let missing = "Linux 6.1.0: 2 tests should have run, and 1 have an outcome";
        assert_eq!(guest.tally().failed, [missing, "Linux 6.1.0: the tests did not end well"]);
        assert!(!Guest::read("6.1", "").is_well());
    }
}
