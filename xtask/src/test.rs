//! `cargo xtask test`

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tally::{Reader, Tally};
use crate::toolchain::Toolchain;
use crate::{build, dist, packages, process, prose, run, setup, vm, workspace};

/// Run every check there is; ends with `N passed, N failed, N skipped`
///
/// Set-up, format, lints, licences and advisories of dependencies, docs, all tests, the fuzz targets, the static binary,
/// and on five other kernels the live tests that depend on the kernel (`cargo xtask vm --help` lists them). A step that
/// fails does not keep the next from running. What cannot be checked on this machine is skipped, and named. A live test
/// that fails runs once more, alone, at the end. If it passes then, it is named as flaky and does not fail the run. The
/// exit status is 0 only if nothing failed.
///
/// The live tests load programs into the running kernel. As root they just run; else they are started by sudo where it
/// asks for no password, and skip themselves where it does.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Skip slow checks that rarely fail: the fuzz targets, the static binary, and other kernels in virtual machines
    #[arg(long)]
    quick: bool,
    /// Run only the tests with FILTER in their names, and none of the other checks
    filter: Option<String>,
}

/// State that the steps pass on to each other.
struct Run<'a> {
    args: &'a Args,
    toolchain: Option<Toolchain>,
    object: Option<PathBuf>,
}

/// The result of a step.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
    /// The step ran many tests.
    Tests(Tally),
}

struct Step {
    name: &'static str,
    /// Runs with a FILTER too.
    always: bool,
    /// Skipped by --quick.
    slow: bool,
    run: fn(&mut Run<'_>) -> Result<Outcome>,
}

const fn step(name: &'static str, run: fn(&mut Run<'_>) -> Result<Outcome>) -> Step {
    Step { name, always: false, slow: false, run }
}

/// All steps, in order.
const STEPS: &[Step] = &[
    Step { always: true, ..step("set-up: BPF toolchain", set_up_toolchain) },
    Step { always: true, ..step("set-up: Debian packages", set_up_packages) },
    step("set-up: clippy, rustfmt, cargo-deny", set_up_tools),
    step("format", |_| check(&process::cargo(["fmt", "--all", "--check", "--", "--color=never"]))),
    Step { always: true, ..step("BPF object", bpf_object) },
    step("clippy", clippy),
    step("clippy: BPF programs", clippy_bpf),
    step("dead code: library alone", |run| dead_code(run, &["--no-default-features"])),
    step("dead code: command", |run| dead_code(run, &[])),
    step("deny: bans, licenses, sources", |_| check(&process::cargo(["deny", "check", "bans", "licenses", "sources"]))),
    step("deny: advisories", advisories),
    step("docs", docs),
    step("docs: plain sentences", plain_sentences),
    Step { always: true, ..step("tests", tests) },
    Step { slow: true, ..step("fuzz targets", fuzz_targets) },
    Step { slow: true, ..step("static binary", static_binary) },
    Step { slow: true, ..step("other kernels", other_kernels) },
];

pub(crate) fn run(args: &Args) -> ExitCode {
    let started = Instant::now();
    let mut run = Run { args, toolchain: None, object: None };
    let mut tally = Tally::default();
    for step in STEPS.iter().filter(|step| step.always || args.filter.is_none()) {
        println!("==> {}", step.name);
        let started = Instant::now();
        let outcome = if step.slow && args.quick {
            Outcome::Skipped("left out by --quick".to_owned())
        } else {
            (step.run)(&mut run).unwrap_or_else(|why| Outcome::Failed(format!("{why:#}")))
        };
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Outcome::Passed => {
                println!("    ok ({seconds:.1} s)");
                tally.passed += 1;
            }
            Outcome::Failed(why) => {
                println!("{}\n    FAILED ({seconds:.1} s)", why.trim_end());
                tally.failed.push(step.name.to_owned());
            }
            Outcome::Skipped(why) => {
                println!("    skipped: {why}");
                tally.skipped.push(format!("{}: {why}", step.name));
            }
            Outcome::Tests(tests) => {
                println!(
                    "    {} passed, {} failed, {} skipped ({seconds:.1} s)",
                    tests.passed,
                    tests.failed.len(),
                    tests.skipped.len()
                );
                tally.add(tests);
            }
        }
    }
    println!("==> all of it took {:.0} s\n{tally}", started.elapsed().as_secs_f64());
    if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a check, and shows its output only if it fails.
fn check(expression: &duct::Expression) -> Result<Outcome> {
    let output =
        expression.stdin_null().stderr_to_stdout().stdout_capture().unchecked().run().context("cannot start it")?;
    Ok(if output.status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed(String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

fn set_up_toolchain(run: &mut Run<'_>) -> Result<Outcome> {
    run.toolchain = Some(setup::bpf_toolchain()?);
    Ok(Outcome::Passed)
}

fn set_up_packages(_: &mut Run<'_>) -> Result<Outcome> {
    if !packages::on_debian() {
        return Ok(Outcome::Skipped(packages::by_hand(packages::TESTS)));
    }
    packages::ensure(packages::TESTS)?;
    Ok(Outcome::Passed)
}

fn set_up_tools(_: &mut Run<'_>) -> Result<Outcome> {
    setup::test_tools()?;
    Ok(Outcome::Passed)
}

fn bpf_object(run: &mut Run<'_>) -> Result<Outcome> {
    let Some(toolchain) = &run.toolchain else {
        return Ok(Outcome::Skipped("no BPF toolchain".to_owned()));
    };
    run.object = Some(build::bpf_object(toolchain)?);
    Ok(Outcome::Passed)
}

/// Skips the step without the BPF object, because everything that compiles tracer embeds it.
fn with_object(run: &Run<'_>, step: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    if run.object.is_some() { step() } else { Ok(Outcome::Skipped("no BPF object".to_owned())) }
}

/// Selects everything that the host's compiler builds.
const HOST: [&str; 3] = ["--workspace", "--exclude", "tracer-ebpf"];

fn clippy(run: &mut Run<'_>) -> Result<Outcome> {
    let args = ["clippy"].into_iter().chain(HOST).chain([
        "--all-targets",
        "--all-features",
        "--keep-going",
        "--",
        "-Dwarnings",
    ]);
    with_object(run, || check(&process::cargo(args)))
}

fn clippy_bpf(run: &mut Run<'_>) -> Result<Outcome> {
    let Some(toolchain) = &run.toolchain else {
        return Ok(Outcome::Skipped("no BPF toolchain".to_owned()));
    };
    let driver = toolchain.compiler.rustc.with_file_name("clippy-driver");
    if !driver.exists() {
        return Ok(Outcome::Skipped(format!("{} has no clippy", toolchain.compiler.name)));
    }
    // Does what `cargo clippy` does, but with the clippy of the compiler in use instead of the cargo's.
    check(
        &build::bpf_cargo(toolchain, "check", &["log"])
            .env("RUSTC_WORKSPACE_WRAPPER", driver)
            .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__"),
    )
}

/// The step `clippy` has all features. One of them, `internals`, makes every module public, so unused code shows only without it.
fn dead_code(run: &Run<'_>, features: &[&str]) -> Result<Outcome> {
    // As `cargo check`, but dependencies are not compiled anew for the flag.
    let check_library = ["rustc", "--package", "tracer", "--lib", "--profile", "check"];
    let args = check_library.iter().chain(features).chain(&["--", "-Dwarnings"]).copied();
    with_object(run, || check(&process::cargo(args)))
}

fn advisories(_: &mut Run<'_>) -> Result<Outcome> {
    let fetch = process::cargo(["deny", "fetch", "db"]).stdin_null().stdout_null().stderr_null();
    if process::within(Duration::from_secs(90), &fetch).is_err() {
        return Ok(Outcome::Skipped("the advisory database cannot be fetched here".to_owned()));
    }
    check(&process::cargo(["deny", "check", "--disable-fetch", "advisories"]))
}

fn docs(run: &mut Run<'_>) -> Result<Outcome> {
    let args = ["doc", "--no-deps"].into_iter().chain(HOST);
    with_object(run, || check(&process::cargo(args).env("RUSTDOCFLAGS", "-Dwarnings")))
}

/// Documents for a first read, and the limit on their mean sentence length.
const FIRST_READ: [&str; 2] = ["README.md", "ARCHITECTURE.md"];
const MOST_WORDS: f64 = 20.0;

fn plain_sentences(_: &mut Run<'_>) -> Result<Outcome> {
    for file in FIRST_READ {
        let mean = prose::mean_of(&fs::read_to_string(workspace::root().join(file))?);
        if mean > MOST_WORDS {
            let why = format!("{file} has {mean:.1} words a sentence, more than {MOST_WORDS}: see `cargo xtask prose`");
            return Ok(Outcome::Failed(why));
        }
    }
    Ok(Outcome::Passed)
}

/// Random tests start with the same seed in every run, so a failure comes from a change.
const PROPTEST_SEED: &str = "7919";

/// Returns `cargo test` of the tests in `which`, with arguments for the test binaries and the seed of random tests.
pub(crate) fn test_command(which: &[&str], arguments: &[&str], seed: &str) -> Result<duct::Expression> {
    let args = ["test", "--no-fail-fast"].iter().chain(which).chain(&["--"]).chain(arguments).copied();
    let cargo = process::cargo(args).env("PROPTEST_RNG_SEED", seed);
    if !process::is_root() && process::command("sudo", ["-n", "true"]).stderr_null().run().is_ok() {
        return through_sudo(&cargo);
    }
    Ok(cargo)
}

fn tests(run: &mut Run<'_>) -> Result<Outcome> {
    let filter: Vec<&str> = run.args.filter.iter().map(String::as_str).collect();
    let cargo = test_command(&HOST, &filter, PROPTEST_SEED)?;
    with_object(run, || {
        let (mut tally, status) = read(&cargo)?;
        run_failed_live_tests_again(&mut tally)?;
        if !status.success() && tally.failed.is_empty() {
            tally.failed.push(format!("tests: cargo test ended with {status}"));
        } else if let (Some(filter), 0) = (&run.args.filter, tally.count()) {
            tally.failed.push(format!("tests: none has `{filter}` in its name"));
        }
        Ok(Outcome::Tests(tally))
    })
}

/// Runs tests, shows their output, and counts.
pub(crate) fn read(cargo: &duct::Expression) -> Result<(Tally, std::process::ExitStatus)> {
    let mut reader = Reader::default();
    let status = process::tee(cargo, |line| reader.line(line))?;
    Ok((reader.finish(), status))
}

/// Cargo's name for the binary of the live tests.
const LIVE: &str = "tests/live/main.rs: ";
/// If more live tests fail, they are not run again, because the cause is not chance.
const MOST_AGAIN: usize = 8;

/// Runs each failed live test once more, alone on the machine. One that passes then is flaky.
fn run_failed_live_tests_again(tally: &mut Tally) -> Result<()> {
    let failed: Vec<String> = tally.failed.iter().filter(|name| name.starts_with(LIVE)).cloned().collect();
    if failed.len() > MOST_AGAIN {
        return Ok(());
    }
    for name in failed {
        let test = &name[LIVE.len()..];
        println!("==> once more, alone: {test}");
        let (again, status) =
            read(&test_command(&["--package", "tracer", "--test", "live"], &["--exact", test], PROPTEST_SEED)?)?;
        if status.success() && again.passed == 1 {
            tally.passed_alone(&name);
        }
    }
    Ok(())
}

/// Makes cargo start each test binary by `run_test_binary`.
fn through_sudo(cargo: &duct::Expression) -> Result<duct::Expression> {
    let target = workspace::host_target().to_uppercase().replace('-', "_");
    let mut runner = env::current_exe()?.into_os_string();
    runner.push(" run-test-binary --");
    Ok(cargo.env(format!("CARGO_TARGET_{target}_RUNNER"), runner))
}

/// The test binary to start, and its arguments.
#[derive(clap::Args)]
pub(crate) struct RunnerArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    argv: Vec<OsString>,
}

/// Starts one test binary: as root if it is `tests/live*.rs`, otherwise as the current user.
pub(crate) fn run_test_binary(args: &RunnerArgs) -> Result<()> {
    let (program, rest) = args.argv.split_first().context("no program")?;
    let program = Path::new(program);
    let live = program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("live"));
    let mut command = if live { run::privileged(program)? } else { Command::new(program) };
    Err(command.args(rest).exec()).with_context(|| format!("cannot start {}", program.display()))
}

/// Checks that they still build. They are run by hand, for hours.
fn fuzz_targets(run: &mut Run<'_>) -> Result<Outcome> {
    with_object(run, || check(&process::cargo(["check", "--locked", "--manifest-path", "fuzz/Cargo.toml"])))
}

fn static_binary(run: &mut Run<'_>) -> Result<Outcome> {
    with_object(run, || {
        let (binary, version) = dist::static_binary()?;
        println!("    {version}: {}", workspace::shown_with_size(&binary));
        Ok(Outcome::Passed)
    })
}

fn other_kernels(run: &mut Run<'_>) -> Result<Outcome> {
    if !packages::on_debian() {
        return Ok(Outcome::Skipped("the kernels are Debian's packages, and this is not a Debian".to_owned()));
    }
    with_object(run, || Ok(Outcome::Tests(vm::all()?)))
}
