//! Loads and attaches the programs, choosing by what the running kernel's BTF shows.

use std::path::PathBuf;

use aya::maps::Map;
use aya::programs::{BtfTracePoint, FExit, Program, ProgramError, ProgramFd, TracePoint};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use tracer_common::config::Config;
use tracer_common::limits::{ARGV_MAX_BYTES, MAX_PREPARED, MAX_TRACKED};
use tracer_common::offsets::Offsets;
use tracer_common::stats::CpuStats;

use super::btf::{Btf, BtfError};
use super::capabilities::{Held, Lack};
use super::exec_failed;
use super::hierarchy::Hierarchy;
use super::memlock;
use super::misses::Misses;
use super::own_btf;
use super::ring::Ring;
use super::sets::Sets;
pub use super::sets::{KernelFilter, Tracked};
use super::shared::{Asleep, Counters};
use super::tracefs::with_tracefs;
use super::unpreempted::{self, Ways};
use crate::passed_over::Untold;

/// The kernel side, built by `cargo xtask build`.
static OBJECT: &[u8] = include_bytes_aligned!(env!("TRACER_BPF_OBJECT"));

/// Size of the ring buffer unless told otherwise.
pub const RING_DEFAULT_BYTES: u32 = 8 << 20;

/// What is asked of the kernel side.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Size of the ring buffer in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// Most bytes of argv to capture.
    pub argv_max: u32,
    /// Threads too.
    pub threads: bool,
    /// Which processes are reported.
    pub filter: KernelFilter,
    /// Most of those at a time.
    pub max_tracked: u32,
    /// Execs that fail too.
    pub exec_failed: bool,
    /// … by the functions of the system calls, or by their tracepoints. `None`: the first that the kernel allows.
    pub exec_failed_by_function: Option<bool>,
    /// When the dead are waited for too.
    pub reap: bool,
    /// Births, execs and deaths by hooks at which no program is preempted. `None`: where the kernel passes over one that is.
    pub unpreempted: Option<bool>,
    /// A file with the running kernel's BTF. Another kernel's is refused.
    pub btf: Option<PathBuf>,
    /// Fields of [`Offsets`] that this kernel is taken not to have, if tracing can do without: for tests.
    pub without: Vec<&'static str>,
}

impl KernelOptions {
    pub(super) fn unpreempted(&self) -> bool {
        self.unpreempted.unwrap_or_else(unpreempted::is_needed)
    }
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self {
            ring_bytes: RING_DEFAULT_BYTES,
            argv_max: Config::DEFAULT.argv_max,
            threads: false,
            filter: KernelFilter::None,
            max_tracked: MAX_TRACKED,
            exec_failed: false,
            exec_failed_by_function: None,
            reap: false,
            unpreempted: None,
            btf: None,
            without: Vec::new(),
        }
    }
}

/// Why the kernel side does not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// BTF is missing or not understood.
    #[error("{0}{remedy}", remedy = .0.remedy())]
    Btf(#[from] BtfError),
    /// Not allowed to load programs.
    #[error("not permitted to load BPF programs {0}")]
    NotPermitted(Lack),
    /// There is no room for what the kernel side needs (before Linux 5.11).
    #[error(
        "the limit of locked memory ({} KiB) is too low for BPF; raise it with `{}`, or with LimitMEMLOCK=infinity in a unit",
        bytes >> 10,
        memlock::REMEDY
    )]
    Memlock {
        /// The limit.
        bytes: u64,
    },
    /// The kernel refused.
    #[error("the kernel refused {what}: {why}; `tracer doctor` tells what it lacks")]
    Refused {
        /// What.
        what: String,
        /// Its answer.
        why: String,
    },
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a tracepoint, by its type.
    Btf,
    /// To a function of the kernel, as it returns.
    Fexit,
    /// To a trace event of a group, by its number in tracefs: a tracepoint that `perf` can record.
    Event(&'static str),
}

/// A kernel hook and the program that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Tracepoint, or function.
    pub tracepoint: &'static str,
    /// Program in the object.
    pub program: &'static str,
    /// Whether tracing can do without.
    pub needed: bool,
    /// What is missing without it.
    pub gives: &'static str,
    /// How it is attached.
    pub way: Way,
}

impl Hook {
    pub(super) const fn tracepoint(
        tracepoint: &'static str,
        program: &'static str,
        needed: bool,
        gives: &'static str,
    ) -> Self {
        Self { tracepoint, program, needed, gives, way: Way::Btf }
    }

    /// What it is called in the output.
    pub fn name(&self) -> String {
        match self.way {
            Way::Btf => self.tracepoint.into(),
            Way::Fexit => format!("fexit:{}", self.tracepoint),
            Way::Event(group) => format!("{group}:{}", self.tracepoint),
        }
    }
}

/// The hook of `--reap`. It comes before all others: one that is gone has been told as dead before.
pub const REAPS: Hook = Hook::tracepoint("sched_process_free", "reap", true, "when the dead are waited for");

/// The program that tells births, always the last to be attached.
const BIRTHS: &str = "fork";

/// The hooks that fit a kernel, by the prototypes in its BTF, in the order in which they are attached and detached.
///
/// Deaths come first and births last: whoever's birth is told has all hooks on until tracing ends, so none seen to be born
/// ends unseen, and none that is told of when tracing ends was born unheard. (Those of cgroups are detached last of all.)
/// New cgroups come before execs: of a container runtime whose command line is told, the cgroup that it makes is told too.
pub fn hooks(btf: &Btf) -> Vec<Hook> {
    // Since 6.16 the tracepoint hands over whether the whole group is dead (include/trace/events/sched.h).
    let exit = if btf.tracepoint_arguments("sched_process_exit") >= Some(2) { "exit" } else { "exit_by_live" };
    vec![
        Hook::tracepoint("sched_process_exit", exit, true, "deaths"),
        Hook::tracepoint("cgroup_mkdir", "cgroup_mkdir", false, "new cgroups at once"),
        Hook::tracepoint("sched_process_exec", "exec", true, "execs"),
        Hook::tracepoint("signal_generate", "signal", false, "who killed a process"),
        Hook::tracepoint("cgroup_attach_task", "cgroup_attach", false, "moves between cgroups at once"),
        Hook::tracepoint("cgroup_rmdir", "cgroup_rmdir", false, "the end of cgroups"),
        Hook::tracepoint("sched_process_fork", BIRTHS, true, "births"),
    ]
}

/// Makes a structure of the ABI known to aya as plain data.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// SAFETY: these are `repr(C)` structures of integers without padding (asserted in tracer-common), valid for any bytes.
unsafe impl aya::Pod for Plain<Offsets> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Config> {}

/// The running kernel side. Dropping it detaches the programs.
pub struct Kernel {
    /// Keeps programs and links alive; none once detached.
    ebpf: Option<Ebpf>,
    stats: Counters,
    sets: Sets,
    misses: Misses,
    /// Hooks that are attached.
    pub hooks: Vec<Hook>,
    /// What this kernel lacks, and what is done instead.
    pub fallbacks: Vec<String>,
    /// Whose cgroups the records tell.
    pub hierarchy: Hierarchy,
    /// Size of the ring.
    pub ring_bytes: u32,
}

impl Kernel {
    /// Loads and attaches everything; from here on events gather in the ring.
    pub fn start(options: &KernelOptions) -> Result<(Self, Ring), LoadError> {
        let ((mut kernel, ring), fitting) = memlock::within(options, Self::start_with)?;
        kernel.fallbacks.extend(memlock::fallback(options, &fitting));
        for fallback in &kernel.fallbacks {
            tracing::info!("fallback: {fallback}");
        }
        Ok((kernel, ring))
    }

    fn start_with(options: &KernelOptions) -> Result<(Self, Ring), LoadError> {
        let btf = own_btf::load(options.btf.as_deref())?;
        let hooks: Vec<Hook> = options.reap.then_some(REAPS).into_iter().chain(hooks(&btf)).collect();
        let mut fallbacks = fallbacks(&btf, &hooks);
        let hierarchy = Hierarchy::choose(&btf);
        if hierarchy.mount.is_none() {
            let name = hierarchy.name();
            fallbacks.push(format!(
                "cgroup {name} is not mounted: of cgroups that are there already only the path is known"
            ));
        }
        let mut probe = Probe::open(&btf, &hierarchy, options)?;
        drop(btf);
        let sets = Sets::prepare(&mut probe.ebpf, &options.filter)?;
        // All are loaded before the first is attached: the verifier takes its time.
        let mut load = |hook: &Hook| {
            let ways = Ways::of(*hook, options.unpreempted());
            ways.load(&mut probe, &mut fallbacks).map(|loaded| (ways, loaded))
        };
        let loaded: Vec<_> = hooks.iter().map(|hook| (hook, load(hook))).collect();
        let mut attached = Vec::new();
        for (hook, loaded) in loaded {
            // Whoever's birth is told has this on until tracing ends as well.
            if options.exec_failed && hook.program == BIRTHS {
                attached.extend(exec_failed::attach(&mut probe, options.exec_failed_by_function, &mut fallbacks)?);
            }
            match loaded.and_then(|(ways, loaded)| ways.attach(&loaded, &mut probe, &mut fallbacks)) {
                Ok(way) => attached.extend(way),
                Err(error) if hook.needed => return Err(error),
                Err(error) => fallbacks.push(format!("{}: {error}; without {}", hook.tracepoint, hook.gives)),
            }
        }
        let mut misses = Misses::default();
        for hook in &attached {
            misses.watch(hook, probe.descriptor(hook)?);
        }
        let Probe { mut ebpf, types } = probe;
        drop(types);
        return_freed_memory();
        let missing = |name: &str| refused(name, &"the map is missing from the object");
        let events = ebpf.take_map("EVENTS").ok_or_else(|| missing("EVENTS"))?;
        let ring = Ring::new(events, options.ring_bytes, Asleep::new(ebpf.map("ASLEEP"))?)?;
        let stats = Counters::new(ebpf.map("STATS"), cpus()? as usize)?;
        let ring_bytes = options.ring_bytes;
        let kernel = Self { ebpf: Some(ebpf), stats, sets, misses, hooks: attached, fallbacks, hierarchy, ring_bytes };
        let (names, hierarchy) = (kernel.hook_names().join(", "), kernel.hierarchy.name());
        tracing::info!("hooks: {names}; cgroups by {hierarchy}");
        Ok((kernel, ring))
    }

    /// Adds a process to those of whom something is reported (where there is a [`KernelFilter`]).
    pub fn track(&mut self, pid: u32, what: Tracked) -> Result<(), LoadError> {
        self.sets.track(pid, what)
    }

    /// Takes a process out again that has ended.
    pub fn untrack(&mut self, pid: u32) -> Result<(), LoadError> {
        self.sets.untrack(pid)
    }

    /// The processes of whom something is reported (where there is a [`KernelFilter`]) and that have not ended.
    pub fn tracked(&self) -> Vec<u32> {
        self.sets.tracked()
    }

    /// Adds a cgroup to those whose processes are reported (with [`KernelFilter::Cgroups`]).
    pub fn admit_cgroup(&mut self, id: u64) -> Result<(), LoadError> {
        self.sets.admit_cgroup(id)
    }

    /// Takes it away again. A new cgroup is among them until this is called.
    pub fn leave_out_cgroup(&mut self, id: u64) -> Result<(), LoadError> {
        self.sets.leave_out_cgroup(id)
    }

    /// Adds a mount or pid namespace to those whose processes are reported (with [`KernelFilter::Containers`]).
    pub fn admit_namespace(&mut self, number: u32) -> Result<(), LoadError> {
        self.sets.admit_namespace(number)
    }

    /// Takes it away again.
    pub fn leave_out_namespace(&mut self, number: u32) -> Result<(), LoadError> {
        self.sets.leave_out_namespace(number)
    }

    /// True if all control groups are known, those that are made as well as those that are there.
    pub fn tells_cgroups(&self) -> bool {
        let attached = |program: &str| self.hooks.iter().any(|hook| hook.program == program);
        attached("cgroup_mkdir") && attached("cgroup_attach") && self.hierarchy.mount.is_some()
    }

    /// All that were there before are put in: from here on the filter holds. Until then everything is reported.
    pub fn close(&mut self) -> Result<(), LoadError> {
        self.sets.close()
    }

    /// Takes the programs off their hooks: nothing more happens in the kernel, and what is in the ring stays.
    pub fn detach(&mut self) {
        let Some(mut ebpf) = self.ebpf.take() else { return };
        // Cgroups after births: none may be born into a cgroup that was made unheard.
        let (cgroups, others): (Vec<&Hook>, Vec<&Hook>) =
            self.hooks.iter().partition(|hook| hook.program.starts_with("cgroup"));
        for hook in others.into_iter().chain(cgroups) {
            // What cannot be unloaded is when the rest is dropped.
            let _ = unload(&mut ebpf, hook);
        }
    }

    /// The hooks by name, each once.
    pub fn hook_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.hooks.iter().map(Hook::name).collect();
        names.dedup();
        names
    }

    /// What the kernel has passed the programs over with, and nobody has told.
    pub fn untold(&self) -> Untold {
        self.misses.untold()
    }

    /// The counters of every CPU.
    pub fn stats(&self) -> Vec<CpuStats> {
        self.stats.read()
    }
}

/// The object with its maps made, ready to attach program by program.
pub(super) struct Probe {
    ebpf: Ebpf,
    types: aya::Btf,
}

impl Probe {
    /// Opens it for a kernel.
    pub(super) fn open(btf: &Btf, hierarchy: &Hierarchy, options: &KernelOptions) -> Result<Self, LoadError> {
        let types = aya::Btf::parse(btf.data(), aya::Endianness::default());
        let types = types.map_err(|error| refused("its own BTF", &error))?;
        Ok(Self { ebpf: open(&btf.offsets(&options.without)?, hierarchy, options)?, types })
    }

    /// Opens the object anew, with other constants.
    pub(super) fn vary(&mut self, btf: &Btf, hierarchy: &Hierarchy, options: &KernelOptions) -> Result<(), LoadError> {
        self.ebpf = open(&btf.offsets(&options.without)?, hierarchy, options)?;
        Ok(())
    }

    /// Loads the program of one hook: the verifier looks through it.
    pub(super) fn load(&mut self, hook: &Hook) -> Result<(), LoadError> {
        let Self { ebpf, types } = self;
        let loaded = match hook.way {
            Way::Btf => program::<BtfTracePoint>(ebpf, hook)?.load(hook.tracepoint, types),
            Way::Fexit => program::<FExit>(ebpf, hook)?.load(hook.tracepoint, types),
            Way::Event(_) => program::<TracePoint>(ebpf, hook)?.load(),
        };
        loaded.map_err(|error| classify(&format!("program {}", hook.program), &error))
    }

    /// Attaches a program that is loaded.
    pub(super) fn attach(&mut self, hook: &Hook) -> Result<(), LoadError> {
        let ebpf = &mut self.ebpf;
        let classified = |error: &ProgramError| classify(&format!("hook {}", hook.name()), error);
        match hook.way {
            Way::Btf => program::<BtfTracePoint>(ebpf, hook)?.attach().map(drop).map_err(|error| classified(&error)),
            Way::Fexit => program::<FExit>(ebpf, hook)?.attach().map(drop).map_err(|error| classified(&error)),
            Way::Event(group) => {
                let program = program::<TracePoint>(ebpf, hook)?;
                with_tracefs(|| program.attach(group, hook.tracepoint).map(drop).map_err(|error| classified(&error)))
            }
        }
    }

    /// Takes a program off its hook, and out of the kernel. One that is not there is no matter.
    pub(super) fn unload(&mut self, hook: &Hook) {
        let _ = unload(&mut self.ebpf, hook);
    }

    /// Another descriptor of a program that is loaded.
    fn descriptor(&self, hook: &Hook) -> Result<ProgramFd, LoadError> {
        let program = self.ebpf.program(hook.program);
        let program = program.ok_or_else(|| refused(hook.program, &"the program is missing from the object"))?;
        let own = program.fd().map_err(|error| refused(hook.program, &error))?;
        own.try_clone().map_err(|error| refused(hook.program, &error))
    }

    /// How many instructions the verifier went through for a program that is loaded (told since 5.16).
    pub(super) fn verified(&self, hook: &Hook) -> Option<u32> {
        self.ebpf.program(hook.program)?.info().ok()?.verified_instruction_count()
    }
}

/// Opens the object with the constants filled in, and makes its maps.
fn open(offsets: &Offsets, hierarchy: &Hierarchy, options: &KernelOptions) -> Result<Ebpf, LoadError> {
    let config = Config {
        argv_max: options.argv_max.min(ARGV_MAX_BYTES),
        threads: options.threads.into(),
        filter: options.filter.number(),
        reap: options.reap.into(),
        syscall_args: exec_failed::SYSCALL_ARGS,
        cgroup_subsys: hierarchy.subsys,
        cgroup_hierarchy: hierarchy.number,
        ring_eighth: options.ring_bytes / 8,
        kin: options.filter.kin().into(),
        reserved: 0,
    };
    // Before Linux 5.11 what might be put into a map counts as memory already.
    let prepared = if options.unpreempted() { MAX_PREPARED } else { 1 };
    let (offsets, config) = (Plain(*offsets), Plain(config));
    let mut loader = EbpfLoader::new();
    for (name, room) in options.filter.rooms(options.max_tracked, options.reap) {
        loader.map_max_entries(name, room);
    }
    loader
        // Offsets come as constants: no relocation against the kernel's BTF is needed.
        .btf(None)
        .override_global("OFFSETS", &offsets, true)
        .override_global("CONFIG", &config, true)
        .map_max_entries("EVENTS", options.ring_bytes)
        .map_max_entries("PREPARED", prepared)
        .map_max_entries("STATS", cpus()?)
        .load(OBJECT)
        .map_err(|error| classify("the maps", &error))
}

/// One more than the highest number that a CPU may have.
fn cpus() -> Result<u32, LoadError> {
    const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
    let text = std::fs::read_to_string(POSSIBLE).map_err(|error| refused(POSSIBLE, &error))?;
    // "0-63", or "0,2-3": they ascend.
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u32>().ok());
    last.map(|last| last + 1).ok_or_else(|| refused(POSSIBLE, &"it names no CPU"))
}

/// The program of a hook, which is of type `P`.
fn program<'a, P>(ebpf: &'a mut Ebpf, hook: &Hook) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(hook.program)
        .ok_or_else(|| refused(hook.program, &"the program is missing from the object"))?
        .try_into()
        .map_err(|error: ProgramError| refused(hook.program, &error))
}

fn unload(ebpf: &mut Ebpf, hook: &Hook) -> Result<(), LoadError> {
    let unloaded = match hook.way {
        Way::Btf => program::<BtfTracePoint>(ebpf, hook)?.unload(),
        Way::Fexit => program::<FExit>(ebpf, hook)?.unload(),
        Way::Event(_) => program::<TracePoint>(ebpf, hook)?.unload(),
    };
    unloaded.map_err(|error| refused(hook.program, &error))
}

/// What this kernel lacks, and what is done instead.
fn fallbacks(btf: &Btf, hooks: &[Hook]) -> Vec<String> {
    let mut out = Vec::new();
    if hooks.iter().any(|hook| hook.program == "exit_by_live") {
        out.push("sched_process_exit without group_dead: signal->live is looked at instead".into());
    }
    out.extend(btf.absent().map(|member| format!("no {}.{}: what it tells is unknown", member.of, member.path)));
    out
}

/// Parsing all of the kernel's types took some 20 MB for a moment; the allocator would keep them for ever.
fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time (malloc_trim(3)).
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

pub(super) fn take<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &str) -> Result<T, LoadError>
where
    T::Error: std::fmt::Display,
{
    let map = ebpf.take_map(name).ok_or_else(|| refused(name, &"the map is missing from the object"))?;
    T::try_from(map).map_err(|error| refused(name, &error))
}

pub(super) fn refused(what: &str, why: &dyn std::fmt::Display) -> LoadError {
    LoadError::Refused { what: what.into(), why: why.to_string() }
}

/// Tells a lack of privileges from everything else, by the error number deep inside.
fn classify(what: &str, error: &(dyn std::error::Error + 'static)) -> LoadError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut texts: Vec<String> = Vec::new();
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<std::io::Error>()
            && matches!(io.raw_os_error(), Some(nix::libc::EPERM | nix::libc::EACCES))
            && let Some(lack) = Held::now().lack()
        {
            return LoadError::NotPermitted(lack);
        }
        // The verifier's log may have thousands of lines; what it stumbled over is the last before its statistics.
        let text = this.to_string();
        tracing::debug!("{what}: {text}");
        let statistics = ["processed ", "verification time", "stack depth"];
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default();
        let first = first.strip_suffix(". Verifier output:").unwrap_or(first);
        let told = lines.rfind(|line| !statistics.iter().any(|word| line.starts_with(word)));
        let line =
            told.map_or(first.to_owned(), |told| format!("{}: {told}", first.split(". ").next().unwrap_or_default()));
        if !texts.last().is_some_and(|last| last.contains(&line)) {
            texts.push(line);
        }
        cause = this.source();
    }
    LoadError::Refused { what: what.into(), why: texts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::super::btf::tests::sample_with;
    use super::*;

    #[test]
    fn the_program_for_deaths_fits_the_prototype() {
        let program = |arguments: u32| {
            let btf = Btf::parse(sample_with("sched_process_exit", arguments)).unwrap();
            let all = hooks(&btf);
            all.iter().find(|hook| hook.tracepoint == "sched_process_exit").map(|hook| hook.program)
        };
        assert_eq!(program(1), Some("exit_by_live"), "the task alone");
        assert_eq!(program(2), Some("exit"), "the task, and group_dead");
        let none = Btf::parse(sample_with("another", 2)).unwrap();
        assert_eq!(hooks(&none)[0].program, "exit_by_live", "what is not known is not relied on");
    }

    #[test]
    fn a_verifier_that_says_nothing_leaves_no_colon() {
        let error = std::io::Error::other("the syscall returned Invalid argument (os error 22). Verifier output: ");
        let text = classify("program x", &error).to_string();
        assert!(!text.contains("Verifier output") && text.contains("Invalid argument"), "{text}");
    }
}
