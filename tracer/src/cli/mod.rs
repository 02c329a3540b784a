//! What is typed, and where it leads: one file a subcommand.
//!
//! The structs that clap fills hold what was typed (low arguments). Each command turns its own into what it
//! means (high arguments, e.g. [`stream::Plan`]) before it does anything; what cannot mean anything ends there,
//! as wrong usage.

mod args;
mod completions;
pub mod containers;
pub mod doctor;
mod drain;
mod exit;
mod live_view;
pub mod run;
mod schema;
mod screen;
mod session;
pub mod stream;
pub mod top;
pub mod tree;
mod watch;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process;

use clap::error::ErrorKind;
use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

pub use args::{Capture, CaptureArgs, FilterArgs};
pub use exit::{ExitCode, UsageError};

use crate::sink::{Output, Target};

const LONG_ABOUT: &str = "\
tracer shows every process of a Linux machine from birth to death: who made it, what it ran with which \
arguments, how it ended, why, and what it cost. Small eBPF programs on the kernel's fork, exec and exit \
tracepoints see each process, however short-lived; nothing is sampled, cut short or dropped without being told.

It needs root, or the capabilities CAP_BPF and CAP_PERFMON (with CAP_SYS_PTRACE it also knows exe and cwd of what others \
run already), and a kernel with BTF: `tracer doctor` tells what is missing. `tracer tree` needs neither, except with --watch.";

const AFTER_HELP: &str = "\
Examples:
  tracer run -- make -j4           what did this build run, and what did each process cost?
  tracer tree -p --watch           the process tree, live
  tracer top                       who spawns all these processes?
  tracer containers --audit        what does it take to start a container?
  tracer stream                    every fork, exec and exit of the machine, as JSON lines
  tracer stream --format text      … for people
  tracer stream --event exec --exe '*/curl' | jq -r .process.argv
  tracer doctor                    will it work here?";

const AFTER_LONG_HELP: &str = "\
Examples:
  tracer run -- make -j4
      Run a build; then show the tree of all it ran, with time, memory and exit status of each process.
  tracer run -o build.jsonl -- make -j4
      The same, with every event as a JSON line in a file.
  tracer tree -p --watch
      The process tree with pids, redrawn as processes come and go.
  tracer top
      Who spawns how much, with every short-lived process counted.
  tracer containers --audit
      Each step of every container that is started, with what it took.
  tracer stream --format text --event exec,exit
      What starts and ends on this machine, for people.
  tracer stream --event exec --exe '*/curl' | jq -r '.process.argv | join(\" \")'
      Every command line of curl, from now on.
  tracer stream --pid $$ -o here.jsonl
      All that happens in this shell and below it.

Exit status:
  0  done; also after SIGINT, SIGTERM, or when the reader of standard output went away
  1  it could not be done: one line on standard error says what, and the remedy
  2  wrong usage
  `tracer run` ends with the status of its command: 128+n when signal n killed it, 126 when it could not be
  executed, 127 when it was not found.

Environment:
  NO_COLOR             when set and not empty, no colours (unless --color always)
  LC_ALL, LC_CTYPE, LANG
                       whether lines of trees are drawn in UTF-8 or ASCII
  TZ                   time zone of --format text";

/// Every process from birth to death.
#[derive(Debug, Parser)]
#[command(
    name = "tracer",
    version,
    about = "Every Linux process from birth to death: exact events, an exact tree, JSON lines",
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

/// Options that every command has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Write to FILE instead of standard output
    ///
    /// The file is created with mode 0600, or emptied if it exists. `-` is standard output.
    #[arg(short, long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// When to use colours
    ///
    /// `auto` uses them on a terminal, unless NO_COLOR is set or TERM is `dumb`.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,

    /// Tell on standard error what is being done; -vv tells more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Globals {
    /// What `-o` says, if it was given.
    pub fn target(&self) -> Option<Target> {
        self.output.clone().map(Target::from)
    }

    /// Opens what `-o` says, or standard output.
    pub fn open(&self) -> io::Result<Output> {
        Output::open(self.target().unwrap_or_default())
    }

    /// Whether to colour what goes to an output, or to standard error.
    pub fn colours(&self, stream: &impl AsFd) -> bool {
        let unwanted = || {
            let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
        };
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => stream.as_fd().is_terminal() && !unwanted(),
        }
    }
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
    #[command(name = run::hold::NAME, hide = true)]
    Hold(run::hold::HoldArgs),
}

/// Does what the command line says.
pub fn main() -> process::ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let colour = typed_colour(&words);
    let cli = Cli::command().color(colour).try_get_matches_from(words).and_then(|m| Cli::from_arg_matches(&m));
    match cli {
        Ok(cli) => {
            log_to_stderr(&cli.globals);
            exit::conclude(execute(cli.command, &cli.globals), colour)
        }
        Err(error) if error.use_stderr() => {
            // Nothing is left to be done if standard error cannot be written.
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
    }
}

/// Help and version are output like any other: asked for, pipeable, and an error when they cannot be written.
fn print_help(help: &clap::Error, colour: ColorChoice) -> anyhow::Result<ExitCode> {
    let globals = Globals { output: None, color: colour, verbose: 0 };
    let mut output = globals.open()?;
    let text = help.render();
    let text = if globals.colours(&output) { text.ansi().to_string() } else { text.to_string() };
    output.write_all(text.as_bytes())?;
    debug_assert!(matches!(help.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion));
    Ok(ExitCode::Done)
}

/// `--color` as typed, for what clap itself prints: help and errors come before all arguments are understood.
fn typed_colour(words: &[OsString]) -> ColorChoice {
    let words: Vec<_> = words.iter().take_while(|word| *word != "--").filter_map(|word| word.to_str()).collect();
    let value = words.iter().enumerate().find_map(|(i, word)| match word.strip_prefix("--color") {
        Some("") => words.get(i + 1).copied(),
        Some(rest) => rest.strip_prefix('='),
        None => None,
    });
    value.and_then(|value| value.parse().ok()).unwrap_or(ColorChoice::Auto)
}

/// Diagnostics go to standard error: warnings always, more with `-v`.
fn log_to_stderr(globals: &Globals) {
    let level = match globals.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // It is set once, here; a failure would mean that it is set already.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(globals.verbose > 1)
        .try_init();
}
