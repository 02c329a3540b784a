//! `cargo xtask run`

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::{self, Profile};
use crate::{process, setup};

/// Build tracer and run it, with the privileges it needs
///
/// ARGS go to tracer as they are; without any it is `tracer stream`:
///
///     cargo xtask run
///     cargo xtask run -- tree --watch
///     cargo xtask run -- run -- make -j4
///
/// As root tracer is started directly, else by sudo, with the caller's environment
/// and PATH. It takes the place of this command: signals, terminal and exit status
/// are its own, and stdout holds nothing else.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// What to give to tracer
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "stream", hide_default_value = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    build::bpf_object(&setup::bpf_toolchain()?)?;
    let binary = build::tracer(Profile::Release)?;
    let why = privileged(&binary)?.args(&args.args).exec();
    Err(why).with_context(|| format!("cannot start {}", binary.display()))
}

/// Returns `program` as root, with the caller's environment.
pub(crate) fn privileged(program: &Path) -> Result<Command> {
    let mut command = if process::is_root() {
        Command::new(program)
    } else {
        // sudo would give root's PATH to a command that tracer starts; `--preserve-env` alone does not keep the
        // caller's.
        let mut path = OsString::from("PATH=");
        path.push(env::var_os("PATH").unwrap_or_default());
        let mut sudo = Command::new(process::sudo()?);
        sudo.args(["--preserve-env", "--", "env"]).arg(path).arg(program);
        sudo
    };
    for (name, value) in process::cleaning() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // rustup sets the toolchain for xtask, not for a traced cargo.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTUP_TOOLCHAIN_SOURCE");
    Ok(command)
}
