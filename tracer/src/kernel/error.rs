//! Why the kernel side does not run, with the remedy.

use super::btf::BtfError;
use super::capabilities::{Held, Lack};
use super::memlock;

/// Why the kernel side does not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// BTF is missing or not understood.
    #[error("{0}{remedy}", remedy = .0.remedy())]
    Btf(#[from] BtfError),
    /// Not allowed to load programs.
    #[error("not permitted to load BPF programs {0}")]
    NotPermitted(Lack),
    /// There is no room for what the kernel side needs (before Linux 5.11).
    #[error(
        "the limit of locked memory ({} KiB) is too low for BPF; raise it with `{}`, or with LimitMEMLOCK=infinity in a unit",
        bytes >> 10,
        memlock::REMEDY
    )]
    Memlock {
        /// The limit.
        bytes: u64,
    },
    /// The kernel refused.
    #[error("the kernel refused {what}: {why}; `tracer doctor` tells what it lacks")]
    Refused {
        /// What.
        what: String,
        /// Its answer.
        why: String,
    },
}

pub(super) fn refused(what: &str, why: &dyn std::fmt::Display) -> LoadError {
    LoadError::Refused { what: what.into(), why: why.to_string() }
}

/// Tells a lack of privileges from everything else, by the error number deep inside.
pub(super) fn classify(what: &str, error: &(dyn std::error::Error + 'static)) -> LoadError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut texts: Vec<String> = Vec::new();
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<std::io::Error>()
            && matches!(io.raw_os_error(), Some(nix::libc::EPERM | nix::libc::EACCES))
            && let Some(lack) = Held::now().lack()
        {
            return LoadError::NotPermitted(lack);
        }
        // The verifier's log may have thousands of lines; what it stumbled over is the last before its statistics.
        let text = this.to_string();
        tracing::debug!("{what}: {text}");
        let statistics = ["processed ", "verification time", "stack depth"];
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default();
        let first = first.strip_suffix(". Verifier output:").unwrap_or(first);
        let told = lines.rfind(|line| !statistics.iter().any(|word| line.starts_with(word)));
        let line =
            told.map_or(first.to_owned(), |told| format!("{}: {told}", first.split(". ").next().unwrap_or_default()));
        if !texts.last().is_some_and(|last| last.contains(&line)) {
            texts.push(line);
        }
        cause = this.source();
    }
    LoadError::Refused { what: what.into(), why: texts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_that_says_nothing_leaves_no_colon() {
        let error = std::io::Error::other("the syscall returned Invalid argument (os error 22). Verifier output: ");
        let text = classify("program x", &error).to_string();
        assert!(!text.contains("Verifier output") && text.contains("Invalid argument"), "{text}");
    }
}
