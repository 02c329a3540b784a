//! The details of an event, one variant per kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

use super::{
    ArgvInfo, Bye, Container, Dropped, Event, Exec, ExecFailed, Exit, Hello, Lost, Reap, Reparent, Storm, Zombie,
};

/// What happened: one variant for each [`Kind`] of event, with the facts that only this kind has.
// Boxed: up to a million events a second are created, moved and dropped.
#[derive(Clone, Debug, PartialEq, EnumDiscriminants)]
#[strum_discriminants(
    name(Kind),
    doc = "The kind of an event.",
    derive(Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, VariantArray, IntoStaticStr, strum::Display),
    serde(rename_all = "snake_case"),
    strum(serialize_all = "snake_case"),
    non_exhaustive
)]
#[non_exhaustive]
pub enum Detail {
    /// First line of a stream.
    Hello(Box<Hello>),
    /// A process that was already running when tracing began. Also a process whose fork was missed: it has `inferred`,
    /// and another such line follows when its id becomes known.
    Process,
    /// A process was created.
    Fork,
    /// A process replaced its image. Without details when it was inferred from `/proc` after a loss.
    Exec(Option<Box<Exec>>),
    /// A process tried to replace its image, and the kernel refused (on request).
    ExecFailed(Box<ExecFailed>),
    /// A process exited.
    Exit(Box<Exit>),
    /// A process got another parent, because its own exited.
    Reparent(Box<Reparent>),
    /// A zombie was reaped (on request).
    Reap(Box<Reap>),
    /// A zombie has not been reaped for some time (on request).
    Zombie(Box<Zombie>),
    /// A thread was created (on request).
    ThreadStart,
    /// A thread exited and its process lives on (on request).
    ThreadExit(Box<Exit>),
    /// A container was created: its control group was created. The process is the one that created it.
    ContainerCreate(Box<Container>),
    /// What the files of a container's engine and runtime say about it: name, image and more. Written once, when the
    /// files were read.
    ContainerInfo(Box<Container>),
    /// A container's first process became its entrypoint.
    ContainerStart(Box<Container>),
    /// A program was started in a running container.
    ContainerExec(Box<Container>),
    /// A container exited: its first process, and then all others.
    ContainerExit(Box<Container>),
    /// A container's control group was removed.
    ContainerRemove(Box<Container>),
    /// Records were lost here.
    Lost(Box<Lost>),
    /// Events were dropped here, because the reader was too slow (on request).
    Dropped(Box<Dropped>),
    /// What a process and its descendants spawned above a rate (on request).
    Storm(Box<Storm>),
    /// Last line of a stream.
    Bye(Box<Bye>),
}

impl Detail {
    /// Returns the kind of event.
    pub fn kind(&self) -> Kind {
        self.into()
    }
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns its name in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns true for the lines that frame and annotate a stream: `hello`, `lost`, `dropped`, `storm`, `bye`. No
    /// filter removes them.
    pub const fn is_framing(self) -> bool {
        matches!(self, Self::Hello | Self::Lost | Self::Dropped | Self::Storm | Self::Bye)
    }
}

/// The details of an event, for a reader that wants one kind of them.
impl Event {
    /// Returns the kind of event.
    pub fn kind(&self) -> Kind {
        self.detail.kind()
    }

    /// Returns the details of an exec that the kernel reported.
    pub fn exec(&self) -> Option<&Exec> {
        if let Detail::Exec(exec) = &self.detail { exec.as_deref() } else { None }
    }

    /// Returns the details of a failed exec.
    pub fn exec_failed(&self) -> Option<&ExecFailed> {
        if let Detail::ExecFailed(failed) = &self.detail { Some(failed) } else { None }
    }

    /// Returns how much of argv an exec or a failed exec captured.
    pub fn argv_info(&self) -> Option<&ArgvInfo> {
        match &self.detail {
            Detail::Exec(exec) => exec.as_ref()?.argv_info.as_ref(),
            Detail::ExecFailed(failed) => failed.argv_info.as_ref(),
            _ => None,
        }
    }

    /// Returns how a process or a thread exited.
    pub fn exit(&self) -> Option<&Exit> {
        if let Detail::Exit(exit) | Detail::ThreadExit(exit) = &self.detail { Some(exit) } else { None }
    }

    /// Returns the change of parent.
    pub fn reparent(&self) -> Option<&Reparent> {
        if let Detail::Reparent(reparent) = &self.detail { Some(reparent) } else { None }
    }

    /// Returns how a zombie was reaped.
    pub fn reap(&self) -> Option<&Reap> {
        if let Detail::Reap(reap) = &self.detail { Some(reap) } else { None }
    }

    /// Returns the zombie that has not been reaped.
    pub fn zombie(&self) -> Option<&Zombie> {
        if let Detail::Zombie(zombie) = &self.detail { Some(zombie) } else { None }
    }

    /// Returns the container that the event is about.
    pub fn container(&self) -> Option<&Container> {
        match &self.detail {
            Detail::ContainerCreate(container)
            | Detail::ContainerInfo(container)
            | Detail::ContainerStart(container)
            | Detail::ContainerExec(container)
            | Detail::ContainerExit(container)
            | Detail::ContainerRemove(container) => Some(container),
            _ => None,
        }
    }

    /// Returns what was lost.
    pub fn lost(&self) -> Option<&Lost> {
        if let Detail::Lost(lost) = &self.detail { Some(lost) } else { None }
    }

    /// Returns what was dropped because the reader was too slow.
    pub fn dropped(&self) -> Option<&Dropped> {
        if let Detail::Dropped(dropped) = &self.detail { Some(dropped) } else { None }
    }

    /// Returns what a storm spawned.
    pub fn storm(&self) -> Option<&Storm> {
        if let Detail::Storm(storm) = &self.detail { Some(storm) } else { None }
    }

    /// Returns what is traced, and how.
    pub fn hello(&self) -> Option<&Hello> {
        if let Detail::Hello(hello) = &self.detail { Some(hello) } else { None }
    }

    /// Returns the totals of a stream.
    pub fn bye(&self) -> Option<&Bye> {
        if let Detail::Bye(bye) = &self.detail { Some(bye) } else { None }
    }
}

impl Detail {
    /// Returns the container that the event is about, for changes.
    #[cfg(test)]
    pub(crate) fn container_mut(&mut self) -> Option<&mut Container> {
        match self {
            Self::ContainerCreate(container)
            | Self::ContainerInfo(container)
            | Self::ContainerStart(container)
            | Self::ContainerExec(container)
            | Self::ContainerExit(container)
            | Self::ContainerRemove(container) => Some(container),
            _ => None,
        }
    }
}

/// Returns an empty event of a kind, for tests.
#[cfg(test)]
impl From<Kind> for Detail {
    fn from(kind: Kind) -> Self {
        let nobody = super::id::ProcessId::from_ticks(0, 0);
        let container = || Box::new(Container::new("".into(), "".into()));
        match kind {
            Kind::Hello => Self::Hello(Box::default()),
            Kind::Process => Self::Process,
            Kind::Fork => Self::Fork,
            Kind::Exec => Self::Exec(None),
            Kind::ExecFailed => Self::ExecFailed(Box::default()),
            Kind::Exit => Self::Exit(Box::default()),
            Kind::Reparent => {
                let reason = super::ReparentReason::Init;
                Self::Reparent(Box::new(Reparent { from_id: nobody, to_id: None, to_pid: 0, reason }))
            }
            Kind::Reap => Self::Reap(Box::default()),
            Kind::Zombie => Self::Zombie(Box::default()),
            Kind::ThreadStart => Self::ThreadStart,
            Kind::ThreadExit => Self::ThreadExit(Box::default()),
            Kind::ContainerCreate => Self::ContainerCreate(container()),
            Kind::ContainerInfo => Self::ContainerInfo(container()),
            Kind::ContainerStart => Self::ContainerStart(container()),
            Kind::ContainerExec => Self::ContainerExec(container()),
            Kind::ContainerExit => Self::ContainerExit(container()),
            Kind::ContainerRemove => Self::ContainerRemove(container()),
            Kind::Lost => Self::Lost(Box::default()),
            Kind::Dropped => Self::Dropped(Box::default()),
            Kind::Storm => Self::Storm(Box::default()),
            Kind::Bye => Self::Bye(Box::default()),
        }
    }
}
