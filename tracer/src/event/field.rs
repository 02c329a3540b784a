//! The fields of an event, from the schema: one list of names and meanings for help and documentation.

use std::fmt::Write as _;

use serde_json::Value;

use crate::event::schema;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its path, e.g. `process.pid`.
    pub path: String,
    /// Its meaning.
    pub meaning: String,
}

/// Returns all fields in the order in which they are written. Fields of an object are listed only once.
pub fn list() -> Vec<Field> {
    let schema = schema::value();
    let mut fields = Vec::new();
    collect(&schema, &schema, "", &mut Vec::new(), &mut fields);
    fields
}

fn collect<'a>(
    root: &'a Value,
    schema: &'a Value,
    prefix: &str,
    listed: &mut Vec<(&'a str, String)>,
    fields: &mut Vec<Field>,
) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let mut meaning = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        let object = object(root, property);
        let before = object.and_then(|(name, _)| listed.iter().find(|(other, _)| *other == name));
        if let Some((_, before)) = before {
            let _ = write!(meaning, " Fields as in `{before}`.");
        }
        let fresh = object.filter(|_| before.is_none());
        fields.push(Field { path: path.clone(), meaning });
        if let Some((name, inner)) = fresh {
            listed.push((name, path.clone()));
            collect(root, inner, &format!("{path}."), listed, fields);
        }
    }
}

/// Returns the name and schema of the object that a property holds, if it does.
fn object<'a>(root: &'a Value, property: &'a Value) -> Option<(&'a str, &'a Value)> {
    let targets = [property, &property["items"]].into_iter();
    let names = targets.filter_map(|target| target["$ref"].as_str()?.strip_prefix("#/$defs/"));
    names.map(|name| (name, &root["$defs"][name])).find(|(_, schema)| schema["properties"].is_object())
}

/// Formats the list as help text: narrow enough for any terminal, wrapped so that continuation lines are indented.
pub(crate) fn help() -> String {
    /// Width of a line, and of the column for the name.
    const WIDTH: usize = 78;
    const NAME: usize = 30;
    let mut out = String::new();
    for Field { path, meaning } in list() {
        let mut line = format!("  {path:<width$}", width = NAME - 2);
        let mut empty = true;
        for word in meaning.split(' ') {
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                let _ = writeln!(out, "{}", line.trim_end());
                line = " ".repeat(NAME);
                empty = true;
            }
            if !empty || !line.ends_with(' ') {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_unique_name_and_a_meaning() {
        let fields = list();
        assert!(fields.len() > 100, "{}", fields.len());
        for field in &fields {
            assert!(field.meaning.ends_with(['.', ')']), "{field:?}");
            assert_eq!(fields.iter().filter(|other| other.path == field.path).count(), 1, "{field:?}");
        }
        let paths: Vec<_> = fields.iter().map(|field| field.path.as_str()).collect();
        for path in ["v", "process.id", "exit.cause.sender_pid", "exit.usage.user_ns", "ancestors.pid", "bye.seen"] {
            assert!(paths.contains(&path), "{path}");
        }
        assert!(!paths.contains(&"exit.own_usage.user_ns"));
    }

    #[test]
    fn help_fits_any_terminal() {
        assert!(help().lines().all(|line| line.chars().count() <= 80), "{}", help());
    }
}
