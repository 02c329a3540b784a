//! Checks what the running kernel and our privileges allow, by trying it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use tracer_common::offsets::{Offsets, Want};

use crate::doctor::{Area, Check, Program, Status};
use crate::kernel::btf::{self, Btf};
use crate::kernel::capabilities::{self, Capabilities, Capability};
use crate::kernel::error::{LoadError, MEMLOCK_REMEDY};
use crate::kernel::exec_failed;
use crate::kernel::fallback;
use crate::kernel::hierarchy::Hierarchy;
use crate::kernel::hook::{
    BY_FUNCTION, BY_TRACEPOINT, CGROUP_ATTACH, CGROUP_MKDIR, CGROUP_RENAME, EXIT_BY_LIVE, Hook, REAP, RUNNING, hooks,
};
use crate::kernel::iterator;
use crate::kernel::memlock;
use crate::kernel::object::{Loader, Object};
use crate::kernel::options::{KernelOptions, Selection};
use crate::kernel::preflight::{self, PreflightError};
use crate::kernel::release;
use crate::kernel::running_btf;
use crate::kernel::visibility::{self, Unseen, What};
use crate::sys::procfs::{self, BOOT_ID, Mounted};

/// The use of each capability, and the result without it.
const CAPABILITIES: [(Capability, &str, Status); 5] = [
    (capabilities::BPF, "loading BPF programs", Status::Failed),
    (capabilities::PERFMON, "attaching them to tracepoints", Status::Failed),
    (capabilities::SYS_PTRACE, "exe and cwd of other users' running processes", Status::Missing),
    (
        capabilities::DAC_READ_SEARCH,
        "names and images of containers, which are in files that only root can read",
        Status::Missing,
    ),
    (capabilities::SYS_RESOURCE, "raising the memlock limit before 5.11", Status::Fallback),
];

/// Checks everything that tracing needs, in the order in which it needs it.
pub fn checks(btf_file: Option<&Path>) -> Vec<Check> {
    let mut out = Vec::new();
    privileges(&mut out);
    kernel(&mut out);
    mounts(&mut out);
    limits(&mut out);
    match running_btf::load(btf_file) {
        Ok(btf) => {
            let name = match btf_file {
                Some(file) => file.display().to_string(),
                None if Path::new(btf::VMLINUX).exists() => btf::VMLINUX.to_owned(),
                None => format!("there is no {}; read by bpf(2)", btf::VMLINUX),
            };
            out.push(Check::new(Area::Kernel, "BTF", Status::Ok, name));
            fields(&btf, &mut out);
            attach(&btf, btf_file, &mut out);
        }
        Err(error) => {
            let check = Check::new(Area::Kernel, "BTF", Status::Failed, error.to_string());
            out.push(match error.remedy() {
                Some(remedy) => check.remedy(remedy),
                None => check,
            });
        }
    }
    out.sort_by_key(|check| check.area);
    out
}

fn privileges(out: &mut Vec<Check>) {
    let held = Capabilities::current();
    let uid = nix::unistd::geteuid();
    out.push(Check::new(Area::Privilege, "user", Status::Ok, format!("effective uid {uid}")));
    for (capability, gives, without) in CAPABILITIES {
        out.push(if held.has(capability) {
            Check::new(Area::Privilege, capability.name, Status::Ok, format!("held: {gives}"))
        } else {
            Check::new(Area::Privilege, capability.name, without, format!("not held: no {gives}"))
                .remedy(held.remedy(capability))
        });
    }
}

fn kernel(out: &mut Vec<Check>) {
    // Without `/proc` the namespaces are unknown. Another check reports that.
    let failed = |name: &str, error: PreflightError| {
        Check::new(Area::Kernel, name, Status::Failed, error.detail()).remedy(error.remedy())
    };
    let good = |name: &str| Check::new(Area::Kernel, name, Status::Ok, "the initial one");
    match preflight::check() {
        Ok(()) => out.extend([good("pid namespace"), good("time namespace")]),
        Err(error @ PreflightError::Namespace) => out.push(failed("pid namespace", error)),
        Err(error @ PreflightError::TimeNamespace) => {
            out.extend([good("pid namespace"), failed("time namespace", error)]);
        }
        Err(PreflightError::NoProc | PreflightError::ForeignProc) => {}
    }
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let name = nix::sys::utsname::uname();
    let release = name.map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let version: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect();
    let (status, remedy) = match version[..] {
        [major, minor] if (major, minor) < (5, 10) => (Status::Failed, Some("boot Linux 5.10 or newer")),
        _ => (Status::Ok, None),
    };
    let check = Check::new(Area::Kernel, "release", status, release);
    out.push(match remedy {
        Some(remedy) => check.remedy(remedy),
        None => check,
    });
    // "[none] integrity confidentiality": the last one prevents BPF from reading kernel memory (security/lockdown).
    if let Ok(lockdown) = read("/sys/kernel/security/lockdown") {
        let locked = lockdown.contains("[confidentiality]");
        let check = Check::new(Area::Kernel, "lockdown", if locked { Status::Failed } else { Status::Ok }, lockdown);
        out.push(if locked { check.remedy("boot with lockdown=integrity or lockdown=none") } else { check });
    }
    match procfs::read("sys/net/core/bpf_jit_enable").as_deref() {
        Some("0") => out.push(
            Check::new(
                Area::Kernel,
                "BPF JIT",
                Status::Fallback,
                "off: the programs are interpreted, many times slower",
            )
            .remedy("sysctl net.core.bpf_jit_enable=1"),
        ),
        Some(_) => out.push(Check::new(Area::Kernel, "BPF JIT", Status::Ok, "on")),
        None => {}
    }
}

fn mounts(out: &mut Vec<Check>) {
    let hidden = visibility::unseen().into_iter().find(|unseen| unseen.what == What::Processes);
    out.push(match (preflight::proc_is_mounted(), hidden) {
        (Err(error), _) => Check::new(Area::Mount, "/proc", Status::Failed, error.detail()).remedy(error.remedy()),
        (Ok(()), Some(unseen)) => missing(Area::Mount, "/proc", &unseen),
        (Ok(()), None) => Check::new(Area::Mount, "/proc", Status::Ok, "mounted: running processes are known"),
    });
    if Mounted::now().processes_only {
        let (status, where_from) = match procfs::read(BOOT_ID) {
            Some(_) => (Status::Fallback, "the boot id comes from a mount that only tracer sees"),
            None => (Status::Missing, "`hello` has no boot id: a private mount takes CAP_SYS_ADMIN"),
        };
        let detail = format!("it shows processes only (subset=pid); {where_from}");
        out.push(Check::new(Area::Mount, "/proc/sys", status, detail));
    }
    let hierarchy = Hierarchy::of_proc();
    let name = format!("control groups come from {}", hierarchy.name());
    let outside = visibility::unseen().into_iter().find(|unseen| unseen.what == What::Paths);
    out.push(match (&hierarchy.mount, outside) {
        (_, Some(unseen)) => missing(Area::Mount, "cgroup", &unseen),
        (Some(mount), None) => {
            Check::new(Area::Mount, "cgroup", Status::Ok, format!("{name}, at {}", mount.at.display()))
        }
        (None, None) => {
            let detail = format!("{name}, which is not mounted: of existing ones only the path is known");
            Check::new(Area::Mount, "cgroup", Status::Missing, detail)
        }
    });
    out.push(Check::new(
        Area::Mount,
        "tracefs",
        Status::Ok,
        "not needed for BTF tracepoints; mounted privately where trace events need it",
    ));
}

fn missing(area: Area, name: &str, unseen: &Unseen) -> Check {
    let detail = format!("{} are not seen: {}", unseen.what.words(), unseen.why);
    Check::new(area, name, Status::Missing, detail).remedy(&*unseen.remedy)
}

fn limits(out: &mut Vec<Check>) {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK) {
        let show = |bytes: u64| if bytes == u64::MAX { "unlimited".into() } else { format!("{} KiB", bytes >> 10) };
        let check = |status, meaning| {
            Check::new(Area::Limit, "memlock", status, format!("soft {}, hard {}; {meaning}", show(soft), show(hard)))
        };
        out.push(if !memlock::counts() {
            check(Status::Ok, "only counts before 5.11")
        } else if hard == u64::MAX || Capabilities::current().has(capabilities::SYS_RESOURCE) {
            check(Status::Ok, "will be raised")
        } else {
            check(Status::Fallback, "cannot be raised: the ring buffer may be smaller")
                .remedy(format!("{MEMLOCK_REMEDY}, before tracer runs; LimitMEMLOCK=infinity in a unit"))
        });
    }
}

/// Checks each member that the programs read.
fn fields(btf: &Btf, out: &mut Vec<Check>) {
    // Members of trace events matter only on kernels where those are used.
    let all = Offsets::MEMBERS.iter().filter(|member| member.want != Want::Event || release::skips_preempted());
    for member in all {
        let name = match member.path {
            "#size" => format!("sizeof {}", member.of),
            path => format!("{}.{path}", member.of),
        };
        out.push(match (btf.offset(member), member.want) {
            (Some(offset), Want::Bit) => Check::new(Area::Field, name, Status::Ok, format!("bit {offset}")),
            (Some(offset), _) => Check::new(Area::Field, name, Status::Ok, format!("offset {offset}")),
            (None, Want::Needed) => Check::new(Area::Field, name, Status::Failed, "this kernel has no such member")
                .remedy("report this kernel: its structures are not known to tracer"),
            (None, _) => {
                Check::new(Area::Field, name, Status::Missing, "this kernel has no such member: its value is left out")
            }
        });
    }
}

/// Loads each program in all its variations, and attaches it for a moment.
fn attach(btf: &Btf, btf_file: Option<&Path>, out: &mut Vec<Check>) {
    let mut variations = variations(btf, btf_file).into_iter();
    let opened = variations.next().map(|(hierarchy, options)| {
        memlock::within(&options, |options| Object::open(Loader::begin(), btf, &hierarchy, options))
    });
    let Some(Ok((mut object, fitting))) = opened else {
        out.extend(opened.and_then(Result::err).map(|error| failed("BPF maps", Status::Failed, &error)));
        return;
    };
    let hooks: Vec<Hook> = hooks(btf).into_iter().chain([REAP, CGROUP_RENAME]).collect();
    let stand_ins_of = |hook: &Hook| if release::skips_preempted() { hook.stand_ins } else { &[] };
    let stand_ins: Vec<Hook> = hooks.iter().flat_map(stand_ins_of).copied().collect();
    let mut verified = Verified::default();
    // The last variation is the one that is attached. It reports tracked processes only, so it reports nothing.
    for (hierarchy, options) in variations {
        object.load_ahead(hooks.iter().chain(&stand_ins).chain([&RUNNING]).chain(&BY_FUNCTION).chain(&BY_TRACEPOINT));
        verified.load(&mut object, hooks.iter().chain(&stand_ins).chain([&RUNNING]));
        let KernelOptions { ring_bytes, max_tracked, .. } = fitting;
        let options = KernelOptions { ring_bytes, max_tracked, ..options };
        if let Err(error) = object.reopen(btf, &hierarchy, &options) {
            out.push(failed("BPF maps", Status::Failed, &error));
            return;
        }
    }
    for hook in hooks {
        // Where the kernel skips preempted programs, there may be stand-ins.
        let others = stand_ins_of(&hook);
        let mut refused = None;
        for other in others {
            match verified.attach(&mut object, other) {
                Ok(check) => out.push(check),
                Err(error) if other.needed => refused = Some(error),
                Err(error) => out.push(failed(other.tracepoint, Status::Missing, &error)),
            }
        }
        if !others.is_empty() && refused.is_none() {
            // The hook itself is for kernels that refuse the stand-ins.
            if let Some(check) = out.last_mut() {
                check.spare.extend(verified.accepted(&[hook]));
            }
            continue;
        }
        let status = if hook.needed && hook != REAP { Status::Failed } else { Status::Missing };
        out.push(match (verified.attach(&mut object, &hook), refused) {
            (Ok(check), None) => check,
            (Ok(check), Some(error)) => {
                let detail = format!("{}; {error}. {}", check.detail, fallback::PREEMPTED);
                Check { status: Status::Fallback, detail, ..check }
            }
            (Err(error), _) => failed(hook.tracepoint, status, &error),
        });
        if let Some(check) = fallback(&hook) {
            out.push(check);
        }
    }
    out.push(match verified.attach(&mut object, &RUNNING) {
        Ok(check) => Check { name: RUNNING.name(), ..check },
        Err(error) => {
            let detail = format!("{error}; {}", iterator::FALLBACK);
            Check::new(Area::Hook, RUNNING.name(), Status::Fallback, detail)
        }
    });
    filters(btf, out);
    exec_failures(&mut object, &mut verified, out);
}

/// Checks which filters the kernel side can apply.
fn filters(btf: &Btf, out: &mut Vec<Check>) {
    let missing = out.iter().find(|check| {
        [CGROUP_MKDIR, CGROUP_ATTACH].iter().any(|hook| hook.tracepoint == check.name) && check.status != Status::Ok
    });
    let why = match missing {
        Some(hook) => Some(format!("there is no {}", hook.name)),
        None if Hierarchy::choose(btf).mount.is_none() => Some("their hierarchy is not mounted".to_owned()),
        None => None,
    };
    out.push(match why {
        None => {
            let detail = "--pid, --uid, --cgroup, --unit and --container filter in the kernel (tracer stream)";
            Check::new(Area::Kernel, "filters", Status::Ok, detail)
        }
        Some(why) => {
            let detail = format!("--cgroup, --unit and --container filter in user space: {why}");
            Check::new(Area::Kernel, "filters", Status::Fallback, detail)
        }
    });
}

/// Returns combinations of the constants that remove code: the verifier sees only the remaining code.
///
/// The last one reports nothing until a process is tracked.
fn variations(btf: &Btf, btf_file: Option<&Path>) -> Vec<(Hierarchy, KernelOptions)> {
    // `reap` only affects code of a filter. The others are independent.
    let [v1, v2] = Hierarchy::kinds(btf);
    let switches = [
        (false, Selection::All, false, v1.clone()),
        (true, Selection::All, true, v2.clone()),
        (true, Selection::Users(Vec::new()), false, v1.clone()),
        (false, Selection::Cgroups, true, v2.clone()),
        (true, Selection::Cgroups, false, v1.clone()),
        (false, Selection::Containers, true, v1.clone()),
        (true, Selection::Containers, false, v2.clone()),
        (true, Selection::Subtree(Vec::new()), false, v1),
        (false, Selection::Only, true, v2),
    ];
    let options = |(threads, selection, reap, hierarchy)| {
        let btf = btf_file.map(Into::into);
        (hierarchy, KernelOptions { threads, selection, reap, btf, ..KernelOptions::default() })
    };
    switches.into_iter().map(options).collect()
}

/// The results of the verifier for all variations.
#[derive(Default)]
struct Verified {
    instructions: BTreeMap<&'static str, u32>,
    /// Programs that were loaded at least once.
    loaded: BTreeSet<&'static str>,
    /// Programs with a refused variation.
    refused: BTreeMap<&'static str, LoadError>,
}

impl Verified {
    fn load<'a>(&mut self, object: &mut Object, hooks: impl Iterator<Item = &'a Hook>) {
        for hook in hooks {
            match object.load(hook) {
                Ok(()) => self.count(object, hook),
                Err(error) => drop(self.refused.entry(hook.program).or_insert(error)),
            }
        }
        // Only the first of these that works is needed, so a refused one is harmless here.
        for hook in BY_FUNCTION.iter().chain(&BY_TRACEPOINT) {
            if object.load(hook).is_ok() {
                self.count(object, hook);
            }
        }
    }

    /// Attaches a program briefly, unless a variation of it was refused.
    fn attach(&mut self, object: &mut Object, hook: &Hook) -> Result<Check, LoadError> {
        if let Some(error) = self.refused.remove(hook.program) {
            return Err(error);
        }
        object.load(hook).and_then(|()| object.attach(hook))?;
        let program = self.program(object, hook);
        let (count, use_of) = (count_of(&program), if *hook == REAP { "; for --reap" } else { "" });
        let detail = format!("program {}: loads and attaches{count}{use_of}", hook.program);
        Ok(Check::new(Area::Hook, hook.tracepoint, Status::Ok, detail).programs(vec![program]))
    }

    fn count(&mut self, object: &Object, hook: &Hook) {
        self.loaded.insert(hook.program);
        if let Some(count) = object.verified(hook) {
            let most = self.instructions.entry(hook.program).or_default();
            *most = count.max(*most);
        }
    }

    /// Returns a program that was just loaded again.
    fn program(&mut self, object: &Object, hook: &Hook) -> Program {
        self.count(object, hook);
        self.counted(hook)
    }

    fn counted(&self, hook: &Hook) -> Program {
        Program { name: hook.program.to_owned(), instructions: self.instructions.get(hook.program).copied() }
    }

    /// Returns the programs of these hooks whose variations were all accepted.
    fn accepted(&self, hooks: &[Hook]) -> Vec<Program> {
        let accepted = |hook: &&Hook| self.loaded.contains(hook.program) && !self.refused.contains_key(hook.program);
        hooks.iter().filter(accepted).map(|hook| self.counted(hook)).collect()
    }
}

fn count_of(program: &Program) -> String {
    program.instructions.map(|count| format!(", {count} instructions verified")).unwrap_or_default()
}

/// Checks which hooks `--exec-failed` would use.
fn exec_failures(object: &mut Object, verified: &mut Verified, out: &mut Vec<Check>) {
    const NAME: &str = "--exec-failed";
    let mut fits = |hooks: &[Hook; 2]| {
        let programs = exec_failed::both(object, hooks).map(|()| hooks.map(|hook| verified.program(object, &hook)));
        for hook in hooks {
            object.unload(hook);
        }
        let programs = programs?;
        let count = count_of(&programs[0]);
        let detail = format!("{}: program {} loads and attaches{count}", hooks[0].name(), hooks[0].program);
        Ok::<_, LoadError>((detail, programs))
    };
    if let Ok((detail, programs)) = fits(&BY_FUNCTION) {
        let detail = detail + "; it slows nothing else";
        let spare = verified.accepted(&BY_TRACEPOINT);
        out.push(Check::new(Area::Hook, NAME, Status::Ok, detail).programs(programs).spare(spare));
        return;
    }
    out.push(match fits(&BY_TRACEPOINT) {
        Ok((detail, programs)) => {
            let refused = BY_FUNCTION[0].name();
            let detail = format!("{detail}; {refused} is refused. {}", fallback::SLOW_SYSTEM_CALLS);
            Check::new(Area::Hook, NAME, Status::Fallback, detail).programs(programs)
        }
        Err(error) => Check::new(Area::Hook, NAME, Status::Missing, error.to_string())
            .remedy("boot Linux 5.15 or newer, or one that lets BPF programs attach to its functions"),
    });
}

fn fallback(hook: &Hook) -> Option<Check> {
    (*hook == EXIT_BY_LIVE).then(|| {
        let detail = "absent before 6.16: signal->live is read instead";
        Check::new(Area::Hook, "sched_process_exit group_dead", Status::Fallback, detail)
    })
}

fn failed(name: &str, status: Status, error: &LoadError) -> Check {
    let check = |detail| Check::new(Area::Hook, name, status, detail);
    match error {
        LoadError::NotPermitted(missing) => {
            check(format!("not permitted without {}", missing.names())).remedy(missing.remedy())
        }
        // The error includes its own remedy.
        LoadError::Memlock { .. } => check(error.to_string()),
        _ => check(error.to_string()).remedy("run with -vv for the verifier's log, and report it"),
    }
}
