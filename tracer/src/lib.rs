#![doc = include_str!("../../docs/library.md")]
// With `internals` the modules are public, so these items are reachable.
#![cfg_attr(
    not(feature = "internals"),
    allow(unreachable_pub, reason = "with the feature `internals` they are reachable")
)]

#[cfg(not(feature = "internals"))]
mod analysis;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod analysis;
#[cfg(all(feature = "cli", not(feature = "internals")))]
mod cli;
#[cfg(all(feature = "cli", feature = "internals"))]
#[doc(hidden)]
pub mod cli;
#[cfg(not(feature = "internals"))]
mod clock;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod clock;
#[cfg(all(feature = "cli", not(feature = "internals")))]
mod doctor;
#[cfg(all(feature = "cli", feature = "internals"))]
#[doc(hidden)]
pub mod doctor;
#[cfg(not(feature = "internals"))]
mod enrich;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod enrich;
pub mod event;
#[cfg(not(feature = "internals"))]
mod filter;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod filter;
#[cfg(not(feature = "internals"))]
mod kernel;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod kernel;
#[cfg(not(feature = "internals"))]
mod pipeline;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod pipeline;
#[cfg(not(feature = "internals"))]
mod proc;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod proc;
#[cfg(not(feature = "internals"))]
mod record;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod record;
#[cfg(all(feature = "cli", not(feature = "internals")))]
mod sink;
#[cfg(all(feature = "cli", feature = "internals"))]
#[doc(hidden)]
pub mod sink;
#[cfg(not(feature = "internals"))]
mod source;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod source;
#[cfg(not(feature = "internals"))]
mod sys;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod sys;
#[cfg(not(feature = "internals"))]
mod table;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod table;
mod trace;
#[cfg(not(feature = "internals"))]
mod untrusted;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod untrusted;
#[cfg(all(feature = "cli", not(feature = "internals")))]
mod view;
#[cfg(all(feature = "cli", feature = "internals"))]
#[doc(hidden)]
pub mod view;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub use cli::{main, out_of_memory};
pub use event::{Detail, Event, Kind, Process};
pub use filter::Filter;
pub use pipeline::backpressure::OnSlow;
pub use source::live::ExecFailures;
pub use trace::{Builder, Error, ErrorKind, Source, Tracer};
