//! `tracer doctor`: checks whether tracing works here.

use std::path::PathBuf;

use clap::Args;

use super::{ExitCode, Globals};
use crate::doctor::Report;
use crate::doctor::checks;
use crate::view;
use crate::view::glyphs::Glyphs;
use crate::view::line::{self, Line, Role};

/// Check whether tracing works here, and print remedies
///
/// Checks privileges, kernel, hooks, fields, limits and mounts. It loads and attaches each program for a moment. It looks up
/// each field in the types of the running kernel. If something is missing, doctor names the fallback or the output that is
/// left out. If a check fails, doctor names the remedy.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXIT_STATUS, after_long_help = LONG_EXIT_STATUS)]
pub struct DoctorArgs {
    /// Print the findings as JSON
    ///
    /// One object with `works` (true if tracing works here) and `checks`. Each check has `area`, `name`, `status`, `detail`
    /// and perhaps `remedy`. The status `ok` means that all is well. With `fallback`, something else does the work. With
    /// `missing`, some output is left out. With `failed`, tracing does not work.
    #[arg(short, long)]
    json: bool,

    /// Read the kernel's types from FILE, and refuse those of another kernel
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    btf: Option<PathBuf>,
}

const EXIT_STATUS: &str = "\
Exit status: 0 tracing works here, 1 it does not, 2 wrong usage";

const LONG_EXIT_STATUS: &str = "\
Examples:
  tracer doctor
  tracer doctor --json | jq -r '.checks[] | select(.status != \"ok\") | [.name, .detail, .remedy] | @tsv'

Exit status:
  0  tracing works here; some output may be left out
  1  tracing does not work here
  2  wrong usage";

pub(super) fn execute(args: &DoctorArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let mut output = globals.open()?;
    let report = Report::new(checks::checks(args.btf.as_deref()));
    if args.json {
        let json = Line::new().with(Role::Plain, &serde_json::to_string_pretty(&report)?);
        line::print(&[json], &mut output, false)?;
    } else {
        let colour = globals.colours(&output);
        line::print(&view::doctor::draw(&report, Glyphs::of_locale(), globals.verbosity() > 0), &mut output, colour)?;
    }
    Ok(if report.works { ExitCode::Done } else { ExitCode::Failure })
}
