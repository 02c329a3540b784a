//! Logs rare faults inside the programs. For example, a path could not be walked, a record was truncated or did
//! not fit, or a map is full.
//!
//! This is compiled in only with the feature `log`, into a separate object. `aya-log` copies its strings by calls to
//! `memcpy`, a second subprogram. That costs verifiers up to 6.2 too much even if it is never called (see `main.rs`).

use tracer_common::record::Exec;

/// Logs the incomplete fields of an exec.
///
/// # Safety
/// `record` is valid for reads, and its fixed part is written.
#[inline(always)]
pub(crate) unsafe fn exec(record: *const Exec) {
    #[cfg(feature = "log")]
    {
        // SAFETY: the caller guarantees that the pointer is valid.
        let (pid, states) = unsafe {
            let record = &*record;
            let states =
                [record.exe_state, record.cwd_state, record.filename_state, record.interp_state, record.argv_state];
            (record.task.tgid, states)
        };
        for (field, state) in states.into_iter().enumerate() {
            if state != tracer_common::record::FIELD_COMPLETE {
                report::field(pid, field as u32, state.into());
            }
        }
    }
    #[cfg(not(feature = "log"))]
    let _ = record;
}

/// Logs a record that did not fit into the ring.
#[inline(always)]
pub(crate) fn lost(kind: u16) {
    #[cfg(feature = "log")]
    report::lost(kind.into());
    #[cfg(not(feature = "log"))]
    let _ = kind;
}

/// Logs that a map of the filter is full.
#[inline(always)]
pub(crate) fn full() {
    #[cfg(feature = "log")]
    report::full();
}

/// Subprograms, so that the object contains each message only once.
#[cfg(feature = "log")]
mod report {
    use aya_log_ebpf::warn;

    /// `field` counts the fields of an exec, `state` is one of `FIELD_*`. A subprogram must return a number.
    #[inline(never)]
    pub(super) fn field(pid: u32, field: u32, state: u32) -> i32 {
        const CUT: u32 = tracer_common::record::FIELD_CUT as u32;
        const UNREADABLE: u32 = tracer_common::record::FIELD_UNREADABLE as u32;
        // Each message must be known at compile time.
        match (field, state) {
            (0, CUT) => warn!((), "exec by {}: exe is cut: it is longer or deeper than the walk goes", pid),
            (1, CUT) => warn!((), "exec by {}: cwd is cut: it is longer or deeper than the walk goes", pid),
            (4, CUT) => warn!((), "exec by {}: argv is cut", pid),
            (_, CUT) => warn!((), "exec by {}: filename or interpreter is cut", pid),
            (0, UNREADABLE) => warn!((), "exec by {}: exe could not be walked", pid),
            (1, UNREADABLE) => warn!((), "exec by {}: cwd could not be walked", pid),
            (4, UNREADABLE) => warn!((), "exec by {}: argv could not be read", pid),
            (_, UNREADABLE) => warn!((), "exec by {}: filename or interpreter could not be read", pid),
            (4, _) => warn!((), "exec by {}: argv is cut: the ring is too full", pid),
            _ => warn!((), "exec by {}: paths are left out: the ring is too full", pid),
        }
        0
    }

    #[inline(never)]
    pub(super) fn lost(kind: u32) -> i32 {
        warn!((), "a record of kind {} is lost: the ring is full", kind);
        0
    }

    #[inline(never)]
    pub(super) fn full() -> i32 {
        warn!((), "a set of the filter is full");
        0
    }
}
