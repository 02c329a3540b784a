//! Maps in memory that the kernel side and user space share.
//!
//! They are not read by bpf(2). While that call reads a map, the kernel skips programs on trace events on that CPU
//! ([`bpf_disable_instrumentation`]). The call can be preempted meanwhile.
//!
//! [`bpf_disable_instrumentation`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/bpf/syscall.c

use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use aya::maps::{Map, MapData};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use tracer_common::stats::CpuStats;

use super::error::{LoadError, refused};

/// Memory shared with the kernel.
pub(super) struct Memory {
    at: NonNull<std::ffi::c_void>,
    bytes: NonZeroUsize,
}

// SAFETY: the memory is mapped until it is dropped, in any thread.
unsafe impl Send for Memory {}

impl Memory {
    /// Maps an array of N bytes that was created with `BPF_F_MMAPABLE`.
    fn of(name: &str, map: Option<&Map>, bytes: usize, access: ProtFlags) -> Result<Self, LoadError> {
        let Some(Map::Array(map)) = map else { return Err(refused(name, "the map is missing from the object")) };
        Self::map(name, MapData::fd(map).as_fd(), 0, bytes, access)
    }

    /// Maps N bytes of a descriptor from an offset. Both are whole pages.
    pub(super) fn map(
        name: &str,
        descriptor: BorrowedFd<'_>,
        offset: usize,
        bytes: usize,
        access: ProtFlags,
    ) -> Result<Self, LoadError> {
        let bytes = NonZeroUsize::new(bytes).ok_or_else(|| refused(name, "it is empty"))?;
        // SAFETY: this is a new mapping at an address that the kernel chooses. It keeps the mapped object alive.
        let at = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, descriptor, offset as i64) };
        let at = at.map_err(|error| refused(name, format!("it cannot be mapped: {}", error.desc())))?;
        Ok(Self { at, bytes })
    }

    /// Returns its start, which is aligned to a page.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.at.cast()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: no reference into the mapping outlives it.
        let _ = unsafe { munmap(self.at, self.bytes.get()) };
    }
}

/// The counters of every CPU.
pub(super) struct Counters {
    memory: Memory,
    cpus: usize,
}

impl Counters {
    pub(super) fn new(map: Option<&Map>, cpus: usize) -> Result<Self, LoadError> {
        let memory = Memory::of("STATS", map, cpus * size_of::<CpuStats>(), ProtFlags::PROT_READ)?;
        Ok(Self { memory, cpus })
    }

    /// Returns their current values.
    pub(super) fn read(&self) -> Vec<CpuStats> {
        let first = self.memory.at.cast::<CpuStats>();
        // SAFETY: there is one element per CPU, made of words that are valid for any bits. The kernel writes them
        // concurrently, each word as a whole.
        (0..self.cpus).map(|cpu| unsafe { first.add(cpu).read_volatile() }).collect()
    }
}

/// The flag that asks the kernel side to wake us.
pub(super) struct Asleep(Memory);

impl Asleep {
    pub(super) fn new(map: Option<&Map>) -> Result<Self, LoadError> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        Memory::of("ASLEEP", map, size_of::<u32>(), access).map(Self)
    }

    /// Announces that the next record must wake us.
    pub(super) fn announce(&self) {
        // SAFETY: the word lives as long as the mapping, and is aligned to a page.
        let word = unsafe { self.0.at.cast::<AtomicU32>().as_ref() };
        word.store(1, Ordering::Release);
        // Every CPU sees the flag before our last poll of the ring.
        fence(Ordering::SeqCst);
    }
}
