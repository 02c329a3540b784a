//! The thread that traces. It loads the programs, reads the ring and runs the pipeline, so the caller's runtime never waits.

use tokio::sync::oneshot;

use super::builder::{Builder, Source};
use super::error::{Cause, Error};
use super::outgoing::Outgoing;
use crate::event::{Bye, Filtering};
use crate::filter::pushdown::{self, Needs};
use crate::filter::{Filter, Matcher, Terms};
use crate::kernel::hierarchy::Hierarchy;
use crate::pipeline::backpressure::OnSlow;
use crate::pipeline::{self, Wanted};
use crate::proc;
use crate::source::recording::Recording;
use crate::source::snapshot::Snapshot;
use crate::sys::passwd;

/// Traces until the source ends, or until `shutdown` completes. Its sender completes it too when it is dropped.
pub(super) fn trace(builder: Builder, mut outgoing: Outgoing, shutdown: oneshot::Receiver<()>) -> Result<Bye, Error> {
    let Builder { source, filter, live, wanted } = builder;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(Cause::Thread)?;
    runtime.block_on(async {
        let shutdown = async {
            let _ = shutdown.await;
        };
        let is_live = source == Source::Live;
        let filter = Filter { until_reaped: live.reports_reaps(), ..resolved(filter, is_live)? };
        let matcher = Matcher::new(&filter).map_err(|error| Cause::Filter(error.to_string()))?;
        let needs = Needs {
            ancestors: live.reports_ancestors(),
            storms: wanted.storm.is_some() || wanted.on_slow == OnSlow::Collapse,
            reaps: live.reports_reaps(),
            in_user_space: !is_live,
        };
        let (pushdown, filtering) = pushdown::of(&filter, needs).map_err(|error| Cause::Filter(error.to_string()))?;
        // A recording is read to its end: a process of that number may start only later in it.
        let wanted = Wanted { until_over: is_live, ..wanted };
        let outgoing = &mut outgoing;
        let ended = match source {
            Source::Live => {
                let live = live.push_down(pushdown, filtering).start().map_err(Cause::from)?;
                pipeline::run(live, matcher, outgoing, &wanted, shutdown, |_| true).await
            }
            Source::Proc => pipeline::run(Snapshot::default(), matcher, outgoing, &wanted, shutdown, |_| true).await,
            Source::Recording(file) => {
                // Where its events are filtered need not be explained.
                let filtering = filtering.map(|filtering| Filtering { why: None, ..filtering });
                let recording = Recording::open(&file).map_err(Cause::from)?.filtering(filtering);
                pipeline::run(recording, matcher, outgoing, &wanted, shutdown, |_| true).await
            }
        };
        Ok(ended.map_err(Cause::from)?)
    })
}

/// The same with users by number and control groups by their path in the hierarchy. If it is for a live source, its processes
/// and control groups have to exist.
fn resolved(mut filter: Filter, is_live: bool) -> Result<Filter, Cause> {
    if let Some(wrong) = filter.wrong.take() {
        return Err(Cause::Filter(wrong));
    }
    for terms in [&mut filter.wanted, &mut filter.not] {
        let Terms { trees, uids, users, cgroups, .. } = terms;
        for name in users.drain(..) {
            uids.push(passwd::uid_of(&name).map_err(|error| Cause::Filter(format!("user {name}: {error}")))?);
        }
        if is_live {
            trees.iter().try_for_each(|&pid| proc::must_exist(pid)).map_err(Cause::Filter)?;
        }
        if cgroups.is_empty() {
            continue;
        }
        let hierarchy = Hierarchy::of_proc();
        for path in cgroups {
            *path = hierarchy.path_of(path).map_err(Cause::Filter)?;
            if let Some(wrong) = hierarchy.lacks(path).filter(|_| is_live) {
                return Err(Cause::Filter(wrong));
            }
        }
    }
    Ok(filter)
}
