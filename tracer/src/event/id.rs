//! Identity of a process.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bits of an id that hold the pid: `PID_MAX_LIMIT` is 2^22 (include/linux/threads.h).
const PID_BITS: u32 = 22;

/// Clock ticks per second in `/proc` (`USER_HZ`): 100 on every architecture that tracer runs on.
pub const USER_HZ: u64 = 100;

/// Nanoseconds of one tick of `/proc/PID/stat`'s `starttime`.
pub const TICK_NS: u64 = 1_000_000_000 / USER_HZ;

/// `(starttime << 22) pid`. Any program can compute it from `/proc/PID/stat`. It survives exec, a restart of tracer and
/// pid reuse, except within one clock tick (10 ms).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(u64);

impl ProcessId {
    /// Takes field 22 of `/proc/PID/stat` and the thread-group id.
    pub const fn from_ticks(start_ticks: u64, pid: u32) -> Self {
        Self((start_ticks << PID_BITS) | pid as u64)
    }

    /// Takes the start in nanoseconds of `CLOCK_BOOTTIME` and the thread-group id.
    pub const fn from_ns(start_ns: u64, pid: u32) -> Self {
        Self::from_ticks(start_ns / TICK_NS, pid)
    }

    /// Returns the thread-group id.
    pub const fn pid(self) -> u32 {
        (self.0 & ((1 << PID_BITS) - 1)) as u32
    }

    /// Returns the start in clock ticks since boot.
    pub const fn start_ticks(self) -> u64 {
        self.0 >> PID_BITS
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid(), self.start_ticks())
    }
}

/// A text that is not a process id.
#[derive(Debug, thiserror::Error)]
#[error("not a process id: 16 hex digits are expected")]
pub struct ParseIdError;

impl FromStr for ProcessId {
    type Err = ParseIdError;

    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        if s.len() != 16 {
            return Err(ParseIdError);
        }
        u64::from_str_radix(s, 16).map(Self).map_err(|_| ParseIdError)
    }
}

/// Each byte in hex.
const HEX: [[u8; 2]; 256] = {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 0xf]];
        byte += 1;
    }
    pairs
};

impl Serialize for ProcessId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0u8; 16];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(self.0.to_be_bytes()) {
            *pair = HEX[usize::from(byte)];
        }
        s.serialize_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for ProcessId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for ProcessId {
    fn schema_name() -> Cow<'static, str> {
        "ProcessId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9a-f]{16}$",
            "description": "(starttime << 22) | pid, in 16 hex digits; starttime is field 22 of /proc/PID/stat"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_start_and_the_pid() {
        let id = ProcessId::from_ns(12_345_678_901, 4711);
        assert_eq!((id.start_ticks(), id.pid()), (1234, 4711));
        assert_eq!(id.to_string(), format!("{:016x}", (1234u64 << 22) | 4711));
    }

    #[test]
    fn an_id_survives_json() {
        let id = ProcessId::from_ticks(987_654_321, 4_194_303);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<ProcessId>(&json).unwrap(), id);
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in ["", "12", "00000000000000zz", "00000000000000000"] {
            assert!(text.parse::<ProcessId>().is_err(), "{text:?}");
        }
    }
}
