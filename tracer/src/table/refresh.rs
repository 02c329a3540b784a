//! Changes of a running process that no record reports.

use std::sync::Arc;

use tracer_common::limits::ARGV_DEFAULT_BYTES;
use tracer_common::record as raw;

use super::{Moment, Table, seeding};
use crate::event::{Detail, Event, Image};
use crate::proc::Seed;
use crate::record::text::Arguments;

impl Table {
    /// Takes in the name, arguments and ids that `/proc` now shows for a process. If they changed, the process is
    /// reported again. Records from before the read must have been applied.
    pub fn refresh(&mut self, seed: Seed, out: &mut Vec<Event>) {
        let at = Moment { boot_ns: seed.read_until_ns, cpu: None };
        let Some(slot) = self.store.by_id(seed.process.id).filter(|&slot| self.store[slot].is_living()) else { return };
        // An exiting process has no memory left, and its exit record reports the rest.
        if seed.exiting || self.store[slot].exec_ns >= seed.read_from_ns {
            return;
        }
        self.name_tty(seed.tty);
        let (found, shown) = seeding::entry(seed, self.options.utc_minus_boot_ns);
        let entry = &mut self.store[slot];
        let raw::Ids { cgroup, mnt_ns, pid_ns, .. } = entry.ids;
        let ids = raw::Ids { cgroup, mnt_ns, pid_ns, ..found.ids };
        let mut changed = ids != entry.ids;
        entry.ids = ids;

        let known = self.store.image(slot);
        let mut image = Image::clone(known);
        if shown.comm.is_some() {
            (image.comm, image.comm_b64) = (shown.comm.clone(), shown.comm_b64.clone());
        }
        if is_other(known.argv.as_ref(), shown.argv.as_ref()) {
            (image.argv, image.argv_b64) = (shown.argv.clone(), shown.argv_b64.clone());
        }
        if image != **known {
            let image = self.store.images.add(Arc::new(image));
            self.store.set_image(slot, image);
            changed = true;
        }
        if changed {
            self.report(Detail::Process, slot, at, out);
        }
    }
}

/// Returns true if the arguments in `/proc` differ from the known ones. An exec captures them only up to a limit.
/// `/proc` does not show how many empty ones there are at the end.
fn is_other(known: Option<&Arguments>, shown: Option<&Arguments>) -> bool {
    let Some(shown) = shown.filter(|shown| shown.as_bytes().len() <= ARGV_DEFAULT_BYTES as usize) else { return false };
    known.is_none_or(|known| without_end(known) != without_end(shown))
}

/// Returns everything up to the last byte that is not a NUL.
fn without_end(arguments: &Arguments) -> &[u8] {
    let bytes = arguments.as_bytes();
    &bytes[..bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)]
}
