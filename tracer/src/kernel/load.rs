//! Loads and attaches the programs that fit the BTF of the running kernel.

use aya::Ebpf;
use tracer_common::stats::CpuStats;

use super::btf::Btf;
use super::error::{LoadError, refused};
use super::exec_failed;
use super::fallback::Fallback;
use super::filter_maps::FilterMaps;
pub use super::filter_maps::Tracked;
use super::hierarchy::Hierarchy;
use super::hook::{CGROUP_ATTACH, CGROUP_MKDIR, CGROUP_RENAME, EXIT_BY_LIVE, FORK, Hook, REAP, RUNNING, hooks};
use super::iterator;
use super::log::KernelLog;
use super::memlock;
use super::mmap::{Asleep, Counters};
use super::nonpreemptible::Alternatives;
use super::object::{Loader, Object, cpus, has_log, unload};
use super::options::{KernelOptions, Selection};
use super::ring::Ring;
use super::running_btf;
use super::skipped::SkipCounters;
use super::visibility;
use crate::record::running::Running;
use crate::record::skipped::SkippedCounts;

/// The running kernel side. Dropping it detaches the programs.
pub struct Kernel {
    /// Keeps programs and links alive.
    ebpf: Ebpf,
    stats: Counters,
    filter_maps: FilterMaps,
    skip_counters: SkipCounters,
    log: Option<KernelLog>,
    /// True if the task iterator is loaded.
    iterates: bool,
    /// The attached hooks.
    pub hooks: Vec<Hook>,
    /// What this kernel lacks, and what tracer does instead.
    pub fallbacks: Vec<Fallback>,
    /// The hierarchy of the cgroups in records.
    pub hierarchy: Hierarchy,
    /// Size of the ring.
    pub ring_bytes: u32,
}

impl Kernel {
    /// Loads and attaches everything. From here on records gather in the ring.
    pub fn start(options: &KernelOptions) -> Result<(Self, Ring), LoadError> {
        let ((mut kernel, ring), fitting) = match memlock::within(options, Self::start_with) {
            Err(LoadError::Refused(refusal)) if options.log() && has_log() => {
                tracing::warn!("the programs' own log is off: {refusal}");
                memlock::within(&KernelOptions { log: Some(false), ..options.clone() }, Self::start_with)?
            }
            started => started?,
        };
        kernel.fallbacks.extend(memlock::fallback(options, &fitting));
        let unseen = visibility::unseen().into_iter();
        kernel.fallbacks.extend(unseen.map(Fallback::Unseen));
        for fallback in &kernel.fallbacks {
            tracing::info!("fallback: {fallback}");
        }
        Ok((kernel, ring))
    }

    fn start_with(options: &KernelOptions) -> Result<(Self, Ring), LoadError> {
        let loader = Loader::begin();
        let btf = running_btf::load(options.btf.as_deref())?;
        let hierarchy = Hierarchy::choose(&btf);
        let renames = hierarchy.controller.is_some().then_some(CGROUP_RENAME);
        let hooks: Vec<Hook> = options.reap.then_some(REAP).into_iter().chain(renames).chain(hooks(&btf)).collect();
        let mut fallbacks = fallbacks(&btf, &hooks);
        if hierarchy.mount.is_none() {
            fallbacks.push(Fallback::CgroupsNotMounted(hierarchy.name()));
        }
        let mut object = Object::open(loader, &btf, &hierarchy, options)?;
        let filter_maps = FilterMaps::prepare(&mut object.ebpf, &options.selection)?;
        // All programs are loaded before the first is attached, because the verifier is slow.
        let alternatives: Vec<Alternatives> = hooks.iter().map(|hook| Alternatives::of(*hook, options)).collect();
        let iterate = options.iterate.unwrap_or(options.selection != Selection::Only);
        object.load_ahead(alternatives.iter().flat_map(Alternatives::first).chain(iterate.then_some(&RUNNING)));
        let mut load = |one: Alternatives| one.load(&mut object, &mut fallbacks).map(|loaded| (one, loaded));
        let loaded: Vec<_> = hooks.iter().zip(alternatives).map(|(hook, one)| (hook, load(one))).collect();
        let mut attached = Vec::new();
        for (hook, loaded) in loaded {
            // These come before forks too: a process whose fork is reported has them until tracing ends.
            if options.exec_failed && *hook == FORK {
                attached.extend(exec_failed::attach(&mut object, options.exec_failed_by_function, &mut fallbacks)?);
            }
            match loaded.and_then(|(one, loaded)| one.attach(&loaded, &mut object, &mut fallbacks)) {
                Ok(hooks) => attached.extend(hooks),
                Err(error) if hook.needed => return Err(error),
                Err(error) => fallbacks.push(Fallback::Without(*hook, error)),
            }
        }
        let mut iterates = iterate;
        if iterate && let Err(error) = object.load(&RUNNING) {
            iterates = false;
            fallbacks.push(Fallback::NoIterator(error));
        }
        let mut skip_counters = SkipCounters::default();
        for hook in &attached {
            skip_counters.watch(hook, object.descriptor(hook)?);
        }
        let Object { mut ebpf, types, .. } = object;
        drop((btf, types));
        return_freed_memory();
        let missing = |name: &str| refused(name, "the map is missing from the object");
        let events = ebpf.take_map("EVENTS").ok_or_else(|| missing("EVENTS"))?;
        let ring = Ring::new(events, options.ring_bytes, Asleep::new(ebpf.map("ASLEEP"))?)?;
        let stats = Counters::new(ebpf.map("STATS"), cpus()? as usize)?;
        let log = (options.log() && has_log()).then(|| KernelLog::new(&mut ebpf)).transpose()?;
        let ring_bytes = options.ring_bytes;
        let kernel = Self {
            ebpf,
            stats,
            filter_maps,
            skip_counters,
            log,
            iterates,
            hooks: attached,
            fallbacks,
            hierarchy,
            ring_bytes,
        };
        let (names, hierarchy) = (kernel.hook_names().join(", "), kernel.hierarchy.name());
        tracing::info!("hooks: {names}; cgroups by {hierarchy}");
        Ok((kernel, ring))
    }

    /// Adds a process to the tracked ones (with a [`Selection`]).
    pub fn track(&mut self, pid: u32, what: Tracked) -> Result<(), LoadError> {
        self.filter_maps.track(pid, what)
    }

    /// Removes an exited process from the tracked ones.
    pub fn untrack(&mut self, pid: u32) -> Result<(), LoadError> {
        self.filter_maps.untrack(pid)
    }

    /// Returns the tracked processes that have not exited (with a [`Selection`]).
    pub fn tracked(&self) -> Vec<u32> {
        self.filter_maps.tracked()
    }

    /// Adds a matching cgroup (with [`Selection::Cgroups`]).
    pub fn admit_cgroup(&mut self, id: u64) -> Result<(), LoadError> {
        self.filter_maps.admit_cgroup(id)
    }

    /// Removes a cgroup. A new cgroup matches until this is called.
    pub fn leave_out_cgroup(&mut self, id: u64) -> Result<(), LoadError> {
        self.filter_maps.leave_out_cgroup(id)
    }

    /// Adds a matching mount or pid namespace (with [`Selection::Containers`]).
    pub fn admit_namespace(&mut self, number: u32) -> Result<(), LoadError> {
        self.filter_maps.admit_namespace(number)
    }

    /// Removes a namespace.
    pub fn leave_out_namespace(&mut self, number: u32) -> Result<(), LoadError> {
        self.filter_maps.leave_out_namespace(number)
    }

    /// Returns true if all cgroups are known, existing and new ones.
    pub fn knows_cgroups(&self) -> bool {
        let attached = |hook: &Hook| self.hooks.contains(hook);
        attached(&CGROUP_MKDIR) && attached(&CGROUP_ATTACH) && self.hierarchy.mount.is_some()
    }

    /// Applies the filter, once everything that exists is added. Until then everything is reported.
    pub fn close(&mut self) -> Result<(), LoadError> {
        self.filter_maps.close()
    }

    /// Returns all running processes. `None` if this kernel has no iterator over them.
    pub fn running(&mut self) -> Option<Vec<Running>> {
        if !self.iterates {
            return None;
        }
        match iterator::read(&mut self.ebpf) {
            Ok(running) => Some(running),
            Err(error) => {
                self.fallbacks.push(Fallback::NoIterator(error));
                self.iterates = false;
                None
            }
        }
    }

    /// Detaches the programs. Records in the ring stay.
    ///
    /// The programs are detached one by one, so the records since this call are not complete.
    pub fn detach(&mut self) {
        for hook in &self.hooks {
            // A program that cannot be unloaded here is unloaded on drop.
            let _ = unload(&mut self.ebpf, hook);
        }
    }

    /// Returns the names of the hooks, each once.
    pub fn hook_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.hooks.iter().map(Hook::name).collect();
        names.dedup();
        names
    }

    /// Returns how often the kernel skipped the programs, by kind of record.
    pub fn skipped(&self) -> SkippedCounts {
        self.skip_counters.skipped()
    }

    /// Returns true if this build has the programs with a log.
    #[cfg(feature = "internals")]
    pub fn has_log() -> bool {
        has_log()
    }

    /// Logs the faults that the programs have reported (`KernelOptions::log`).
    pub fn show_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Returns the counters of every CPU.
    pub fn stats(&self) -> Vec<CpuStats> {
        self.stats.read()
    }
}

/// Returns what this kernel lacks according to its BTF.
fn fallbacks(btf: &Btf, hooks: &[Hook]) -> Vec<Fallback> {
    let group_dead = hooks.contains(&EXIT_BY_LIVE).then_some(Fallback::NoGroupDead);
    group_dead.into_iter().chain(btf.absent().map(Fallback::NoMember)).collect()
}

/// Returns freed memory to the system. Parsing the kernel's types takes about 20 MB that the allocator would keep.
fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes no pointer and may be called at any time.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
