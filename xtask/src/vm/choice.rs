//! Selects the live tests that run in the guests.
//!
//! Everything is emulated there, and five kernels have a quarter of an hour. So the guests run the tests that depend
//! on the kernel: what the BPF programs report. What tracer does with that in user space is tested on the machine
//! itself.

use std::fmt;

/// Tests that are left out: a part of their names, and why.
struct LeftOut(&'static str, &'static str);

/// The filter by descent runs in their place.
const SAME: &str =
    "the programs of each filter are verified on every kernel (`types::`); what they do with a set is the same on all";

/// The tests with 64 KiB take the same path.
const LONG: &str = "arguments by the megabyte and by the ten thousand: the same loop as of 64 KiB";

/// Groups that have not run in a guest before.
const UNTRIED: &str = "not tried in a guest yet";

/// All other tests run. docs/kernels.md names these too.
const LEFT_OUT: &[LeftOut] = &[
    LeftOut("cli::", "views of /proc; doctor runs separately"),
    LeftOut("clock::", UNTRIED),
    LeftOut("ending::", "how signals end tracer, within a second: user space alone, and emulation is slower than that"),
    LeftOut("exec::argv_2", LONG),
    LeftOut("exec::argv_longest", LONG),
    LeftOut("exec_failed::each_of_a_storm", "20,000 execs; the same path as of a single one"),
    LeftOut("faults::", "faults in a storm: user space alone"),
    LeftOut("filters::a_unit", SAME),
    LeftOut("filters::in_user_space", SAME),
    LeftOut("filters::orphans", SAME),
    LeftOut("filters::starting", SAME),
    LeftOut("filters::those_", SAME),
    LeftOut("filters::what_was_lost", SAME),
    LeftOut("filters::who_", SAME),
    LeftOut("hostile::", "files and processes of another user: user space alone"),
    LeftOut("kernel_log::", UNTRIED),
    LeftOut("load::", "losses by the ten thousand take minutes to emulate"),
    LeftOut("oracle::seed_15838", "one seed is run"),
    LeftOut("place::", "how pids of other namespaces are refused does not depend on the kernel"),
    LeftOut("reader::", "slow readers: user space alone"),
    LeftOut("recordings::", "recordings are read by user space alone"),
    LeftOut("run::", "the traced command's terminal, signals and status: user space alone"),
    LeftOut("run_signals::", "the traced command's signals: user space alone"),
    LeftOut("snapshot::", UNTRIED),
    LeftOut("storm::", "sums of events: user space alone"),
    LeftOut("stream::", "filters, readers and signals: user space alone"),
    LeftOut(
        "tree::eight_pids",
        "pids that come again at once are tested by `tree::pid_used_again` and in a namespace with few pids",
    ),
    LeftOut("tree::starting_in_the_middle", "merging /proc with what comes meanwhile: user space alone"),
    LeftOut("tree::watched", "drawing: user space alone"),
    LeftOut("trust::", "claims and files of other users: user space alone"),
    LeftOut("users::", UNTRIED),
    LeftOut("values::", UNTRIED),
    LeftOut("top::", "sums of events: user space alone"),
];

/// Groups that the kernels between the oldest, the middle and the newest leave out in `cargo xtask test`. The oracle does the
/// same at random there, and every program is loaded.
const BETWEEN: [&str; 5] = ["exec::", "exec_failed::", "filters::", "reap::", "tree::"];

/// Seeds of the oracle run: one in isolation, the other among all events of the guest.
pub(super) const SEEDS: &str = "7919,15838";

/// The tests to run.
pub(super) enum Choice<'a> {
    /// Tests that depend on the kernel.
    Kernel,
    /// The same, but only a sample of it on the kernels between others.
    Sample,
    /// Everything that a guest can run.
    All,
    /// Tests with this text in their names.
    Only(&'a str),
}

impl Choice<'_> {
    /// Returns arguments for the command line of the live tests.
    pub(super) fn arguments(&self) -> String {
        match self {
            Self::Kernel | Self::Sample => {
                let skips: Vec<_> = LEFT_OUT.iter().flat_map(|&LeftOut(name, _)| ["--skip", name]).collect();
                skips.join(" ")
            }
            Self::All => String::new(),
            Self::Only(filter) => (*filter).to_owned(),
        }
    }

    /// Returns further arguments for the kernels between others.
    pub(super) fn arguments_between(&self) -> String {
        match self {
            Self::Sample => BETWEEN.map(|group| format!("--skip {group}")).join(" "),
            Self::Kernel | Self::All | Self::Only(_) => String::new(),
        }
    }

    /// Returns each group that is left out, with the reason.
    pub(super) fn left_out(&self) -> Vec<String> {
        match self {
            Self::Kernel => LEFT_OUT.iter().map(ToString::to_string).collect(),
            Self::Sample => {
                let between =
                    format!("{}: only a sample between others; `cargo xtask vm` runs them", BETWEEN.join(", "));
                LEFT_OUT.iter().map(ToString::to_string).chain([between]).collect()
            }
            Self::All => Vec::new(),
            Self::Only(filter) => vec![format!("all without `{filter}` in their names: as requested")],
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*: {}; `cargo xtask vm --all` runs it", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Choice, LEFT_OUT, LeftOut};
    use crate::workspace;

    #[test]
    fn what_is_left_out_is_written_down() {
        let text = std::fs::read_to_string(workspace::root().join("docs/kernels.md")).unwrap();
        for LeftOut(name, _) in LEFT_OUT {
            assert!(text.contains(&format!("`{name}`")), "docs/kernels.md does not name {name}");
        }
        assert!(
            text.contains("`exec::`, `exec_failed::`, `filters::`, `reap::` and `tree::`"),
            "docs/kernels.md: the sample"
        );
        assert_eq!(Choice::Kernel.left_out().len(), LEFT_OUT.len());
        assert_eq!(Choice::Sample.left_out().len(), LEFT_OUT.len() + 1);
        assert!(
            Choice::Sample.arguments_between().starts_with("--skip exec:: ")
                && Choice::All.arguments_between().is_empty()
        );
        assert!(Choice::Kernel.arguments().starts_with("--skip cli:: --skip "));
    }
}
