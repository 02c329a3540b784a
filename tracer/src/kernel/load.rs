//! Loads and attaches the programs, choosing by what the running kernel's BTF shows.

use aya::Ebpf;
use tracer_common::stats::CpuStats;

use super::btf::Btf;
use super::error::{LoadError, refused};
use super::exec_failed;
use super::fallback::Fallback;
use super::filter_maps::Sets;
pub use super::filter_maps::Tracked;
use super::hierarchy::Hierarchy;
use super::hook::{CGROUP_ATTACH, CGROUP_MKDIR, CGROUP_RENAME, EXIT_BY_LIVE, FORK, Hook, REAP, RUNNING, hooks};
use super::iterator;
use super::log::KernelLog;
use super::memlock;
use super::mmap::{Asleep, Counters};
use super::nonpreemptible::Ways;
use super::object::{Loader, Object, cpus, has_log, unload};
use super::options::{KernelOptions, Selection};
use super::ring::Ring;
use super::running_btf;
use super::skipped::Misses;
use super::visibility;
use crate::record::running::Running;
use crate::record::skipped::Untold;

/// The running kernel side. Dropping it detaches the programs.
pub struct Kernel {
    /// Keeps programs and links alive.
    ebpf: Ebpf,
    stats: Counters,
    sets: Sets,
    misses: Misses,
    log: Option<KernelLog>,
    /// What runs can be asked for.
    iterates: bool,
    /// Hooks that are attached.
    pub hooks: Vec<Hook>,
    /// What this kernel lacks, and what is done instead.
    pub fallbacks: Vec<Fallback>,
    /// Whose cgroups the records tell.
    pub hierarchy: Hierarchy,
    /// Size of the ring.
    pub ring_bytes: u32,
}

impl Kernel {
    /// Loads and attaches everything; from here on events gather in the ring.
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
        let sets = Sets::prepare(&mut object.ebpf, &options.selection)?;
        // All are loaded before the first is attached: the verifier takes its time.
        let ways: Vec<Ways> = hooks.iter().map(|hook| Ways::of(*hook, options)).collect();
        let iterate = options.iterate.unwrap_or(options.selection != Selection::Only);
        object.load_ahead(ways.iter().flat_map(Ways::first).chain(iterate.then_some(&RUNNING)));
        let mut load = |ways: Ways| ways.load(&mut object, &mut fallbacks).map(|loaded| (ways, loaded));
        let loaded: Vec<_> = hooks.iter().zip(ways).map(|(hook, ways)| (hook, load(ways))).collect();
        let mut attached = Vec::new();
        for (hook, loaded) in loaded {
            // A process whose fork is reported has this on until tracing ends as well.
            if options.exec_failed && *hook == FORK {
                attached.extend(exec_failed::attach(&mut object, options.exec_failed_by_function, &mut fallbacks)?);
            }
            match loaded.and_then(|(ways, loaded)| ways.attach(&loaded, &mut object, &mut fallbacks)) {
                Ok(way) => attached.extend(way),
                Err(error) if hook.needed => return Err(error),
                Err(error) => fallbacks.push(Fallback::Without(*hook, error)),
            }
        }
        let mut iterates = iterate;
        if iterate && let Err(error) = object.load(&RUNNING) {
            iterates = false;
            fallbacks.push(Fallback::NoIterator(error));
        }
        let mut misses = Misses::default();
        for hook in &attached {
            misses.watch(hook, object.descriptor(hook)?);
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
        let kernel =
            Self { ebpf, stats, sets, misses, log, iterates, hooks: attached, fallbacks, hierarchy, ring_bytes };
        let (names, hierarchy) = (kernel.hook_names().join(", "), kernel.hierarchy.name());
        tracing::info!("hooks: {names}; cgroups by {hierarchy}");
        Ok((kernel, ring))
    }

    /// Adds a process to those of whom something is reported (where there is a [`Selection`]).
    pub fn track(&mut self, pid: u32, what: Tracked) -> Result<(), LoadError> {
        self.sets.track(pid, what)
    }

    /// Takes a process out again that has ended.
    pub fn untrack(&mut self, pid: u32) -> Result<(), LoadError> {
        self.sets.untrack(pid)
    }

    /// The processes of whom something is reported (where there is a [`Selection`]) and that have not ended.
    pub fn tracked(&self) -> Vec<u32> {
        self.sets.tracked()
    }

    /// Adds a cgroup to those whose processes are reported (with [`Selection::Cgroups`]).
    pub fn admit_cgroup(&mut self, id: u64) -> Result<(), LoadError> {
        self.sets.admit_cgroup(id)
    }

    /// Takes it away again. A new cgroup is among them until this is called.
    pub fn leave_out_cgroup(&mut self, id: u64) -> Result<(), LoadError> {
        self.sets.leave_out_cgroup(id)
    }

    /// Adds a mount or pid namespace to those whose processes are reported (with [`Selection::Containers`]).
    pub fn admit_namespace(&mut self, number: u32) -> Result<(), LoadError> {
        self.sets.admit_namespace(number)
    }

    /// Takes it away again.
    pub fn leave_out_namespace(&mut self, number: u32) -> Result<(), LoadError> {
        self.sets.leave_out_namespace(number)
    }

    /// True if all control groups are known, those that are made as well as those that are there.
    pub fn tells_cgroups(&self) -> bool {
        let attached = |hook: &Hook| self.hooks.contains(hook);
        attached(&CGROUP_MKDIR) && attached(&CGROUP_ATTACH) && self.hierarchy.mount.is_some()
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
                self.fallbacks.push(Fallback::NoIterator(error));
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

    /// For tests: true if the programs of this build can report their faults: their second object was there when it was made.
    #[cfg(feature = "internals")]
    pub fn has_log() -> bool {
        has_log()
    }

    /// Shows what the programs have reported of their own faults (`KernelOptions::log`).
    pub fn show_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// The counters of every CPU.
    pub fn stats(&self) -> Vec<CpuStats> {
        self.stats.read()
    }
}

/// What this kernel lacks, by its types.
fn fallbacks(btf: &Btf, hooks: &[Hook]) -> Vec<Fallback> {
    let group_dead = hooks.contains(&EXIT_BY_LIVE).then_some(Fallback::NoGroupDead);
    group_dead.into_iter().chain(btf.absent().map(Fallback::NoMember)).collect()
}

/// Parsing all of the kernel's types took some 20 MB for a moment; the allocator would keep them for ever.
fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time (malloc_trim(3)).
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
