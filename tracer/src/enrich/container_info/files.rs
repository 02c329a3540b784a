//! Lenient parsers for the used parts of a bundle's files and of Podman's store.
//!
//! An unknown value in one place (a capability, a namespace, a mount option) does not affect other members. A runtime
//! that accepted the file may know more values than we do.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::enrich::info::Info;
use crate::enrich::lenient::lenient;

/// No real name is longer.
const MAX_NAME_BYTES: usize = 4096;

/// Returns a name if it is plausible.
pub(super) fn name(text: Option<Arc<str>>) -> Option<Arc<str>> {
    text.filter(|text| !text.is_empty() && text.len() <= MAX_NAME_BYTES)
}

/// The used part of a bundle's `config.json` (opencontainers/runtime-spec, config.md).
#[derive(Deserialize)]
struct Spec {
    /// Required: without it this is some other file.
    #[serde(rename = "ociVersion")]
    _version: IgnoredAny,
    #[serde(default, deserialize_with = "lenient")]
    process: Option<Process>,
    #[serde(default, deserialize_with = "lenient")]
    hostname: Option<Arc<str>>,
    #[serde(default, deserialize_with = "lenient")]
    annotations: Option<BTreeMap<Arc<str>, Value>>,
}

#[derive(Deserialize)]
struct Process {
    #[serde(default, deserialize_with = "lenient")]
    args: Option<Vec<String>>,
}

/// Takes host name, arguments and annotations from a bundle's `config.json`. Returns false if it is not one (yet).
pub(super) fn bundle(json: &[u8], info: &mut Info) -> bool {
    let spec: Spec = match serde_json::from_str(&String::from_utf8_lossy(json)) {
        Ok(spec) => spec,
        Err(error) => {
            tracing::debug!("a bundle's config.json is not understood: {error}");
            return false;
        }
    };
    info.args = spec.process.and_then(|process| process.args).map(|args| args.iter().map(String::as_str).collect());
    info.hostname = name(spec.hostname);
    let text = |(key, value): (Arc<str>, Value)| Some((key, Arc::from(value.as_str()?)));
    info.annotate(spec.annotations.into_iter().flatten().filter_map(text).collect());
    true
}

/// A container in Podman's store (containers/storage, containers.go, `Container`).
#[derive(Deserialize)]
struct Stored {
    id: String,
    /// Nested JSON (containers/podman, libpod/storage.go: `RuntimeContainerMetadata`).
    #[serde(default, deserialize_with = "lenient")]
    metadata: Option<String>,
    /// Its current names: `podman rename` changes only these.
    #[serde(default, deserialize_with = "lenient")]
    names: Option<Vec<Arc<str>>>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<Arc<str>>,
    #[serde(default, rename = "image-name", deserialize_with = "lenient")]
    image: Option<Arc<str>>,
    #[serde(default, rename = "image-id", deserialize_with = "lenient")]
    image_id: Option<Arc<str>>,
}

/// An item of a list. None if it has another shape.
#[derive(Deserialize)]
struct Item(#[serde(deserialize_with = "lenient")] Option<Stored>);

/// Takes what `containers.json` of Podman's store says about a container. Returns false if the container is not in it.
pub(super) fn podman(json: &[u8], id: &str, info: &mut Info) -> bool {
    let Ok(all) = serde_json::from_str::<Vec<Item>>(&String::from_utf8_lossy(json)) else { return false };
    let Some(stored) = all.into_iter().filter_map(|item| item.0).find(|stored| stored.id == id) else { return false };
    let data = stored.metadata.and_then(|text| serde_json::from_str::<Metadata>(&text).ok());
    let (called, image) = match data {
        // For an image without a name, the id is shown.
        Some(data) => (name(data.name), name(data.image).or(name(data.image_id))),
        None => (None, None),
    };
    let now = stored.names.and_then(|names| name(names.into_iter().next()));
    info.name = now.or(called).or(info.name.take());
    info.image = image.or(info.image.take());
    info.name.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &[u8] = include_bytes!("../../../tests/files/docker.config.json");
    const PODMAN: &[u8] = include_bytes!("../../../tests/files/podman.config.json");
    const STORE: &[u8] = include_bytes!("../../../tests/files/podman.containers.json");

    fn args(info: &Info) -> Vec<&str> {
        info.args.iter().flatten().collect()
    }

    #[test]
    fn bundles_of_docker_and_podman_are_understood() {
        let mut docker = Info::default();
        assert!(bundle(DOCKER, &mut docker));
        assert_eq!((docker.hostname.as_deref(), args(&docker)), (Some("62bb7c9ceaf7"), vec!["/bin/sleep", "30"]));
        assert_eq!((docker.annotations, docker.name), (None, None));
        let mut podman = Info::default();
        assert!(bundle(PODMAN, &mut podman));
        assert_eq!((podman.hostname.as_deref(), args(&podman)), (Some("weba"), vec!["/bin/sleep", "1"]));
        let annotations = podman.annotations.unwrap();
        assert_eq!(annotations.get("io.container.manager").map(|text| &**text), Some("libpod"));
        assert_eq!(annotations.get("org.example.a").map(|text| &**text), Some("b"));
        assert!(podman.kubernetes.is_none());
    }

    /// Replaces every member of the file, at every depth, by an unknown value. The other members must still be read.
    #[test]
    fn an_unknown_value_does_not_affect_others() {
        let whole: Value = serde_json::from_slice(PODMAN).unwrap();
        let mut known = Info::default();
        assert!(bundle(PODMAN, &mut known));
        let mut tried = 0;
        for pointer in pointers(&whole, String::new()) {
            for strange in [Value::from("TRACER_UNKNOWN"), Value::from(-1), serde_json::json!({"a": []}), Value::Null] {
                let mut changed = whole.clone();
                *changed.pointer_mut(&pointer).unwrap() = strange.clone();
                let mut info = Info::default();
                assert!(bundle(changed.to_string().as_bytes(), &mut info), "{pointer} is {strange}");
                let same = |at: &[&str]| at.iter().any(|at| pointer == *at || pointer.starts_with(&format!("{at}/")));
                assert!(info.hostname == known.hostname || same(&["/hostname"]), "{pointer} is {strange}");
                assert!(info.args == known.args || same(&["/process/args"]) || pointer == "/process", "{pointer}");
                assert!(info.annotations == known.annotations || same(&["/annotations"]), "{pointer} is {strange}");
                tried += 1;
            }
        }
        assert!(tried > 1000, "{tried}");
        let mut spec = whole;
        spec["process"]["capabilities"]["bounding"] = serde_json::json!(["CAP_UNKNOWN"]);
        spec["linux"]["namespaces"] = serde_json::json!([{"type": "galaxy"}]);
        let mut info = Info::default();
        assert!(bundle(spec.to_string().as_bytes(), &mut info) && info == known);
    }

    /// Returns the JSON pointer of each member.
    fn pointers(value: &Value, at: String) -> Vec<String> {
        let below: Vec<(String, &Value)> = match value {
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
            }
            Value::Array(list) => list.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
            _ => Vec::new(),
        };
        let more = below.into_iter().flat_map(|(key, value)| pointers(value, format!("{at}/{key}")));
        let more: Vec<String> = more.collect();
        if at.is_empty() { more } else { [vec![at], more].concat() }
    }

    #[test]
    fn podmans_store_names_container_and_image() {
        let id = serde_json::from_slice::<Vec<Stored>>(STORE).unwrap().remove(0).id;
        let mut info = Info::default();
        assert!(podman(STORE, &id, &mut info));
        assert_eq!(info.name.as_deref(), Some("pweb"));
        assert_eq!(info.image.as_deref(), Some("localhost/tracer-test:latest"));
        assert!(!podman(STORE, "another", &mut Info::default()));
        // An odd entry for another container is harmless.
        let mut store: Value = serde_json::from_slice(STORE).unwrap();
        let list = store.as_array_mut().unwrap();
        list.insert(0, serde_json::json!({"id": 7, "flags": "?"}));
        list.insert(0, serde_json::json!("?"));
        list[2]["layer"] = Value::from(7);
        let mut info = Info::default();
        assert!(podman(store.to_string().as_bytes(), &id, &mut info));
        assert_eq!(info.name.as_deref(), Some("pweb"));
        store[2]["names"] = serde_json::json!(["renamed"]);
        assert!(podman(store.to_string().as_bytes(), &id, &mut info));
        assert_eq!(info.name.as_deref(), Some("renamed"));
    }

    #[test]
    fn a_partial_file_is_rejected() {
        for file in [DOCKER, PODMAN] {
            let mut info = Info::default();
            assert!(!bundle(&file[..file.len() / 2], &mut info));
            assert_eq!(info, Info::default());
        }
        assert!(!podman(&STORE[..STORE.len() / 2], "x", &mut Info::default()));
    }
}
