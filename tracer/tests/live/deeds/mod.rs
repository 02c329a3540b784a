//! The deeds: each does one hard thing and writes down the truth about it.

pub(crate) mod blocked_memory;
mod exec_argv;
pub(crate) mod exec_cred;
mod exec_failed;
mod exec_path;
pub(crate) mod exit;
mod filters;
pub(crate) mod hostile;
mod kit;
mod library;
mod loss;
mod not_resident;
mod oracle;
mod reap;
pub(crate) mod report;
mod saturate;
mod session;
mod signal;
mod storm;
mod tree;
mod tree_ns;
mod usage;

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::support::{Ident, Truth};

pub(crate) use usage::memory_hierarchy;

/// A deed. It gets its truth file and the arguments that follow it.
type Deed = fn(Truth, &[String]);

/// Every deed by name.
const DEEDS: &[&[(&str, Deed)]] = &[
    exit::DEEDS,
    blocked_memory::DEEDS,
    usage::DEEDS,
    exec_argv::DEEDS,
    exec_cred::DEEDS,
    exec_failed::DEEDS,
    not_resident::DEEDS,
    exec_path::DEEDS,
    tree::DEEDS,
    tree_ns::DEEDS,
    oracle::DEEDS,
    storm::DEEDS,
    reap::DEEDS,
    session::DEEDS,
    signal::DEEDS,
    loss::DEEDS,
    filters::DEEDS,
    hostile::DEEDS,
    saturate::DEEDS,
    library::DEEDS,
];

/// Does a deed, if this process was started for one.
pub(crate) fn dispatch() -> Option<ExitCode> {
    if let Some(status) = report::dispatch().or_else(oracle::dispatch) {
        return Some(status);
    }
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let [_, mode, name, truth, rest @ ..] = arguments.as_slice() else { return None };
    if mode != "--deed" {
        return None;
    }
    let Some((_, deed)) = DEEDS.iter().copied().flatten().find(|(known, _)| known == name) else {
        eprintln!("there is no deed {name}");
        return Some(ExitCode::from(2));
    };
    let truth = Truth::open(Path::new(truth));
    truth.say("deed", json!(Ident::me()));
    deed(truth, rest);
    Some(ExitCode::SUCCESS)
}
