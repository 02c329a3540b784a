//! What is another in one start of a container than in another: which commands are new, gone, changed or slower.
//!
//! Commands are held against each other by what they do and by where they stand in the tree, never by pid (`pair.rs`);
//! names that are made up anew each time do not count (`words.rs`).

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

/// A time is called slower or faster if it differs by so much at least, in nanoseconds …
pub const NOTABLE_NS: u64 = 10_000_000;

/// … and the longer one is so many times as long as the shorter one at least.
pub const NOTABLE_RATIO: f64 = 1.5;

/// Two starts, held against each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// Version of this shape, 1.
    pub v: u32,
    /// True if nothing differs but times.
    pub same: bool,
    /// The first start.
    pub a: Side,
    /// The second start.
    pub b: Side,
    /// Time from the begin until it was ready, where both became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Time>,
    /// What is another about the container itself.
    pub container: Vec<Fact>,
    /// Every command of both: the steps in their order, then what else ran.
    pub commands: Vec<Command>,
}

/// One of the two starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// The container.
    pub container: Container,
    /// When it began.
    pub began: Timestamp,
    /// Time until it was ready; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ns: Option<u64>,
    /// True if something may be missing of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

/// What is another about the container itself. Absent is what is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fact {
    /// What it is.
    pub what: Property,
    /// In the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<Arc<str>>,
    /// In the second start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<Arc<str>>,
}

/// What is compared of a container.
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
    /// The name it has in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Engine => "engine",
            Self::Runtime => "runtime",
            Self::Ready => "ready",
        }
    }
}

/// What differs about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It ran in the second start only.
    New,
    /// It ran in the first start only.
    Gone,
    /// Its arguments; made-up names in them (ids, temporary files, descriptors) do not count.
    Argv,
    /// Its user.
    User,
    /// Its executable.
    Exe,
    /// How often it ran.
    Count,
    /// How it ended.
    Status,
    /// Where it stands in the tree.
    Place,
}

/// A command of one of the starts or of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// What differs; nothing if it is the same but for its time.
    pub changes: Vec<Change>,
    /// What it does; absent for what is no step of the way to the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// In the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<Told>,
    /// In the second start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<Told>,
    /// Where its arguments differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Words>,
    /// Its time, where both are known and it ran as often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

impl Command {
    /// It is of the second start, or else of the first.
    pub fn told(&self) -> Option<&Told> {
        self.b.as_ref().or(self.a.as_ref())
    }

    /// True for a time that is notably longer or shorter.
    pub fn pace(&self) -> Option<Pace> {
        self.time.and_then(|time| time.pace)
    }
}

/// A command in one start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// How often it ran.
    pub count: u64,
    /// Of a step: time until the next step began. Else: time until it ended, of all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<u64>,
    /// Where it stands in the tree: from the next step above it (or the topmost that is known) down to itself.
    pub path: Vec<Arc<str>>,
    /// One of them: the first that failed, or else the first.
    pub ran: Ran,
}

/// Arguments that stand in one and not in the other, at one place. As they were, made-up names included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Words {
    /// Those of the first start.
    pub a: Arguments,
    /// Those of the second start.
    pub b: Arguments,
}

/// Which way a time is notable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// It took at least half as long again, and at least 10 ms more.
    Slower,
    /// The first took at least half as long again, and at least 10 ms more.
    Faster,
}

/// A time in both starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Time {
    /// In the first, nanoseconds.
    pub a_ns: u64,
    /// In the second, nanoseconds.
    pub b_ns: u64,
    /// How much more it is in the second, nanoseconds.
    pub more_ns: i64,
    /// How many times as much it is; absent if the first is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Whether that is notable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
}

impl Time {
    /// Two times.
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
    /// Holds two starts against each other.
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

/// Its image and what made it, where both are known; and whether it became ready.
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
