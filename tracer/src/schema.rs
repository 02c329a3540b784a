//! The JSON Schema of the JSON lines, generated from the types of [`crate::event`].

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::event::{Event, SCHEMA_VERSION};

/// The schema as a value.
pub fn value() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Event>();
    schema.insert("title".into(), format!("tracer: an event, schema {SCHEMA_VERSION}").into());
    schema.to_value()
}

/// The schema as `docs/schema/v1.json` holds it.
pub fn text() -> String {
    format!("{:#}\n", value())
}
