//! Keeps the sets of the kernel's filter up to date.
//!
//! At first the kernel side reports everything, so running processes and new events are joined as without a filter. Then the
//! matching processes are put into its sets, and from that moment on it filters; the table forgets the others. A control group
//! that is made later is decided on when it appears. Until then the kernel side reports the processes in it.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Live;
use crate::enrich::{Cgroup, Container, oci};
use crate::event::id::ProcessId;
use crate::event::{Filtering, Provenance};
use crate::filter::Matcher;
use crate::filter::pushdown::{CgroupFilter, Name, Pushdown, Verdict};
use crate::kernel::error::LoadError;
use crate::kernel::filter_maps::is_helper;
use crate::kernel::hierarchy::Hierarchy;
use crate::kernel::load::Tracked;
use crate::kernel::options::Selection;
use crate::proc::{self, PPID_UNKNOWN, Seed};
use crate::record::Record;
use crate::record::text::Text;
use crate::table::{KTHREADD, LateMatch, ProcessRef, Table};

/// Before the filter is closed, processes that are new are looked for this many times.
const ROUNDS: u32 = 10;

/// Time in which a runtime may say that a new control group is that of a container, in nanoseconds.
const NAMING_NS: u64 = 10_000_000_000;

/// Late matches that are looked up in `/proc` in one second. Of further ones, only what their records say is known.
const LOOKS: u32 = 1000;
const SECOND_NS: u64 = 1_000_000_000;

/// What is needed while the kernel side filters.
pub(super) struct Narrow {
    pushdown: Pushdown,
    /// Control groups that may still turn out to match, and until when those wait that belong to no container.
    open: FxHashMap<u64, u64>,
    looked_at_open_ns: u64,
    /// Namespaces of containers of which that is not certain.
    open_namespaces: FxHashSet<u32>,
    hierarchy: Hierarchy,
    /// How many strangers were looked at in the second that began then.
    looks: (u32, u64),
}

impl Narrow {
    pub(super) fn new(pushdown: Pushdown, hierarchy: Hierarchy) -> Self {
        let (open, open_namespaces) = (FxHashMap::default(), FxHashSet::default());
        Self { pushdown, open, looked_at_open_ns: 0, open_namespaces, hierarchy, looks: (0, 0) }
    }

    /// Looks at a process that a record is about and that was left out until now.
    pub(super) fn meet(this: &mut Option<Box<Self>>, table: &mut Table, record: &Record) {
        let Some(narrow) = this else { return };
        let Some(late_match) = table.late_match(record) else { return };
        let now = record.header().boot_ns;
        if now.saturating_sub(narrow.looks.1) > SECOND_NS {
            narrow.looks = (0, now);
        }
        if narrow.looks.0 == LOOKS {
            return;
        }
        narrow.looks.0 += 1;
        for seed in narrow.look_at(late_match, table) {
            table.add_late_match(seed);
        }
    }

    /// The process, after its parent if the table does not know that.
    fn look_at(&self, late_match: LateMatch, table: &Table) -> Vec<Seed> {
        let offset = crate::clock::utc_minus_boot_ns();
        let Some(mut seed) = proc::read(late_match.pid, offset, &self.hierarchy) else { return Vec::new() };
        let Some(comm) = late_match.comm else {
            // Its record has everything else, as of then.
            seed.forget_image();
            (seed.process.source, seed.ppid) = (Provenance::Kernel, PPID_UNKNOWN);
            return vec![seed];
        };
        // It may be another program by now, which its name would show.
        if seed.process.image.comm != Some(Text::from_padded(&comm).lossy) {
            seed.forget_image();
        }
        let parent = Some(seed.ppid).filter(|&ppid| ppid != 0 && table.by_pid(ppid).is_none());
        let parent = parent.and_then(|ppid| proc::read(ppid, offset, &self.hierarchy));
        parent.into_iter().chain([seed]).collect()
    }
}

impl Live {
    /// Puts the running processes that match into the kernel's sets, and begins to filter.
    pub(super) fn close_filter(&mut self) -> Result<(), LoadError> {
        let Some(narrow) = &self.narrow else { return Ok(()) };
        let pushdown = narrow.pushdown.clone();
        if pushdown.cgroups().is_some() && !self.kernel.knows_cgroups() {
            self.give_up_filter("this kernel does not report control groups");
            return Ok(());
        }
        let mut subtree =
            if let Selection::Subtree(pids) = &pushdown.selection { Matcher::of_trees(pids) } else { None };
        if let Some(subtree) = &mut subtree {
            subtree.learn(&self.snapshot);
        }
        let mut noted: FxHashMap<ProcessId, Tracked> = FxHashMap::default();
        let (mut heard, mut round) = (0, 0);
        loop {
            self.decide_cgroups(self.started_ns, true)?;
            self.take_all();
            if let Some(subtree) = &mut subtree {
                for event in &self.outbox.waiting()[heard..] {
                    // What it is shown it follows.
                    let _ = subtree.admits(event);
                }
            }
            heard = self.outbox.waiting().len();
            let wanted = wanted(&self.table, &pushdown, subtree.as_ref());
            let news: Vec<_> = wanted.into_iter().filter(|(id, what)| noted.get(id) < Some(what)).collect();
            for &(id, what) in &news {
                self.kernel.track(id.pid(), what)?;
            }
            round += 1;
            let over = news.is_empty() || round == ROUNDS;
            noted.extend(news);
            if over {
                break;
            }
        }
        self.kernel.close()?;
        // What was reported before that may still be on its way.
        self.take_all();
        // A process that ended meanwhile had been removed before it was put in.
        for id in noted.keys() {
            if self.table.by_pid(id.pid()).is_none() {
                self.kernel.untrack(id.pid())?;
            }
        }
        self.forget_others();
        tracing::info!(
            "the kernel side filters: {} of {} processes are known to it, after {} events",
            noted.len(),
            self.snapshot.len(),
            self.outbox.waiting().len()
        );
        Ok(())
    }

    /// Forgets the processes that the kernel side filters out.
    pub(super) fn forget_others(&mut self) {
        let tracked: FxHashSet<u32> = self.kernel.tracked().into_iter().collect();
        self.table.forget_unmatched(|process| tracked.contains(&process.pid()));
    }

    /// Puts the control groups that match into the kernel's sets, of those that are new or have changed. At the `start`, one that
    /// belongs to no container stays outside of containers.
    pub(super) fn decide_cgroups(&mut self, now: u64, start: bool) -> Result<(), LoadError> {
        let Self { narrow: Some(narrow), table, kernel, .. } = self else { return Ok(()) };
        let Some(cgroups) = narrow.pushdown.cgroups() else { return Ok(()) };
        let mut changed = table.take_changed_cgroups();
        let mut namespaces = table.take_changed_namespaces();
        let due = now.saturating_sub(narrow.looked_at_open_ns) > SECOND_NS;
        if changed.is_empty() && namespaces.is_empty() && !due {
            return Ok(());
        }
        narrow.looked_at_open_ns = now;
        namespaces.extend(narrow.open_namespaces.drain().map(|number| (number, table.namespace(number))));
        for (number, container) in namespaces.into_iter().filter(|_| cgroups.by_container()) {
            let verdict =
                |container: Arc<Container>| cgroups.container_verdict(&container, table.container_name(&container));
            let verdict = container.map_or(Verdict::No, verdict);
            if verdict == Verdict::Open {
                narrow.open_namespaces.insert(number);
            }
            if verdict == Verdict::No {
                kernel.leave_out_namespace(number)?;
            } else {
                kernel.admit_namespace(number)?;
            }
        }
        changed.extend(narrow.open.keys().map(|&id| (id, table.cgroup_of(id))));
        for (id, cgroup) in changed {
            let verdict = cgroup.map_or(Verdict::No, |cgroup| verdict(cgroups, table, &cgroup));
            let until = *narrow.open.entry(id).or_insert(if start { now } else { now + NAMING_NS });
            let of_container = table.cgroup_of(id).is_some_and(|cgroup| cgroup.container.is_some());
            if verdict == Verdict::Open && (of_container || until > now) {
                if start {
                    kernel.admit_cgroup(id)?;
                }
                continue;
            }
            narrow.open.remove(&id);
            if verdict == Verdict::Yes {
                kernel.admit_cgroup(id)?;
            } else {
                kernel.leave_out_cgroup(id)?;
            }
        }
        Ok(())
    }

    /// The kernel side cannot filter after all: it reports everything, and user space filters.
    fn give_up_filter(&mut self, why: &str) {
        tracing::info!("the kernel side leaves nothing out: {why}");
        (self.narrow, self.options.selection) = (None, Selection::All);
        if let Some(filtering) = &mut self.filtering {
            let options: Vec<String> = filtering.kernel.drain(..).chain(filtering.user.drain(..)).collect();
            **filtering = Filtering { kernel: Vec::new(), user: options, why: Some(why.to_owned()) };
        }
    }
}

fn verdict(cgroups: &CgroupFilter, table: &Table, cgroup: &Cgroup) -> Verdict {
    cgroups.verdict(cgroup, name_in(table, cgroup))
}

/// What the container of a control group is called.
fn name_in<'a>(table: &'a Table, cgroup: &Cgroup) -> Name<'a> {
    cgroup.container.as_ref().map_or(Name::Unknown, |container| table.container_name(container))
}

/// The processes that the kernel side has to know, and as what: those that match, helpers that may move others there, and the
/// parents of both.
fn wanted(table: &Table, pushdown: &Pushdown, subtree: Option<&Matcher>) -> Vec<(ProcessId, Tracked)> {
    let mut wanted: FxHashMap<ProcessId, Tracked> = FxHashMap::default();
    let mut parents: Vec<ProcessId> = Vec::new();
    let state = |process: ProcessRef<'_>| {
        let shown = process.process();
        let name = process.cgroup().map_or(Name::Unknown, |cgroup| name_in(table, cgroup));
        let by_descent = subtree.is_some_and(|subtree| subtree.follows(shown.id));
        if by_descent || pushdown.matches(&shown, process.cgroup(), name) {
            return Some(Tracked::Matching);
        }
        let argv = shown.image.argv.as_ref();
        let runtime = argv.is_some_and(|argv| oci::read(argv).is_some() || oci::is_init(argv));
        (runtime || shown.image.comm.as_deref().is_some_and(is_helper)).then_some(Tracked::Helper)
    };
    for process in table.living() {
        if let Some(what) = state(process) {
            wanted.insert(process.id(), what);
            parents.extend(process.parent_id());
        }
    }
    // Their namespaces are those of the host: others are those of containers.
    parents.extend([1, KTHREADD].into_iter().filter_map(|pid| Some(table.by_pid(pid)?.id())));
    for parent in parents {
        wanted.entry(parent).or_insert(Tracked::Relative);
    }
    wanted.into_iter().collect()
}
