//! Options of every command: where output goes, and how it looks.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::{Args, ColorChoice};

use crate::sink::{Existing, Output, Target};

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Write to FILE instead of standard output
    ///
    /// A new file is readable by its owner only. tracer replaces an existing file, but not a recording (its own JSON lines):
    /// see --force and --append. Each write goes to the end of the file, so a log rotation may truncate it. If FILE is a
    /// socket, tracer connects to it. `-` is standard output.
    #[arg(short, long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Overwrite the file of -o, even if it holds a recording
    #[arg(long, global = true)]
    force: bool,

    /// Append to the file of -o
    #[arg(long, global = true, conflicts_with = "force")]
    append: bool,

    /// Set when to use colours
    ///
    /// `auto` uses them on a terminal, unless NO_COLOR is set or TERM is `dumb`.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,

    /// Report progress on standard error; -vv reports more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Globals {
    /// Returns the options of a command line that has only `--color`.
    pub(in crate::cli) const fn with_colour(colour: ColorChoice) -> Self {
        Self { output: None, force: false, append: false, color: colour, verbose: 0 }
    }

    /// Returns how often `-v` was given.
    pub(in crate::cli) const fn verbosity(&self) -> u8 {
        self.verbose
    }

    /// Returns the path of `-o`.
    pub(in crate::cli) fn path(&self) -> Option<&Path> {
        self.output.as_deref()
    }

    /// Returns the target of `-o`.
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

    /// Returns whether output to `stream` gets colours.
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
