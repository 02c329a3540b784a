//! The cases, one trial each.

mod attach;
mod exec_argv;
mod exec_path;
mod exit;
mod oracle;
mod tree;
mod usage;

use crate::support::Case;

pub(crate) fn all() -> Vec<Case> {
    [exit::cases(), usage::cases(), exec_argv::cases(), exec_path::cases(), tree::cases(), attach::cases(), oracle::cases()].into_iter().flatten().collect()
}
