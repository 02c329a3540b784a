//! Checks lines with the JSON Schema that the binary prints.

use serde_json::Value;

use super::process::{BOUND, run_bounded};
use super::trace::Trace;
use super::tracer::command;

/// Asserts that every line is valid and has no key that is missing from the schema.
pub(crate) fn check_schema(trace: &Trace) {
    let printed = run_bounded(&mut command(["schema"]), BOUND);
    assert!(printed.status.success(), "{printed:?}");
    let schema: Value = serde_json::from_slice(&printed.stdout).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is a JSON Schema");
    for line in &trace.lines {
        let value: Value = serde_json::from_str(&line.text).expect("it was parsed before");
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {}", line.text);
        assert_eq!(serde_json::to_value(&line.event).expect("an event is JSON"), value, "keys unknown to the schema");
    }
}
