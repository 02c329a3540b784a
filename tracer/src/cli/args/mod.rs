//! Options that several commands share, by subject.

mod capture;
mod filters;
mod limits;
mod output;
mod values;

pub use capture::{Capture, CaptureArgs};
pub use filters::FilterArgs;
pub use output::Globals;
pub(super) use values::{delay, duration, pid};
