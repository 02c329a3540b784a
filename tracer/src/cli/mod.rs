//! The command line: one file per subcommand.
//!
//! clap fills structs with the words that were typed (low arguments). Each command turns them into their meaning (high
//! arguments, for example [`stream::Plan`]) before it does anything. Words without a meaning are wrong usage.

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
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process;

use clap::error::ErrorKind;
use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

pub use args::{Capture, CaptureArgs, FilterArgs};
pub use exit::{ExitCode, UsageError, out_of_memory};
pub use from::FromArgs;

use crate::sink::{Existing, Output, Target};
use crate::sys::sigwait;

const LONG_ABOUT: &str = "\
tracer reports every process of a Linux machine from fork to exit: its parent, its program and arguments, how it ended, \
why, and what it cost. Small eBPF programs sit on the kernel's fork, exec and exit tracepoints. tracer does not \
sample, so a process that lives one millisecond is recorded. Anything truncated or lost is reported.

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

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Write to FILE instead of standard output
    ///
    /// A new file is readable by its owner only. An existing one is replaced, but never a recording: see --force and --append. Each
    /// write goes to the end of the file, so a log rotation may truncate it. A socket is connected to. `-` is standard output.
    #[arg(short, long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Overwrite the file of -o, even if it holds a recording
    #[arg(long, global = true)]
    force: bool,

    /// Add to the file of -o
    #[arg(long, global = true, conflicts_with = "force")]
    append: bool,

    /// When to use colours
    ///
    /// `auto` uses them on a terminal, unless NO_COLOR is set or TERM is `dumb`.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,

    /// Report progress on standard error; -vv reports more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Globals {
    /// The value of `-o`.
    pub fn target(&self) -> Option<Target> {
        let existing = match (self.force, self.append) {
            (true, _) => Existing::Overwrite,
            (_, true) => Existing::Append,
            _ => Existing::Replace,
        };
        self.output.clone().map(|path| Target::new(path, existing))
    }

    /// Opens the file of `-o`, or standard output.
    pub fn open(&self) -> io::Result<Output> {
        Output::open(self.target().unwrap_or_default())
    }

    /// Whether output to `stream` gets colours.
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
    Man(man::ManArgs),
    #[command(name = run::hold::NAME, hide = true)]
    Hold(run::hold::HoldArgs),
}

/// Runs the command line.
pub fn main() -> process::ExitCode {
    sigwait::block_file_size();
    let words: Vec<OsString> = std::env::args_os().collect();
    let colour = typed_colour(&words);
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

/// Help and version are ordinary output: they can be piped, and it is an error if they cannot be written.
fn print_help(help: &clap::Error, colour: ColorChoice) -> anyhow::Result<ExitCode> {
    let globals = Globals { output: None, force: false, append: false, color: colour, verbose: 0 };
    let mut output = globals.open()?;
    let text = help.render();
    let text = if globals.colours(&output) { text.ansi().to_string() } else { text.to_string() };
    output.write_all(text.as_bytes())?;
    debug_assert!(matches!(help.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion));
    Ok(ExitCode::Done)
}

/// `--color` as typed. clap prints help and errors before it has parsed all arguments.
fn typed_colour(words: &[OsString]) -> ColorChoice {
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
    let level = match globals.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // It is set once, here. An error means that it was set before.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(globals.verbose > 1)
        .try_init();
}
