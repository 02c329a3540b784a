//! The processes that run: from the kernel's iterator where it has one, else from `/proc`.

use std::io;

use tracer_common::record as raw;

use crate::event::id::{ProcessId, TICK_NS};
use crate::event::time::Timestamp;
use crate::event::{Process, Provenance};
use crate::kernel::load::Kernel;
use crate::proc::{self, KTHREADD, Seed};
use crate::record::running::Running;
use crate::record::text::Text;
use crate::sys::tty;

/// All processes that run. Fails only if there is no iterator and `/proc` cannot be listed.
pub(super) fn snapshot(kernel: &mut Kernel, utc_minus_boot_ns: i64) -> io::Result<Vec<Seed>> {
    let Some(running) = kernel.running() else {
        return proc::snapshot(utc_minus_boot_ns, &kernel.hierarchy);
    };
    let mut seeds: Vec<Seed> = running.into_iter().map(|running| seed(running, utc_minus_boot_ns)).collect();
    if kernel.hierarchy.mount.is_none() {
        // The ids of control groups mean nothing then; `/proc` shows their paths.
        for seed in &mut seeds {
            seed.process.cgroup = proc::cgroup(seed.process.pid, &kernel.hierarchy);
        }
    }
    proc::complete(&mut seeds, utc_minus_boot_ns, &kernel.hierarchy);
    Ok(seeds)
}

/// A process as the iterator found it. Its arguments are not known yet.
fn seed(running: Running, utc_minus_boot_ns: i64) -> Seed {
    let ns_pids = running.ns_pids().map(Into::into);
    let Running { raw, exe, cwd } = running;
    let raw::Running { header, until_ns, task, parent, ids, comm, flags, .. } = raw;
    let is = |flag: u32| flags & flag != 0;
    let known = |id: u32| (id != raw::ID_UNSET).then_some(id);
    let mut process = Process::new(ProcessId::from_ns(task.start_ns, task.tgid), Provenance::Procfs);
    process.kthread = is(raw::RUNNING_KTHREAD);
    (process.uid, process.gid) = (Some(ids.uid), Some(ids.gid));
    process.euid = Some(ids.euid).filter(|&euid| euid != ids.uid);
    process.egid = Some(ids.egid).filter(|&egid| egid != ids.gid);
    process.loginuid = known(ids.loginuid);
    (process.sid, process.pgid) = (Some(ids.sid), Some(ids.pgid));
    process.tty = tty::name(ids.tty).map(Into::into);
    process.ns_pids = ns_pids;
    process.ppid = Some(parent.tgid);
    process.zombie = is(raw::RUNNING_ZOMBIE);
    process.start_time = Some(Timestamp(utc_minus_boot_ns.saturating_add_unsigned(task.start_ns)));
    let image = process.image_mut();
    image.set_comm(Text::from_padded(&comm));
    if !is(raw::RUNNING_KTHREAD) {
        if let Some(exe) = exe {
            image.set_exe(exe);
            image.exe_deleted = is(raw::RUNNING_EXE_DELETED);
        }
        if let Some(cwd) = cwd {
            image.set_cwd(cwd);
            image.cwd_deleted = is(raw::RUNNING_CWD_DELETED);
        }
    }
    // A kernel thread is in the namespaces of the machine, of which one is enough to know them.
    let mnt_ns = if process.kthread && task.tgid != KTHREADD { 0 } else { ids.mnt_ns };
    Seed {
        process,
        ppid: parent.tgid,
        start_ticks: task.start_ns / TICK_NS,
        start_ns: task.start_ns,
        tty: ids.tty,
        cgroup_id: ids.cgroup,
        mnt_ns,
        pid_ns: ids.pid_ns,
        exiting: is(raw::RUNNING_ENDED),
        gone: is(raw::RUNNING_GONE),
        read_from_ns: header.boot_ns,
        read_until_ns: until_ns,
        image_until_ns: until_ns,
    }
}
