//! The JSON Schemas of the output, generated from its types.
//!
//! What the types cannot express is added: unknown keys are absent rather than null, there are no other keys, and each
//! kind of event has its own keys.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::analysis::audit::Start;
use crate::analysis::audit::diff::Diff;
use crate::analysis::roster::Listed;
use crate::event::{Event, Kind, SCHEMA_VERSION};

/// Returns the schema of an event as a value.
pub fn value() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Event>();
    let mut schema = schema.to_value();
    tighten(&mut schema);
    schema["properties"]["v"] = json!({ "description": "Schema version.", "const": SCHEMA_VERSION });
    // The most important keys come first.
    let mut root = Map::new();
    root.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    root.insert("title".into(), format!("tracer: an event, schema {SCHEMA_VERSION}").into());
    if let Value::Object(rest) = schema {
        let known = |key: &String| matches!(key.as_str(), "$schema" | "title");
        root.extend(rest.into_iter().filter(|(key, _)| !known(key)));
    }
    root.insert("allOf".into(), Kind::ALL.iter().copied().map(keys_of).collect());
    Value::Object(root)
}

/// Returns the schema of an event as in `docs/schema/v1.json`.
pub fn text() -> String {
    format!("{:#}\n", value())
}

/// Returns the schema of a container start as in `docs/schema/start-v1.json`.
pub fn start_text() -> String {
    titled::<Start>("tracer: the start of a container, schema 1")
}

/// Returns the schema of a comparison of two starts as in `docs/schema/diff-v1.json`.
pub fn diff_text() -> String {
    titled::<Diff>("tracer: the difference of two starts of containers, schema 1")
}

/// Returns the schema of a container in a list as in `docs/schema/container-v1.json`.
pub fn container_text() -> String {
    titled::<Listed>("tracer: a container, schema 1")
}

fn titled<T: JsonSchema>(title: &str) -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    tighten(&mut schema);
    schema["title"] = title.into();
    format!("{schema:#}\n")
}

/// Keys that every line can have.
const HEAD: [&str; 6] = ["v", "event", "seq", "time", "boot_ns", "cpu"];

/// Returns the keys of a kind of event besides the head: those it always has, and those it can have.
const fn keys(kind: Kind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        Kind::Hello => (&["hello"], &[]),
        Kind::Process | Kind::Fork | Kind::ThreadStart => (&["process"], &["ancestors"]),
        Kind::Exec => (&["process"], &["argv_info", "exec", "ancestors"]),
        Kind::ExecFailed => (&["process", "exec_failed"], &["argv_info", "ancestors"]),
        Kind::Exit | Kind::ThreadExit => (&["process", "exit"], &["ancestors"]),
        Kind::Reparent => (&["process", "reparent"], &["ancestors"]),
        Kind::Reap => (&["process", "reap"], &["ancestors"]),
        Kind::Zombie => (&["process", "zombie"], &["ancestors"]),
        Kind::ContainerCreate | Kind::ContainerInfo | Kind::ContainerExit | Kind::ContainerRemove => {
            (&["container"], &["process", "ancestors"])
        }
        Kind::ContainerStart | Kind::ContainerExec => (&["process", "container"], &["ancestors"]),
        Kind::Lost => (&["lost"], &[]),
        Kind::Dropped => (&["dropped"], &[]),
        Kind::Storm => (&["process", "storm"], &["ancestors"]),
        Kind::Bye => (&["bye"], &[]),
    }
}

/// Returns the part of the schema about the keys of a kind of event.
fn keys_of(kind: Kind) -> Value {
    let (always, sometimes) = keys(kind);
    let all: Vec<&str> = [&HEAD, always, sometimes].concat();
    json!({
        "if": { "properties": { "event": { "const": kind.name() } } },
        "then": { "required": always, "propertyNames": { "enum": all } },
    })
}

/// Removes nulls and defaults and forbids other keys: absent means unknown.
fn tighten(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            drop_null(map);
            map.remove("default");
            if map.contains_key("properties") {
                map.insert("additionalProperties".into(), false.into());
            }
            map.values_mut().for_each(tighten);
        }
        Value::Array(items) => items.iter_mut().for_each(tighten),
        _ => {}
    }
}

/// Turns `["string", "null"]` into `"string"`, and a choice between null and one type into that type.
fn drop_null(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            map.insert("type".into(), only);
        }
    }
    let Some(Value::Array(choices)) = map.get_mut("anyOf") else { return };
    choices.retain(|choice| choice["type"] != "null");
    if let [Value::Object(only)] = &choices[..] {
        let only = only.clone();
        map.remove("anyOf");
        map.extend(only);
    }
}
