//! Why a trace did not start, or ended early.

use std::io;
use std::sync::Arc;

use crate::kernel::error::LoadError;
use crate::pipeline::PipelineError;
use crate::source::SourceError;
use crate::source::live::StartError;
use crate::source::recording::RecordingError;

/// Why a trace did not start, or ended early. The text is one line: the cause, and the remedy where there is one.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Arc<Cause>);

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The process lacks privileges to load BPF programs.
    NotPermitted,
    /// The kernel cannot be traced, or not from here: a pid namespace, for example.
    Unsupported,
    /// A term of the filter is wrong.
    Filter,
    /// An option of the builder is out of range.
    Option,
    /// The recording cannot be read, or is none.
    Recording,
    /// Anything else, such as a lack of memory.
    Other,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error("{0}")]
    Filter(String),
    #[error("{0}")]
    Option(String),
    #[error("cannot start the thread that traces: {0}")]
    Thread(#[source] io::Error),
    #[error("the thread that traces has panicked")]
    Panicked,
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Arc::new(cause))
    }
}

impl Error {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Cause::Start(StartError::Kernel(LoadError::NotPermitted(_))) => ErrorKind::NotPermitted,
            Cause::Start(StartError::Kernel(LoadError::Btf(_)) | StartError::Place(_)) => ErrorKind::Unsupported,
            Cause::Filter(_) => ErrorKind::Filter,
            Cause::Option(_) => ErrorKind::Option,
            Cause::Recording(_) | Cause::Pipeline(PipelineError::Source(SourceError::Recording(_))) => {
                ErrorKind::Recording
            }
            Cause::Start(_) | Cause::Pipeline(_) | Cause::Thread(_) | Cause::Panicked => ErrorKind::Other,
        }
    }

    /// What to do about it, where that is known. The text of the error contains it.
    pub fn remedy(&self) -> Option<String> {
        match &*self.0 {
            Cause::Start(StartError::Kernel(error)) => error.remedy(),
            Cause::Start(StartError::Place(error)) => Some(error.remedy().to_owned()),
            _ => None,
        }
    }
}
