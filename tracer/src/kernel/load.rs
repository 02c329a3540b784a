//! Loads and attaches the programs, choosing by what the running kernel's BTF shows.

use std::path::PathBuf;

use aya::Ebpf;
use tracer_common::config::Config;
use tracer_common::limits::MAX_TRACKED;
use tracer_common::stats::CpuStats;

use super::btf::Btf;
use super::error::{LoadError, refused};
use super::exec_failed;
use super::filter_maps::Sets;
pub use super::filter_maps::{KernelFilter, Tracked};
use super::hierarchy::Hierarchy;
use super::hook::{BIRTHS, Hook, REAPS, RENAMES, hooks};
use super::iterator;
use super::memlock;
use super::mmap::{Asleep, Counters};
use super::nonpreemptible::{self, Ways};
use super::object::{Loader, Probe, cpus, unload};
use super::ring::Ring;
use super::running_btf;
use super::skipped::Misses;
use super::visibility::{self, Unseen};
use crate::record::running::Running;
use crate::record::skipped::Untold;

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
    /// What runs already is taken from the kernel's iterator, or from `/proc`. `None`: from the iterator where the kernel has one.
    pub iterate: Option<bool>,
    /// A file with the running kernel's BTF. Another kernel's is refused.
    pub btf: Option<PathBuf>,
    /// Fields of [`Offsets`](tracer_common::offsets::Offsets) that this kernel is taken not to have, if tracing can do without
    /// them: for tests.
    pub without: Vec<&'static str>,
}

impl KernelOptions {
    pub(super) fn unpreempted(&self) -> bool {
        self.unpreempted.unwrap_or_else(nonpreemptible::is_needed)
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
            iterate: None,
            btf: None,
            without: Vec::new(),
        }
    }
}

/// The running kernel side. Dropping it detaches the programs.
pub struct Kernel {
    /// Keeps programs and links alive.
    ebpf: Ebpf,
    stats: Counters,
    sets: Sets,
    misses: Misses,
    /// What runs can be asked for.
    iterates: bool,
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
        let unseen = visibility::unseen().into_iter();
        kernel.fallbacks.extend(unseen.map(|Unseen { what, why, .. }| format!("{} are not seen: {why}", what.words())));
        for fallback in &kernel.fallbacks {
            tracing::info!("fallback: {fallback}");
        }
        Ok((kernel, ring))
    }

    fn start_with(options: &KernelOptions) -> Result<(Self, Ring), LoadError> {
        let loader = Loader::begin();
        let btf = running_btf::load(options.btf.as_deref())?;
        let hierarchy = Hierarchy::choose(&btf);
        let renames = hierarchy.controller.is_some().then_some(RENAMES);
        let hooks: Vec<Hook> = options.reap.then_some(REAPS).into_iter().chain(renames).chain(hooks(&btf)).collect();
        let mut fallbacks = fallbacks(&btf, &hooks);
        if hierarchy.mount.is_none() {
            let name = hierarchy.name();
            fallbacks.push(format!(
                "cgroup {name} is not mounted: of cgroups that are there already only the path is known"
            ));
        }
        let mut probe = Probe::open(loader, &btf, &hierarchy, options)?;
        let sets = Sets::prepare(&mut probe.ebpf, &options.filter)?;
        // All are loaded before the first is attached: the verifier takes its time.
        let ways: Vec<Ways> = hooks.iter().map(|hook| Ways::of(*hook, options)).collect();
        let iterate = options.iterate.unwrap_or(options.filter != KernelFilter::Only);
        probe.load_ahead(ways.iter().flat_map(Ways::first).chain(iterate.then_some(&iterator::TASKS)));
        let mut load = |ways: Ways| ways.load(&mut probe, &mut fallbacks).map(|loaded| (ways, loaded));
        let loaded: Vec<_> = hooks.iter().zip(ways).map(|(hook, ways)| (hook, load(ways))).collect();
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
        let mut iterates = iterate;
        if iterate && let Err(error) = probe.load(&iterator::TASKS) {
            iterates = false;
            fallbacks.push(format!("{error}; {}", iterator::FALLBACK));
        }
        let mut misses = Misses::default();
        for hook in &attached {
            misses.watch(hook, probe.descriptor(hook)?);
        }
        let Probe { mut ebpf, types, .. } = probe;
        drop((btf, types));
        return_freed_memory();
        let missing = |name: &str| refused(name, &"the map is missing from the object");
        let events = ebpf.take_map("EVENTS").ok_or_else(|| missing("EVENTS"))?;
        let ring = Ring::new(events, options.ring_bytes, Asleep::new(ebpf.map("ASLEEP"))?)?;
        let stats = Counters::new(ebpf.map("STATS"), cpus()? as usize)?;
        let ring_bytes = options.ring_bytes;
        let kernel = Self { ebpf, stats, sets, misses, iterates, hooks: attached, fallbacks, hierarchy, ring_bytes };
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

    /// All processes that run; none if this kernel has no iterator over them.
    pub fn running(&mut self) -> Option<Vec<Running>> {
        if !self.iterates {
            return None;
        }
        match iterator::read(&mut self.ebpf) {
            Ok(running) => Some(running),
            Err(error) => {
                self.fallbacks.push(format!("{error}; {}", iterator::FALLBACK));
                self.iterates = false;
                None
            }
        }
    }

    /// Takes the programs off their hooks: nothing more happens in the kernel, and what is in the ring stays. They go one by one:
    /// what is told of the time since this was called is not all that happened.
    pub fn detach(&mut self) {
        for hook in &self.hooks {
            // What cannot be unloaded is when the rest is dropped.
            let _ = unload(&mut self.ebpf, hook);
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
