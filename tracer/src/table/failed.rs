//! Failed execs. They change only the known ids of a process.

use tracer_common::record as raw;

use super::entry::UNKNOWN_IDS;
use super::{Moment, Table};
use crate::event::{self, ArgvInfo, Detail, Event};
use crate::record::ExecFailed;
use crate::sys::errno;

impl Table {
    pub(super) fn exec_failed(&mut self, failed: ExecFailed, out: &mut Vec<Event>) {
        let ExecFailed { raw, filename, argv } = failed;
        let at = Moment::of(&raw.header);
        let ids = raw::Ids { uid: raw.uid, gid: raw.gid, euid: raw.euid, egid: raw.egid, ..UNKNOWN_IDS };
        let Some(slot) = self.resolve_with(raw.task, raw.parent, &ids, None, at, out) else { return };
        if !self.store[slot].is_living() {
            self.stats.merged += 1;
            return;
        }
        self.correct_parent(slot, raw.parent, at, out);
        // The process may have changed its ids without a record: a login does so right before its exec. Ids of a thread
        // other than the leader do not count.
        if raw.task.tid == raw.task.tgid {
            let known = self.store[slot].ids;
            self.store[slot].ids = raw::Ids { uid: raw.uid, gid: raw.gid, euid: raw.euid, egid: raw.egid, ..known };
        }

        let (filename, filename_capture) = (filename.value, filename.capture);
        let argv_info = ArgvInfo {
            argc: raw.argc,
            bytes: raw.argv_captured,
            captured: raw.argv_captured,
            truncated: argv.capture.is_some(),
            reason: argv.capture,
        };
        let failed = Box::new(event::ExecFailed {
            argv_info: Some(argv_info),
            errno: errno::name(raw.errno as i32),
            code: raw.errno as i32,
            filename_b64: filename.as_ref().and_then(|text| text.b64.clone()),
            filename: filename.map(|text| text.lossy),
            filename_capture,
            argv_b64: argv.value.as_ref().and_then(|argv| argv.b64.clone()),
            argv: argv.value.map(|argv| argv.lossy),
            dirfd: (raw.dirfd != raw::DIRFD_CWD).then_some(raw.dirfd),
            from_tid: (raw.task.tid != raw.task.tgid).then_some(raw.task.tid),
            attempts: None,
            paths: None,
        });
        self.report(Detail::ExecFailed(failed), slot, at, out);
    }
}
