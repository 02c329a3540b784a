//! The capabilities that tracing needs, which of them this process has, and how to grant the others.

use std::fmt;
use std::fs;
use std::path::Path;

/// A capability: its bit and name (<https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/uapi/linux/capability.h>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    pub(crate) bit: u32,
    pub(crate) name: &'static str,
}

pub(crate) const BPF: Capability = Capability { bit: 39, name: "CAP_BPF" };
pub(crate) const PERFMON: Capability = Capability { bit: 38, name: "CAP_PERFMON" };
pub(crate) const SYS_PTRACE: Capability = Capability { bit: 19, name: "CAP_SYS_PTRACE" };
pub(crate) const DAC_READ_SEARCH: Capability = Capability { bit: 2, name: "CAP_DAC_READ_SEARCH" };
pub(crate) const SYS_RESOURCE: Capability = Capability { bit: 24, name: "CAP_SYS_RESOURCE" };
const DAC_OVERRIDE: Capability = Capability { bit: 1, name: "CAP_DAC_OVERRIDE" };
const SYS_ADMIN: Capability = Capability { bit: 21, name: "CAP_SYS_ADMIN" };

/// All capabilities that tracer can use.
const ALL: [Capability; 7] = [BPF, PERFMON, SYS_PTRACE, SYS_RESOURCE, SYS_ADMIN, DAC_READ_SEARCH, DAC_OVERRIDE];

/// The initial user namespace ([`PROC_USER_INIT_INO`]). Capabilities in another one do not count.
///
/// [`PROC_USER_INIT_INO`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/proc_ns.h
const INITIAL: &str = "user:[4026531837]";

/// The kind of process that needs capabilities. The remedy depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Not root: it gets them from its file, or from the process that starts it.
    User {
        /// The capabilities it has already. `setcap` must name these as well.
        held: u64,
    },
    /// Root: it has all capabilities that were not dropped.
    Root,
    /// Any user in a user namespace: its capabilities do not count.
    Inside,
}

/// The capabilities of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities {
    effective: u64,
    holder: Holder,
}

impl Capabilities {
    pub(crate) fn current() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/user");
        let inside = namespace.is_ok_and(|namespace| namespace != Path::new(INITIAL));
        Self::of(&status, nix::unistd::geteuid().is_root(), inside)
    }

    /// Parses `/proc/PID/status`.
    fn of(status: &str, root: bool, inside: bool) -> Self {
        let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
        match (inside, root) {
            (true, _) => Self { effective: 0, holder: Holder::Inside },
            (false, true) => Self { effective, holder: Holder::Root },
            (false, false) => Self { effective, holder: Holder::User { held: effective } },
        }
    }

    pub(crate) fn has(self, capability: Capability) -> bool {
        let has = |bit: u32| self.effective >> bit & 1 != 0;
        // CAP_SYS_ADMIN includes both, as before 5.8 (`bpf_capable`, `perfmon_capable`):
        // https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/include/linux/capability.h
        let stands_in = matches!(capability, BPF | PERFMON) && has(SYS_ADMIN.bit);
        // Root owns the files.
        let reads = capability == DAC_READ_SEARCH && (has(DAC_OVERRIDE.bit) || self.holder == Holder::Root);
        has(capability.bit) || stands_in || reads
    }

    /// Returns the missing capabilities without which no program can be loaded, if any.
    pub(crate) fn missing(self) -> Option<MissingCapabilities> {
        let names: Vec<&'static str> =
            [BPF, PERFMON].into_iter().filter(|&needed| !self.has(needed)).map(|needed| needed.name).collect();
        (!names.is_empty()).then_some(MissingCapabilities { names, holder: self.holder })
    }

    /// Returns how to get a missing capability.
    pub(crate) fn remedy(self, capability: Capability) -> String {
        self.holder.remedy(&[capability.name])
    }
}

impl Holder {
    fn remedy(self, names: &[&str]) -> String {
        let short = |name: &&str| name.trim_start_matches("CAP_").to_owned();
        let listed = names.join(" ");
        match self {
            Self::User { held } => {
                let has = |capability: &Capability| held >> capability.bit & 1 != 0;
                let had = ALL.iter().filter(|&capability| has(capability)).map(|capability| capability.name);
                let all: Vec<&str> = had.chain(names.iter().copied()).collect();
                format!(
                    "run as root, e.g. with sudo, or give tracer {listed}: by `setcap {}+ep`, or by AmbientCapabilities= of a \
                     systemd unit",
                    all.join(",").to_lowercase(),
                )
            }
            Self::Root => {
                let added: Vec<String> = names.iter().map(|name| format!("--cap-add={}", short(name))).collect();
                format!(
                    "start the container with `docker run {}`, or add {listed} to CapabilityBoundingSet= of the systemd unit",
                    added.join(" ")
                )
            }
            Self::Inside => "run it outside of the user namespace, as root: capabilities in it do not count".into(),
        }
    }
}

/// Missing capabilities without which no program can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingCapabilities {
    names: Vec<&'static str>,
    holder: Holder,
}

impl MissingCapabilities {
    /// Returns the names of the capabilities.
    pub fn names(&self) -> String {
        self.names.join(" and ")
    }

    /// Returns how to get them.
    pub fn remedy(&self) -> String {
        self.holder.remedy(&self.names)
    }
}

impl fmt::Display for MissingCapabilities {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = if self.holder == Holder::Root { ", which root has not got here" } else { "" };
        write!(out, "without {}{root}; {}", self.names(), self.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(capabilities: &[Capability], root: bool, inside: bool) -> Capabilities {
        let effective = capabilities.iter().fold(0_u64, |all, capability| all | 1 << capability.bit);
        Capabilities::of(&format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{effective:016x}\n"), root, inside)
    }

    #[test]
    fn both_or_sys_admin_are_enough() {
        assert_eq!(held(&[BPF, PERFMON], false, false).missing(), None);
        assert_eq!(held(&[SYS_ADMIN], true, false).missing(), None);
        assert!(!held(&[SYS_ADMIN], true, false).has(SYS_PTRACE), "it includes these two only");
    }

    #[test]
    fn missing_capabilities_are_named_with_a_remedy() {
        let text = |held: Capabilities| held.missing().map(|missing| missing.to_string()).unwrap_or_default();
        let root = text(held(&[BPF], true, false));
        assert!(root.starts_with("without CAP_PERFMON, which root") && root.contains("--cap-add=PERFMON`"), "{root}");
        assert!(!root.contains("CAP_BPF") && !root.contains("sudo"), "{root}");
        let user = text(held(&[], false, false));
        assert!(
            user.starts_with("without CAP_BPF and CAP_PERFMON; run as root") && user.contains("cap_bpf,cap_perfmon+ep"),
            "{user}"
        );
        let some = held(&[BPF, PERFMON], false, false).remedy(SYS_PTRACE);
        assert!(
            some.contains("give tracer CAP_SYS_PTRACE: by `setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep`"),
            "{some}"
        );
    }

    #[test]
    fn capabilities_in_a_user_namespace_do_not_count() {
        let inside = held(&[BPF, PERFMON, SYS_ADMIN], true, true);
        assert!(inside.missing().is_some_and(|missing| missing.to_string().contains("outside of the user namespace")));
        assert!(!inside.has(BPF));
    }
}
