//! Files of a bundle, and of Podman's store.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::Spec;
use serde::Deserialize;

use crate::enrich::info::Info;

/// Larger files are none of theirs.
const MAX_BYTES: u64 = 64 << 20;

/// A whole file, unless that is absurdly large.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX_BYTES).then_some(bytes)
}

/// Takes what a bundle's `config.json` says: host name, arguments and annotations. False if it is none (yet).
pub(super) fn bundle(json: &[u8], info: &mut Info) -> bool {
    let spec: Spec = match serde_json::from_slice(json) {
        Ok(spec) => spec,
        Err(error) => {
            tracing::debug!("a bundle's config.json is not understood: {error}");
            return false;
        }
    };
    let args = spec.process().as_ref().and_then(|process| process.args().as_ref());
    info.args = args.map(|args| args.iter().collect());
    info.hostname = spec.hostname().as_deref().filter(|name| !name.is_empty()).map(Into::into);
    let annotations = spec.annotations().iter().flatten();
    info.annotate(annotations.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect());
    true
}

/// A container as Podman's store has it (containers/storage, containers.go, `Container`).
#[derive(Deserialize)]
struct Stored {
    id: String,
    /// JSON again (containers/podman, libpod/storage.go: `RuntimeContainerMetadata`).
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize)]
struct Metadata {
    name: Option<Arc<str>>,
    #[serde(rename = "image-name")]
    image: Option<Arc<str>>,
    #[serde(rename = "image-id")]
    image_id: Option<Arc<str>>,
}

/// Takes what `containers.json` of Podman's store says of a container. False if it is not in it.
pub(super) fn podman(json: &[u8], id: &str, info: &mut Info) -> bool {
    let Ok(all) = serde_json::from_slice::<Vec<Stored>>(json) else { return false };
    let Some(stored) = all.into_iter().find(|stored| stored.id == id) else { return false };
    let Ok(data) = serde_json::from_str::<Metadata>(&stored.metadata) else { return false };
    let full = |text: &Arc<str>| !text.is_empty();
    info.name = data.name.filter(full).or(info.name.take());
    // One that was made from an image without a name.
    info.image = data.image.filter(full).or(data.image_id.filter(full)).or(info.image.take());
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

    #[test]
    fn podmans_store_names_container_and_image() {
        let id = serde_json::from_slice::<Vec<Stored>>(STORE).unwrap().remove(0).id;
        let mut info = Info::default();
        assert!(podman(STORE, &id, &mut info));
        assert_eq!(info.name.as_deref(), Some("pweb"));
        assert_eq!(info.image.as_deref(), Some("localhost/tracer-test:latest"));
        assert!(!podman(STORE, "another", &mut Info::default()));
    }

    #[test]
    fn what_is_half_written_is_not_there_yet() {
        for file in [DOCKER, PODMAN] {
            let mut info = Info::default();
            assert!(!bundle(&file[..file.len() / 2], &mut info));
            assert_eq!(info, Info::default());
        }
        assert!(!podman(&STORE[..STORE.len() / 2], "x", &mut Info::default()));
    }
}
