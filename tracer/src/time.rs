//! Points in time as the output shows them.

use std::borrow::Cow;
use std::fmt;

use jiff::fmt::temporal::DateTimePrinter;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const NS: i64 = 1_000_000_000;

/// Nanoseconds since 1970 in UTC; shown in RFC 3339 with nine digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// RFC 3339 in UTC with nanoseconds: always 30 characters for the years 0 to 9999.
    fn print(self) -> String {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
        let seconds = self.0.div_euclid(NS);
        let nanos = self.0.rem_euclid(NS) as i32;
        // Every i64 of nanoseconds lies within the years 1677 to 2262.
        jiff::Timestamp::new(seconds, nanos).map(|t| PRINTER.timestamp_to_string(&t)).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.print())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.print())
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
    }
}
