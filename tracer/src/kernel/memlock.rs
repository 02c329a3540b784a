//! The limit of locked memory, `RLIMIT_MEMLOCK`: before Linux 5.11 maps and programs count against it
//! ([`bpf_charge_memlock`]); since then they count as memory of the control group.
//!
//! [`bpf_charge_memlock`]: https://github.com/torvalds/linux/blob/2c85ebc57b3e1817b6ce1a6b703928e113a90442/kernel/bpf/syscall.c

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::error::LoadError;
use super::fallback::Fallback;
use super::options::KernelOptions;
use super::release::release;

/// Since when it does not matter.
const SINCE: (u32, u32) = (5, 11);

/// No ring is made smaller than this to fit.
const SMALLEST_RING: u32 = 256 << 10;

/// True where it matters.
pub(crate) fn counts() -> bool {
    release().is_some_and(|release| release < SINCE)
}

/// In bytes, where it matters and cannot be lifted. It is raised as far as we may.
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

/// Starts something with as much room as it asks for, or else with the most that the limit leaves; and says with how much.
pub(crate) fn within<T>(
    options: &KernelOptions,
    mut start: impl FnMut(&KernelOptions) -> Result<T, LoadError>,
) -> Result<(T, KernelOptions), LoadError> {
    let limit = limit();
    let mut fitting = options.clone();
    loop {
        match (start(&fitting), limit) {
            (Ok(started), _) => return Ok((started, fitting)),
            // EPERM is all that the kernel says.
            (Err(LoadError::Refused(refusal)), Some(bytes)) if refusal.errno() == Some(Errno::EPERM) => {
                if !shrink(&mut fitting) {
                    return Err(LoadError::Memlock { bytes });
                }
            }
            (Err(error), _) => return Err(error),
        }
    }
}

/// Asks for half as much. False if that would be too little.
fn shrink(options: &mut KernelOptions) -> bool {
    let half = options.ring_bytes / 2;
    let enough = half >= SMALLEST_RING && half > options.argv_max;
    if enough {
        (options.ring_bytes, options.max_tracked) = (half, options.max_tracked / 2);
    }
    enough
}

/// What is reported if the ring is smaller than it should be.
pub(super) fn fallback(wanted: &KernelOptions, got: &KernelOptions) -> Option<Fallback> {
    let (bytes, wanted) = (got.ring_bytes, wanted.ring_bytes);
    (bytes != wanted).then_some(Fallback::SmallRing { bytes, wanted })
}

/// How to raise it.
pub(crate) const REMEDY: &str = "ulimit -l unlimited";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_up_by_halves_and_never_below_an_argument_list() {
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
