//! Builds a start from the history: the chain up from the container's first process, and what else ran.

use rustc_hash::FxHashSet;

use super::history::{Image, Past};
use super::role::Role;
use super::start::{Evidence, Ran, Start, VERSION};
use super::{Pending, Starts, client};
use crate::enrich::oci;
use crate::event::id::ProcessId;
use crate::event::time::Timestamp;

/// Largest number of steps from a process up to its ancestors.
const MAX_DEPTH: usize = 64;

/// The creators of a container's first process, up to the engine.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The container's first process first.
    pub(super) links: Vec<Link>,
}

/// A process of the chain.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) id: ProcessId,
    pub(super) role: Role,
    /// When it forked the next link below. For the lowest link: when it became the entrypoint.
    pub(super) acted_ns: u64,
    /// True if it ran before the start. Its step then begins at `acted_ns`.
    pub(super) standing: bool,
    /// The image it ran at that time.
    image: Image,
}

impl Chain {
    pub(super) fn top(&self) -> Option<&Link> {
        self.links.last()
    }

    fn has(&self, id: ProcessId) -> Option<&Link> {
        self.links.iter().find(|link| link.id == id)
    }
}

impl Starts {
    pub(super) fn build(&mut self, pending: &Pending) -> Start {
        let ready_ns = pending.ready_ns.unwrap_or(self.now_ns);
        let chain = self.chain(pending, ready_ns);
        let found = client::find(&self.history, &chain, pending, ready_ns, &self.clients);
        let mut steps = Vec::new();
        for link in &chain.links {
            self.steps_of(link, pending, &mut steps);
        }
        if let Some((client, evidence)) = found.filter(|(client, _)| chain.has(client.id).is_none()) {
            self.clients.insert(client.id, pending.container.id.clone());
            steps.extend(self.ran(client.id, client.image, Some(Role::Client), evidence));
        }
        for link in chain.links.iter().filter(|link| link.role == Role::Shim) {
            self.shims.insert(link.id);
        }
        let began_ns = steps.iter().map(|step| step.at_ns).min().unwrap_or(ready_ns);
        self.release(pending, began_ns, ready_ns, &mut steps);
        steps.sort_by_key(|step| (step.at_ns, step.role));
        let others = self.others(pending, &chain, &steps, (began_ns, ready_ns));
        if let Some(ready_ns) = pending.ready_ns {
            add_up(&mut steps, ready_ns);
            steps.extend(self.first_child(pending));
        }
        let since = |mut ran: Ran| {
            ran.at_ns -= began_ns;
            ran
        };
        let time = |ns: u64| Timestamp(pending.utc_minus_boot_ns.saturating_add_unsigned(ns));
        Start {
            v: VERSION,
            container: pending.container.clone(),
            began: time(began_ns),
            ready: pending.ready_ns.map(time),
            total_ns: pending.ready_ns.map(|ready_ns| ready_ns - began_ns),
            client: found.map(|(_, evidence)| evidence),
            steps: steps.into_iter().map(since).collect(),
            others: others.into_iter().map(since).collect(),
            incomplete: self.history.gaps_until_ns >= began_ns,
        }
    }

    /// Follows the creators up from the container's first process while they have a role in the start.
    fn chain(&self, pending: &Pending, ready_ns: u64) -> Chain {
        let mut chain = Chain::default();
        let (mut id, mut acted_ns) = (pending.init, ready_ns);
        while let Some(past) = self.history.get(id).filter(|_| chain.links.len() < MAX_DEPTH) {
            let lowest = chain.links.is_empty();
            // At the time of the exec it still counts with the image before.
            let image = past.image_at(if lowest { acted_ns.saturating_sub(1) } else { acted_ns });
            let known = if lowest { Some(Role::Init) } else { image.role };
            let role = known.or_else(|| self.is_helper(&chain, past).then_some(Role::Helper));
            let Some(role) = role else { break };
            let standing = role == Role::Daemon
                || past.forked_ns.is_none() && !past.images.iter().any(|image| image.execed && image.at_ns > 0)
                || self.shims.contains(&id);
            chain.links.push(Link { id, role, acted_ns, standing, image: image.clone() });
            if standing || role == Role::Client {
                return chain;
            }
            let (Some(creator), Some(forked_ns)) = (past.creator, past.forked_ns) else { break };
            // The creator ran before tracing began and has no events. The child's first image is the creator's.
            if self.history.get(creator).is_none()
                && let Some(image) = past.images.first()
                && let Some(role) = image.role
            {
                let image = image.clone();
                chain.links.push(Link { id: creator, role, acted_ns: forked_ns, standing: true, image });
                return chain;
            }
            (id, acted_ns) = (creator, forked_ns);
        }
        while chain.top().is_some_and(|top| top.role == Role::Helper) {
            chain.links.pop();
        }
        chain
    }

    /// Returns true for a process between a runtime and the shim or daemon that starts runtimes.
    fn is_helper(&self, chain: &Chain, past: &Past) -> bool {
        let above = past.creator.and_then(|creator| self.history.get(creator));
        let above = above.map(|above| (above.image_at(past.forked_ns.unwrap_or_default()).role, &above.container));
        chain.top().is_some_and(|top| top.role == Role::Runtime)
            && above.is_some_and(|(role, container)| {
                matches!(role, Some(Role::Shim | Role::Daemon)) && *container == past.container
            })
    }

    /// Adds the steps of a link: each program it ran up to `acted_ns`.
    fn steps_of(&self, link: &Link, pending: &Pending, steps: &mut Vec<Ran>) {
        let Some(past) = self.history.get(link.id).filter(|_| !link.standing) else {
            // It began long ago, so its step begins with its act.
            let mut step = self.ran_image(link.id, &link.image, Evidence::Line);
            (step.role, step.at_ns, step.execed) = (Some(link.role), link.acted_ns, true);
            steps.push(step);
            return;
        };
        let entrypoint = link.id == pending.init && pending.ready_ns.is_some();
        let until = if entrypoint { link.acted_ns.saturating_sub(1) } else { link.acted_ns };
        let mut own: Vec<usize> = past.own_images(until).collect();
        if !entrypoint || own.len() > 1 {
            // Images from before it had a role are no steps: a shell that exec'd the client.
            let has_role = |&i: &usize| past.images[i].role.is_some() || link.role == Role::Helper;
            let first = own.iter().rposition(|i| !has_role(i)).map_or(0, |other| other + 1);
            own.drain(..first.min(own.len().saturating_sub(1)));
        }
        for i in own {
            let role = match link.role {
                Role::Helper => Role::Helper,
                _ if link.id == pending.init => Role::Init,
                role => past.images[i].role.unwrap_or(role),
            };
            steps.extend(self.ran(link.id, i, Some(role), Evidence::Line));
        }
        if entrypoint && let Some(i) = past.images.iter().position(|image| image.at_ns == link.acted_ns) {
            steps.extend(self.ran(link.id, i, Some(Role::Entrypoint), Evidence::Line));
        }
    }

    /// Adds the steps that release the entrypoint: `runc start` and similar commands.
    fn release(&self, pending: &Pending, began_ns: u64, ready_ns: u64, steps: &mut Vec<Ran>) {
        let releases = |image: &Image| {
            let Some(argv) = &image.argv else { return false };
            let line = oci::read(argv).filter(|line| line.id == &*pending.container.id);
            line.is_some_and(|line| line.verb == oci::Verb::Other) && argv.iter().any(|word| word == "start")
        };
        for (id, past) in self.history.all() {
            for i in past.own_images(ready_ns) {
                let image = &past.images[i];
                if image.execed && image.at_ns >= began_ns && releases(image) {
                    steps.extend(self.ran(id, i, Some(Role::Start), Evidence::Id));
                }
            }
        }
    }

    fn first_child(&self, pending: &Pending) -> Option<Ran> {
        let id = pending.first_child?;
        let image = self.history.get(id)?.images.iter().position(|image| image.execed).unwrap_or(0);
        self.ran(id, image, Some(Role::FirstChild), Evidence::Container)
    }

    /// Returns the programs that ran between the begin and readiness and are no steps.
    fn others(&self, pending: &Pending, chain: &Chain, steps: &[Ran], span: (u64, u64)) -> Vec<Ran> {
        let in_steps: FxHashSet<(ProcessId, u64)> = steps.iter().map(|step| (step.id, step.at_ns)).collect();
        let client = steps.iter().find(|step| step.role == Some(Role::Client)).map(|step| step.id);
        let mut others = Vec::new();
        for (id, past) in self.history.all() {
            for i in past.own_images(span.1) {
                let image = &past.images[i];
                let within = image.at_ns >= span.0 && image.at_ns < span.1;
                if !within || in_steps.contains(&(id, image.at_ns)) || !image.execed && steps.iter().any(|s| s.id == id)
                {
                    continue;
                }
                if let Some(evidence) = self.evidence(id, past, image, pending, chain, client) {
                    others.extend(self.ran(id, i, None, evidence));
                }
            }
        }
        others.sort_by_key(|ran| (ran.at_ns, ran.id));
        others
    }

    /// Returns the evidence that a process belongs to a start, or `None` if it does not.
    fn evidence(
        &self,
        id: ProcessId,
        past: &Past,
        image: &Image,
        pending: &Pending,
        chain: &Chain,
        client: Option<ProcessId>,
    ) -> Option<Evidence> {
        let container = &pending.container.id;
        if past.container.as_ref() == Some(container) {
            return Some(Evidence::Container);
        }
        // It is in another container. But an engine may itself run in a container.
        let around = chain.top().and_then(|top| self.history.get(top.id)).and_then(|past| past.container.as_ref());
        if past.container.is_some() && past.container.as_ref() != around {
            return None;
        }
        let mut next = past.creator;
        let mut by_time = false;
        for _ in 0..MAX_DEPTH {
            let Some(above) = next else { break };
            if chain.has(above).is_some_and(|link| !link.standing) || client == Some(above) && id != above {
                return Some(Evidence::Line);
            }
            let Some(known) = self.history.get(above) else {
                by_time |= past.images.first().is_some_and(|image| !image.execed && image.role == Some(Role::Daemon));
                break;
            };
            match known.image_at(past.forked_ns.unwrap_or_default()).role {
                Some(Role::Daemon) => {
                    by_time = true;
                    break;
                }
                // It belongs to another container.
                Some(Role::Shim | Role::Client) => break,
                _ => next = known.creator,
            }
        }
        if image.execed && image.argv.iter().flatten().any(|word| names(word, container)) {
            return Some(Evidence::Id);
        }
        // A process with a role is another container's shim, or a client with another request.
        (by_time && image.role.is_none()).then_some(Evidence::Time)
    }

    fn ran(&self, id: ProcessId, image: usize, role: Option<Role>, evidence: Evidence) -> Option<Ran> {
        let past = self.history.get(id)?;
        let what = past.images.get(image)?;
        let (over_ns, end) = past.over(image);
        Some(Ran {
            role,
            lasted_ns: over_ns.map(|over| over.saturating_sub(what.at_ns)),
            code: end.and_then(|end| end.code),
            signal: end.and_then(|end| end.signal.clone()),
            ..self.ran_image(id, what, evidence)
        })
    }

    fn ran_image(&self, id: ProcessId, image: &Image, evidence: Evidence) -> Ran {
        Ran {
            role: None,
            tie: evidence,
            id,
            pid: id.pid(),
            creator_pid: self.history.get(id).and_then(|past| past.creator).map(ProcessId::pid),
            uid: image.uid,
            comm: image.comm.clone(),
            exe: image.exe.clone(),
            argv: image.argv.clone(),
            execed: image.execed,
            at_ns: image.at_ns,
            took_ns: None,
            lasted_ns: None,
            code: None,
            signal: None,
        }
    }
}

/// Sets the duration of each step: it lasts until the next step begins. The entrypoint, the last step, gets none.
fn add_up(steps: &mut [Ran], ready_ns: u64) {
    let begins: Vec<u64> = steps.iter().map(|step| step.at_ns).collect();
    for (i, step) in steps.iter_mut().enumerate() {
        let next = begins.get(i + 1).copied().unwrap_or(ready_ns);
        step.took_ns = (step.role != Some(Role::Entrypoint)).then(|| next - step.at_ns);
    }
}

/// Returns true if an argument is, or contains, the id of a container.
pub(super) fn names(word: &str, id: &str) -> bool {
    if word == id {
        return true;
    }
    // An id that is not random may be part of any argument.
    let random = id.len() >= 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    random && (word.contains(id) || word.len() >= 12 && id.starts_with(word))
}
