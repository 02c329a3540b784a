//! `docs/kernels.md` and `docs/verifier.md`: the output of `tracer doctor --json` in each kernel.
//!
//! The first lists what a kernel provides and lacks. A run with other findings fails. The second holds numbers that
//! change with every build, and is written only on request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::iter;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Arch;
use super::report::Guest;
use super::stack;
use crate::workspace;

const KERNELS: &str = "docs/kernels.md";
const VERIFIER: &str = "docs/verifier.md";

/// The output of doctor.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Doctor {
    pub(super) works: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
struct Check {
    area: String,
    name: String,
    status: String,
    detail: String,
    #[serde(default)]
    programs: Vec<Program>,
    /// Fallback programs that are not in use.
    #[serde(default)]
    spare: Vec<Program>,
}

#[derive(Debug, Deserialize)]
struct Program {
    name: String,
    /// The largest number of instructions that the verifier processed, of all its variations.
    instructions: Option<u32>,
}

/// Limits for a program: the kernel's limits minus a quarter, to notice growth in time.
const MOST_INSTRUCTIONS: u32 = 750_000;
const MOST_STACK: u32 = 384;

/// Fails if a program comes close to a limit of the verifier.
pub(super) fn check_limits(guests: &[Guest]) -> Result<()> {
    let depths = stack::depths(&workspace::bpf_object())?;
    if let Some((name, depth)) = depths.iter().find(|&(_, &depth)| depth > MOST_STACK) {
        bail!("{name} takes {depth} bytes of stack: the limit is 512");
    }
    for guest in guests {
        for Program { name, instructions } in guest.programs() {
            if let Some(count) = instructions.filter(|&count| count > MOST_INSTRUCTIONS) {
                bail!("Linux {} verifies {count} instructions of {name}: the limit is 1,000,000", guest.release);
            }
        }
    }
    Ok(())
}

/// Compares the guests' findings with the document.
pub(super) fn check(arch: Arch, guests: &[Guest]) -> Result<()> {
    let text = fs::read_to_string(workspace::root().join(KERNELS)).with_context(|| format!("cannot read {KERNELS}"))?;
    let (_, written, _) = parts(&text, arch).context(KERNELS)?;
    let found = kernels(guests);
    if written.trim() != found.trim() {
        let news = found.lines().find(|&line| !written.lines().any(|other| other == line));
        let news = news.unwrap_or("something is no longer so");
        bail!("{KERNELS} says otherwise ({news}); `cargo xtask vm --arch {} --update` writes it", arch.name());
    }
    Ok(())
}

/// Writes the guests' findings into both documents.
pub(super) fn update(arch: Arch, guests: &[Guest]) -> Result<()> {
    let depths = stack::depths(&workspace::bpf_object())?;
    for (file, section) in [(KERNELS, kernels(guests)), (VERIFIER, verifier(guests, &depths))] {
        let path = workspace::root().join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
        let (before, _, after) = parts(&text, arch).context(file)?;
        fs::write(&path, format!("{before}\n\n{}\n\n{after}", section.trim()))?;
        workspace::say(&format!("wrote {file}"));
    }
    Ok(())
}

/// Splits a document's text: up to the part of this architecture, that part, and the rest.
fn parts(text: &str, arch: Arch) -> Result<(&str, &str, &str)> {
    let (begin, end) = (format!("<!-- {} -->", arch.name()), format!("<!-- end of {} -->", arch.name()));
    let from = text.find(&begin).with_context(|| format!("there is no {begin}"))? + begin.len();
    let to = text[from..].find(&end).with_context(|| format!("there is no {end}"))? + from;
    Ok((&text[..from], &text[from..to], &text[to..]))
}

/// Lists hooks and members by kernel; then, for each kernel, the fallbacks for what it lacks.
fn kernels(guests: &[Guest]) -> String {
    let mut hooks = Rows::default();
    let mut fields = Rows::default();
    let mut count = 0;
    for (column, guest) in guests.iter().enumerate() {
        for check in guest.checks("hook") {
            let programs: Vec<_> = check.programs.iter().map(|program| format!("`{}`", program.name)).collect();
            let cell = match &*check.status {
                "ok" => programs.join(", "),
                status if programs.is_empty() => status.to_owned(),
                status => format!("{status}: {}", programs.join(", ")),
            };
            hooks.set(&check.name, column, cell);
        }
        count = guest.checks("field").count();
        for check in guest.checks("field").filter(|check| check.status != "ok") {
            fields.set(&check.name, column, check.status.clone());
        }
    }
    let mut out = heading("hook", guests.iter().map(|guest| guest.series));
    out += &hooks.shown(guests.len(), "");
    let _ = write!(out, "\nOf {count} members of kernel structures, all are there on every one of these kernels");
    if fields.0.is_empty() {
        out += ".\n";
    } else {
        out += ", but for:\n\n";
        out += &heading("member", guests.iter().map(|guest| guest.series));
        out += &fields.shown(guests.len(), "there");
    }
    for guest in guests {
        let _ = writeln!(out, "\n**Linux {}**\n", guest.series);
        let checks = ["kernel", "hook", "field"].into_iter().flat_map(|area| guest.checks(area));
        let mut instead = checks.filter(|check| check.status != "ok").peekable();
        if instead.peek().is_none() {
            out += "- Nothing is missing, and nothing is done by another way.\n";
        }
        for check in instead {
            let _ = writeln!(out, "- {}: `{}`: {}", check.status, check.name, without_counts(&check.detail));
        }
    }
    out
}

/// Removes the number of verified instructions from a detail. It is in verifier.md, and changes with each change of a
/// program.
fn without_counts(detail: &str) -> String {
    let said = |part: &str| !part.ends_with(" instructions verified");
    let clause = |clause: &str| clause.split(", ").filter(|part| said(part)).collect::<Vec<_>>().join(", ");
    detail.split("; ").map(clause).collect::<Vec<_>>().join("; ")
}

/// Lists the instructions that the verifier processed, by program and kernel, after the stack depth.
fn verifier(guests: &[Guest], depths: &BTreeMap<String, u32>) -> String {
    let mut rows = Rows::default();
    for (column, guest) in guests.iter().enumerate() {
        for program in guest.programs() {
            if let Some(depth) = depths.get(&program.name) {
                rows.set(&program.name, 0, depth.to_string());
            }
            let count = program.instructions.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
            rows.set(&program.name, column + 1, count);
        }
    }
    let columns = iter::once("stack").chain(guests.iter().map(|guest| &*guest.release));
    heading("program", columns) + &rows.shown(guests.len() + 1, "–")
}

fn heading<'a>(first: &str, columns: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = columns.collect();
    format!("| {first} | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()))
}

/// Rows of a table, by name, each with some of the columns.
#[derive(Default)]
struct Rows(BTreeMap<String, BTreeMap<usize, String>>);

impl Rows {
    fn set(&mut self, row: &str, column: usize, cell: String) {
        self.0.entry(row.to_owned()).or_default().insert(column, cell);
    }

    fn shown(&self, columns: usize, empty: &str) -> String {
        let mut out = String::new();
        for (name, cells) in &self.0 {
            let cell = |column: usize| cells.get(&column).map_or(empty, String::as_str);
            let all: Vec<_> = (0..columns).map(cell).collect();
            let _ = writeln!(out, "| `{name}` | {} |", all.join(" | "));
        }
        out
    }
}

impl Guest {
    fn checks<'a>(&'a self, area: &'a str) -> impl Iterator<Item = &'a Check> {
        let checks = self.doctor.iter().flat_map(|doctor| &doctor.checks);
        checks.filter(move |check| check.area == area)
    }

    /// Returns all programs that its verifier accepted.
    fn programs(&self) -> impl Iterator<Item = &Program> {
        self.checks("hook").flat_map(|check| check.programs.iter().chain(&check.spare))
    }
}

#[cfg(test)]
mod tests {
    use super::{Arch, kernels, parts, verifier, without_counts};
    use crate::vm::report::Guest;

    fn guest(series: &'static str, exit: &str, member: &str) -> Guest {
        let doctor = format!(
            r#"{{"works":true,"checks":[
            {{"area":"hook","name":"exit","status":"ok","detail":"","programs":[{{"name":"{exit}","instructions":70}}]}},
            {{"area":"field","name":"a.b","status":"ok","detail":"offset 8"}},
            {{"area":"field","name":"a.c","status":"{member}","detail":"left out"}}]}}"#
        );
        let output = format!("@@release {series}.9\n@@doctor\n{}\n@@tests\n", doctor.replace('\n', ""));
        Guest::read(series, &output)
    }

    #[test]
    fn what_a_kernel_lacks_is_reported() {
        let guests = [guest("5.10", "exit_by_live", "missing"), guest("7", "exit", "ok")];
        let expected = "\
| hook | 5.10 | 7 |
|---|---|---|
| `exit` | `exit_by_live` | `exit` |

Of 2 members of kernel structures, all are there on every one of these kernels, but for:

| member | 5.10 | 7 |
|---|---|---|
| `a.c` | missing | there |

**Linux 5.10**

- missing: `a.c`: left out

**Linux 7**

- Nothing is missing, and nothing is done by another way.
";
        assert_eq!(kernels(&guests), expected);
        let report = verifier(&guests, &[("exit".to_owned(), 96)].into());
        assert!(report.contains("| `exit` | 96 | – | 70 |"), "{report}");
    }

    #[test]
    fn each_architecture_has_its_part() {
        let text = "a\n<!-- x86_64 -->\nb\n<!-- end of x86_64 -->\nc\n<!-- aarch64 -->\n<!-- end of aarch64 -->\n";
        assert_eq!(parts(text, Arch::X86_64).unwrap().1, "\nb\n");
        assert_eq!(parts(text, Arch::Aarch64).unwrap().1, "\n");
        assert!(parts("nothing", Arch::X86_64).is_err());
    }

    #[test]
    fn counts_of_instructions_are_for_the_other_document() {
        let detail =
            "syscalls:x: program y loads and attaches, 34615 instructions verified; fexit:z is refused. Slower";
        assert_eq!(without_counts(detail), "syscalls:x: program y loads and attaches; fexit:z is refused. Slower");
        assert_eq!(without_counts("offset 8, and no more"), "offset 8, and no more");
    }
}
