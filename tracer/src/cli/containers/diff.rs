//! `tracer containers --diff`: compares two recorded starts.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::analysis::audit::diff::Diff;
use crate::analysis::audit::{Start, Starts};
use crate::cli::exit::unless_closed_pipe;
use crate::cli::{ExitCode, Globals, from};
use crate::event::Container;
use crate::view::glyphs::Glyphs;
use crate::view::{label, line, start_diff};

/// Most containers that an error names when the requested one is missing.
const NAMED: usize = 8;

/// The starts to compare.
#[derive(Clone, Debug)]
pub(super) struct DiffPlan<'a> {
    pub(super) files: [&'a Path; 2],
    /// The container in each file.
    pub(super) only: [Option<&'a str>; 2],
    pub(super) json: bool,
}

pub(super) fn execute(plan: &DiffPlan<'_>, globals: &Globals) -> anyhow::Result<ExitCode> {
    let [a, b] = [0, 1].map(|i| choose(plan.files[i], plan.only[i], globals));
    let diff = Diff::new(&a?, &b?);
    let status = if diff.same { ExitCode::Done } else { ExitCode::Differs };
    // A reader that closed the output does not change the exit status.
    unless_closed_pipe(print(&diff, plan, globals))?;
    Ok(status)
}

fn print(diff: &Diff, plan: &DiffPlan<'_>, globals: &Globals) -> anyhow::Result<()> {
    let mut output = globals.open()?;
    if plan.json {
        let mut text = serde_json::to_vec(diff)?;
        text.push(b'\n');
        output.write_all(&text)?;
        return Ok(output.flush()?);
    }
    let colour = globals.colours(&output);
    let width = terminal_size::terminal_size_of(&output).map(|(width, _)| usize::from(width.0));
    let names = plan.files.map(|file| file.display().to_string());
    let lines = start_diff::lines(diff, [&names[0], &names[1]], width, Glyphs::of_locale());
    Ok(line::print(&lines, &mut output, colour)?)
}

/// Returns the requested start of a file, or the first one.
fn choose(file: &Path, only: Option<&str>, globals: &Globals) -> anyhow::Result<Start> {
    let mut starts = Starts::default();
    let mut all = Vec::new();
    from::each(from::open(file, globals)?, |event| {
        starts.apply(event);
        all.extend(starts.take_by_events());
        Ok(())
    })?;
    all.extend(starts.finish());
    let (name, count) = (file.display(), all.len());
    if count == 0 {
        bail!("{name} has no container start: record one with `tracer run -o FILE -- docker run …`");
    }
    let Some(only) = only else {
        let first = all.swap_remove(0);
        if count > 1 {
            tracing::warn!(
                "{name} has {count} container starts: this is the first, of {}; use --container to select another",
                called(&first)
            );
        }
        return Ok(first);
    };
    let known: Vec<String> = all.iter().take(NAMED).map(called).collect();
    let more = if count > NAMED { ", …" } else { "" };
    let first = all.into_iter().find(|start| start.is_of(only));
    first.with_context(|| format!("{name} has no container {only}: it has {}{more}", known.join(", ")))
}

fn called(start: &Start) -> String {
    let Container { id, name, .. } = &start.container;
    let id = label::container(id);
    // Containers of the same name may be created again and again.
    name.as_deref().map_or_else(|| id.to_owned(), |name| format!("{name} ({id})"))
}
