//! Test results, read from the output of `cargo test`.

use std::fmt;

/// Counts, and the names of tests that did not pass.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
    pub(crate) skipped: Vec<String>,
    /// Tests that failed, then passed when they ran again alone. They count as passed.
    pub(crate) flaky: Vec<String>,
}

impl Tally {
    pub(crate) fn count(&self) -> usize {
        self.passed + self.failed.len() + self.skipped.len()
    }

    /// Moves a failed test to the flaky ones, because it passed when it ran again.
    pub(crate) fn passed_alone(&mut self, name: &str) {
        self.failed.retain(|failed| failed != name);
        self.passed += 1;
        self.flaky.push(name.to_owned());
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
        self.flaky.extend(other.flaky);
    }
}

/// Prints the names, then the counts on a separate line.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flaky = "flaky (failed once, passed alone; each is a defect to mend)";
        for (title, names) in [("failed", &self.failed), ("skipped", &self.skipped), (flaky, &self.flaky)] {
            if !names.is_empty() {
                writeln!(f, "{title}:\n  {}", names.join("\n  "))?;
            }
        }
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len())
    }
}

/// Reads the output of `cargo test` line by line: libtest's own, and libtest-mimic's, which looks the same.
///
/// The counts come from the `test result:` lines. A test binary that ends without one has failed.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    tally: Tally,
    running: Option<Binary>,
}

/// A test binary whose result was not read yet.
#[derive(Debug, Default)]
struct Binary {
    name: String,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Reader {
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(name) = header(line) {
            self.end_without_result();
            self.running = Some(Binary { name, ..Binary::default() });
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.result(counts);
        } else if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... ")) {
            self.test(name.trim(), outcome.trim());
        }
    }

    /// Returns the tally at the end of the output.
    pub(crate) fn finish(mut self) -> Tally {
        self.end_without_result();
        self.tally
    }

    fn test(&mut self, name: &str, outcome: &str) {
        let Some(binary) = &mut self.running else {
            return;
        };
        if outcome == "FAILED" {
            binary.failed.push(format!("{}: {name}", binary.name));
        } else if let Some(reason) = outcome.strip_prefix("ignored") {
            // libtest prints `ignored, why`, libtest-mimic prints `ignored (why)`.
            let reason = reason.trim_start_matches([',', ' ', '(']);
            let reason = if outcome.ends_with(')') && outcome.starts_with("ignored (") {
                &reason[..reason.len() - 1]
            } else {
                reason
            };
            let colon = if reason.is_empty() { "" } else { ": " };
            binary.skipped.push(format!("{}: {name}{colon}{reason}", binary.name));
        }
    }

    fn result(&mut self, counts: &str) {
        let count = |what: &str| {
            counts
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<usize>().ok())
                .unwrap_or(0)
        };
        let mut binary = self.running.take().unwrap_or_default();
        // Output of the test itself can separate its name from its outcome. It still counts.
        let unnamed = || format!("{}: (its name was lost in the output)", binary.name);
        binary.failed.resize_with(count("failed"), unnamed);
        binary.skipped.resize_with(count("ignored"), unnamed);
        self.tally.add(Tally {
            passed: count("passed"),
            failed: binary.failed,
            skipped: binary.skipped,
            ..Tally::default()
        });
    }

    fn end_without_result(&mut self) {
        if let Some(binary) = self.running.take() {
            self.tally.failed.extend(binary.failed);
            self.tally.failed.push(format!("{}: it ended without a result", binary.name));
        }
    }
}

/// Returns a name for the test binary that cargo starts: `tests/live.rs`, or `tracer` for a crate's own tests.
fn header(line: &str) -> Option<String> {
    if let Some(doc) = line.strip_prefix("   Doc-tests ") {
        return Some(format!("docs of {doc}"));
    }
    let (source, binary) = line.strip_prefix("     Running ")?.strip_suffix(')')?.split_once(" (")?;
    let Some(source) = source.strip_prefix("unittests ") else {
        return Some(source.to_owned());
    };
    let stem = binary.rsplit('/').next()?;
    let name = stem.rsplit_once('-').map_or(stem, |(name, _hash)| name);
    Some(format!("{name} {source}"))
}

#[cfg(test)]
mod tests {
    use super::{Reader, Tally};

    fn read(output: &str) -> String {
        let mut reader = Reader::default();
        output.lines().for_each(|line| reader.line(line));
        reader.finish().to_string()
    }

    #[test]
    fn names_and_counts_of_libtest_and_libtest_mimic() {
        let output = "\
   Compiling tracer v0.1.0
     Running unittests src/lib.rs (target/debug/deps/tracer-8d1a)

running 3 tests
test decode::tests::short ... ok
test decode::tests::torn - should panic ... ok
test slow ... ignored, takes an hour

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/live.rs (target/debug/deps/live-77aa)

running 3 tests
test exit_of_a_leader    ... ok
test oom_kill            ... ignored (no memory cgroup (v1 or v2))
test [live] setuid_exec  ... FAILED

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s

error: test failed, to rerun pass `-p tracer --test live`
   Doc-tests tracer
test tracer/src/lib.rs - Tracer (line 12) - compile ... ok
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.30s
";
        let expected = "\
failed:
  tests/live.rs: [live] setuid_exec
skipped:
  tracer src/lib.rs: slow: takes an hour
  tests/live.rs: oom_kill: no memory cgroup (v1 or v2)
4 passed, 1 failed, 2 skipped";
        assert_eq!(read(output), expected);
    }

    #[test]
    fn a_binary_that_dies_has_failed() {
        let output = "     Running tests/a.rs (target/debug/deps/a-1)\nrunning 9 tests\n     Running tests/b.rs (target/debug/deps/b-1)\n";
        let expected = "\
failed:
  tests/a.rs: it ended without a result
  tests/b.rs: it ended without a result
0 passed, 2 failed, 0 skipped";
        assert_eq!(read(output), expected);
    }

    #[test]
    fn a_test_that_passes_alone_is_flaky() {
        let mut tally =
            Tally { passed: 3, failed: vec!["live: a".to_owned(), "live: b".to_owned()], ..Tally::default() };
        tally.passed_alone("live: a");
        let expected = "\
failed:
  live: b
flaky (failed once, passed alone; each is a defect to mend):
  live: a
4 passed, 1 failed, 0 skipped";
        assert_eq!(tally.to_string(), expected);
    }

    #[test]
    fn a_failure_whose_name_was_torn_counts() {
        let output = "
     Running tests/a.rs (target/debug/deps/a-1)
test noisy ... said something
FAILED
test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        assert_eq!(
            read(output),
            "failed:\n  tests/a.rs: (its name was lost in the output)\n0 passed, 1 failed, 0 skipped"
        );
    }
}
