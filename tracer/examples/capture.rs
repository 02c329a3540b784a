//! Records the ring of one command as it is, for `tests/replay.rs`:
//!
//! ```text
//! cargo build --example capture && sudo target/debug/examples/capture FILE CMD [ARG…]
//! ```
//!
//! The file holds what UTC is ahead of the boot clock (i64, ns), then each record with its length (u32) before it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tracer::clock;
use tracer::kernel::load::{Kernel, Tracked};
use tracer::kernel::options::{KernelOptions, Selection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args_os().skip(1);
    let path = words.next().context("usage: capture FILE CMD [ARG…]")?;
    let command: Vec<OsString> = words.collect();
    ensure!(!command.is_empty(), "usage: capture FILE CMD [ARG…]");

    // A shell that becomes the command once it has read a line.
    let mut child =
        Command::new("sh").args(["-c", "read -r go; exec \"$@\"", "sh"]).args(command).stdin(Stdio::piped()).spawn()?;
    let (mut kernel, mut ring) =
        Kernel::start(&KernelOptions { selection: Selection::Only, ..KernelOptions::default() })?;
    kernel.track(child.id(), Tracked::Matching)?;
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&clock::utc_minus_boot_ns().to_le_bytes())?;
    child.stdin.take().context("no stdin")?.write_all(b"go\n")?;
    child.wait()?;
    // Orphans may still be on their way out.
    tokio::time::sleep(Duration::from_millis(500)).await;
    kernel.detach();
    let mut failed = Ok(());
    let taken = ring.drain_while(|bytes| {
        let len = (bytes.len() as u32).to_le_bytes();
        failed = out.write_all(&len).and_then(|()| out.write_all(bytes));
        failed.is_ok()
    });
    failed?;
    out.flush()?;
    eprintln!("{} records", taken.records);
    Ok(())
}
