//! Points in time as the output shows them.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use jiff::fmt::temporal::DateTimePrinter;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const NS: i64 = 1_000_000_000;

/// Nanoseconds since 1970 in UTC; shown in RFC 3339 with nine digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// `2023-11-14T22:13:20.123456789Z`: every i64 of nanoseconds lies within the years 1677 to 2262.
type Printed = [u8; 30];

thread_local! {
    /// The second that was printed last: thousands of events share one, and the calendar is what costs.
    static LAST: Cell<(i64, Printed)> = const { Cell::new((i64::MIN, [b'0'; 30])) };
}

impl Timestamp {
    /// RFC 3339 in UTC with nanoseconds.
    fn print(self) -> Printed {
        let second = self.0.div_euclid(NS);
        let (last, mut printed) = LAST.get();
        if last != second {
            printed = print_second(second);
            LAST.set((second, printed));
        }
        let mut nanos = self.0.rem_euclid(NS);
        for digit in printed[20..29].iter_mut().rev() {
            *digit = b'0' + (nanos % 10) as u8;
            nanos /= 10;
        }
        printed
    }
}

fn print_second(second: i64) -> Printed {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
    let text = jiff::Timestamp::new(second, 0).map(|time| PRINTER.timestamp_to_string(&time)).unwrap_or_default();
    text.as_bytes().try_into().unwrap_or([b'0'; 30])
}

fn as_text(printed: &Printed) -> &str {
    std::str::from_utf8(printed).unwrap_or_default()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(as_text(&self.print()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(as_text(&self.print()))
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
        fn agrees_with_the_calendar_of_a_library(ns in 0i64..=i64::MAX) {
            let theirs = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
            prop_assert_eq!(Timestamp(ns).to_string(), format!("{theirs:.9}"));
            let json = serde_json::to_string(&Timestamp(ns)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), Timestamp(ns));
        }

        #[test]
        fn neighbours_in_time_are_told_apart(ns in 0i64..=i64::MAX - 5 * NS, steps in proptest::collection::vec(0i64..2 * NS, 3)) {
            let mut ns = ns;
            for step in steps {
                ns += step;
                let theirs = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
                prop_assert_eq!(Timestamp(ns).to_string(), format!("{theirs:.9}"));
            }
        }
    }
}
