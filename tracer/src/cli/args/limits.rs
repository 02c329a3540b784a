//! Sizes in bytes, and the limits that `--argv-max`, `--ring-size` and `--max-memory` have.

use std::fmt;
use std::str::FromStr;

use tracer_common::limits::ARGV_MAX_BYTES;

/// The largest ring.
const RING_MAX_BYTES: u32 = 1 << 30;

/// The least memory budget.
const MEMORY_MIN_BYTES: u32 = 1 << 20;

/// Checks the sizes that the user chose. Returns the reason to refuse them.
pub(super) fn check(argv_max: Size, ring_size: Size, max_memory: Size) -> Result<(), String> {
    let page = page_size();
    let (Size(argv), Size(ring), Size(memory)) = (argv_max, ring_size, max_memory);
    if argv == 0 || argv > ARGV_MAX_BYTES {
        let most = Size(ARGV_MAX_BYTES);
        return Err(format!("--argv-max is {argv} bytes: it must be from 1 to {ARGV_MAX_BYTES} ({most})"));
    }
    if !ring.is_power_of_two() || ring < page || ring > RING_MAX_BYTES {
        let most = Size(RING_MAX_BYTES);
        return Err(format!(
            "--ring-size is {ring} bytes: it must be a power of two from {page} to {RING_MAX_BYTES} ({most}), e.g. 16M"
        ));
    }
    if ring <= argv {
        return Err(format!(
            "--ring-size ({ring} bytes) cannot hold an argument list of --argv-max ({argv} bytes): make it larger"
        ));
    }
    if memory < MEMORY_MIN_BYTES {
        return Err(format!("--max-memory is {memory} bytes: it must be at least 1M"));
    }
    Ok(())
}

fn page_size() -> u32 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| u32::try_from(page).ok()).unwrap_or(4096)
}

/// A number of bytes. Displayed with the largest suffix that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u32);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes != 0 && bytes.is_multiple_of(1 << 20) => write!(f, "{}M", bytes >> 20),
            bytes if bytes != 0 && bytes.is_multiple_of(1 << 10) => write!(f, "{}K", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

/// Reads a number of bytes, with or without a suffix.
pub(super) fn size(text: &str) -> Result<Size, String> {
    let unknown = || "a size is a number of bytes, or of K (1024 bytes) or M (1024 K), e.g. 64K".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        _ => return Err(unknown()),
    };
    let number = u32::from_str(digits).map_err(|_| unknown())?;
    number.checked_mul(unit).map(Size).ok_or_else(|| "the size is too large: it must be less than 4096M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(size("4096"), Ok(Size(4096)));
        assert_eq!(size("64K"), Ok(Size(65536)));
        assert_eq!(size("2m"), Ok(Size(2 << 20)));
        assert_eq!(size("1GiB"), Ok(Size(1 << 30)));
        assert_eq!(
            [4097, 65536, 8 << 20, 1 << 30].map(|bytes| Size(bytes).to_string()),
            ["4097", "64K", "8M", "1024M"]
        );
        for text in ["", "K", "-1", "1.5M", "4G", "12x", "4294967296"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }
}
