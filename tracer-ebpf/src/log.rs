//! Rare faults inside the programs, reported as they happen: a path that could not be walked, a record that was cut or did
//! not fit, a full map.
//!
//! They are compiled in with the feature `log` only, into a separate object. `aya-log` copies its strings by calls to
//! `memcpy`, a second subprogram, which costs the verifiers up to 6.2 too much even where it is never called (see `main.rs`).

use tracer_common::record::Exec;

/// The fields of an exec that are not complete.
///
/// # Safety
/// `record` is valid for reads, and its fixed part is written.
#[inline(always)]
pub(crate) unsafe fn exec(record: *const Exec) {
    #[cfg(feature = "log")]
    {
        // SAFETY: the caller vouches for the pointer.
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

/// A record that did not fit into the ring.
#[inline(always)]
pub(crate) fn lost(kind: u16) {
    #[cfg(feature = "log")]
    report::lost(kind.into());
    #[cfg(not(feature = "log"))]
    let _ = kind;
}

/// A set of the filter that is full.
#[inline(always)]
pub(crate) fn full() {
    #[cfg(feature = "log")]
    report::full();
}

/// Subprograms, so that each message lies in the object once.
#[cfg(feature = "log")]
mod report {
    use aya_log_ebpf::warn;

    /// `field` in the order of an exec's fields, `state` one of `FIELD_*`. The verifier of a subprogram wants a number back.
    #[inline(never)]
    pub(super) fn field(pid: u32, field: u32, state: u32) -> i32 {
        const CUT: u32 = tracer_common::record::FIELD_CUT as u32;
        const UNREADABLE: u32 = tracer_common::record::FIELD_UNREADABLE as u32;
        // Each message is put together from what the compiler knows.
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
