//! Where the next byte goes in a record that is being put together.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user_str};
use tracer_common::limits::EXEC_HEAD_BYTES;
use tracer_common::record::{FIELD_COMPLETE, FIELD_CUT, FIELD_UNREADABLE};

/// A place in a record.
///
/// It lives in memory, not in a register: a value that the verifier loads from a map is an unknown number, so the many ways
/// through the loops that append look alike to it after each step. In a register, and later part of a length that has to be
/// known exactly, it made the verifier follow each way separately (6.18: 505,000 instructions instead of 20,000).
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    buffer: *mut u8,
    at: *mut u32,
}

impl Cursor {
    /// A cursor over `buffer` that keeps its place in `at`, starting there.
    ///
    /// # Safety
    /// `buffer` has room for `EXEC_HEAD_BYTES` and the largest single write more; `at` lies in a map. Both outlive the
    /// cursor.
    #[inline(always)]
    pub(crate) unsafe fn new(buffer: *mut u8, at: *mut u32, start: u32) -> Self {
        let cursor = Self { buffer, at };
        cursor.move_to(start);
        cursor
    }

    /// How much is written.
    #[inline(always)]
    pub(crate) fn at(self) -> u32 {
        // SAFETY: it lies in a map (`new`).
        unsafe { read_volatile(self.at) & (EXEC_HEAD_BYTES as u32 - 1) }
    }

    /// Where the next byte goes.
    #[inline(always)]
    fn next(self) -> *mut c_void {
        // SAFETY: the mask in `at` keeps it within the buffer.
        unsafe { self.buffer.add(self.at() as usize).cast() }
    }

    /// Skips bytes that were written.
    #[inline(always)]
    fn advance(self, bytes: u32) {
        self.move_to(self.at() + bytes);
    }

    /// The next byte goes here.
    #[inline(always)]
    pub(crate) fn move_to(self, at: u32) {
        // SAFETY: it lies in a map (`new`).
        unsafe { write_volatile(self.at, at) };
    }

    /// Appends a string of the kernel with its NUL, `room` bytes at most. False if it cannot be read.
    #[inline(always)]
    pub(crate) fn append(self, from: u64, room: usize) -> bool {
        self.append_kernel(from, room) > 0
    }

    /// Appends a string of the kernel with its NUL. Returns how complete it is.
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
        // SAFETY: the helper takes any address to read from. There is room for a single write of this size (`new`).
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
