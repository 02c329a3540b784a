//! Why the kernel side does not run, with the remedy.

use std::error::Error;
use std::fmt;
use std::io;

use nix::errno::Errno;

use super::btf::BtfError;
use super::capabilities::{Held, Lack};
use super::memlock;

/// Why the kernel side does not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// BTF is missing or not understood.
    #[error("{error}{remedy}", error = .0, remedy = .0.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
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
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl LoadError {
    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Btf(error) => error.remedy().map(str::to_owned),
            Self::NotPermitted(lack) => Some(lack.remedy()),
            Self::Memlock { .. } => Some(memlock::REMEDY.to_owned()),
            Self::Refused(refusal) => Some(refusal.remedy.to_owned()),
        }
    }
}

/// The kernel refused something.
///
/// Its text has the causes in it, shortened: a verifier's log may have thousands of lines. So it has no [`Error::source`].
#[derive(Debug)]
pub struct Refusal {
    /// What was to be done, or with what.
    pub doing: String,
    /// The answer.
    pub source: Box<dyn Error + Send + Sync>,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Where nothing better is known.
const DOCTOR: &str = "`tracer doctor` shows what it lacks";

pub(super) fn refused(doing: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> LoadError {
    Refusal { doing: doing.into(), source: source.into(), remedy: DOCTOR }.with_remedy().into()
}

/// The same of what takes privileges: if they are missing, that is the reason.
pub(super) fn classify(doing: &str, error: impl Error + Send + Sync + 'static) -> LoadError {
    let refusal = Refusal { doing: doing.into(), source: error.into(), remedy: DOCTOR }.with_remedy();
    refusal.causes().for_each(|cause| tracing::debug!("{doing}: {cause}"));
    match Held::now().lack() {
        Some(lack) if matches!(refusal.errno(), Some(Errno::EPERM | Errno::EACCES)) => LoadError::NotPermitted(lack),
        _ => refusal.into(),
    }
}

impl Refusal {
    /// Names a better remedy where the error number shows one.
    fn with_remedy(mut self) -> Self {
        if matches!(self.errno(), Some(Errno::EMFILE | Errno::ENFILE)) {
            self.remedy = "raise the limit on open files (`ulimit -n`)";
        }
        self
    }

    /// The error number that the kernel gave, if it did.
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

/// One line. Of a verifier's log, the last before its statistics: what it stumbled over.
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
    fn a_verifier_that_says_nothing_leaves_no_colon() {
        let error = io::Error::other("the syscall returned Invalid argument (os error 22). Verifier output: ");
        let text = classify("program x", error).to_string();
        assert!(!text.contains("Verifier output") && text.contains("Invalid argument"), "{text}");
    }

    #[test]
    fn the_number_of_an_error_is_found_below_others() {
        let refusal = |source: Box<dyn Error + Send + Sync>| Refusal { doing: "x".into(), source, remedy: DOCTOR };
        let deep = aya::EbpfError::FileError { path: "y".into(), error: io::Error::from_raw_os_error(1) };
        assert_eq!(refusal(deep.into()).errno(), Some(Errno::EPERM));
        assert_eq!(refusal(Errno::EINVAL.into()).errno(), Some(Errno::EINVAL));
        assert_eq!(refusal("(os error 1)".into()).errno(), None, "a text is no number");
    }
}
