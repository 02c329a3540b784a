//! The differences between two starts of a container: which commands are new, gone, changed or slower.
//!
//! Commands are matched by role and by place in the tree, never by pid (`pair.rs`). Values that are regenerated on each
//! run are ignored (`words.rs`).

mod pair;
mod words;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::role::Role;
use super::{Ran, Start};
use crate::event::Container;
use crate::event::time::Timestamp;
use crate::record::text::Arguments;

/// Version of the shape of [`Diff`].
const VERSION: u32 = 1;

/// Smallest difference of two times that counts as slower or faster, in nanoseconds.
pub const NOTABLE_NS: u64 = 10_000_000;

/// Smallest ratio of the longer to the shorter time that counts as slower or faster.
pub const NOTABLE_RATIO: f64 = 1.5;

/// A comparison of two starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// Version of this shape, 1.
    pub v: u32,
    /// True if only times differ.
    pub same: bool,
    /// The first start.
    pub a: Side,
    /// The second start.
    pub b: Side,
    /// Time from the begin until the container was ready, if both became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Time>,
    /// Differences of the container itself.
    pub container: Vec<Fact>,
    /// Every command of both starts: the steps in order, then the others.
    pub commands: Vec<Command>,
}

/// One of the two starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// The container.
    pub container: Container,
    /// When it began.
    pub began: Timestamp,
    /// Time until it was ready. Absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ns: Option<u64>,
    /// True if something may be missing in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

/// A difference of the container itself. Unknown values are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fact {
    /// What differs.
    pub what: Property,
    /// In the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<Arc<str>>,
    /// In the second start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<Arc<str>>,
}

/// The compared properties of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// Its image.
    Image,
    /// Its engine.
    Engine,
    /// Its runtime.
    Runtime,
    /// Whether it became ready: `yes` or `no`.
    Ready,
}

impl Property {
    /// Returns its JSON name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Engine => "engine",
            Self::Runtime => "runtime",
            Self::Ready => "ready",
        }
    }
}

/// The kinds of difference of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It ran in the second start only.
    New,
    /// It ran in the first start only.
    Gone,
    /// Its arguments. Regenerated names in them (ids, temporary files, descriptors) are ignored.
    Argv,
    /// Its user.
    User,
    /// Its executable.
    Exe,
    /// How often it ran.
    Count,
    /// How it ended.
    Status,
    /// Its place in the tree.
    Place,
}

/// A command of one or both starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// What differs. Empty if at most its time differs.
    pub changes: Vec<Change>,
    /// Its role. Absent if it is no step on the way to the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// In the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<Runs>,
    /// In the second start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<Runs>,
    /// Where its arguments differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Words>,
    /// Its time, if both are known and it ran equally often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

impl Command {
    /// Returns its runs in the second start, or else in the first.
    pub fn runs(&self) -> Option<&Runs> {
        self.b.as_ref().or(self.a.as_ref())
    }

    /// Returns whether it was notably slower or faster.
    pub fn pace(&self) -> Option<Pace> {
        self.time.and_then(|time| time.pace)
    }
}

/// The runs of a command in one start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Runs {
    /// How often it ran.
    pub count: u64,
    /// For a step: time until the next step began. Otherwise: time until exit, summed over all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<u64>,
    /// Its place in the tree: from the next step above it (or the topmost known process) down to itself.
    pub path: Vec<Arc<str>>,
    /// One of the runs: the first that failed, or else the first.
    pub ran: Ran,
}

/// Arguments at one place that differ, unchanged, with regenerated names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Words {
    /// Those of the first start.
    pub a: Arguments,
    /// Those of the second start.
    pub b: Arguments,
}

/// Whether a time is notably longer or shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// The second took at least 1.5 times as long and 10 ms more.
    Slower,
    /// The first took at least 1.5 times as long and 10 ms more.
    Faster,
}

/// A time in both starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Time {
    /// In the first, in nanoseconds.
    pub a_ns: u64,
    /// In the second, in nanoseconds.
    pub b_ns: u64,
    /// The second minus the first, in nanoseconds.
    pub more_ns: i64,
    /// The second divided by the first. Absent if the first is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Whether the difference is notable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
}

impl Time {
    /// Compares two times.
    pub fn new(a_ns: u64, b_ns: u64) -> Self {
        let (less, more) = (a_ns.min(b_ns), a_ns.max(b_ns));
        let notable = more - less >= NOTABLE_NS && more as f64 >= less as f64 * NOTABLE_RATIO;
        let pace = if b_ns > a_ns { Pace::Slower } else { Pace::Faster };
        Self {
            a_ns,
            b_ns,
            more_ns: i64::try_from(b_ns).unwrap_or(i64::MAX).saturating_sub_unsigned(a_ns),
            ratio: (a_ns > 0).then(|| b_ns as f64 / a_ns as f64),
            pace: notable.then_some(pace),
        }
    }
}

impl Diff {
    /// Compares two starts.
    pub fn new(a: &Start, b: &Start) -> Self {
        let container = facts(a, b);
        let commands = pair::commands(a, b);
        Self {
            v: VERSION,
            same: container.is_empty() && commands.iter().all(|command| command.changes.is_empty()),
            a: Side::of(a),
            b: Side::of(b),
            total: a.total_ns.zip(b.total_ns).map(|(a, b)| Time::new(a, b)),
            container,
            commands,
        }
    }
}

impl Side {
    fn of(start: &Start) -> Self {
        Self {
            container: start.container.clone(),
            began: start.began,
            total_ns: start.total_ns,
            incomplete: start.incomplete,
        }
    }
}

/// Compares image, engine and runtime where both are known, and whether the container became ready.
fn facts(a: &Start, b: &Start) -> Vec<Fact> {
    let ready = |start: &Start| Some(Arc::from(if start.ready.is_some() { "yes" } else { "no" }));
    let of = |start: &Start| {
        let Container { image, engine, runtime, .. } = start.container.clone();
        [
            (Property::Image, image),
            (Property::Engine, engine),
            (Property::Runtime, runtime),
            (Property::Ready, ready(start)),
        ]
    };
    let both = of(a).into_iter().zip(of(b));
    both.filter(|((_, a), (_, b))| a.is_some() && b.is_some() && a != b)
        .map(|((what, a), (_, b))| Fact { what, a, b })
        .collect()
}
