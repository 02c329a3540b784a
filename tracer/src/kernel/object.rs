//! The BPF object: opened with constants that fit a kernel. Its programs are loaded, attached and unloaded one by one.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use aya::maps::Map;
use aya::programs::{BtfTracePoint, FExit, Iter, Program, ProgramError, ProgramFd, TracePoint};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use rustc_hash::FxHashMap;
use tracer_common::config::Config;
use tracer_common::limits::{ARGV_MAX_BYTES, MAX_PREPARED};
use tracer_common::offsets::Offsets;

use super::btf::Btf;
use super::error::{LoadError, classify, refused};
use super::hierarchy::Hierarchy;
use super::hook::{AttachType, Hook};
use super::options::KernelOptions;
use super::syscall::SYSCALL_ARGS;
use super::tracefs::with_tracefs;

/// The kernel side, built by `cargo xtask build`.
static OBJECT: &[u8] = include_bytes_aligned!(env!("TRACER_BPF_OBJECT"));

/// The same with `aya-log`, if it existed when this was built.
#[cfg(kernel_log)]
static OBJECT_WITH_LOG: Option<&[u8]> = Some(include_bytes_aligned!(env!("TRACER_BPF_LOG_OBJECT")));
#[cfg(not(kernel_log))]
static OBJECT_WITH_LOG: Option<&[u8]> = None;

/// Returns true if this build has the object with a log.
pub(super) fn has_log() -> bool {
    OBJECT_WITH_LOG.is_some()
}

/// Passes a structure of the ABI to aya as plain data.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// SAFETY: these are `repr(C)` structures of integers without padding (asserted in tracer-common), valid for any bytes.
unsafe impl aya::Pod for Plain<Offsets> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Config> {}

/// The opened object with its maps.
pub(crate) struct Object {
    pub(crate) ebpf: Ebpf,
    pub(crate) types: aya::Btf,
    /// The results for the programs that [`Object::load_ahead`] loaded.
    ahead: FxHashMap<&'static str, Result<(), LoadError>>,
}

/// aya's loader, created in a separate thread.
///
/// It parses all of the kernel's BTF, which is not needed. That takes as long as everything else that tracer does to start.
pub(crate) struct Loader(Option<thread::JoinHandle<EbpfLoader<'static>>>);

impl Loader {
    /// Starts the thread.
    pub(crate) fn begin() -> Self {
        Self(thread::Builder::new().name("bpf-loader".into()).spawn(Self::make).ok())
    }

    fn make() -> EbpfLoader<'static> {
        let mut loader = EbpfLoader::new();
        // Offsets come as constants: no relocation against the kernel's BTF is needed.
        loader.btf(None);
        loader
    }

    fn ready(self) -> EbpfLoader<'static> {
        self.0.and_then(|thread| thread.join().ok()).unwrap_or_else(Self::make)
    }
}

impl Object {
    /// Opens the object for a kernel.
    pub(crate) fn open(
        loader: Loader,
        btf: &Btf,
        hierarchy: &Hierarchy,
        options: &KernelOptions,
    ) -> Result<Self, LoadError> {
        let offsets = btf.offsets(&options.without)?;
        let types = aya::Btf::parse(&btf.attach_points(), aya::Endianness::default());
        let types = types.map_err(|error| refused("its own BTF", error))?;
        Ok(Self { ebpf: open(loader, &offsets, hierarchy, options)?, types, ahead: FxHashMap::default() })
    }

    /// Loads the programs of these hooks in one thread per CPU.
    ///
    /// The verifier takes most of the time until tracing starts. [`Object::load`] then returns the result of each.
    pub(crate) fn load_ahead<'a>(&mut self, hooks: impl Iterator<Item = &'a Hook>) {
        let Self { ebpf, types, ahead } = self;
        let hooks: FxHashMap<&str, &Hook> = hooks.map(|hook| (hook.program, hook)).collect();
        let programs = ebpf.programs_mut().filter_map(|(name, program)| Some((*hooks.get(name)?, program)));
        let mut programs: Vec<(&Hook, &mut Program)> = programs.collect();
        // Needed programs come first: the slowest are among them.
        programs.sort_by_key(|(hook, _)| !hook.needed);
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(programs.len());
        let (left, ahead, types) = (Mutex::new(programs.into_iter()), Mutex::new(ahead), &*types);
        let work = || {
            loop {
                let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((hook, program)) = next else { return };
                let loaded = load(program, hook, types);
                ahead.lock().unwrap_or_else(PoisonError::into_inner).insert(hook.program, loaded);
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // If no thread can be started, this one does all the work.
                let _ = thread::Builder::new().name("bpf-loader".into()).spawn_scoped(scope, work);
            }
            work();
        });
    }

    /// Loads the program of one hook: the kernel verifies it.
    pub(crate) fn load(&mut self, hook: &Hook) -> Result<(), LoadError> {
        if let Some(loaded) = self.ahead.remove(hook.program) {
            return loaded;
        }
        load(any_program(&mut self.ebpf, hook)?, hook, &self.types)
    }

    /// Attaches a loaded program.
    pub(crate) fn attach(&mut self, hook: &Hook) -> Result<(), LoadError> {
        let ebpf = &mut self.ebpf;
        let classified = |error: ProgramError| classify(&format!("hook {}", hook.name()), error);
        match hook.attach_type {
            AttachType::Btf => program::<BtfTracePoint>(ebpf, hook)?.attach().map(drop).map_err(classified),
            AttachType::Fexit => program::<FExit>(ebpf, hook)?.attach().map(drop).map_err(classified),
            // Each read attaches it again.
            AttachType::Iterator => Ok(()),
            AttachType::Event(group) => {
                let program = program::<TracePoint>(ebpf, hook)?;
                with_tracefs(|| program.attach(group, hook.tracepoint).map(drop).map_err(classified))
            }
        }
    }

    /// Detaches and unloads a program. Does nothing if it is not loaded.
    pub(crate) fn unload(&mut self, hook: &Hook) {
        let _ = unload(&mut self.ebpf, hook);
    }

    /// Returns another descriptor of a loaded program.
    pub(crate) fn descriptor(&self, hook: &Hook) -> Result<ProgramFd, LoadError> {
        let program = self.ebpf.program(hook.program);
        let program = program.ok_or_else(|| refused(hook.program, "the program is missing from the object"))?;
        let own = program.fd().map_err(|error| refused(hook.program, error))?;
        own.try_clone().map_err(|error| refused(hook.program, error))
    }
}

/// What only `tracer doctor` needs.
#[cfg(feature = "cli")]
impl Object {
    /// Opens the object again with other constants.
    pub(crate) fn reopen(
        &mut self,
        btf: &Btf,
        hierarchy: &Hierarchy,
        options: &KernelOptions,
    ) -> Result<(), LoadError> {
        self.ebpf = open(Loader::begin(), &btf.offsets(&options.without)?, hierarchy, options)?;
        self.ahead.clear();
        Ok(())
    }

    /// Returns how many instructions the verifier processed for a loaded program (reported since 5.16).
    pub(crate) fn verified(&self, hook: &Hook) -> Option<u32> {
        self.ebpf.program(hook.program)?.info().ok()?.verified_instruction_count()
    }
}

/// Loads a program for its hook.
fn load(program: &mut Program, hook: &Hook, types: &aya::Btf) -> Result<(), LoadError> {
    let loaded = match hook.attach_type {
        AttachType::Btf => typed::<BtfTracePoint>(program, hook)?.load(hook.tracepoint, types),
        AttachType::Fexit => typed::<FExit>(program, hook)?.load(hook.tracepoint, types),
        AttachType::Iterator => typed::<Iter>(program, hook)?.load(hook.tracepoint, types),
        AttachType::Event(_) => typed::<TracePoint>(program, hook)?.load(),
    };
    loaded.map_err(|error| classify(&format!("program {}", hook.program), error))
}

/// Opens the object with these constants and creates its maps.
fn open(loader: Loader, offsets: &Offsets, hierarchy: &Hierarchy, options: &KernelOptions) -> Result<Ebpf, LoadError> {
    let config = Config {
        argv_max: options.argv_max.min(ARGV_MAX_BYTES),
        threads: options.threads.into(),
        filter: options.selection.number(),
        reap: options.reap.into(),
        syscall_args: SYSCALL_ARGS,
        cgroup_subsys: hierarchy.subsys,
        cgroup_hierarchy: hierarchy.number,
        ring_eighth: options.ring_bytes / 8,
        relatives: options.selection.needs_relatives().into(),
        reserved: 0,
    };
    // Before Linux 5.11 the full capacity of a map counts as locked memory.
    let prepared = if options.unpreempted() { MAX_PREPARED } else { 1 };
    let (offsets, config) = (Plain(*offsets), Plain(config));
    let mut loader: EbpfLoader<'_> = loader.ready();
    for (name, capacity) in options.selection.capacities(options.max_tracked, options.reap) {
        loader.map_max_entries(name, capacity);
    }
    loader
        .override_global("OFFSETS", &offsets, true)
        .override_global("CONFIG", &config, true)
        .map_max_entries("EVENTS", options.ring_bytes)
        .map_max_entries("PREPARED", prepared)
        .map_max_entries("STATS", cpus()?)
        .load(if options.log() { OBJECT_WITH_LOG.unwrap_or(OBJECT) } else { OBJECT })
        .map_err(|error| classify("the maps", error))
}

/// Returns the highest possible CPU number plus one.
pub(crate) fn cpus() -> Result<u32, LoadError> {
    const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
    let text = std::fs::read_to_string(POSSIBLE).map_err(|error| refused(POSSIBLE, error))?;
    // "0-63", or "0,2-3", in ascending order.
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u32>().ok());
    last.map(|last| last + 1).ok_or_else(|| refused(POSSIBLE, "it names no CPU"))
}

/// Returns the program of a hook as type `P`.
fn program<'a, P>(ebpf: &'a mut Ebpf, hook: &Hook) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    typed(any_program(ebpf, hook)?, hook)
}

/// Returns the program of a hook.
fn any_program<'a>(ebpf: &'a mut Ebpf, hook: &Hook) -> Result<&'a mut Program, LoadError> {
    ebpf.program_mut(hook.program).ok_or_else(|| refused(hook.program, "the program is missing from the object"))
}

/// Converts a program to its type.
fn typed<'a, P>(program: &'a mut Program, hook: &Hook) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    program.try_into().map_err(|error: ProgramError| refused(hook.program, error))
}

pub(crate) fn unload(ebpf: &mut Ebpf, hook: &Hook) -> Result<(), LoadError> {
    let unloaded = match hook.attach_type {
        AttachType::Btf => program::<BtfTracePoint>(ebpf, hook)?.unload(),
        AttachType::Fexit => program::<FExit>(ebpf, hook)?.unload(),
        AttachType::Iterator => program::<Iter>(ebpf, hook)?.unload(),
        AttachType::Event(_) => program::<TracePoint>(ebpf, hook)?.unload(),
    };
    unloaded.map_err(|error| refused(hook.program, error))
}

pub(crate) fn take<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &str) -> Result<T, LoadError>
where
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let map = ebpf.take_map(name).ok_or_else(|| refused(name, "the map is missing from the object"))?;
    T::try_from(map).map_err(|error| refused(name, error))
}
