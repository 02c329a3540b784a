//! Parses the path of a cgroup: its systemd unit, and the container that it was created for.
//!
//! Each runtime names the cgroup of a container in its own way. The names are in `NAMED` and in a few functions. The
//! tests use paths as the runtimes create them.

use std::borrow::Cow;

/// The result of parsing a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedPath<'a> {
    /// systemd unit.
    pub unit: Option<Cow<'a, str>>,
    /// The innermost container.
    pub container: Option<PathContainer<'a>>,
}

/// A container that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathContainer<'a> {
    /// Its id, or its name where the runtime has no ids.
    pub id: Cow<'a, str>,
    /// What created it, if the path shows that.
    pub engine: Option<&'static str>,
    /// Uid of its Kubernetes pod.
    pub pod: Option<Cow<'a, str>>,
    /// The path of its own cgroup: everything below is inside the container.
    pub cgroup: &'a str,
}

/// How engines name a container's cgroup: the prefix before the id, and the engine.
const NAMED: [(&str, &str); 9] = [
    ("docker-", "docker"),
    // Below the unit that runs Podman (`--cgroups=split`, used by Quadlet).
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("runc-", "runc"),
    ("crun-", "crun"),
    ("youki-", "youki"),
];

/// Parses a path relative to the root of the hierarchy.
pub fn read(path: &str) -> ParsedPath<'_> {
    ParsedPath { unit: unit(path), container: container(path) }
}

/// Returns the slices and units that systemd shows for a path, each with its path. Below the manager of a user, these
/// are the user's slices and unit. Anything below a unit belongs to the unit or to a container.
pub fn units(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut over = false;
    components(path).map_while(move |(name, path)| {
        if over {
            return None;
        }
        over = name.strip_suffix(".slice").is_none() && !(name.starts_with("user@") && name.ends_with(".service"));
        Some((name.strip_prefix('_').unwrap_or(name), path))
    })
}

/// Returns the unit like systemd itself (`cg_path_get_unit`, src/basic/cgroup-util.c): the first part after the slices.
fn unit(path: &str) -> Option<Cow<'_, str>> {
    const KINDS: [&str; 7] = [".service", ".scope", ".socket", ".mount", ".swap", ".timer", ".path"];
    let name = components(path).map(|(name, _)| name).find(|name| name.strip_suffix(".slice").is_none())?;
    // systemd prefixes an underscore to a name that could collide with a file of the kernel.
    let name = name.strip_prefix('_').unwrap_or(name);
    KINDS.iter().any(|kind| name.len() > kind.len() && name.ends_with(kind)).then_some(Cow::Borrowed(name))
}

/// Returns the innermost container: for Docker in Docker, or a Kubernetes node that is itself a container.
fn container(path: &str) -> Option<PathContainer<'_>> {
    let parts: Vec<(&str, &str)> = components(path).collect();
    (0..parts.len()).rev().find_map(|at| {
        let (name, cgroup) = parts[at];
        let above = at.checked_sub(1).map(|above| parts[above].0);
        let below = parts.get(at + 1).map(|below| below.0);
        let found = named(name).or_else(|| machine(name, below)).or_else(|| lxc(name, above));
        let found = found.or_else(|| scheduled(name, parts[..at].iter().rev().map(|above| above.0)));
        let (id, engine) = found.or_else(|| {
            let engine = match above {
                Some("docker") => Some("docker"),
                _ => None,
            };
            is_id(name).then_some((Cow::Borrowed(name), engine))
        })?;
        let pod = parts[..=at].iter().rev().find_map(|(name, _)| pod(name));
        Some(PathContainer { id, engine, pod, cgroup })
    })
}

/// Returns the components of a path, each with the path up to it.
fn components(path: &str) -> impl Iterator<Item = (&str, &str)> {
    path.split('/').filter(|name| !name.is_empty()).map(|name| {
        // `name` is a part of `path`, so this is where it ends in it.
        let end = name.as_ptr() as usize - path.as_ptr() as usize + name.len();
        (name, &path[..end])
    })
}

/// Matches `docker-ID.scope`, `libpod-ID` and `kubepods-…-podUID.slice:cri-containerd:ID`. The last has systemd's
/// syntax, but is created without systemd.
fn named(name: &str) -> Option<(Cow<'_, str>, Option<&'static str>)> {
    if let Some((before, id)) = name.rsplit_once(':')
        && is_id(id)
    {
        let prefix = before.rsplit_once(':').map_or(before, |(_, prefix)| prefix);
        let engine = NAMED.iter().find(|(start, _)| start.strip_suffix('-') == Some(prefix)).map(|(_, engine)| *engine);
        return Some((Cow::Borrowed(id), engine));
    }
    let scope = name.strip_suffix(".scope");
    let bare = scope.unwrap_or(name);
    if let Some((id, engine)) =
        NAMED.iter().find_map(|(start, engine)| Some((bare.strip_prefix(start)?, Some(*engine))))
    {
        // Plain runc and crun accept any id. `libpod-conmon-…` and `crio-conmon-…` contain the container's monitor.
        let free = scope.is_some() && matches!(engine, Some("runc" | "crun" | "youki")) && !id.is_empty();
        return (is_id(id) || free).then_some((Cow::Borrowed(id), engine));
    }
    // Engines that are not in the table use similar names.
    let id = scope?.rsplit_once('-').filter(|(before, _)| !before.ends_with("conmon"))?.1;
    is_id(id).then_some((Cow::Borrowed(id), None))
}

/// Matches systemd-nspawn, registered with systemd-machined or run as a service. QEMU machines are registered the same
/// way. As a service, nspawn puts itself into `supervisor`, next to the container's `payload`.
fn machine<'a>(name: &'a str, below: Option<&str>) -> Option<(Cow<'a, str>, Option<&'static str>)> {
    if below == Some("supervisor") {
        return None;
    }
    let escaped = match name.strip_prefix("machine-").and_then(|name| name.strip_suffix(".scope")) {
        Some(scope) => scope,
        None => name.strip_prefix("systemd-nspawn@")?.strip_suffix(".service")?,
    };
    let name = unescape(escaped);
    if escaped.is_empty() || name.starts_with("qemu-") {
        return None;
    }
    // libvirt puts the pid before the name: `lxc-4711-web`.
    let libvirt = name.strip_prefix("lxc-").and_then(|rest| rest.split_once('-'));
    Some(match libvirt.filter(|(pid, _)| pid.bytes().all(|b| b.is_ascii_digit())) {
        Some((_, name)) => (name.to_owned().into(), Some("lxc")),
        None => (name, Some("systemd-nspawn")),
    })
}

/// Matches LXC and LXD: `lxc.payload.NAME`, `lxc.payload/NAME`, `lxc/NAME`. `lxc.monitor…` contains the monitor.
fn lxc<'a>(name: &'a str, above: Option<&str>) -> Option<(Cow<'a, str>, Option<&'static str>)> {
    let name = match name.strip_prefix("lxc.payload.") {
        Some(name) => name,
        None if matches!(above, Some("lxc" | "lxc.payload")) => name,
        None => return None,
    };
    (!name.is_empty()).then_some((Cow::Borrowed(name), Some("lxc")))
}

/// Matches names of schedulers, by the parent directories. `above` are the names above, innermost first. ECS:
/// `ecs/TASK/TASK-NUMBER`. Nomad: `ALLOCATION.TASK.scope` in `nomad.slice` or a partition of it, or
/// `nomad/ALLOCATION.TASK`. Cloud Foundry's Garden, Mesos and BuildKit: `garden/HANDLE`, `mesos/UUID`, `buildkit/ID`.
fn scheduled<'a>(
    name: &'a str,
    mut above: impl Iterator<Item = &'a str> + Clone,
) -> Option<(Cow<'a, str>, Option<&'static str>)> {
    let id = Cow::Borrowed;
    if is_garden(name) {
        return Some((id(name), Some("garden")));
    }
    let parent = above.clone().next()?;
    match parent {
        "garden" => return Some((id(name), Some("garden"))),
        "mesos" if is_uuid(name) => return Some((id(name), Some("mesos"))),
        "buildkit" if name.bytes().all(|b| b.is_ascii_alphanumeric()) => return Some((id(name), Some("buildkit"))),
        _ => {}
    }
    if is_of_task(name, parent) {
        return Some((id(name), Some("ecs")));
    }
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    let allocation = bare.split_once('.').map_or(bare, |(allocation, _)| allocation);
    let in_nomad = above.any(|name| matches!(name, "nomad" | "nomad.slice"));
    (in_nomad && is_uuid(allocation)).then_some((Cow::Borrowed(bare), Some("nomad")))
}

/// Matches `TASK-NUMBER` in the directory of that ECS task: 32 hexadecimal digits and a decimal number.
fn is_of_task(name: &str, task: &str) -> bool {
    name.strip_prefix(task).and_then(|rest| rest.strip_prefix('-')).is_some_and(|number| {
        task.len() == 32 && is_hex(task) && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Matches a UUID: groups of 8, 4, 4, 4 and 12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    has_groups(text, [8, 4, 4, 4, 12])
}

/// Matches ids of Garden anywhere: the last group has four digits.
fn is_garden(text: &str) -> bool {
    has_groups(text, [8, 4, 4, 4, 4])
}

fn has_groups(text: &str, lengths: [usize; 5]) -> bool {
    text.split('-').map(str::len).eq(lengths) && text.split('-').all(is_hex)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Matches `podUID`, or `…-podUID.slice` with underscores instead of dashes.
fn pod(name: &str) -> Option<Cow<'_, str>> {
    let name = name.split(':').next().unwrap_or(name);
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1,
        None => name.strip_prefix("pod")?,
    };
    let uid = if uid.contains('_') { Cow::Owned(uid.replace('_', "-")) } else { Cow::Borrowed(uid) };
    // A UUID, or for a static pod the hash of its file.
    let digits = uid.bytes().filter(|&b| b != b'-');
    (uid.len() >= 32 && digits.clone().count() == 32 && digits.clone().all(|b| b.is_ascii_hexdigit())).then_some(uid)
}

/// Matches ids of Docker, containerd, Podman and CRI-O: 256 bits in hexadecimal.
fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Undoes systemd's escapes, `\x2d` for `-` (`unit_name_unescape`).
fn unescape(name: &str) -> Cow<'_, str> {
    if !name.contains("\\x") {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = rest.strip_prefix(b"\\x").and_then(|hex| hex.get(..2));
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(code.unwrap_or(first));
        rest = if code.is_some() { &rest[4..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

#[cfg(test)]
mod tests;
