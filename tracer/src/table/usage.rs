//! Resource usage of a process, as `wait4()` returns it, computed from the kernel's raw counters.

use tracer_common::record as raw;

use crate::event::Usage;

/// How fast the two clocks may drift apart: 20 µs a second. NTP slews the boot clock, not the scheduler's.
const DRIFT_DIVISOR: u64 = 50_000;

/// A sample this far below the estimate is no stale run-queue clock but a suspend. The boot clock counts suspended time
/// and the scheduler's does not.
const SUSPENDED_NS: i64 = 50_000_000;

/// Estimates how far the scheduler's clock is ahead of `CLOCK_BOOTTIME`.
///
/// A record carries the exact boot time of the event, and `rq.clock`. That is the scheduler's clock at the last update
/// of the run queue, up to a tick ago. So `rq_clock - boot_ns` is at most the difference of the two clocks, and the
/// largest of many samples equals it. All CPUs share one scheduler clock wherever that is stable
/// (`sched_clock_stable()`, kernel/sched/clock.c).
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedClock {
    /// Scheduler clock minus boot clock, and the boot time of the sample that last updated it.
    estimate: Option<(i64, u64)>,
}

impl SchedClock {
    /// Takes a sample from a record of any kind.
    pub fn sample(&mut self, header: &raw::Header) {
        if header.rq_clock == 0 {
            return;
        }
        let sample = header.rq_clock.wrapping_sub(header.boot_ns) as i64;
        let estimate = match self.estimate {
            Some((estimate, at)) => {
                let elapsed = header.boot_ns.saturating_sub(at);
                let decayed = estimate.saturating_sub_unsigned(elapsed / DRIFT_DIVISOR);
                if sample < decayed.saturating_sub(SUSPENDED_NS) { sample } else { decayed.max(sample) }
            }
            None => sample,
        };
        // A decay that rounds to zero must not be lost: keep the old time until it adds up.
        let at = match self.estimate {
            Some((old, at)) if old == estimate && sample < old => at,
            _ => header.boot_ns,
        };
        self.estimate = Some((estimate, at));
    }

    /// Returns the time that an exiting process has run since the scheduler last counted it, in nanoseconds.
    ///
    /// `se.sum_exec_runtime` is updated at every tick and switch (`update_curr`, kernel/sched/fair.c). For a process
    /// that lives shorter than a tick, the missing part is most of its life. It has two parts: from `exec_start` to the
    /// run queue's task clock, and from the run queue's clock to now.
    pub fn remaining(&self, exit: &raw::Exit) -> u64 {
        let (Some((ahead, _)), 1.., 1..) = (self.estimate, exit.exec_start, exit.header.rq_clock) else { return 0 };
        let now = i128::from(exit.header.boot_ns) + i128::from(ahead);
        let since_update = (now - i128::from(exit.header.rq_clock)).max(0);
        let before_update = i128::from(exit.rq_clock_task) - i128::from(exit.exec_start);
        let lived = exit.header.boot_ns.saturating_sub(exit.task.start_ns);
        (since_update + before_update).clamp(0, i128::from(lived)) as u64
    }
}

/// Resource usage of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The process and the children it waited for, as `wait4()` reports it (`RUSAGE_BOTH`, kernel/sys.c `getrusage`).
    pub both: Usage,
    /// The process alone, if it waited for any child. The kernel counts I/O of both together.
    pub own: Option<Usage>,
}

/// Returns what an exiting process used. `remaining` comes from [`SchedClock::remaining`]; `page_size` is in bytes.
pub fn used(counters: &raw::Usage, remaining: u64, page_size: u64) -> Used {
    let u = counters;
    let (user_ns, system_ns) = adjusted_cpu_time(u, u.runtime.saturating_add(remaining));
    let own = Usage {
        user_ns,
        system_ns,
        max_rss_bytes: u.maxrss_pages.saturating_mul(page_size),
        minor_faults: u.minflt,
        major_faults: u.majflt,
        read_bytes: u.read_bytes,
        write_bytes: u.write_bytes,
        voluntary_switches: u.nvcsw,
        involuntary_switches: u.nivcsw,
    };
    let children =
        [u.cutime, u.cstime, u.cmaxrss_pages, u.cminflt, u.cmajflt, u.cnvcsw, u.cnivcsw].into_iter().any(|n| n != 0);
    if !children {
        return Used { both: own, own: None };
    }
    let both = Usage {
        user_ns: own.user_ns.saturating_add(u.cutime),
        system_ns: own.system_ns.saturating_add(u.cstime),
        max_rss_bytes: u.maxrss_pages.max(u.cmaxrss_pages).saturating_mul(page_size),
        minor_faults: u.minflt.saturating_add(u.cminflt),
        major_faults: u.majflt.saturating_add(u.cmajflt),
        voluntary_switches: u.nvcsw.saturating_add(u.cnvcsw),
        involuntary_switches: u.nivcsw.saturating_add(u.cnivcsw),
        ..own.clone()
    };
    Used { both, own: Some(own) }
}

/// Returns user and system time: the measured runtime, split in the proportion in which ticks found the process in
/// user mode and in the kernel. It never decreases (`cputime_adjust`, kernel/sched/cputime.c).
fn adjusted_cpu_time(u: &raw::Usage, runtime: u64) -> (u64, u64) {
    if u.prev_stime.saturating_add(u.prev_utime) >= runtime {
        return (u.prev_utime, u.prev_stime);
    }
    let system = match (u.utime, u.stime) {
        (_, 0) => 0,
        (0, _) => runtime,
        (utime, stime) => {
            let scaled = u128::from(stime) * u128::from(runtime) / (u128::from(stime) + u128::from(utime));
            u64::try_from(scaled).unwrap_or(runtime).min(runtime)
        }
    };
    let system = system.max(u.prev_stime);
    // prev_stime + prev_utime < runtime, so neither subtraction can wrap.
    let user = runtime - system;
    if user < u.prev_utime { (u.prev_utime, runtime - u.prev_utime) } else { (user, system) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn header(boot_ns: u64, rq_clock: u64) -> raw::Header {
        raw::Header { boot_ns, rq_clock, ..raw::Header::default() }
    }

    #[test]
    fn cpu_time_is_split_in_proportion_to_ticks() {
        let counters = raw::Usage { utime: 30 * MS, stime: 10 * MS, ..raw::Usage::default() };
        assert_eq!(adjusted_cpu_time(&counters, 8 * MS), (6 * MS, 2 * MS));
    }

    #[test]
    fn cpu_time_is_all_user_or_all_system_without_ticks_of_the_other() {
        let none = raw::Usage::default();
        assert_eq!(adjusted_cpu_time(&none, 7), (7, 0));
        assert_eq!(adjusted_cpu_time(&raw::Usage { utime: 4, ..none }, 7), (7, 0));
        assert_eq!(adjusted_cpu_time(&raw::Usage { stime: 4, ..none }, 7), (0, 7));
    }

    #[test]
    fn cpu_time_never_decreases() {
        let counters = raw::Usage { prev_utime: 5, prev_stime: 3, ..raw::Usage::default() };
        assert_eq!(adjusted_cpu_time(&counters, 8), (5, 3));
        assert_eq!(adjusted_cpu_time(&counters, 9), (6, 3), "no tick in the kernel, yet 3 were reported before");
        let counters = raw::Usage { stime: 4, ..counters };
        assert_eq!(adjusted_cpu_time(&counters, 20), (5, 15), "no tick in user mode, yet 5 were reported before");
    }

    #[test]
    fn children_waited_for_are_added_as_wait4_does() {
        let counters = raw::Usage {
            runtime: 100,
            cutime: 10,
            cstime: 20,
            maxrss_pages: 3,
            cmaxrss_pages: 5,
            minflt: 1,
            cminflt: 2,
            majflt: 3,
            cmajflt: 4,
            nvcsw: 5,
            cnvcsw: 6,
            nivcsw: 7,
            cnivcsw: 8,
            read_bytes: 9,
            write_bytes: 10,
            ..raw::Usage::default()
        };
        let Used { both, own } = used(&counters, 50, 4096);
        let own = own.expect("it waited for a child");
        assert_eq!((own.user_ns, own.system_ns, own.max_rss_bytes), (150, 0, 3 * 4096));
        assert_eq!((own.minor_faults, own.major_faults), (1, 3));
        assert_eq!((own.voluntary_switches, own.involuntary_switches), (5, 7));
        assert_eq!((both.user_ns, both.system_ns, both.max_rss_bytes), (160, 20, 5 * 4096));
        assert_eq!((both.minor_faults, both.major_faults), (3, 7));
        assert_eq!((both.voluntary_switches, both.involuntary_switches), (11, 15));
        assert_eq!((both.read_bytes, both.write_bytes), (9, 10));
    }

    #[test]
    fn without_children_there_is_one_usage() {
        let Used { both, own } = used(&raw::Usage { runtime: 9, minflt: 2, ..raw::Usage::default() }, 0, 4096);
        assert_eq!((both.user_ns, both.minor_faults, own), (9, 2, None));
    }

    #[test]
    fn the_clock_difference_is_the_largest_seen() {
        let mut clock = SchedClock::default();
        for (boot, stale) in [(1000, 4), (2000, 1), (3000, 3)] {
            clock.sample(&header(boot * MS, (boot + 500 - stale) * MS));
        }
        let (ahead, _) = clock.estimate.expect("samples were given");
        assert!(ahead <= 499 * MS as i64 && ahead >= 499 * MS as i64 - 20_000, "{ahead}");
    }

    #[test]
    fn the_clock_difference_follows_a_slew() {
        let mut clock = SchedClock::default();
        // The boot clock gains 10 µs a second on the scheduler's. There is a sample each millisecond, and some are
        // exact.
        for ms in 0..60_000_u64 {
            let drift = ms * 10;
            clock.sample(&header(ms * MS, ms * MS + 1_000 * MS - drift - if ms % 10 == 0 { 0 } else { 3 * MS }));
        }
        let (ahead, _) = clock.estimate.expect("samples were given");
        let truth = 1_000 * MS as i64 - 600_000;
        assert!((ahead - truth).abs() < 1_000, "{} ns off", ahead - truth);
    }

    #[test]
    fn a_suspend_restarts_the_estimate() {
        let mut clock = SchedClock::default();
        clock.sample(&header(1_000 * MS, 1_500 * MS));
        clock.sample(&header(61_000 * MS, 1_510 * MS));
        assert_eq!(clock.estimate.map(|(ahead, _)| ahead), Some(-59_490 * MS as i64));
    }

    #[test]
    fn time_that_the_scheduler_has_not_counted_yet_is_added() {
        let mut clock = SchedClock::default();
        clock.sample(&header(1_000 * MS, 1_500 * MS));
        let exit = raw::Exit {
            header: header(1_010 * MS, 1_507 * MS),
            task: raw::TaskRef { start_ns: 1_000 * MS, tgid: 7, tid: 7 },
            exec_start: 1_405 * MS,
            rq_clock_task: 1_406 * MS,
            ..raw::Exit::default()
        };
        assert_eq!(clock.remaining(&exit), 4 * MS);
        let young = raw::TaskRef { start_ns: 1_009 * MS, ..exit.task };
        assert_eq!(clock.remaining(&raw::Exit { task: young, ..exit }), MS, "no longer than it lived");
        assert_eq!(clock.remaining(&raw::Exit { exec_start: 0, ..exit }), 0);
        assert_eq!(clock.remaining(&raw::Exit { header: header(1_010 * MS, 0), ..exit }), 0);
        assert_eq!(SchedClock::default().remaining(&exit), 0);
    }

    proptest! {
        #[test]
        fn any_counters_give_a_usage(words in proptest::array::uniform19(any::<u64>()), remaining: u64, runtime: u64) {
            let [utime, stime, _, prev_utime, prev_stime, cutime, cstime, maxrss_pages, cmaxrss_pages, ..] = words;
            let counters = raw::Usage {
                utime, stime, runtime, prev_utime, prev_stime, cutime, cstime, maxrss_pages, cmaxrss_pages,
                ..raw::Usage::default()
            };
            let total = runtime.saturating_add(remaining);
            let (user, system) = adjusted_cpu_time(&counters, total);
            prop_assert!(user >= prev_utime && system >= prev_stime);
            if prev_utime.saturating_add(prev_stime) < total {
                prop_assert_eq!(user + system, total);
            }
            used(&counters, remaining, 4096);
        }

        #[test]
        fn any_clocks_give_a_time_within_the_life(
            samples in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..8),
            boot_ns: u64, rq_clock: u64, exec_start: u64, rq_clock_task: u64, start_ns: u64,
        ) {
            let mut clock = SchedClock::default();
            for (boot_ns, rq_clock) in samples {
                clock.sample(&header(boot_ns, rq_clock));
            }
            let task = raw::TaskRef { start_ns, tgid: 1, tid: 1 };
            let exit =
                raw::Exit { header: header(boot_ns, rq_clock), task, exec_start, rq_clock_task, ..raw::Exit::default() };
            prop_assert!(clock.remaining(&exit) <= boot_ns.saturating_sub(start_ns));
        }
    }
}
