//! The command line: one file per subcommand.
//!
//! clap parses the command line into structs (`StreamArgs`). Each command turns them into a plan ([`stream::StreamPlan`]) before it
//! does anything. Options that contradict each other are wrong usage.

mod args;
mod completions;
pub mod containers;
pub mod doctor;
mod exit;
mod from;
mod man;
pub mod run;
mod schema;
mod screen;
mod session;
mod stop;
pub mod stream;
pub mod top;
pub mod tree;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process;

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

pub use args::{Capture, CaptureArgs, FilterArgs, Globals};
pub use exit::{ExitCode, UsageError, out_of_memory};
pub use from::FromArgs;

use crate::sys::sigwait;

const LONG_ABOUT: &str = "\
tracer reports every process of a Linux machine from fork to exit: its parent, its program and arguments, how it ended, \
why, and what it cost. tracer attaches small eBPF programs to the kernel's fork, exec and exit tracepoints. tracer does not \
sample, so a process that lives one millisecond is recorded. tracer marks truncated data and reports lost events.

tracer needs root, or the capabilities CAP_BPF and CAP_PERFMON, and a kernel with BTF. With CAP_SYS_PTRACE it also knows exe \
and cwd of other users' running processes. `tracer doctor` reports what is missing. `tracer tree` needs no privilege, except \
with --watch.";

const AFTER_HELP: &str = "\
Examples:
  tracer run -- make -j4           show what a build runs, and what each process costs
  tracer tree -p --watch           show the process tree, live
  tracer top                       show what spawns all these processes
  tracer containers --audit        show how a container starts, step by step
  tracer stream                    write every fork, exec and exit of the machine as JSON lines
  tracer stream --format text      the same as text
  tracer stream --event exec --exe '*/curl' | jq -r .process.argv
  tracer doctor                    check whether tracing works here";

const AFTER_LONG_HELP: &str = "\
Examples:
  tracer run -- make -j4
      Run a build. Then show the tree of all its processes, with time, memory and exit status of each.
  tracer run -o build.jsonl -- make -j4
      The same, but write every event as a JSON line to a file.
  tracer tree -p --watch
      Show the process tree with pids, and redraw it when a process starts or ends.
  tracer top
      Show which processes spawn others, and count every short-lived process.
  tracer containers --audit
      Show each step of every container start, and how long it takes.
  tracer stream --format text --event exec,exit
      Show what starts and ends on this machine.
  tracer stream --event exec --exe '*/curl' | jq -r '.process.argv | join(\" \")'
      Print every command line of curl from now on.
  tracer stream --pid $$ -o here.jsonl
      Record this shell and all its descendants.

Exit status:
  0  done; also after SIGINT, SIGTERM or SIGHUP, or when the reader of standard output closed it
  1  failed; one line on standard error names the cause and the remedy
  2  wrong usage
  `tracer run` ends with the status of its command: 128+n if signal n killed it, 126 if it could not be
  executed, 127 if it was not found.

Environment:
  NO_COLOR             if set and not empty, no colours (unless --color always)
  LC_ALL, LC_CTYPE, LANG
                       select UTF-8 or ASCII for the lines of trees
  TZ                   time zone of --format text";

/// Every process from fork to exit.
#[derive(Debug, Parser)]
#[command(
    name = "tracer",
    version,
    about = "Every Linux process from fork to exit: exact events, an exact tree, JSON lines",
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    after_long_help = AFTER_LONG_HELP,
    max_term_width = 100,
    infer_long_args = true
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Stream(Box<stream::StreamArgs>),
    Run(Box<run::RunArgs>),
    Tree(Box<tree::TreeArgs>),
    Top(Box<top::TopArgs>),
    Containers(containers::ContainersArgs),
    Doctor(doctor::DoctorArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(name = run::hold::NAME, hide = true)]
    Hold(run::hold::HoldArgs),
}

/// Runs the command line.
pub fn main() -> process::ExitCode {
    sigwait::block_file_size();
    let words: Vec<OsString> = std::env::args_os().collect();
    let colour = colour_option(&words);
    let cli = Cli::command().color(colour).try_get_matches_from(words).and_then(|m| Cli::from_arg_matches(&m));
    match cli {
        Ok(cli) => {
            log_to_stderr(&cli.globals);
            exit::conclude(execute(cli.command, &cli.globals), colour)
        }
        Err(error) if error.use_stderr() => {
            // If standard error cannot be written, there is no other place to report it.
            let _ = error.print();
            ExitCode::Usage
        }
        Err(help) => exit::conclude(print_help(&help, colour), colour),
    }
    .into()
}

fn execute(command: Command, globals: &Globals) -> anyhow::Result<ExitCode> {
    match command {
        Command::Stream(args) => stream::execute(args.plan(globals)?),
        Command::Run(args) => run::execute(args.plan(globals)?),
        Command::Tree(args) => tree::execute(&args, globals),
        Command::Top(args) => top::execute(args.plan(globals)?),
        Command::Containers(args) => containers::execute(&args, globals),
        Command::Doctor(args) => doctor::execute(&args, globals),
        Command::Schema(args) => schema::execute(&args, globals),
        Command::Hold(args) => run::hold::execute(args),
        Command::Completions(args) => completions::execute(&args, globals),
        Command::Man(args) => man::execute(&args, globals),
    }
}

/// Prints help or version as ordinary output. An error of the write is an error of tracer.
fn print_help(help: &clap::Error, colour: ColorChoice) -> anyhow::Result<ExitCode> {
    let globals = Globals::with_colour(colour);
    let mut output = globals.open()?;
    let text = help.render();
    let text = if globals.colours(&output) { text.ansi().to_string() } else { text.to_string() };
    output.write_all(text.as_bytes())?;
    debug_assert!(matches!(help.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion));
    Ok(ExitCode::Done)
}

/// Returns the value of `--color`. clap prints help and errors before it has parsed all arguments.
fn colour_option(words: &[OsString]) -> ColorChoice {
    let words: Vec<_> = words.iter().take_while(|word| *word != "--").filter_map(|word| word.to_str()).collect();
    let value = words.iter().enumerate().find_map(|(i, word)| match word.strip_prefix("--color") {
        Some("") => words.get(i + 1).copied(),
        Some(rest) => rest.strip_prefix('='),
        None => None,
    });
    value.and_then(|value| value.parse().ok()).unwrap_or(ColorChoice::Auto)
}

/// Sends diagnostics to standard error: warnings always, more with `-v`.
fn log_to_stderr(globals: &Globals) {
    let level = match globals.verbosity() {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // An error means that a subscriber was set before.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(globals.verbosity() > 1)
        .try_init();
}
