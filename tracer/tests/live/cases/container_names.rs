//! Names and usage of containers, known from files without the socket of any engine.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tracer::event::{Event, Kind, Origin};

use super::containers::{about, container, events, is_named};
use crate::support::engines::{
    Docker, Engine as _, Podman, Runtime, WITHOUT_STATES, edit, no_docker, no_podman, no_runc,
};
use crate::support::{BOUND, Case, Need, Stream, case, check_schema, run_bounded};

pub(super) fn cases() -> Vec<Case> {
    let docker = &[Need::Check(no_docker)];
    vec![
        case("container::name_without_the_socket_of_docker", without_socket).needs(docker),
        case("container::name_of_one_that_runs_already", of_one_that_runs).needs(docker),
        case("container::name_of_one_with_an_open_exec", with_open_exec).needs(&[Need::Check(no_podman)]),
        case("container::what_its_bundle_says", bundle).needs(&[Need::Check(no_runc)]),
        case("container::peak_memory", peak_memory).needs(&[Need::Check(no_runc)]),
    ]
}

/// tracer sees neither the daemon's socket nor that of its containerd, and still knows the name.
fn without_socket() {
    let docker = Docker::start();
    let hidden = docker.without_sockets();
    let stream = Stream::start_by(&hidden.iter().map(String::as_str).collect::<Vec<_>>(), &["--no-snapshot"]);
    let names = (0..5).map(|n| format!("blind-{}-{n}", std::process::id()));
    let ids: Vec<(String, String)> = names.map(|name| (docker.run(&name, &["/bin/true"]), name)).collect();
    let trace = stream.stop();
    check_schema(&trace);
    for (id, name) in &ids {
        is_named(&events(&trace), id, Some((name.as_str(), "tracer-test")));
    }
}

/// The name is known at the start, so processes can be filtered by it. That includes processes that enter later.
fn of_one_that_runs() {
    let docker = Docker::start();
    let name = format!("running-{}", std::process::id());
    let run = |arguments: &[&str]| {
        let finished = run_bounded(docker.command().args(arguments).stdin(Stdio::null()), 3 * BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
        finished.stdout().trim().to_owned()
    };
    let id = run(&["run", "-d", "--network=none", "--name", &name, "tracer-test", "/bin/sleep", "300"]);
    run(&["run", "-d", "--network=none", "--name", "another", "tracer-test", "/bin/sleep", "300"]);
    let stream = Stream::start(&["--container", &name]);
    run(&["exec", &name, "/bin/true", "put-into"]);
    run(&["rm", "--force", &name, "another"]);
    let trace = stream.stop();
    let events = events(&trace);
    let first = about(&events, &id).next().expect("it is reported");
    assert_eq!(first.kind(), Kind::ContainerInfo);
    let known = first.container().unwrap();
    assert_eq!((known.name.as_deref(), known.image.as_deref()), (Some(name.as_str()), Some("tracer-test")));
    assert_eq!(known.hostname.as_deref(), Some(&id[..12]));
    let processes: Vec<&Event> = events.iter().filter(|event| event.process.is_some()).collect();
    assert!(processes.iter().all(|line| container(line).is_none_or(|of| of == id)), "no other container");
    for of in processes.iter().filter_map(|line| line.process.as_ref()?.container.as_ref()) {
        assert_eq!((of.name.as_deref(), of.image.as_deref()), (Some(name.as_str()), Some("tracer-test")), "{of:?}");
    }
    let kinds: Vec<Kind> = processes.iter().map(|line| line.kind()).collect();
    assert!([Kind::Process, Kind::Exec, Kind::Exit].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    is_named_at_its_end(&events, &id, &name);
}

/// A container that runs when tracing begins, with an open exec session. That session has a separate conmon, with the
/// container's id and a bundle that is not the container's. Without the runtime's state, conmon's arguments are the
/// only source of the bundle path.
fn with_open_exec() {
    let podman = Podman::by_runc();
    let name = format!("open-{}", std::process::id());
    let id = podman.detached(&name, &["/bin/sleep", "300"]);
    podman.ask(&["exec", "--detach", &name, "/bin/sleep", "301"]);
    let stream = Stream::start_by(&WITHOUT_STATES, &[]);
    podman.ask(&["rm", "--force", "--time", "0", &name]);
    let trace = stream.stop();
    check_schema(&trace);
    let events = events(&trace);
    let first = about(&events, &id).next().expect("it is reported");
    let known = first.container().unwrap();
    assert_eq!(first.kind(), Kind::ContainerInfo);
    assert_eq!((known.name.as_deref(), known.image.as_deref()), (Some(name.as_str()), podman.image()));
    is_named_at_its_end(&events, &id, &name);
    let sleeps = events.iter().filter(|event| event.kind() == Kind::Process && container(event) == Some(&id));
    let origins: Vec<_> = sleeps.map(|event| event.process.as_ref().unwrap().origin).collect();
    assert!(origins.contains(&Some(Origin::Entrypoint)) && origins.contains(&Some(Origin::Exec)), "{origins:?}");
}

fn is_named_at_its_end(events: &[Event], id: &str, name: &str) {
    let end = about(events, id).find(|event| event.kind() == Kind::ContainerExit).expect("it was killed");
    let container = end.container().unwrap();
    assert_eq!(container.name.as_deref(), Some(name));
    assert_eq!(container.end.as_ref().unwrap().signal.as_deref(), Some("SIGKILL"));
}

/// Host name, arguments and annotations of a plain bundle.
fn bundle() {
    let runtime = Runtime::runc();
    let name = format!("bundle-{}", std::process::id());
    let bundle = runtime.bundle(&name, &["/bin/true", "said"]);
    edit(&bundle, |spec| {
        spec["hostname"] = "box".into();
        spec["annotations"] = serde_json::json!({
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": "web",
            "io.kubernetes.cri.image-name": "nginx:1",
            "io.kubernetes.cri.sandbox-name": "web-0",
            "io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-id": "abc",
        });
    });
    // The bundle is the working directory, where `runc run` looks without --bundle.
    let stream = Stream::start(&["--no-snapshot", "--container", "web"]);
    let run = run_bounded(runtime.command().args(["run", &name]).current_dir(&bundle).stdin(Stdio::null()), BOUND);
    assert!(run.status.success(), "{}", run.stderr);
    let trace = stream.stop();
    check_schema(&trace);
    let events = events(&trace);
    let info = about(&events, &name).find(|event| event.kind() == Kind::ContainerInfo).expect("its bundle was read");
    let info = info.container().unwrap();
    assert_eq!(info.bundle.as_deref(), bundle.to_str());
    assert_eq!((info.hostname.as_deref(), info.name.as_deref()), (Some("box"), Some("web")));
    assert_eq!((info.image.as_deref(), info.runtime.as_deref()), (Some("nginx:1"), Some("runc")));
    let args: Vec<&str> = info.args.iter().flatten().collect();
    assert_eq!(args, ["/bin/true", "said"]);
    assert_eq!(info.annotations.as_ref().unwrap().len(), 6);
    let kubernetes = info.kubernetes.as_ref().unwrap();
    let texts = [&kubernetes.pod, &kubernetes.namespace, &kubernetes.container, &kubernetes.sandbox_id];
    assert_eq!(texts.map(|text| text.as_deref()), [Some("web-0"), Some("shop"), Some("web"), Some("abc")]);
}

/// The kernel charges a container that fills 32 MiB of memory with at least that.
fn peak_memory() {
    let runtime = Runtime::runc();
    let name = format!("peak-{}", std::process::id());
    let bundle = runtime.bundle(&name, &["/bin/sh", "-c", "x=$(head -c 33554432 /dev/zero | tr '\\0' x); sleep 1; :"]);
    std::os::unix::fs::symlink("busybox", runtime.path("rootfs/bin/head")).unwrap();
    std::os::unix::fs::symlink("busybox", runtime.path("rootfs/bin/tr")).unwrap();
    let stream = Stream::start(&["--no-snapshot"]);
    let run = |arguments: &[&str]| {
        let finished = run_bounded(runtime.command().args(arguments).stdin(Stdio::null()), 3 * BOUND);
        assert!(finished.status.success(), "{}", finished.stderr);
    };
    // Detached: the cgroup stays until it is deleted, so there is time to read it.
    run(&["run", "--detach", "--bundle", &bundle.display().to_string(), &name]);
    stream.events_until(&|event| {
        event.kind() == Kind::ContainerExit && event.container().is_some_and(|container| *container.id == *name)
    });
    let kernel = std::fs::read_to_string(format!("/sys/fs/cgroup/memory/{name}/memory.max_usage_in_bytes"))
        .or_else(|_| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}/memory.peak")));
    // Its exit is reported before the kernel has released it, and until then the runtime calls it running.
    let until = Instant::now() + BOUND;
    while !run_bounded(runtime.command().args(["delete", &name]).stdin(Stdio::null()), BOUND).status.success() {
        assert!(Instant::now() < until, "it does not exit");
        std::thread::sleep(Duration::from_millis(5));
    }
    let trace = stream.stop();
    let events = events(&trace);
    let end = about(&events, &name).find_map(|event| event.container()?.end.clone()).expect("it exited");
    let kernel: Option<u64> = kernel.ok().and_then(|text| text.trim().parse().ok());
    assert_eq!(end.peak_memory_bytes, kernel);
    assert!(kernel.is_none_or(|peak| peak > 32 << 20), "{kernel:?}");
}
