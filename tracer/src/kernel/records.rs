//! Reads the records in the ring's memory, which [the kernel] writes.
//!
//! [the kernel]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/bpf/ringbuf.c
//!
//! Two pages hold a position each, in bytes since the beginning. The kernel's position is the end of the reserved space. The
//! reader's position is the end of the space that it has released. The data follows. Each record has a header of eight bytes:
//! its length with two flags, and a value for the kernel.
//!
//! aya's `RingBuf` maps the data twice in a row, so that a record that wraps around is contiguous. Both count as resident.
//! It also releases each record separately, in a word that the kernel reads for every reservation. Here a record that wraps
//! around is copied (one in thousands), and many records are released at once.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::mman::ProtFlags;

use super::error::LoadError;
use super::mmap::Memory;

/// Size of a record's header (`struct bpf_ringbuf_hdr`), and the alignment of records.
const HEAD: usize = 8;

/// `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT` (<https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/uapi/linux/bpf.h>):
/// the record is still being written; the record was discarded.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// Space is released when it reaches this fraction of the ring, or when no record is left.
const RELEASE_FRACTION: usize = 32;

/// The records in the ring.
pub(super) struct Records {
    /// The reader's position.
    consumer: Memory,
    /// The kernel's position, and from the next page on the data.
    data: Memory,
    page: usize,
    size: usize,
    /// End of the records that were returned to the caller.
    taken: u64,
    /// End of the released space.
    released: u64,
    /// No space is released while this is set.
    kept: bool,
    /// The kernel's position at the last read.
    reserved: u64,
    /// The last record that wrapped around.
    whole: Vec<u8>,
}

impl Records {
    /// Maps a ring with `size` bytes of data, a power of two and whole pages.
    pub(super) fn map(descriptor: BorrowedFd<'_>, size: usize, page: usize) -> Result<Self, LoadError> {
        const NAME: &str = "the ring buffer";
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let consumer = Memory::map(NAME, descriptor, 0, page, access)?;
        let data = Memory::map(NAME, descriptor, page, page + size, ProtFlags::PROT_READ)?;
        let mut records =
            Self { consumer, data, page, size, taken: 0, released: 0, kept: false, reserved: 0, whole: Vec::new() };
        records.taken = records.consumer().load(Ordering::Acquire);
        (records.released, records.reserved) = (records.taken, records.taken);
        Ok(records)
    }

    fn consumer(&self) -> &AtomicU64 {
        // SAFETY: it is at the start of a page, and only we write it. Only 64-bit kernels are traced.
        unsafe { self.consumer.start().cast().as_ref() }
    }

    /// Returns the next complete record. The space of earlier records may be reused, unless it is kept.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        if self.taken - self.released >= (self.size / RELEASE_FRACTION) as u64 {
            self.release();
        }
        let (start, len) = loop {
            if self.taken == self.reserved {
                // SAFETY: it is at the start of a page and is written as a whole.
                let position: &AtomicU64 = unsafe { self.data.start().cast().as_ref() };
                self.reserved = position.load(Ordering::Acquire);
                if self.taken == self.reserved {
                    self.release();
                    return None;
                }
            }
            let at = self.taken as usize & (self.size - 1);
            // SAFETY: it is within the data, whose size is a multiple of a header, and headers are aligned.
            let head: &AtomicU32 = unsafe { self.data.start().add(self.page + at).cast().as_ref() };
            // The kernel clears the flag when the record is complete.
            let head = head.load(Ordering::Acquire);
            if head & BUSY != 0 {
                self.release();
                return None;
            }
            let len = (head & !DISCARDED) as usize;
            self.taken += (HEAD + len).next_multiple_of(HEAD) as u64;
            if head & DISCARDED == 0 {
                break ((at + HEAD) & (self.size - 1), len);
            }
        };
        let until_end = len.min(self.size - start);
        // SAFETY: both are within the data. The kernel does not write them until they are released, which needs `self`.
        let piece = |at: usize, len: usize| unsafe {
            std::slice::from_raw_parts(self.data.start().add(self.page + at).as_ptr(), len)
        };
        if until_end == len {
            return Some(piece(start, len));
        }
        // No record is larger than the ring.
        let (first, second) = (piece(start, until_end), piece(0, (len - until_end).min(start)));
        self.whole.clear();
        self.whole.extend_from_slice(first);
        self.whole.extend_from_slice(second);
        Some(&self.whole)
    }

    /// Passes all present records to `record` without removing them.
    pub(super) fn look_ahead(&mut self, mut record: impl FnMut(&[u8])) {
        let from = self.taken;
        self.kept = true;
        while let Some(bytes) = self.next() {
            record(bytes);
        }
        (self.taken, self.kept) = (from, false);
    }

    /// Releases the space of all returned records, unless it is kept.
    pub(super) fn release(&mut self) {
        if self.released != self.taken && !self.kept {
            self.released = self.taken;
            // All reads of the records come before this store.
            self.consumer().store(self.taken, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const PAGE: usize = 4096;

    /// A ring in a file, written as the kernel does.
    struct Ring {
        file: File,
        at: usize,
    }

    impl Ring {
        fn new() -> Self {
            let file = tempfile::tempfile().unwrap();
            file.set_len(3 * PAGE as u64).unwrap();
            Self { file, at: 0 }
        }

        fn put(&self, at: usize, bytes: &[u8]) {
            for (i, &byte) in bytes.iter().enumerate() {
                self.file.write_all_at(&[byte], (2 * PAGE + (at + i) % PAGE) as u64).unwrap();
            }
        }

        /// Reserves space, writes a record and its header.
        fn push(&mut self, record: &[u8], flags: u32) -> usize {
            let at = self.at;
            self.put(at + HEAD, record);
            self.flag(at, record.len(), flags);
            self.at += (HEAD + record.len()).next_multiple_of(HEAD);
            self.file.write_all_at(&(self.at as u64).to_ne_bytes(), PAGE as u64).unwrap();
            at
        }

        fn flag(&self, at: usize, len: usize, flags: u32) {
            self.put(at, &(len as u32 | flags).to_ne_bytes());
        }

        fn released(&self) -> u64 {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, 0).unwrap();
            u64::from_ne_bytes(bytes)
        }
    }

    #[test]
    fn records_come_whole_and_in_order_also_where_they_wrap() {
        let mut ring = Ring::new();
        let mut records = Records::map(ring.file.as_fd(), PAGE, PAGE).unwrap();
        assert_eq!(records.next(), None);
        let mut wrapped = 0;
        for round in 0..1000_usize {
            let record: Vec<u8> = (0..=round % 700).map(|i| (round + i) as u8).collect();
            let at = ring.push(&record, 0) % PAGE;
            wrapped += usize::from(at + HEAD < PAGE && at + HEAD + record.len() > PAGE);
            assert_eq!(records.next(), Some(&*record), "{round}");
            if round % 3 == 0 {
                assert_eq!(records.next(), None);
                assert_eq!(ring.released(), ring.at as u64, "no record is left: all space is free");
            }
            assert!(ring.at as u64 - ring.released() <= (PAGE / RELEASE_FRACTION + HEAD + 700) as u64);
        }
        assert!(wrapped > 10);
    }

    #[test]
    fn records_seen_ahead_come_again_and_keep_their_space() {
        let mut ring = Ring::new();
        let mut records = Records::map(ring.file.as_fd(), PAGE, PAGE).unwrap();
        let all: Vec<Vec<u8>> = (1..=7).map(|n| vec![n; 500]).collect();
        for record in &all {
            ring.push(record, 0);
        }
        assert_eq!(records.next(), Some(&*all[0]));
        let mut seen = Vec::new();
        records.look_ahead(|record| seen.push(record.to_vec()));
        assert_eq!(seen, all[1..]);
        assert_eq!(ring.released(), 0);
        let again: Vec<Vec<u8>> = std::iter::from_fn(|| records.next().map(<[u8]>::to_vec)).collect();
        assert_eq!(again, all[1..]);
        assert_eq!(ring.released(), ring.at as u64);
    }

    #[test]
    fn a_busy_record_is_waited_for_and_a_discarded_one_is_skipped() {
        let mut ring = Ring::new();
        let mut records = Records::map(ring.file.as_fd(), PAGE, PAGE).unwrap();
        ring.push(b"first", 0);
        let second = ring.push(b"second", BUSY);
        ring.push(b"third", 0);
        assert_eq!(records.next(), Some(&b"first"[..]));
        assert_eq!(records.next(), None);
        assert_eq!(records.next(), None);
        ring.flag(second, 6, DISCARDED);
        assert_eq!(records.next(), Some(&b"third"[..]));
        assert_eq!(records.next(), None);
        assert_eq!(ring.released(), ring.at as u64);
    }
}
