//! Why the kernel side does not run, with the remedy.

use std::error::Error;
use std::fmt;
use std::io;

use nix::errno::Errno;

use super::btf::BtfError;
use super::capabilities::{Capabilities, MissingCapabilities};

/// Why the kernel side does not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// BTF is missing or cannot be used.
    #[error("{error}{remedy}", error = .0, remedy = .0.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
    Btf(#[from] BtfError),
    /// Not allowed to load programs.
    #[error("not permitted to load BPF programs {0}")]
    NotPermitted(MissingCapabilities),
    /// The limit of locked memory is too low for the kernel side (before Linux 5.11).
    #[error(
        "the limit of locked memory ({} KiB) is too low for BPF; raise it with `{}`, or with LimitMEMLOCK=infinity in a unit",
        bytes >> 10,
        MEMLOCK_REMEDY
    )]
    Memlock {
        /// The limit in bytes.
        bytes: u64,
    },
    /// The kernel refused something.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl LoadError {
    /// Returns the remedy, if one is known.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Btf(error) => error.remedy().map(str::to_owned),
            Self::NotPermitted(missing) => Some(missing.remedy()),
            Self::Memlock { .. } => Some(MEMLOCK_REMEDY.to_owned()),
            Self::Refused(refusal) => Some(refusal.remedy.to_owned()),
        }
    }
}

/// The kernel refused something.
///
/// Its text includes the causes, shortened: a verifier's log may have thousands of lines. So it has no [`Error::source`].
#[derive(Debug)]
pub struct Refusal {
    /// The refused action or its object.
    pub doing: String,
    /// The error.
    pub source: Box<dyn Error + Send + Sync>,
    /// What to do about it.
    pub remedy: &'static str,
}

/// How to raise the limit of locked memory.
pub(crate) const MEMLOCK_REMEDY: &str = "ulimit -l unlimited";

/// The default remedy.
const DOCTOR: &str = "`tracer doctor` shows what it lacks";

pub(super) fn refused(doing: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> LoadError {
    Refusal { doing: doing.into(), source: source.into(), remedy: DOCTOR }.with_remedy().into()
}

/// Returns the error of an action that needs privileges. If they are missing, they are the reason.
pub(super) fn classify(doing: &str, error: impl Error + Send + Sync + 'static) -> LoadError {
    let refusal = Refusal { doing: doing.into(), source: error.into(), remedy: DOCTOR }.with_remedy();
    refusal.causes().for_each(|cause| tracing::debug!("{doing}: {cause}"));
    match Capabilities::current().missing() {
        Some(missing) if matches!(refusal.errno(), Some(Errno::EPERM | Errno::EACCES)) => {
            LoadError::NotPermitted(missing)
        }
        _ => refusal.into(),
    }
}

impl Refusal {
    /// Sets a better remedy if the error number suggests one.
    fn with_remedy(mut self) -> Self {
        if matches!(self.errno(), Some(Errno::EMFILE | Errno::ENFILE)) {
            self.remedy = "raise the limit on open files (`ulimit -n`)";
        }
        self
    }

    /// Returns the error number of the kernel, if there is one.
    pub fn errno(&self) -> Option<Errno> {
        self.causes().find_map(|cause| {
            let io = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).map(Errno::from_raw);
            io.or_else(|| cause.downcast_ref::<Errno>().copied())
        })
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        let first: &(dyn Error + 'static) = &*self.source;
        std::iter::successors(Some(first), |&cause| cause.source())
    }
}

impl Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::new();
        for cause in self.causes() {
            let line = short(&cause.to_string());
            if !texts.last().is_some_and(|last| last.contains(&line)) {
                texts.push(line);
            }
        }
        write!(f, "the kernel refused {}: {}; {}", self.doing, texts.join(": "), self.remedy)
    }
}

/// Shortens an error to one line. From a verifier's log it takes the last line before the statistics, the reason.
fn short(text: &str) -> String {
    let statistics = ["processed ", "verification time", "stack depth"];
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let first = first.strip_suffix(". Verifier output:").unwrap_or(first);
    let reason = lines.rfind(|line| !statistics.iter().any(|word| line.starts_with(word)));
    reason.map_or(first.to_owned(), |reason| format!("{}: {reason}", first.split(". ").next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_verifier_log_leaves_no_colon() {
        let error = io::Error::other("the syscall returned Invalid argument (os error 22). Verifier output: ");
        let text = classify("program x", error).to_string();
        assert!(!text.contains("Verifier output") && text.contains("Invalid argument"), "{text}");
    }

    #[test]
    fn error_numbers_are_found_in_nested_causes() {
        let refusal = |source: Box<dyn Error + Send + Sync>| Refusal { doing: "x".into(), source, remedy: DOCTOR };
        let deep = aya::EbpfError::FileError { path: "y".into(), error: io::Error::from_raw_os_error(1) };
        assert_eq!(refusal(deep.into()).errno(), Some(Errno::EPERM));
        assert_eq!(refusal(Errno::EINVAL.into()).errno(), Some(Errno::EINVAL));
        assert_eq!(refusal("(os error 1)".into()).errno(), None, "text is not a number");
    }
}
