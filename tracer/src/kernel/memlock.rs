//! The limit of locked memory, `RLIMIT_MEMLOCK`.
//!
//! Before Linux 5.11 maps and programs count against it ([`bpf_charge_memlock`]). Since then they count as memory of the
//! cgroup.
//!
//! [`bpf_charge_memlock`]: https://github.com/torvalds/linux/blob/2c85ebc57b3e1817b6ce1a6b703928e113a90442/kernel/bpf/syscall.c

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::error::LoadError;
use super::fallback::Fallback;
use super::options::KernelOptions;
use super::release::release;

/// First version in which the limit does not matter.
const IGNORED_SINCE: (u32, u32) = (5, 11);

/// Smallest size of the ring, in bytes.
const SMALLEST_RING: u32 = 256 << 10;

/// Returns true if BPF counts against the limit on this kernel.
pub(crate) fn counts() -> bool {
    release().is_some_and(|release| release < IGNORED_SINCE)
}

/// Raises the limit as far as possible. Returns it in bytes if it still applies.
fn limit() -> Option<u64> {
    if !counts() {
        return None;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    let lifted = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    if lifted.or_else(|_| setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)).is_err() {
        tracing::debug!("the limit of locked memory cannot be raised");
    }
    getrlimit(Resource::RLIMIT_MEMLOCK).ok().map(|(soft, _)| soft).filter(|&soft| soft != RLIM_INFINITY)
}

/// Calls `start` with these options, or with smaller memory if the limit requires it. Returns the options that worked.
pub(crate) fn within<T>(
    options: &KernelOptions,
    mut start: impl FnMut(&KernelOptions) -> Result<T, LoadError>,
) -> Result<(T, KernelOptions), LoadError> {
    let limit = limit();
    let mut fitting = options.clone();
    loop {
        match (start(&fitting), limit) {
            (Ok(started), _) => return Ok((started, fitting)),
            // The kernel returns only EPERM.
            (Err(LoadError::Refused(refusal)), Some(bytes)) if refusal.errno() == Some(Errno::EPERM) => {
                if !shrink(&mut fitting) {
                    return Err(LoadError::Memlock { bytes });
                }
            }
            (Err(error), _) => return Err(error),
        }
    }
}

/// Halves the memory. Returns false if that would be too little.
fn shrink(options: &mut KernelOptions) -> bool {
    let half = options.ring_bytes / 2;
    let enough = half >= SMALLEST_RING && half > options.argv_max;
    if enough {
        (options.ring_bytes, options.max_tracked) = (half, options.max_tracked / 2);
    }
    enough
}

/// Returns a fallback if the ring is smaller than requested.
pub(super) fn fallback(wanted: &KernelOptions, got: &KernelOptions) -> Option<Fallback> {
    let (bytes, wanted) = (got.ring_bytes, wanted.ring_bytes);
    (bytes != wanted).then_some(Fallback::SmallRing { bytes, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_halved_and_never_below_an_argument_list() {
        let mut options = KernelOptions { max_tracked: 1 << 10, argv_max: 600 << 10, ..KernelOptions::default() };
        let mut rings = Vec::new();
        while shrink(&mut options) {
            rings.push((options.ring_bytes >> 10, options.max_tracked));
        }
        assert_eq!(rings, [(4096, 512), (2048, 256), (1024, 128)]);
        options.argv_max = 1;
        assert!(shrink(&mut options) && shrink(&mut options) && !shrink(&mut options));
        assert_eq!(options.ring_bytes, SMALLEST_RING);
        let smaller = fallback(&KernelOptions::default(), &options).unwrap().to_string();
        assert!(smaller.contains("256 KiB instead of 8192 KiB"), "{smaller}");
        assert!(fallback(&options, &options).is_none());
    }
}
