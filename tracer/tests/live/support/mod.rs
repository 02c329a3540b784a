//! Shared by all cases: starting tracer, reading its lines, reading the truth file.

pub(crate) mod capabilities;
mod case;
pub(crate) mod engines;
mod pair;
pub(crate) mod proc;
mod process;
mod rng;
mod schema;
mod sound;
mod stream;
mod trace;
mod tracer;
pub(crate) mod truth;

pub(crate) use case::{Case, Need, case, kernel_version, which};
pub(crate) use pair::{Pair, past_unknown};
pub(crate) use process::{BOUND, Finished, Guarded, SLOWNESS, copy_program, run_bounded, write_script};
pub(crate) use rng::Rng;
pub(crate) use schema::check_schema;
pub(crate) use sound::check_sound;
pub(crate) use stream::{STORM_RING, Stream};
pub(crate) use trace::{Line, Trace, parse_lines, parts};
pub(crate) use tracer::{
    Run, command, deed_arguments, directory_in_memory, open_directory, this_binary, tracer_binary,
};
pub(crate) use truth::{Ident, Truth, TruthLine, TruthLog};
