//! Writes durations, sizes and counts in few columns.

use super::glyphs::Glyphs;

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;
const MINUTE: u64 = 60 * S;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Writes a duration with three significant digits in at most six columns: `412µs`, `3.21ms`, `45.3s`, `2m03s`, `1h02m`.
pub fn duration(ns: u64, glyphs: &Glyphs) -> String {
    // Beyond these limits, rounding would need another digit.
    if ns == 0 {
        return "0".into();
    }
    match ns {
        0..US => format!("{ns}ns"),
        US..999_500 => digits(ns, US, glyphs.microseconds),
        999_500..999_500_000 => digits(ns, MS, "ms"),
        999_500_000..MINUTE => digits(ns, S, "s"),
        MINUTE..HOUR => format!("{}m{:02}s", ns / MINUTE, ns % MINUTE / S),
        HOUR..DAY => format!("{}h{:02}m", ns / HOUR, ns % HOUR / MINUTE),
        DAY.. => format!("{}d{:02}h", ns / DAY, ns % DAY / HOUR),
    }
}

/// Writes a size in at most five columns, in powers of 1024: `812K`, `3.4M`, `1.2G`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["", "K", "M", "G", "T", "P"] {
        if value < 999.5 {
            let decimals = usize::from(!unit.is_empty() && value < 9.95);
            return format!("{value:.decimals$}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.0}E")
}

/// Writes a count with commas between thousands: `4,812`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes a count with a noun in the singular or plural: `1 exec`, `2 execs`, `3 processes`.
pub fn counted(n: u64, what: &str) -> String {
    let ending = match what {
        _ if n == 1 => "",
        what if what.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {what}{ending}", count(n))
}

fn digits(ns: u64, unit: u64, name: &str) -> String {
    let value = ns as f64 / unit as f64;
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{name}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr as _;

    use super::super::glyphs::{ASCII, UNICODE};
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (ns, text) in [
            (0, "0"),
            (999, "999ns"),
            (1_000, "1.00µs"),
            (412_345, "412µs"),
            (999_499, "999µs"),
            (999_500, "1.00ms"),
            (3_210_000, "3.21ms"),
            (9_996_000, "10.0ms"),
            (999_500_000, "1.00s"),
            (45_300_000_000, "45.3s"),
            (59_960_000_000, "60.0s"),
            (60_000_000_000, "1m00s"),
            (123_000_000_000, "2m03s"),
            (3_720_000_000_000, "1h02m"),
            (100 * HOUR, "4d04h"),
        ] {
            assert_eq!(duration(ns, &UNICODE), text);
        }
    }

    #[test]
    fn sizes_are_in_powers_of_1024() {
        for (n, text) in
            [(0, "0"), (999, "999"), (1000, "1.0K"), (3 << 20, "3.0M"), (812 << 10, "812K"), (5 << 40, "5.0T")]
        {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn commas_separate_thousands() {
        assert_eq!([count(0), count(999), count(4812), count(1_234_567)], ["0", "999", "4,812", "1,234,567"]);
        assert_eq!(
            [counted(1, "process"), counted(2, "process"), counted(0, "exec")],
            ["1 process", "2 processes", "0 execs"]
        );
    }

    proptest! {
        #[test]
        fn texts_fit_their_columns(ns in 0..100 * DAY, size in any::<u64>()) {
            for glyphs in [&UNICODE, &ASCII] {
                let text = duration(ns, glyphs);
                prop_assert!(text.width() <= 6, "{}", text);
            }
            prop_assert!(bytes(size).width() <= 5, "{}", bytes(size));
        }
    }
}
