//! The fields of an event, from the schema: one list of names and meanings for help and documentation.

use std::fmt::Write as _;

use serde_json::Value;

use crate::schema;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its path, e.g. `process.pid`.
    pub path: String,
    /// What it means.
    pub meaning: String,
}

/// All fields, in the order they are written.
pub fn list() -> Vec<Field> {
    let schema = schema::value();
    let mut fields = Vec::new();
    collect(&schema, &schema, "", &mut fields);
    fields
}

fn collect(root: &Value, schema: &Value, prefix: &str, fields: &mut Vec<Field>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let meaning = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        fields.push(Field { path: path.clone(), meaning });
        if let Some(inner) = object(root, property) {
            collect(root, inner, &format!("{path}."), fields);
        }
    }
}

/// The object that a property holds, if it does.
fn object<'a>(root: &'a Value, property: &'a Value) -> Option<&'a Value> {
    let alternatives = property["anyOf"].as_array().into_iter().flatten();
    let candidates = alternatives.chain([property, &property["items"]]);
    let targets = candidates.filter_map(|candidate| candidate["$ref"].as_str()?.strip_prefix("#/$defs/"));
    targets.map(|name| &root["$defs"][name]).find(|schema| schema["properties"].is_object())
}

/// The list as a block of help text.
pub(crate) fn help() -> String {
    let mut out = String::new();
    for Field { path, meaning } in list() {
        let _ = writeln!(out, "  {path:<28} {meaning}");
    }
    out
}
