//! Whose events are reported at all.

use crate::emit;
use crate::kernel::config;
use crate::maps::{TRACKED, UNREAPED};

/// True when this process's events are asked for.
#[inline(always)]
pub fn admits(tgid: u32) -> bool {
    config!(tracked_only) == 0 || TRACKED.get_ptr(tgid).is_some()
}

/// A child of a reported process is reported.
#[inline(always)]
pub fn follow(child: u32) {
    if config!(tracked_only) == 0 || TRACKED.insert(child, 1, 0).is_ok() {
        return;
    }
    if let Some(stats) = emit::stats() {
        unsafe { (*stats).untracked += 1 };
    }
}

/// True when the events of a process that is no more were asked for; `leader` is its task's address.
#[inline(always)]
pub fn was_admitted(leader: u64) -> bool {
    config!(tracked_only) == 0 || UNREAPED.remove(leader).is_ok()
}

/// A process has ended; its pid may come to mean another. `leader` is its task's address.
#[inline(always)]
pub fn forget(tgid: u32, leader: u64) {
    if config!(tracked_only) != 0 {
        if config!(reap) != 0 {
            let _ = UNREAPED.insert(leader, 1, 0);
        }
        let _ = TRACKED.remove(tgid);
    }
}
