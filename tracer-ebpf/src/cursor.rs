//! The write position in a record under construction.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user_str};
use tracer_common::limits::EXEC_HEAD_BYTES;
use tracer_common::record::{FIELD_COMPLETE, FIELD_CUT, FIELD_UNREADABLE};

/// A position in a record.
///
/// It is kept in memory, not in a register. To the verifier a value from a map is an unknown number. So the many paths through
/// the appending loops look alike after each step. In a register it would become part of a length that must be known exactly.
/// Then the verifier would follow each path separately (6.18: 505,000 instructions instead of 20,000).
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    buffer: *mut u8,
    at: *mut u32,
}

impl Cursor {
    /// Returns a cursor over `buffer` that keeps its position in `at` and begins at `start`.
    ///
    /// # Safety
    /// `buffer` has space for `EXEC_HEAD_BYTES` plus the largest single write. `at` is in a map. Both outlive the
    /// cursor.
    #[inline(always)]
    pub(crate) unsafe fn new(buffer: *mut u8, at: *mut u32, start: u32) -> Self {
        let cursor = Self { buffer, at };
        cursor.move_to(start);
        cursor
    }

    /// Returns the number of bytes written.
    #[inline(always)]
    pub(crate) fn at(self) -> u32 {
        // SAFETY: it is in a map (`new`).
        unsafe { read_volatile(self.at) & (EXEC_HEAD_BYTES as u32 - 1) }
    }

    /// Returns the address of the next byte.
    #[inline(always)]
    fn next(self) -> *mut c_void {
        // SAFETY: the mask in `at` keeps it within the buffer.
        unsafe { self.buffer.add(self.at() as usize).cast() }
    }

    /// Moves past bytes that were written.
    #[inline(always)]
    fn advance(self, bytes: u32) {
        self.move_to(self.at() + bytes);
    }

    /// Sets the position of the next byte.
    #[inline(always)]
    pub(crate) fn move_to(self, at: u32) {
        // SAFETY: it is in a map (`new`).
        unsafe { write_volatile(self.at, at) };
    }

    /// Appends a kernel string with its NUL, at most `room` bytes. Returns false if it cannot be read.
    #[inline(always)]
    pub(crate) fn append(self, from: u64, room: usize) -> bool {
        self.append_kernel(from, room) > 0
    }

    /// Appends a kernel string with its NUL. Returns how complete it is.
    #[inline(always)]
    pub(crate) fn kernel_string(self, from: u64, room: usize) -> u8 {
        let written = self.append_kernel(from, room);
        if written <= 0 {
            return FIELD_UNREADABLE;
        }
        if written as usize == room { FIELD_CUT } else { FIELD_COMPLETE }
    }

    #[inline(always)]
    fn append_kernel(self, from: u64, room: usize) -> i64 {
        // SAFETY: the helper takes any address to read from. There is space for a single write of this size (`new`).
        let written = unsafe { bpf_probe_read_kernel_str(self.next(), room as u32, from as *const c_void) };
        if written > 0 {
            self.advance(written as u32);
        }
        written
    }

    /// Appends a string of the running program with its NUL. Returns how complete it is.
    #[inline(always)]
    pub(crate) fn user_string(self, from: u64, room: usize) -> u8 {
        // SAFETY: as in `append_kernel`.
        let written = unsafe { bpf_probe_read_user_str(self.next(), room as u32, from as *const c_void) };
        if written < 0 {
            return FIELD_UNREADABLE;
        }
        if written == 0 {
            // An empty string: older kernels (seen on 5.10 and 6.1) do not count its NUL (`strncpy_from_user_nofault`):
            // https://github.com/torvalds/linux/blob/830b3c68c1fb1e9176028d02ef86f3cf76aa2476/mm/maccess.c
            // SAFETY: as in `append_kernel`.
            unsafe { write_volatile(self.next().cast::<u8>(), 0) };
            self.advance(1);
            return FIELD_COMPLETE;
        }
        self.advance(written as u32);
        if written as usize == room { FIELD_CUT } else { FIELD_COMPLETE }
    }
}
