//! Rare faults inside the programs (`aya-log`), shown through `tracing`.
//!
//! An object of its own has them: off, nothing of them is loaded.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::error::{LoadError, refused};

/// The environment variable that switches them on; `-vv` does too.
const VARIABLE: &str = "TRACER_KERNEL_LOG";

/// True if the user wants them.
pub(super) fn is_wanted() -> bool {
    let set = std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0");
    set || tracing::enabled!(tracing::Level::DEBUG)
}

/// What the programs report, waiting to be shown.
pub(super) struct KernelLog(EbpfLogger<Shown>);

impl KernelLog {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        EbpfLogger::init_with_logger(ebpf, Shown).map(Self).map_err(|error| refused("the programs' log", error))
    }

    /// Shows what has come.
    pub(super) fn flush(&mut self) {
        self.0.flush();
    }
}

/// Hands each line to `tracing`.
struct Shown;

impl Log for Shown {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::warn!("in the kernel: {}", record.args());
    }

    fn flush(&self) {}
}
