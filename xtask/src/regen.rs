//! `cargo xtask regen`

use std::fs;

use anyhow::{Context, Result, bail};

use crate::build::{self, Profile};
use crate::{process, run, setup, vm, workspace};

/// Regenerate the files that are made from the code
///
/// Run it after a change that is meant to change them, then read the diff. Without a name it regenerates the schemas and the
/// snapshots. `captures` needs root, make and gcc. `kernels` boots every kernel in a virtual machine, which takes a quarter of
/// an hour.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to regenerate [default: schema snapshots]
    #[arg(value_enum)]
    what: Vec<What>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// docs/schema/*.json, from the types
    Schema,
    /// Snapshots of tests, from what the tests produce now
    Snapshots,
    /// Recorded rings in tracer/tests/captures, from the running kernel
    Captures,
    /// docs/kernels.md and docs/verifier.md, from every kernel
    Kernels,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let default = [What::Schema, What::Snapshots];
    let what = if args.what.is_empty() { &default[..] } else { &args.what };
    build::bpf_object(&setup::bpf_toolchain()?)?;
    for what in what {
        match what {
            What::Schema => schemas()?,
            What::Snapshots => snapshots()?,
            What::Captures => captures()?,
            What::Kernels => vm::update()?,
        }
    }
    Ok(())
}

/// Each schema, and the options of `tracer schema` that print it.
const SCHEMAS: &[(&str, &[&str])] =
    &[("v1", &[]), ("start-v1", &["--audit"]), ("diff-v1", &["--diff"]), ("container-v1", &["--containers"])];

fn schemas() -> Result<()> {
    let tracer = build::tracer(Profile::Dev)?;
    for (name, options) in SCHEMAS {
        let arguments = ["schema"].iter().chain(*options).copied();
        let text = process::command(&tracer, arguments).read().with_context(|| format!("the schema {name}"))?;
        let path = workspace::root().join("docs/schema").join(format!("{name}.json"));
        fs::write(&path, text + "\n")?;
        workspace::say(&format!("wrote {}", workspace::shown(&path)));
    }
    Ok(())
}

/// Runs the tests that have snapshots, so that they rewrite them. Their other checks must still pass.
fn snapshots() -> Result<()> {
    let tests = ["--lib", "--test", "replay", "--test", "schema", "--test", "audit", "--test", "cli"];
    let cargo = process::cargo(["test", "--package", "tracer", "--no-fail-fast"].into_iter().chain(tests));
    let status = cargo.env("INSTA_UPDATE", "always").unchecked().run()?.status;
    if !status.success() {
        bail!("the snapshots are written, but a test fails for another reason: read its message above");
    }
    Ok(())
}

/// Commands whose rings `tests/replay.rs` replays.
const CAPTURES: &[(&str, &[&str])] = &[
    ("make", &["sh", "tracer/tests/captures/make.sh"]),
    ("shell", &["sh", "-c", "/bin/true one two; (sleep 0.1 & ) ; kill -TERM $$"]),
];

fn captures() -> Result<()> {
    process::build_quietly(process::cargo(["build", "--package", "tracer", "--example", "capture"]))?;
    let capture = workspace::target_dir().join("debug/examples/capture");
    for (name, command) in CAPTURES {
        let file = workspace::root().join("tracer/tests/captures").join(format!("{name}.ring"));
        let status = run::privileged(&capture)?.current_dir(workspace::root()).arg(&file).args(*command).status()?;
        if !status.success() {
            bail!("cannot record {name}: {status}");
        }
        workspace::say(&format!("wrote {}", workspace::shown(&file)));
    }
    Ok(())
}
