//! Pairs the commands of one start with those of another.
//!
//! Steps are matched in order, by role. Other commands are matched by place in the tree: the steps or programs above them.
//! Equal commands form one group with a count.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use similar::{Algorithm, DiffTag, capture_diff_slices, get_diff_ratio};

use super::words::Names;
use super::{Change, Command, Runs, Time, Words};
use crate::analysis::audit::role;
use crate::analysis::audit::{Ran, Start};
use crate::record::text::Arguments;

/// What distinguishes commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    path: Vec<Arc<str>>,
    execed: bool,
    argv: Vec<String>,
    exe: Option<String>,
    uid: Option<u32>,
}

/// Equal runs.
#[derive(Clone, Debug)]
struct Group<'a> {
    key: Key,
    runs: Vec<&'a Ran>,
}

/// Returns all commands of both starts.
pub(super) fn commands(a: &Start, b: &Start) -> Vec<Command> {
    let (a, b) = (Sorted::of(a), Sorted::of(b));
    let mut out = steps(&a.steps, &b.steps);
    out.extend(others(&a.others, &b.others));
    out
}

/// The commands of a start with their keys.
struct Sorted<'a> {
    /// One group per step.
    steps: Vec<Group<'a>>,
    /// One group per distinct key.
    others: Vec<Group<'a>>,
}

impl<'a> Sorted<'a> {
    fn of(start: &'a Start) -> Self {
        let names = Names::of(start);
        let all: Vec<&Ran> = start.steps.iter().chain(&start.others).collect();
        let group = |ran: &'a Ran| {
            // A process that exec'd nothing has its creator's arguments.
            let argv = if ran.execed { names.argv(ran) } else { Vec::new() };
            let exe = names.exe(ran).filter(|_| ran.execed);
            Group { key: Key { path: path(ran, &all), execed: ran.execed, argv, exe, uid: ran.uid }, runs: vec![ran] }
        };
        let mut others: Vec<Group<'a>> = Vec::new();
        let mut places: FxHashMap<Key, usize> = FxHashMap::default();
        for one in start.others.iter().map(group) {
            let place = *places.entry(one.key.clone()).or_insert(others.len());
            if let Some(known) = others.get_mut(place) {
                known.runs.extend(one.runs);
            } else {
                others.push(one);
            }
        }
        Self { steps: start.steps.iter().map(group).collect(), others }
    }
}

/// Returns the labels from the next step above a run down to itself.
fn path(ran: &Ran, all: &[&Ran]) -> Vec<Arc<str>> {
    let mut path = vec![label(ran)];
    let mut here = ran;
    // This ends: each next run began earlier.
    while here.role.is_none()
        && let Some(above) = all
            .iter()
            .filter(|other| Some(other.pid) == here.creator_pid && other.at_ns < here.at_ns)
            .max_by_key(|other| other.at_ns)
    {
        path.push(label(above));
        here = above;
    }
    path.reverse();
    path
}

/// Returns the label of a command: its role, or else its program.
fn label(ran: &Ran) -> Arc<str> {
    match (ran.role, ran.argv.as_ref().filter(|_| ran.execed).and_then(Arguments::first)) {
        (Some(role), _) => role.name().into(),
        (None, Some(argv0)) => role::program(argv0).into(),
        _ => ran.comm.clone().unwrap_or_else(|| "?".into()),
    }
}

/// Pairs steps in order: first by role and program, then the rest by role.
fn steps(a: &[Group<'_>], b: &[Group<'_>]) -> Vec<Command> {
    let key = |group: &Group<'_>| {
        let ran = group.runs[0];
        let program = group.key.argv.first().map(|argv0| role::program(argv0).to_owned());
        (ran.role, ran.execed, program.or_else(|| ran.comm.as_deref().map(ToOwned::to_owned)))
    };
    let role = |group: &Group<'_>| group.runs[0].role;
    let keys = [a, b].map(|side| side.iter().map(key).collect::<Vec<_>>());
    let mut out = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, &keys[0], &keys[1]) {
        let (tag, of_a, of_b) = op.as_tag_tuple();
        if tag == DiffTag::Equal {
            out.extend(of_a.zip(of_b).map(|(i, j)| pair(&a[i], &b[j])));
            continue;
        }
        let (a, b) = (&a[of_a], &b[of_b]);
        let roles = [a, b].map(|side| side.iter().map(role).collect::<Vec<_>>());
        for op in capture_diff_slices(Algorithm::Myers, &roles[0], &roles[1]) {
            let (tag, of_a, of_b) = op.as_tag_tuple();
            if tag == DiffTag::Equal {
                out.extend(of_a.zip(of_b).map(|(i, j)| pair(&a[i], &b[j])));
            } else {
                out.extend(a[of_a].iter().map(gone));
                out.extend(b[of_b].iter().map(new));
            }
        }
    }
    out
}

/// Pairs other commands: first equal ones, then equal ones elsewhere in the tree, then similar ones at the same place.
fn others(a: &[Group<'_>], b: &[Group<'_>]) -> Vec<Command> {
    let mut partner: Vec<Option<usize>> = vec![None; a.len()];
    let mut free = vec![true; b.len()];
    let here = |a: &Key, b: &Key| (a == b).then_some(1.0);
    let elsewhere = |a: &Key, b: &Key| (a.path.last() == b.path.last() && same_but_place(a, b)).then_some(1.0);
    let alike = |a: &Key, b: &Key| (a.path == b.path && a.execed == b.execed).then(|| likeness(a, b));
    let scores: [fn(&Key, &Key) -> Option<f32>; 3] = [here, elsewhere, alike];
    for score in scores {
        for (i, group) in a.iter().enumerate() {
            if partner[i].is_some() {
                continue;
            }
            let fitting = b.iter().enumerate().filter(|(j, _)| free[*j]);
            let fitting = fitting.filter_map(|(j, other)| Some((score(&group.key, &other.key)?, j)));
            // The first of the most similar.
            let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
            if let Some((_, j)) = best {
                (partner[i], free[j]) = (Some(j), false);
            }
        }
    }
    let mut out: Vec<Command> = Vec::new();
    out.extend(a.iter().zip(&partner).map(|(group, partner)| match partner {
        Some(j) => pair(group, &b[*j]),
        None => gone(group),
    }));
    out.extend(b.iter().zip(&free).filter(|(_, free)| **free).map(|(group, _)| new(group)));
    out
}

fn same_but_place(a: &Key, b: &Key) -> bool {
    Key { path: b.path.clone(), ..a.clone() } == *b
}

/// Returns the similarity of two argument lists, 1 for equal lists.
fn likeness(a: &Key, b: &Key) -> f32 {
    get_diff_ratio(&capture_diff_slices(Algorithm::Myers, &a.argv, &b.argv), a.argv.len(), b.argv.len())
}

fn pair(a: &Group<'_>, b: &Group<'_>) -> Command {
    let (of_a, of_b) = (runs(a), runs(b));
    let status = status(a).zip(status(b));
    let differs = [
        (Change::Argv, a.key.argv != b.key.argv),
        (Change::User, a.key.uid != b.key.uid),
        (Change::Exe, a.key.execed && b.key.execed && a.key.exe != b.key.exe),
        (Change::Count, of_a.count != of_b.count),
        (Change::Status, status.is_some_and(|(a, b)| a != b)),
        (Change::Place, a.key.path != b.key.path),
    ];
    let time = of_a.time_ns.zip(of_b.time_ns).filter(|_| of_a.count == of_b.count);
    Command {
        changes: differs.into_iter().filter(|(_, differs)| *differs).map(|(change, _)| change).collect(),
        words: words(a, b),
        time: time.map(|(a, b)| Time::new(a, b)),
        b: Some(of_b),
        ..alone(of_a)
    }
}

fn gone(group: &Group<'_>) -> Command {
    Command { changes: vec![Change::Gone], ..alone(runs(group)) }
}

fn new(group: &Group<'_>) -> Command {
    let mut command = Command { changes: vec![Change::New], ..alone(runs(group)) };
    std::mem::swap(&mut command.a, &mut command.b);
    command
}

/// Returns a command of the first start only.
fn alone(runs: Runs) -> Command {
    Command { changes: Vec::new(), role: runs.ran.role, a: Some(runs), b: None, words: Vec::new(), time: None }
}

fn runs(group: &Group<'_>) -> Runs {
    let time = |ran: &&Ran| ran.took_ns.or(ran.lasted_ns);
    Runs {
        count: group.runs.len() as u64,
        time_ns: group.runs.iter().map(time).sum(),
        path: group.key.path.clone(),
        ran: worst(group).clone(),
    }
}

/// Returns the first run that failed, or else the first run.
fn worst<'a>(group: &Group<'a>) -> &'a Ran {
    group
        .runs
        .iter()
        .find(|ran| ran.signal.is_some() || ran.code.is_some_and(|code| code != 0))
        .unwrap_or(&group.runs[0])
}

/// Returns how the worst run of a group ended. `None` if no run failed and not all have ended.
fn status<'a>(group: &Group<'a>) -> Option<(Option<u8>, Option<&'a str>)> {
    let end = |ran: &'a Ran| (ran.code, ran.signal.as_deref());
    let failed_or_ended = |end: &(Option<u8>, Option<&str>)| *end != (None, None);
    let worst = end(worst(group));
    let all = worst != (Some(0), None) || group.runs.iter().all(|&ran| failed_or_ended(&end(ran)));
    Some(worst).filter(failed_or_ended).filter(|_| all)
}

/// Returns where the arguments differ, unchanged.
fn words(a: &Group<'_>, b: &Group<'_>) -> Vec<Words> {
    let raw = |group: &Group<'_>, range: std::ops::Range<usize>| {
        group.runs[0].argv.iter().flatten().skip(range.start).take(range.len()).collect()
    };
    let ops = capture_diff_slices(Algorithm::Myers, &a.key.argv, &b.key.argv);
    let ops = ops.iter().map(similar::DiffOp::as_tag_tuple).filter(|(tag, ..)| *tag != DiffTag::Equal);
    ops.map(|(_, of_a, of_b)| Words { a: raw(a, of_a), b: raw(b, of_b) }).collect()
}
