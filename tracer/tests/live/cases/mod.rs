//! The cases, one trial each.

mod attach;
mod audit;
mod capabilities;
mod cli;
mod container_names;
mod container_origins;
mod container_paths;
mod container_table;
mod containers;
mod ending;
mod exec_argv;
mod exec_failed;
mod exec_path;
mod exit;
mod faults;
mod filters;
mod filters_by_cgroup;
mod hostile;
mod kernel;
mod kernel_log;
mod library;
mod load;
mod oracle;
mod passed_over;
mod place;
mod reader;
mod reap;
mod recordings;
mod run;
mod run_signals;
mod run_world;
mod saturating;
mod session;
mod storm;
mod stream;
mod surroundings;
mod top;
mod tree;
mod trust;
mod types;
mod usage;
mod values;
mod watch;
mod workloads;

use crate::support::Case;

pub(crate) fn all() -> Vec<Case> {
    [
        exit::cases(),
        usage::cases(),
        values::cases(),
        exec_argv::cases(),
        exec_failed::cases(),
        exec_path::cases(),
        tree::cases(),
        attach::cases(),
        session::cases(),
        kernel::cases(),
        kernel_log::cases(),
        stream::cases(),
        surroundings::cases(),
        capabilities::cases(),
        filters::cases(),
        filters_by_cgroup::cases(),
        reap::cases(),
        recordings::cases(),
        run::cases(),
        run_signals::cases(),
        run_world::cases(),
        ending::cases(),
        faults::cases(),
        reader::cases(),
        place::cases(),
        cli::cases(),
        watch::cases(),
        container_names::cases(),
        container_origins::cases(),
        container_paths::cases(),
        container_table::cases(),
        containers::cases(),
        trust::cases(),
        hostile::cases(),
        audit::cases(),
        load::cases(),
        saturating::cases(),
        passed_over::cases(),
        library::cases(),
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
