//! What every case needs: starting tracer, reading its lines, reading the truth.

mod case;
pub(crate) mod proc;
mod rng;
mod sound;
mod trace;
mod tracer;
pub(crate) mod truth;

pub(crate) use case::{Case, Need, case};
pub(crate) use rng::Rng;
pub(crate) use sound::check_sound;
pub(crate) use trace::{Trace, parts};
pub(crate) use tracer::{BOUND, Finished, Guarded, Run, Stream, command, deed_arguments, run_bounded, this_binary};
pub(crate) use truth::{Ident, Said, Truth, TruthLog};
