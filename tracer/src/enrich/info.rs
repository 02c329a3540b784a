//! Details of containers beyond the cgroup: requests and replies, and the meaning of annotations.
//!
//! [`crate::enrich::container_info`] reads the files. This module has only the types that it shares with the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::Kubernetes;
use crate::event::id::ProcessId;
use crate::record::text::Arguments;

/// What is known about a container besides its id and cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Its name in the engine.
    pub name: Option<Arc<str>>,
    /// Its image as passed to the engine.
    pub image: Option<Arc<str>>,
    /// Its host name.
    pub hostname: Option<Arc<str>>,
    /// The runtime that creates it.
    pub runtime: Option<Arc<str>>,
    /// Its identity in Kubernetes.
    pub kubernetes: Option<Kubernetes>,
    /// Directory of its bundle.
    pub bundle: Option<Arc<str>>,
    /// Its command.
    pub args: Option<Arguments>,
    /// Annotations of its bundle.
    pub annotations: Option<Arc<BTreeMap<Arc<str>, Arc<str>>>>,
    /// Its cgroup is frozen (`docker pause`).
    pub paused: bool,
}

/// A bundle that the command line of a runtime names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its directory.
    pub path: Arc<str>,
    /// The runtime, a process of root: the path is relative to its view.
    pub runtime: ProcessId,
    /// The cgroup of the container that the runtime itself runs in. It may only describe containers below that.
    pub within: Option<Arc<str>>,
}

/// A request about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InfoRequest {
    /// Look up details: the container exists or is about to.
    LookUp {
        /// Its id.
        id: Arc<str>,
        /// Its cgroup, once there is one.
        cgroup: Option<Arc<str>>,
        /// Its bundle, where the runtime's command line names it.
        bundle: Option<Bundle>,
        /// The runtime, where that was seen.
        runtime: Option<Arc<str>>,
    },
    /// Look up details for the last time: its first process has exited.
    Final {
        /// Its id.
        id: Arc<str>,
        /// Its own cgroup, if it has one, for its peak memory.
        cgroup: Option<Arc<str>>,
    },
    /// Forget it: it no longer exists.
    Forget {
        /// Its id.
        id: Arc<str>,
    },
}

/// A reply about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoReply {
    /// Id of the container.
    pub id: Arc<str>,
    /// Everything known, if that is more than before.
    pub info: Option<Arc<Info>>,
    /// This is the reply to [`InfoRequest::Final`]: no more will come.
    pub last: bool,
    /// Peak memory of its cgroup, bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// Annotation keys with the same meaning in different engines: containerd, CRI-O (and Kubernetes' own labels, which it
/// copies), nerdctl.
const NAME: [&str; 4] =
    ["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name", "io.kubernetes.cri-o.Name"];
const IMAGE: [&str; 3] = ["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"];
const POD: [&str; 2] = ["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];
const NAMESPACE: [&str; 2] = ["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"];
const SANDBOX: [&str; 2] = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"];
const KIND: [&str; 2] = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];

impl Info {
    /// Takes what annotations say.
    pub fn annotate(&mut self, annotations: BTreeMap<Arc<str>, Arc<str>>) {
        let find = |keys: &[&str]| keys.iter().find_map(|key| annotations.get(*key)).filter(|text| !text.is_empty());
        let sandbox = find(&KIND).is_some_and(|kind| &**kind == "sandbox");
        let kubernetes = Kubernetes {
            pod: find(&POD).cloned(),
            namespace: find(&NAMESPACE).cloned(),
            container: find(&NAME[..2]).filter(|_| !sandbox).cloned(),
            sandbox_id: find(&SANDBOX).cloned(),
        };
        self.name = find(&NAME).or(kubernetes.pod.as_ref().filter(|_| sandbox)).cloned().or(self.name.take());
        self.image = find(&IMAGE).cloned().or(self.image.take());
        self.kubernetes = kubernetes.pod.is_some().then_some(kubernetes);
        self.annotations = (!annotations.is_empty()).then(|| Arc::new(annotations));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Info {
        let mut info = Info::default();
        info.annotate(pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect());
        info
    }

    fn texts(info: &Info) -> [Option<&str>; 6] {
        let kubernetes = info.kubernetes.as_ref();
        [
            info.name.as_deref(),
            info.image.as_deref(),
            kubernetes.and_then(|kubernetes| kubernetes.pod.as_deref()),
            kubernetes.and_then(|kubernetes| kubernetes.namespace.as_deref()),
            kubernetes.and_then(|kubernetes| kubernetes.container.as_deref()),
            kubernetes.and_then(|kubernetes| kubernetes.sandbox_id.as_deref()),
        ]
    }

    /// Keys as containerd (internal/cri/annotations) and CRI-O (pkg/annotations) define them.
    #[test]
    fn the_annotations_of_each_engine_are_understood() {
        let containerd = of(&[
            ("io.kubernetes.cri.container-type", "container"),
            ("io.kubernetes.cri.container-name", "web"),
            ("io.kubernetes.cri.image-name", "docker.io/library/nginx:1"),
            ("io.kubernetes.cri.sandbox-id", "abc"),
            ("io.kubernetes.cri.sandbox-name", "web-7d4"),
            ("io.kubernetes.cri.sandbox-namespace", "shop"),
        ]);
        let wanted = ["web", "docker.io/library/nginx:1", "web-7d4", "shop", "web", "abc"].map(Some);
        assert_eq!(texts(&containerd), wanted);
        let sandbox = of(&[
            ("io.kubernetes.cri.container-type", "sandbox"),
            ("io.kubernetes.cri.sandbox-id", "abc"),
            ("io.kubernetes.cri.sandbox-name", "web-7d4"),
            ("io.kubernetes.cri.sandbox-namespace", "shop"),
        ]);
        assert_eq!(texts(&sandbox), [Some("web-7d4"), None, Some("web-7d4"), Some("shop"), None, Some("abc")]);
        let crio = of(&[
            ("io.kubernetes.cri-o.ContainerType", "container"),
            ("io.kubernetes.container.name", "db"),
            ("io.kubernetes.cri-o.Name", "k8s_db_db-0_shop_uid_0"),
            ("io.kubernetes.cri-o.ImageName", "quay.io/x/db:2"),
            ("io.kubernetes.cri-o.SandboxID", "def"),
            ("io.kubernetes.pod.name", "db-0"),
            ("io.kubernetes.pod.namespace", "shop"),
        ]);
        assert_eq!(texts(&crio), ["db", "quay.io/x/db:2", "db-0", "shop", "db", "def"].map(Some));
        assert_eq!(texts(&of(&[("nerdctl/name", "solo")]))[..3], [Some("solo"), None, None]);
        assert_eq!(of(&[]), Info::default());
    }
}
