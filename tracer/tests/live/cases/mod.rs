//! The cases, one trial each.

mod attach;
mod audit;
mod cli;
mod container_names;
mod container_origins;
mod container_table;
mod containers;
mod exec_argv;
mod exec_failed;
mod exec_path;
mod exit;
mod filters;
mod kernel;
mod load;
mod oracle;
mod passed_over;
mod place;
mod reader;
mod reap;
mod run;
mod run_signals;
mod saturating;
mod storm;
mod stream;
mod top;
mod tree;
mod types;
mod usage;
mod workloads;

use crate::support::Case;

pub(crate) fn all() -> Vec<Case> {
    [
        exit::cases(),
        usage::cases(),
        exec_argv::cases(),
        exec_failed::cases(),
        exec_path::cases(),
        tree::cases(),
        attach::cases(),
        kernel::cases(),
        stream::cases(),
        filters::cases(),
        reap::cases(),
        run::cases(),
        run_signals::cases(),
        reader::cases(),
        place::cases(),
        cli::cases(),
        container_names::cases(),
        container_origins::cases(),
        container_table::cases(),
        containers::cases(),
        audit::cases(),
        load::cases(),
        saturating::cases(),
        passed_over::cases(),
        types::cases(),
        storm::cases(),
        top::cases(),
        workloads::cases(),
        oracle::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
