use super::*;

const ID: &str = "6cac7e1b2ba3a0ec2dc5e1b6f4bba2ed1a7eb5f8a1f0b1f3f7b3b8c1d2e3f4a5";
const OTHER: &str = "0d3b2f8e9d7c6b5a49382716f5e4d3c2b1a09f8e7d6c5b4a392817f6e5d4c3b2";
const UID: &str = "f7d3c1b2-8a49-4a57-9be1-0c2d3e4f5a6b";

/// Fills `ID`, `OTHER`, `UID` and `UID_` (with underscores) into a path.
fn path(template: &str) -> String {
    template.replace("UID_", &UID.replace('-', "_")).replace("UID", UID).replace("OTHER", OTHER).replace("ID", ID)
}

/// Path; unit; container, engine, pod.
type Row = (&'static str, Option<&'static str>, Option<(&'static str, Option<&'static str>, Option<&'static str>)>);

/// Each group starts with the source code that creates such paths.
const ROWS: &[Row] = &[
    // No container. systemd: src/basic/cgroup-util.c.
    ("/", None, None),
    ("/init.scope", Some("init.scope"), None),
    ("/system.slice/ssh.service", Some("ssh.service"), None),
    ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service"), None),
    ("/user.slice/user-1000.slice/session-2.scope", Some("session-2.scope"), None),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service", Some("user@1000.service"), None),
    ("/user.slice", None, None),
    ("/foo/bar.service", None, None),
    // Docker: cgroupfs, systemd, rootless, in Docker. moby: daemon/oci_linux.go (WithCgroups).
    ("/docker/ID", None, Some(("ID", Some("docker"), None))),
    ("/system.slice/docker-ID.scope", Some("docker-ID.scope"), Some(("ID", Some("docker"), None))),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
        Some("user@1000.service"),
        Some(("ID", Some("docker"), None)),
    ),
    ("/docker/OTHER/docker/ID", None, Some(("ID", Some("docker"), None))),
    ("/docker/ID/init.scope", None, Some(("ID", Some("docker"), None))),
    ("/system.slice/docker.service", Some("docker.service"), None),
    // containerd: nerdctl, by systemd and without. nerdctl: pkg/cmd/container/run_cgroup_linux.go (generateCgroupPath);
    // containerd: pkg/oci/spec.go (populateDefaultUnixSpec).
    ("/default/ID", None, Some(("ID", None, None))),
    ("/system.slice/nerdctl-ID.scope", Some("nerdctl-ID.scope"), Some(("ID", Some("containerd"), None))),
    // Podman: systemd, rootless, cgroupfs; in a pod; its conmon. podman: libpod/container_internal_linux.go
    // (getOCICgroupPath), libpod/oci_conmon_linux.go (moveConmonToCgroupAndSignal); below it crun's `container`, crun:
    // src/libcrun/cgroup-systemd.c.
    ("/machine.slice/libpod-ID.scope", Some("libpod-ID.scope"), Some(("ID", Some("podman"), None))),
    ("/machine.slice/libpod-ID.scope/container", Some("libpod-ID.scope"), Some(("ID", Some("podman"), None))),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
        Some("user@1000.service"),
        Some(("ID", Some("podman"), None)),
    ),
    ("/libpod_parent/libpod-ID", None, Some(("ID", Some("podman"), None))),
    (
        "/machine.slice/machine-libpod_pod_OTHER.slice/libpod-ID.scope",
        Some("libpod-ID.scope"),
        Some(("ID", Some("podman"), None)),
    ),
    ("/machine.slice/libpod-conmon-ID.scope", Some("libpod-conmon-ID.scope"), None),
    ("/libpod_parent/conmon", None, None),
    // Podman with --cgroups=split, as Quadlet runs it: the unit runs Podman. The same function of podman.
    ("/system.slice/nginx.service/libpod-payload-ID", Some("nginx.service"), Some(("ID", Some("podman"), None))),
    (
        "/QM.slice/qm.service/libpod-payload-ID/system.slice/dbus-broker.service",
        Some("qm.service"),
        Some(("ID", Some("podman"), None)),
    ),
    (
        "/user.slice/user-1001.slice/user@1001.service/app.slice/web.service/libpod-payload-ID",
        Some("user@1001.service"),
        Some(("ID", Some("podman"), None)),
    ),
    ("/system.slice/nginx.service/runtime", Some("nginx.service"), None),
    // ECS, also on Fargate: amazon-ecs-agent, agent/taskresource/cgroup. Ids are those of the task metadata endpoint.
    (
        "/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890",
        None,
        Some(("0123456789abcdef0123456789abcdef-1234567890", Some("ecs"), None)),
    ),
    ("/ecs/0123456789abcdef0123456789abcdef/ID", None, Some(("ID", None, None))),
    ("/ecs/0123456789abcdef0123456789abcdef/fedcba9876543210fedcba9876543210-1234567890", None, None),
    ("/ecs/0123456789abcdef0123456789abcdef", None, None),
    // Nomad: client/lib/cgroupslib.
    ("/nomad.slice/share.slice/UID.web.scope", Some("UID.web.scope"), Some(("UID.web", Some("nomad"), None))),
    ("/nomad.slice/UID.web.scope/below", Some("UID.web.scope"), Some(("UID.web", Some("nomad"), None))),
    ("/nomad/UID.web", None, Some(("UID.web", Some("nomad"), None))),
    ("/nomad.slice/share.slice", None, None),
    ("/other.slice/UID.web.scope", Some("UID.web.scope"), None),
    // Cloud Foundry: garden-runc-release. Mesos: src/slave/containerizer/mesos. BuildKit: executor/oci.
    ("/garden/6f265890-5165-7fab-6b52-18d1", None, Some(("6f265890-5165-7fab-6b52-18d1", Some("garden"), None))),
    (
        "/system.slice/garden.service/garden/6f265890-5165-7fab-6b52-18d1",
        Some("garden.service"),
        Some(("6f265890-5165-7fab-6b52-18d1", Some("garden"), None)),
    ),
    ("/garden/executor-healthcheck-1", None, Some(("executor-healthcheck-1", Some("garden"), None))),
    ("/mesos/UID", None, Some(("UID", Some("mesos"), None))),
    ("/buildkit/q0m4x1vbn2k7c8z9l3j5h6g4f", None, Some(("q0m4x1vbn2k7c8z9l3j5h6g4f", Some("buildkit"), None))),
    // Plain runc and crun with systemd: ids are arbitrary. runc: libcontainer/cgroups/systemd/common.go (getUnitName);
    // crun: src/libcrun/cgroup-systemd.c.
    ("/system.slice/runc-web.scope", Some("runc-web.scope"), Some(("web", Some("runc"), None))),
    ("/system.slice/crun-web-1.scope", Some("crun-web-1.scope"), Some(("web-1", Some("crun"), None))),
    // Kubernetes: cgroupfs and systemd, by class of service, containerd and CRI-O and Docker, and kind's nodes.
    // kubernetes: pkg/kubelet/cm/cgroup_manager_linux.go (ToSystemd, ToCgroupfs); containerd:
    // internal/cri/server/podsandbox/ helpers_linux.go (getCgroupsPath); cri-o: internal/config/cgmgr.
    ("/kubepods/podUID/ID", None, Some(("ID", None, Some("UID")))),
    ("/kubepods/burstable/podUID/ID", None, Some(("ID", None, Some("UID")))),
    ("/kubepods/besteffort/podUID/crio-ID", None, Some(("ID", Some("cri-o"), Some("UID")))),
    (
        "/kubepods.slice/kubepods-podUID_.slice/cri-containerd-ID.scope",
        Some("cri-containerd-ID.scope"),
        Some(("ID", Some("containerd"), Some("UID"))),
    ),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
        Some("cri-containerd-ID.scope"),
        Some(("ID", Some("containerd"), Some("UID"))),
    ),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/crio-ID.scope/container",
        Some("crio-ID.scope"),
        Some(("ID", Some("cri-o"), Some("UID"))),
    ),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/crio-conmon-ID.scope",
        Some("crio-conmon-ID.scope"),
        None,
    ),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/docker-ID.scope",
        Some("docker-ID.scope"),
        Some(("ID", Some("docker"), Some("UID"))),
    ),
    (
        "/system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:ID",
        Some("containerd.service"),
        Some(("ID", Some("containerd"), Some("UID"))),
    ),
    (
        "/docker/OTHER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
         kubelet-kubepods-besteffort-podUID_.slice/cri-containerd-ID.scope",
        None,
        Some(("ID", Some("containerd"), Some("UID"))),
    ),
    ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice", None, None),
    // systemd-nspawn: registered, as a service, and with an escaped name. Its own process next to the container and a
    // virtual machine are no containers. LXC by libvirt. systemd: src/nspawn/nspawn-cgroup.c (create_subcgroup),
    // src/machine/machine.c (machine_start_scope); libvirt: src/util/virsystemd.c (virSystemdMakeScopeName).
    (
        "/machine.slice/machine-debian.scope",
        Some("machine-debian.scope"),
        Some(("debian", Some("systemd-nspawn"), None)),
    ),
    (
        "/machine.slice/machine-my\\x2dbox.scope/payload/system.slice/ssh.service",
        Some("machine-my\\x2dbox.scope"),
        Some(("my-box", Some("systemd-nspawn"), None)),
    ),
    (
        "/machine.slice/systemd-nspawn@debian.service/payload/init.scope",
        Some("systemd-nspawn@debian.service"),
        Some(("debian", Some("systemd-nspawn"), None)),
    ),
    ("/machine.slice/systemd-nspawn@debian.service/supervisor", Some("systemd-nspawn@debian.service"), None),
    ("/machine.slice/machine-debian.scope/supervisor", Some("machine-debian.scope"), None),
    ("/docker/ID/machine.slice/machine-debian.scope/supervisor", None, Some(("ID", Some("docker"), None))),
    (
        "/machine.slice/machine-debian.scope/payload/supervisor",
        Some("machine-debian.scope"),
        Some(("debian", Some("systemd-nspawn"), None)),
    ),
    ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", Some("machine-qemu\\x2d1\\x2dvm.scope"), None),
    (
        "/machine.slice/machine-lxc\\x2d4711\\x2dweb.scope",
        Some("machine-lxc\\x2d4711\\x2dweb.scope"),
        Some(("web", Some("lxc"), None)),
    ),
    // LXC, LXD, Proxmox. lxc: src/lxc/cgroups/cgfsng.c; pve-container: src/PVE/LXC.pm.
    ("/lxc/web", None, Some(("web", Some("lxc"), None))),
    ("/lxc/101/ns/init.scope", None, Some(("101", Some("lxc"), None))),
    ("/lxc.payload/web/system.slice", None, Some(("web", Some("lxc"), None))),
    ("/lxc.payload.web/system.slice/ssh.service", None, Some(("web", Some("lxc"), None))),
    ("/lxc.monitor.web", None, None),
    ("/lxc.monitor/web", None, None),
    // Amazon ECS. amazon-ecs-agent: agent/api/task/task_linux.go (BuildCgroupRoot).
    ("/ecs/b1a2c3d4e5f60718293a4b5c6d7e8f90/ID", None, Some(("ID", None, None))),
    // Shorter than an id, or not an id.
    ("/process_api/0628426cdb9d79438a928f81a50a7277", None, None),
    ("/system.slice/docker-short.scope", Some("docker-short.scope"), None),
];

#[test]
fn the_paths_of_each_runtime_are_understood() {
    for (template, unit, container) in ROWS {
        let (path, unit) = (path(template), unit.map(path));
        let place = read(&path);
        assert_eq!(place.unit.as_deref(), unit.as_deref(), "the unit of {path}");
        let found = place.container.map(|found| (found.id.into_owned(), found.engine, found.pod.map(Cow::into_owned)));
        let wanted = container.map(|(id, engine, pod)| (self::path(id), engine, pod.map(self::path)));
        assert_eq!(found, wanted, "the container of {path}");
    }
}

#[test]
fn a_containers_own_cgroup_ends_with_its_name() {
    let own = |template: &str| read(&path(template)).container.map(|found| found.cgroup.to_owned());
    assert_eq!(own("/machine.slice/libpod-ID.scope/container/a"), Some(path("/machine.slice/libpod-ID.scope")));
    assert_eq!(own("/docker/OTHER/docker/ID"), Some(path("/docker/OTHER/docker/ID")));
    assert_eq!(own("/lxc/101/ns/init.scope"), Some("/lxc/101".into()));
}

#[test]
fn escapes_are_undone() {
    assert_eq!(unescape(r"a\x2db\x5c"), r"a-b\");
    assert_eq!(unescape(r"a\x2"), r"a\x2");
    assert_eq!(unescape("a-b"), "a-b");
}

proptest::proptest! {
    #[test]
    fn any_path_is_read_without_panic(path: String, more in "(/|-|:|\\\\x|lxc|docker-|pod|machine-|\\.scope|[a-f0-9]{2,64}){0,12}") {
        let _ = read(&path);
        let _ = read(&more);
    }
}
