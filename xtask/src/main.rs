//! `cargo xtask`: the commands of this repository, one file each.
//!
//! Progress goes to stderr. stdout has only a command's result.

mod apt;
mod bench;
mod build;
mod dist;
mod packages;
mod probe;
mod process;
mod prose;
mod regen;
mod run;
mod setup;
mod soak;
mod tally;
mod test;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, run and test tracer.
///
/// Every command first installs what it needs, so a fresh clone needs only rustup's stable toolchain. Start with
/// `cargo xtask run` or `cargo xtask test`.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    Build(build::Args),
    Run(run::Args),
    Test(test::Args),
    Vm(vm::Args),
    Soak(soak::Args),
    Bench(bench::Args),
    Regen(regen::Args),
    Prose(prose::Args),
    Dist(dist::Args),
    #[command(hide = true)]
    RunTestBinary(test::RunnerArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Test(args) => return test::run(&args),
        Command::Soak(args) => return soak::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Regen(args) => regen::run(&args),
        Command::Prose(args) => prose::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::RunTestBinary(args) => test::run_test_binary(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            workspace::say(&format!("error: {why:#}"));
            ExitCode::FAILURE
        }
    }
}
