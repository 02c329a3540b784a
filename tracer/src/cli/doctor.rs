//! `tracer doctor`: will it work here?

use std::path::PathBuf;

use clap::Args;

use super::{ExitCode, Globals};
use crate::doctor::Report;
use crate::doctor::checks;
use crate::view;
use crate::view::glyphs::Glyphs;
use crate::view::line::{self, Line, Role};

/// Tell whether tracing works here, and what to do where it does not
///
/// Looks at privileges, kernel, hooks, fields, limits and mounts, one by one: each program is loaded and attached for a
/// moment, each field is looked up in the types of the running kernel. What is absent names its fallback or the output
/// that is left out; what fails names the remedy.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXIT_STATUS, after_long_help = LONG_EXIT_STATUS)]
pub struct DoctorArgs {
    /// Print the findings as JSON
    ///
    /// One object: `works` (true when tracing works here) and `checks`, each with `area`, `name`, `status` (`ok`;
    /// `fallback`: absent, something else does it; `missing`: absent, some output is left out; `failed`), `detail`
    /// and, where there is one, `remedy`.
    #[arg(short, long)]
    json: bool,

    /// Take the kernel's types from FILE; refused if it is another kernel's
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
        line::print(&view::doctor::draw(&report, Glyphs::of_locale(), globals.verbose > 0), &mut output, colour)?;
    }
    Ok(if report.works { ExitCode::Done } else { ExitCode::Failure })
}
