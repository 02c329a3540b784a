//! `cargo xtask vm`

mod arch;
mod boot;
mod choice;
mod cross;
mod document;
mod fetch;
mod payload;
mod report;
mod stack;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use self::arch::Arch;
use self::choice::Choice;
use self::fetch::{Fetcher, Kernel, SERIES};
use self::report::Guest;
use crate::packages;
use crate::tally::Tally;

/// Number of guests that run at the same time.
const AT_ONCE: usize = 2;
/// A guest that takes longer is considered hung.
const LIMIT: Duration = Duration::from_secs(1500);
/// How often a guest is booted that the emulator breaks.
const BOOTS: u32 = 3;

/// Run the live tests on other kernels, in virtual machines
///
/// Fetches Debian's packaged kernels by apt, with separate package lists, and keeps them in target/vm. Boots each in
/// QEMU, by software emulation, with the static release binary and a static build of the live tests, and prints what
/// passed, failed and was skipped on each. A kernel that is not available is reported as skipped.
///
/// Of the live tests, those run that depend on the kernel: exec, exec_failed, exit, filters, passed_over, reap, tree, types and one seed of oracle,
/// on all five kernels within a quarter of an hour. What is left out is named at the end; --all runs it too. In a guest there
/// is nothing but busybox: tests that need more skip themselves.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only these kernels: 5.10, 6.1, 6.12, 6.18, 7; on arm64 6.1, 6.12, 7 [default: all]
    kernels: Vec<String>,
    /// Architecture of the kernels
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// Look for newer packages than the kept ones
    #[arg(long)]
    newest: bool,
    /// Boot nothing; print the results of the last run again
    #[arg(long)]
    last: bool,
    /// Write the results into docs/kernels.md and docs/verifier.md
    #[arg(long, conflicts_with = "kernels")]
    update: bool,
    /// Run all live tests, not only those that depend on the kernel
    #[arg(long)]
    all: bool,
    /// Run only the tests with TEXT in their names
    #[arg(long, value_name = "TEXT", conflicts_with = "all")]
    filter: Option<String>,
    /// Run only a sample of the tests on the kernels between others, as `cargo xtask test` does
    #[arg(long, conflicts_with_all = ["all", "filter"])]
    sample: bool,
}

impl Args {
    fn of(arch: Arch) -> Self {
        let kernels = Vec::new();
        Self { kernels, arch, newest: false, last: false, update: false, all: false, filter: None, sample: false }
    }

    fn choice(&self) -> Choice<'_> {
        match &self.filter {
            Some(filter) => Choice::Only(filter),
            None if self.all => Choice::All,
            None if self.sample => Choice::Sample,
            None => Choice::Kernel,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let known: Vec<_> = SERIES.iter().filter(|series| series.is_for(args.arch)).map(|series| series.name).collect();
    if let Some(unknown) = args.kernels.iter().find(|&name| !known.contains(&&**name)) {
        bail!("there is no series {unknown} for {}; there are {}", args.arch.name(), known.join(", "));
    }
    let tally = matrix(args)?;
    println!("{tally}");
    if !tally.failed.is_empty() {
        bail!("not all is well");
    }
    Ok(())
}

/// Runs all kernels of the machine's own architecture, as a step of `cargo xtask test`.
pub(crate) fn all() -> Result<Tally> {
    let arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };
    matrix(&Args { sample: true, ..Args::of(arch) })
}

/// Boots all kernels of the machine's own architecture and writes what they provide into the documents.
pub(crate) fn update() -> Result<()> {
    let arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };
    run(&Args { update: true, ..Args::of(arch) })
}

fn matrix(args: &Args) -> Result<Tally> {
    let arch = args.arch;
    packages::ensure_qemu(arch == Arch::Aarch64)?;
    let mut tally = Tally::default();
    let mut kernels = VecDeque::new();
    let mut fetcher = Fetcher::new(arch);
    let requested = |name: &str| args.kernels.is_empty() || args.kernels.iter().any(|kernel| kernel == name);
    for series in SERIES.iter().filter(|series| series.is_for(arch) && requested(series.name)) {
        match fetcher.kernel(series, args.newest) {
            Ok(kernel) => kernels.push_back(kernel),
            Err(why) => tally.skipped.push(format!("Linux {} ({}): {why:#}", series.name, arch.name())),
        }
    }
    let guests = if args.last {
        kernels.iter().map(|kernel| Guest::read(kernel.series, &boot::last_output(kernel))).collect()
    } else {
        boot_all(args, &mut fetcher, kernels)?
    };
    if guests.is_empty() {
        tally.failed.push("no kernel is available".to_owned());
        return Ok(tally);
    }
    print!("{}", report::table(&guests));
    for guest in &guests {
        tally.add(guest.tally());
    }
    tally.skipped.extend(args.choice().left_out().into_iter().map(|what| format!("every Linux: {what}")));
    match document::check_limits(&guests) {
        Ok(()) => tally.passed += 1,
        Err(why) => tally.failed.push(format!("{why:#}")),
    }
    let complete = SERIES.iter().filter(|series| series.is_for(arch)).count() == guests.len();
    if !complete {
        tally.skipped.push("docs/kernels.md: not every kernel ran".to_owned());
    } else if args.update {
        if !tally.failed.is_empty() {
            bail!("nothing is written: not all is well ({})", tally.failed.join(", "));
        }
        document::update(arch, &guests)?;
    } else {
        match document::check(arch, &guests) {
            Ok(()) => tally.passed += 1,
            Err(why) => tally.failed.push(format!("{why:#}")),
        }
    }
    Ok(tally)
}

/// Builds the payload of the guests, and boots them.
fn boot_all(args: &Args, fetcher: &mut Fetcher, kernels: VecDeque<Kernel>) -> Result<Vec<Guest>> {
    let arch = args.arch;
    let busybox = fetcher.busybox()?;
    let payload = payload::make(arch, &args.choice())?;
    let initramfs = boot::initramfs(arch, &busybox, &payload)?;
    println!("    payload {}", payload::shown(&payload));
    let began = Instant::now();
    let guests = guests(arch, kernels, &initramfs);
    println!("    all of them: {:.1} min", began.elapsed().as_secs_f64() / 60.0);
    Ok(guests)
}

/// Boots all, some at a time. The newest come first, because they take longest, and those between others last, because they
/// may run only a sample. Returns them in the order of the kernels.
fn guests(arch: Arch, kernels: VecDeque<Kernel>, initramfs: &Path) -> Vec<Guest> {
    let is_between = |kernel: &Kernel| SERIES.iter().any(|series| series.between && series.name == kernel.series);
    let mut queue: Vec<_> = kernels.into_iter().enumerate().collect();
    queue.sort_by_key(|(_, kernel)| !is_between(kernel));
    let queue = Mutex::new(VecDeque::from(queue));
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
                    let Some((place, kernel)) = next else { return };
                    let guest = guest(arch, &kernel, initramfs);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((place, guest));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, guest)| guest).collect()
}

fn guest(arch: Arch, kernel: &Kernel, initramfs: &Path) -> Guest {
    let boot = || boot::boot(arch, kernel, initramfs, LIMIT);
    let mut booted = boot();
    for n in 2..=BOOTS {
        let took = match &booted {
            Ok(broken) if broken.stale_breakpoint() => broken.took.as_secs_f64(),
            _ => break,
        };
        println!("    {}: QEMU ran a breakpoint that was gone ({took:.0} s); boot {n} of {BOOTS}", kernel.package);
        booted = boot();
    }
    match booted {
        Ok(booted) => {
            let mut guest = Guest::read(kernel.series, &booted.output);
            if let Some(trouble) = booted.trouble {
                guest.trouble(trouble);
            }
            println!("    {}: {} ({:.0} s)", kernel.package, guest.summary(), booted.took.as_secs_f64());
            if !guest.is_well() {
                println!("    its console: {}", booted.console.display());
            }
            guest
        }
        Err(why) => {
            let mut guest = Guest::read(kernel.series, "");
            guest.trouble(format!("{why:#}"));
            println!("    {}: {why:#}", kernel.package);
            guest
        }
    }
}
