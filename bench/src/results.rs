//! The measurements, as stored in `target/bench/results.json`.

use serde::{Deserialize, Serialize};

use crate::workload::Kind;

/// All measurements.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: String,
    pub(crate) kernel: String,
    pub(crate) date: String,
    pub(crate) samples: Vec<Sample>,
    pub(crate) syscalls: Vec<Syscall>,
    pub(crate) programs: Vec<Program>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) idle: Option<Idle>,
    /// Peers that are not available, and why.
    pub(crate) skipped: Vec<(String, String)>,
}

/// One round of one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) workload: Kind,
    pub(crate) workers: u64,
    pub(crate) peer: String,
    /// Processes or threads per second.
    pub(crate) rate: f64,
    /// Traced ÷ untraced.
    pub(crate) ratio: f64,
    pub(crate) created: u64,
    /// CPU time of the peer, user and system.
    pub(crate) cpu_ns: u64,
    pub(crate) peak_bytes: u64,
    /// Events of the workload in its output, and how many of these kinds happened.
    pub(crate) seen: Option<u64>,
    pub(crate) due: Option<u64>,
}

/// The cost of a trivial system call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Syscall {
    pub(crate) peer: String,
    pub(crate) ns: f64,
    pub(crate) ratio: f64,
}

/// The time of a BPF program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) peer: String,
    #[serde(rename = "program")]
    pub(crate) name: String,
    pub(crate) run_ns: u64,
    pub(crate) runs: u64,
}

/// The time from event to line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) load: String,
    pub(crate) lines: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

/// tracer when it is idle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) resident_bytes: u64,
    pub(crate) anonymous_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) shared_bytes: u64,
    pub(crate) wake_ups_per_second: f64,
}
