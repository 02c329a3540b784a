//! Rare faults inside the programs (`aya-log`), logged through `tracing`.
//!
//! Only a separate object can log. While the log is off, none of it is loaded.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::error::{LoadError, refused};

/// The environment variable that switches the log on. `-vv` does too.
const VARIABLE: &str = "TRACER_KERNEL_LOG";

/// Returns true if the user wants the log.
pub(super) fn is_wanted() -> bool {
    let set = std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0");
    set || tracing::enabled!(tracing::Level::DEBUG)
}

/// The log of the programs.
pub(super) struct KernelLog(EbpfLogger<TracingLogger>);

impl KernelLog {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        EbpfLogger::init_with_logger(ebpf, TracingLogger).map(Self).map_err(|error| refused("the programs' log", error))
    }

    /// Logs the messages that have arrived.
    pub(super) fn flush(&mut self) {
        self.0.flush();
    }
}

/// Passes each message to `tracing`.
struct TracingLogger;

impl Log for TracingLogger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::warn!("in the kernel: {}", record.args());
    }

    fn flush(&self) {}
}
