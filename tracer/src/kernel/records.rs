//! The ring's memory: what [the kernel] writes, read where it lies.
//!
//! [the kernel]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/bpf/ringbuf.c
//!
//! Two pages hold a position each, in bytes since the beginning: up to which the kernel has reserved room, and up to which we
//! gave it back. Then comes the data, in which each record has eight bytes before it: its length with two flags, and something
//! of the kernel's own.
//!
//! aya's `RingBuf` maps the data twice in a row, so that a record that wraps around lies in one piece; both count as resident.
//! And it gives back the room of each record by itself, in a word that the kernel looks at whenever it reserves. Here a record
//! that wraps around is copied (one in thousands), and room is given back for many records at once.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::mman::ProtFlags;

use super::error::LoadError;
use super::mmap::Memory;

/// Before each record (`struct bpf_ringbuf_hdr`), and what records are aligned to.
const HEAD: usize = 8;

/// `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT` (<https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/uapi/linux/bpf.h>):
/// it is still being written; it is none.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// Room is given back once it is this part of the ring, or nothing is left.
const GIVE_BACK: usize = 32;

/// The records in the ring.
pub(super) struct Records {
    given_back: Memory,
    /// The kernel's position, and from the next page on the data.
    data: Memory,
    page: usize,
    size: usize,
    /// Up to where records were handed over, and room was given back.
    taken: u64,
    returned: u64,
    /// No room is given back while this is set.
    kept: bool,
    /// How far the kernel had come when it was last asked.
    reserved: u64,
    /// The last record that wrapped around.
    whole: Vec<u8>,
}

impl Records {
    /// Maps a ring of so many bytes of data, a power of two of whole pages.
    pub(super) fn map(descriptor: BorrowedFd<'_>, size: usize, page: usize) -> Result<Self, LoadError> {
        const NAME: &str = "the ring buffer";
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let given_back = Memory::map(NAME, descriptor, 0, page, access)?;
        let data = Memory::map(NAME, descriptor, page, page + size, ProtFlags::PROT_READ)?;
        let mut records =
            Self { given_back, data, page, size, taken: 0, returned: 0, kept: false, reserved: 0, whole: Vec::new() };
        records.taken = records.given_back().load(Ordering::Acquire);
        (records.returned, records.reserved) = (records.taken, records.taken);
        Ok(records)
    }

    fn given_back(&self) -> &AtomicU64 {
        // SAFETY: it stands at the beginning of a page, and we alone write it. Kernels of 64 bits alone are traced.
        unsafe { self.given_back.start().cast().as_ref() }
    }

    /// The next record, if there is one that is whole. The room of those before it may be used again, unless it is kept.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        if self.taken - self.returned >= (self.size / GIVE_BACK) as u64 {
            self.give_back();
        }
        let (start, len) = loop {
            if self.taken == self.reserved {
                // SAFETY: it stands at the beginning of a page, whole.
                let position: &AtomicU64 = unsafe { self.data.start().cast().as_ref() };
                self.reserved = position.load(Ordering::Acquire);
                if self.taken == self.reserved {
                    self.give_back();
                    return None;
                }
            }
            let at = self.taken as usize & (self.size - 1);
            // SAFETY: it lies within the data, which is larger than a head and made of such; and a head is aligned.
            let head: &AtomicU32 = unsafe { self.data.start().add(self.page + at).cast().as_ref() };
            // The kernel takes the flag away when all of the record is there.
            let head = head.load(Ordering::Acquire);
            if head & BUSY != 0 {
                self.give_back();
                return None;
            }
            let len = (head & !DISCARDED) as usize;
            self.taken += (HEAD + len).next_multiple_of(HEAD) as u64;
            if head & DISCARDED == 0 {
                break ((at + HEAD) & (self.size - 1), len);
            }
        };
        let until_end = len.min(self.size - start);
        // SAFETY: both lie within the data, and the kernel writes them no more until their room is given back, which needs `self`.
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

    /// Shows the records that are there, and leaves them where they are.
    pub(super) fn look_ahead(&mut self, mut record: impl FnMut(&[u8])) {
        let from = self.taken;
        self.kept = true;
        while let Some(bytes) = self.next() {
            record(bytes);
        }
        (self.taken, self.kept) = (from, false);
    }

    /// Gives back the room of all that was handed over, unless it is kept.
    pub(super) fn give_back(&mut self) {
        if self.returned != self.taken && !self.kept {
            self.returned = self.taken;
            // What was read was read before.
            self.given_back().store(self.taken, Ordering::Release);
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

        /// Reserves room, writes a record and its head.
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

        fn given_back(&self) -> u64 {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, 0).unwrap();
            u64::from_ne_bytes(bytes)
        }
    }

    #[test]
    fn records_come_whole_and_in_order_however_they_lie() {
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
                assert_eq!(ring.given_back(), ring.at as u64, "nothing is left: all room is free");
            }
            assert!(ring.at as u64 - ring.given_back() <= (PAGE / GIVE_BACK + HEAD + 700) as u64);
        }
        assert!(wrapped > 10);
    }

    #[test]
    fn what_was_looked_at_ahead_comes_again_and_its_room_is_kept() {
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
        assert_eq!(ring.given_back(), 0);
        let again: Vec<Vec<u8>> = std::iter::from_fn(|| records.next().map(<[u8]>::to_vec)).collect();
        assert_eq!(again, all[1..]);
        assert_eq!(ring.given_back(), ring.at as u64);
    }

    #[test]
    fn one_that_is_being_written_is_waited_for_and_one_that_was_given_up_is_passed() {
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
        assert_eq!(ring.given_back(), ring.at as u64);
    }
}
