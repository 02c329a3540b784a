//! How the table handles each kind of record.

use tracer_common::record as raw;

use super::entry::{End, Entry, Heir, Parent};
use super::images::ImageId;
use super::reparent::Inherits;
use super::store::Slot;
use super::{Moment, Table};
use crate::event::{self, ArgvInfo, Capture, Detail, Event, Provenance};
use crate::record::{Exec, Fork};
use crate::sys::signals;
use crate::table::usage::{Used, used};

impl Table {
    pub(super) fn fork(&mut self, fork: Fork, out: &mut Vec<Event>) {
        let Fork { raw, ns_pids } = fork;
        let at = Moment::of(&raw.header);
        if raw.flags & raw::FORK_THREAD != 0 {
            if let Some(slot) = self.resolve(raw.creator, at, out) {
                self.copy_from_child(slot, &raw);
                set_tid(self.report(Detail::ThreadStart, slot, at, out), raw.child.tid);
            }
            return;
        }
        let creator = self.resolve(raw.creator, at, out);
        let creator_id = creator.map(|creator| self.store[creator].id());
        if let Some(known) = self.store.find(raw.child) {
            // Already found in /proc when its record left the ring.
            self.stats.merged += 1;
            self.store[known].creator = creator_id;
            self.correct_parent(known, raw.parent, at, out);
            return;
        }
        let same = raw.parent.tgid == raw.creator.tgid && raw.parent.start_ns == raw.creator.start_ns;
        let parent = if same { creator } else { self.common_parent(creator, raw.parent, at, out) };
        if !self.free_pid(raw.child, at, out) {
            return;
        }
        if let Some(creator) = creator {
            self.copy_from_child(creator, &raw);
        }
        let mut entry =
            Entry::new(raw.child.tgid, raw.child.start_ns, self.options.utc_minus_boot_ns, Provenance::Kernel);
        let image = creator.map_or(ImageId::NONE, |creator| self.store[creator].image);
        entry.image = self.store.images.named(image, &raw.comm);
        entry.by_root = creator.is_some_and(|creator| self.store[creator].by_root);
        entry.kthread = raw.flags & raw::FORK_KTHREAD != 0;
        entry.creator = creator_id;
        entry.ns_pids = ns_pids;
        if raw.parent.tgid == 0 {
            entry.parent = Parent::None;
        }
        let child = self.store.insert(entry);
        self.set_ids(child, &raw.ids);
        if let Some(creator) = creator.filter(|_| self.store[child].ns_pids.is_some()) {
            self.forked_into_container(child, creator);
        }
        self.find_by_namespaces(child);
        self.container_changed(child, None, creator);

        if let Some(parent) = parent {
            self.store.link(child, parent);
        }
        self.report(Detail::Fork, child, at, out);
        let Some(parent) = parent.filter(|&parent| !self.store[parent].is_living()) else { return };
        // The parent of a CLONE_PARENT child has already exited: the kernel is about to reparent the child.
        let from = self.store[parent].id();
        match self.heir_of(parent, at, out) {
            Some(heir) if heir.slot != parent => self.reparent(child, from, heir, at, out),
            Some(_) => {}
            None => self.store.unlink(child),
        }
    }

    /// Copies the name and ids that a child inherited to its creator, if the leader forked. The leader may have changed
    /// them since its last record.
    fn copy_from_child(&mut self, creator: Slot, fork: &raw::Fork) {
        if fork.creator.tid != fork.creator.tgid {
            return;
        }
        let entry = &mut self.store[creator];
        let raw::Ids { cgroup, mnt_ns, pid_ns, .. } = entry.ids;
        entry.ids = raw::Ids { cgroup, mnt_ns, pid_ns, ..fork.ids };
        self.name_tty(fork.ids.tty);
        self.store.set_comm(creator, &fork.comm);
    }

    /// Returns the parent of a CLONE_PARENT child: the parent of its creator. If the named parent is not in the table,
    /// it has exited. Then both children have the same new parent.
    fn common_parent(
        &mut self,
        creator: Option<Slot>,
        named: raw::TaskRef,
        at: Moment,
        out: &mut Vec<Event>,
    ) -> Option<Slot> {
        let known = if named.tgid == 0 { None } else { self.store.find(named) };
        known
            .or_else(|| self.store[creator?].parent_slot().filter(|_| named.tgid != 0))
            .or_else(|| self.resolve(named, at, out))
    }

    pub(super) fn exec(&mut self, exec: Box<Exec>, out: &mut Vec<Event>) {
        let Exec { raw, image, filename, interpreter, exe_capture, cwd_capture, argv_capture } = *exec;
        let at = Moment::of(&raw.header);
        let before = raw::Ids { euid: raw.old_euid, egid: raw.old_egid, ..raw.ids };
        let Some(slot) = self.resolve_with(raw.task, raw.parent, &before, None, at, out) else { return };
        if !self.store[slot].is_living() {
            // A process can only come back if its exit was not reported and no other process has its pid.
            let ended = self.store[slot].end.is_some_and(|end| end.reported);
            if ended || self.store.newest(raw.task.tgid) != Some(slot) {
                self.stats.merged += 1;
                return;
            }
            self.store[slot].zombie = false;
            self.stop_awaiting_reap(slot);
            self.store.revive(slot);
            if let Some(parent) = self.parent_of(slot).filter(|&parent| self.store[parent].is_living()) {
                self.store.link(slot, parent);
            }
        }
        self.correct_parent(slot, raw.parent, at, out);
        let before = self.container_of(slot);
        self.set_ids(slot, &raw.ids);
        self.recheck_container(slot, before.as_deref());

        let internal = raw.flags & raw::EXEC_INTERNAL_MOUNT != 0;
        let memfd = internal && image.exe.as_ref().is_some_and(|exe| exe.starts_with("/memfd:"));
        let raised = raw.old_euid != raw.ids.euid || raw.old_egid != raw.ids.egid;
        let (filename, filename_b64) = filename.map_or((None, None), |text| (Some(text.lossy), text.b64));
        let argv_info = Some(argv_info(&raw, argv_capture));

        let entry = &mut self.store[slot];
        (entry.kthread, entry.bare) = (false, false);
        // A setuid program keeps the command line that its user chose, whatever ids it takes later.
        entry.by_root = raw.old_euid == 0 && raw.ids.uid == 0 && raw.ids.euid == 0;
        entry.execs += 1;
        entry.exec_ns = at.boot_ns;
        let previous_exe = self.store.image(slot).exe.clone();
        let image = self.store.images.share(image);
        self.store.set_image(slot, image);

        let exec = Box::new(event::Exec {
            argv_info,
            filename,
            filename_b64,
            interpreter: interpreter.map(|text| text.lossy),
            memfd,
            deleted: raw.flags & raw::EXEC_DELETED != 0,
            setid: raised,
            previous_euid: (raw.old_euid != raw.ids.euid).then_some(raw.old_euid),
            previous_egid: (raw.old_egid != raw.ids.egid).then_some(raw.old_egid),
            caps_gained: raw.flags & raw::EXEC_CAPS_GAINED != 0,
            previous_exe,
            from_tid: (raw.task.tid != raw.task.tgid).then_some(raw.task.tid),
            exe_capture,
            cwd_capture,
        });
        self.report(Detail::Exec(Some(exec)), slot, at, out);
        self.container_execed(slot, at, out);
        self.runtime_execed(slot);
    }

    pub(super) fn exit(&mut self, exit: &raw::Exit, out: &mut Vec<Event>) {
        let at = Moment::of(&exit.header);
        let Some(slot) = self.resolve_with(exit.task, exit.parent, &exit.ids, Some(exit), at, out) else { return };
        if exit.flags & raw::EXIT_GROUP == 0 {
            let ended = Detail::ThreadExit(Box::new(status(exit.status)));
            set_tid(self.report(ended, slot, at, out), exit.task.tid);
            return;
        }
        if self.store[slot].end.is_some_and(|end| end.reported) {
            self.stats.merged += 1;
            return;
        }
        self.correct_parent(slot, exit.parent, at, out);
        let before = self.container_of(slot);
        self.set_ids(slot, &exit.ids);
        self.recheck_container(slot, before.as_deref());
        let entry = &mut self.store[slot];
        entry.zombie = false;
        entry.kthread = exit.flags & raw::EXIT_KTHREAD != 0;
        let start_ns = entry.start_ns;
        self.store.set_comm(slot, &exit.comm);

        let signal = Some(exit.status & 0x7f).filter(|&signal| signal != 0);
        let cause = self.causes.take(slot, signal, exit.flags);
        let Used { both, own } = used(&exit.usage, self.clock.remaining(exit), self.options.page_size);
        let spent = own.clone().unwrap_or_else(|| both.clone());
        let ended = Box::new(event::Exit {
            duration_ns: (start_ns != 0).then(|| at.boot_ns.saturating_sub(start_ns)),
            cause,
            usage: Some(both),
            own_usage: own,
            usage_partial: exit.flags & raw::EXIT_USAGE_PARTIAL != 0,
            ..status(exit.status)
        });
        self.report(Detail::Exit(ended), slot, at, out);

        let heir = match exit.reaper {
            // A process is its own reaper only as the init of its namespace, whatever the flag says.
            reaper if exit.flags & raw::EXIT_NS_INIT != 0 || reaper.tgid == exit.task.tgid => Heir::Nobody,
            raw::TaskRef { tgid: 0, .. } if exit.flags & raw::EXIT_REAPER_DEEP != 0 => Heir::Later,
            raw::TaskRef { tgid: 0, .. } => Heir::Unknown,
            reaper => Heir::Process(reaper, exit.flags & raw::EXIT_REAPER_SUBREAPER != 0),
        };
        self.await_reap(slot, at.boot_ns);
        self.end(slot, End { boot_ns: at.boot_ns, status: Some(exit.status), reported: true, heir }, at, out);
        self.container_exited(slot, Some(exit.status), &spent, at, out);
    }

    pub(super) fn signal(&mut self, signal: &raw::Signal) {
        // An unknown target does not create an entry: it may have exited long ago.
        let known = self.store.find(signal.target);
        if let Some(target) = known.or_else(|| self.late_match_signalled(signal.target))
            && self.store[target].is_living()
        {
            self.causes.note(target, signal);
        }
    }

    /// Marks a process as exited and gives its children to its heir.
    pub(super) fn end(&mut self, slot: Slot, end: End, at: Moment, out: &mut Vec<Event>) {
        self.has_unsettled |= end.heir == Heir::Later && self.store[slot].first_child.is_some();
        self.store.mark_exited(slot, end);
        self.reparent_children(slot, at, out);
    }

    /// Returns the process that a record names, and adds it if it is unknown. Returns None if there is no such process,
    /// or if it exited too long ago to be remembered.
    pub(super) fn resolve(&mut self, task: raw::TaskRef, at: Moment, out: &mut Vec<Event>) -> Option<Slot> {
        if task.tgid == 0 {
            return None;
        }
        if let Some(slot) = self.store.find(task) {
            return Some(slot);
        }
        self.free_pid(task, at, out).then(|| {
            let slot = self.infer(task);
            self.report_inferred(slot, at, out);
            slot
        })
    }

    /// Like [`Self::resolve`], for the process that a record is about: such a record also has its ids and parent.
    pub(super) fn resolve_with(
        &mut self,
        task: raw::TaskRef,
        parent: raw::TaskRef,
        ids: &raw::Ids,
        exit: Option<&raw::Exit>,
        at: Moment,
        out: &mut Vec<Event>,
    ) -> Option<Slot> {
        if task.tgid == 0 {
            return None;
        }
        if let Some(slot) = self.store.find(task) {
            return Some(slot);
        }
        let parent_slot = self.resolve(parent, at, out);
        // Resolved before the process is added: this may add other processes.
        let parent_slot = parent_slot.and_then(|parent| self.heir_or_self(parent, at, out));
        if !self.free_pid(task, at, out) {
            return None;
        }
        let slot = self.infer(task);
        self.set_ids(slot, ids);
        if let Some(exit) = exit {
            self.store.set_comm(slot, &exit.comm);
            self.store[slot].kthread = exit.flags & raw::EXIT_KTHREAD != 0;
        }
        match parent_slot {
            None if parent.tgid == 0 => self.store[slot].parent = Parent::None,
            None => {}
            Some(Inherits { slot: parent, .. }) => self.store.link(slot, parent),
        }
        self.report_inferred(slot, at, out);
        Some(slot)
    }

    pub(super) fn infer(&mut self, task: raw::TaskRef) -> Slot {
        let mut entry = Entry::new(task.tgid, task.start_ns, self.options.utc_minus_boot_ns, Provenance::Kernel);
        (entry.inferred, entry.bare) = (self.was_missed(), !self.was_missed());
        self.stats.inferred += u64::from(entry.inferred);
        self.store.insert(entry)
    }

    /// Frees the pid of a process that is about to be added: a live holder must have exited unseen. Returns false if
    /// the holder is younger. Then `task` itself exited long ago.
    pub(super) fn free_pid(&mut self, task: raw::TaskRef, at: Moment, out: &mut Vec<Event>) -> bool {
        let Some(old) = self.store.by_pid(task.tgid) else { return true };
        if self.store[old].start_ns > task.start_ns {
            return false;
        }
        self.end_unseen(old, Heir::Unknown, at, out);
        true
    }
}

/// Splits a wait status (`WIFSIGNALED` and related macros).
pub(super) fn status(status: u32) -> event::Exit {
    let mut exit = event::Exit::default();
    match status & 0x7f {
        0 => exit.code = Some((status >> 8) as u8),
        signal => {
            exit.signal = Some(signals::name(signal));
            exit.core = status & 0x80 != 0;
        }
    }
    exit
}

fn argv_info(raw: &raw::Exec, capture: Option<Capture>) -> ArgvInfo {
    let short = raw.argv_captured < raw.argv_bytes;
    let reason = capture.or_else(|| short.then_some(Capture::Cut));
    ArgvInfo { argc: raw.argc, bytes: raw.argv_bytes, captured: raw.argv_captured, truncated: reason.is_some(), reason }
}

fn set_tid(event: &mut Event, tid: u32) {
    if let Some(process) = &mut event.process {
        process.tid = Some(tid).filter(|&tid| tid != process.pid);
    }
}
