//! Timestamps in the output.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use jiff::fmt::temporal::DateTimePrinter;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const NS: i64 = 1_000_000_000;

/// Nanoseconds since 1970 in UTC, shown in RFC 3339 with nine digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

thread_local! {
    /// The last printed second and its text. Thousands of events share one second, and the calendar computation is
    /// expensive.
    static LAST: Cell<Option<(i64, String)>> = const { Cell::new(None) };
}

impl Timestamp {
    /// Prints RFC 3339 in UTC with nanoseconds: `2023-11-14T22:13:20.123456789Z`.
    fn print<R>(self, show: impl FnOnce(&str) -> R) -> R {
        let (second, nanos) = (self.0.div_euclid(NS), self.0.rem_euclid(NS));
        // Taken out meanwhile: `show` may print another timestamp.
        let last = LAST.try_with(Cell::take).ok().flatten().filter(|(last, _)| *last == second);
        let mut text = last.map_or_else(|| print_second(second), |(_, text)| text);
        // Ten digits, of which nine are the fraction. Every i64 of nanoseconds has a four-digit year.
        let mut digits = itoa::Buffer::new();
        text.truncate(UP_TO_SECONDS);
        text.push_str(&digits.format(NS + nanos)[1..]);
        text.push('Z');
        let shown = show(&text);
        // At thread exit the cache is already gone.
        let _ = LAST.try_with(|last| last.set(Some((second, text))));
        shown
    }
}

/// Bytes of `2023-11-14T22:13:20.`.
const UP_TO_SECONDS: usize = 20;

fn print_second(second: i64) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
    jiff::Timestamp::new(second, 0).map(|time| PRINTER.timestamp_to_string(&time)).unwrap_or_default()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(|text| f.pad(text))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.print(|text| s.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(d)?;
        let parsed: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        i64::try_from(parsed.as_nanosecond()).map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$",
            "description": "RFC 3339 in UTC, with nanoseconds"
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_calendar_library(ns in 0i64..=i64::MAX) {
            let theirs = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
            prop_assert_eq!(Timestamp(ns).to_string(), format!("{theirs:.9}"));
            let json = serde_json::to_string(&Timestamp(ns)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), Timestamp(ns));
        }

        #[test]
        fn close_timestamps_differ(ns in 0i64..=i64::MAX - 5 * NS, steps in proptest::collection::vec(0i64..2 * NS, 3)) {
            let mut ns = ns;
            for step in steps {
                ns += step;
                let theirs = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
                prop_assert_eq!(Timestamp(ns).to_string(), format!("{theirs:.9}"));
            }
        }
    }
}
