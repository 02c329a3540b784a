//! An event as a flat JSON object, as the schema describes it.
//!
//! Serialization is hand-written, because it runs up to a million times a second: each kind writes only its own key.
//! Deserialization and the schema use [`FlatEvent`], which has every key.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde::{Deserialize, Deserializer, de};

use super::process::write_known;
use super::time::Timestamp;
use super::{
    Ancestor, ArgvInfo, Bye, Container, Detail, Dropped, Event, Exec, ExecFailed, Exit, Hello, Kind, Lost, Process,
    Reap, Reparent, Storm, Zombie,
};

/// Maximum number of keys in an event. JSON does not need it.
const MAX_KEYS: usize = 10;

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Destructured, so that no field can be forgotten.
        let Self { v, seq, time, boot_ns, cpu, process, detail, ancestors } = self;
        let mut keys = serializer.serialize_struct("Event", MAX_KEYS)?;
        let to = &mut keys;
        to.serialize_field("v", v)?;
        to.serialize_field("event", &detail.kind())?;
        to.serialize_field("seq", seq)?;
        to.serialize_field("time", time)?;
        write_known(to, "boot_ns", boot_ns)?;
        write_known(to, "cpu", cpu)?;
        write_known(to, "process", process)?;
        match detail {
            Detail::Process | Detail::Fork | Detail::ThreadStart | Detail::Exec(None) => {}
            Detail::Exec(Some(exec)) => {
                write_known(to, "argv_info", &exec.argv_info)?;
                to.serialize_field("exec", exec)?;
            }
            Detail::ExecFailed(failed) => {
                write_known(to, "argv_info", &failed.argv_info)?;
                to.serialize_field("exec_failed", failed)?;
            }
            Detail::Exit(exit) | Detail::ThreadExit(exit) => to.serialize_field("exit", exit)?,
            Detail::Reparent(reparent) => to.serialize_field("reparent", reparent)?,
            Detail::Reap(reap) => to.serialize_field("reap", reap)?,
            Detail::Zombie(zombie) => to.serialize_field("zombie", zombie)?,
            Detail::ContainerCreate(container)
            | Detail::ContainerInfo(container)
            | Detail::ContainerStart(container)
            | Detail::ContainerExec(container)
            | Detail::ContainerExit(container)
            | Detail::ContainerRemove(container) => to.serialize_field("container", container)?,
            Detail::Lost(lost) => to.serialize_field("lost", lost)?,
            Detail::Dropped(dropped) => to.serialize_field("dropped", dropped)?,
            Detail::Storm(storm) => to.serialize_field("storm", storm)?,
            Detail::Hello(hello) => to.serialize_field("hello", hello)?,
            Detail::Bye(bye) => to.serialize_field("bye", bye)?,
        }
        write_known(to, "ancestors", ancestors)?;
        keys.end()
    }
}

/// An event with the keys of all kinds.
#[derive(Deserialize, JsonSchema)]
// Errors about malformed lines contain this name.
#[serde(rename = "Line")]
struct FlatEvent {
    /// Schema version, 1.
    v: u32,
    /// The kind of event. It determines which of the other keys are present.
    #[serde(rename = "event")]
    kind: Kind,
    /// Number of the line in its stream: 0, 1, 2 and so on. Filters leave gaps.
    seq: u64,
    /// When it happened, in UTC: RFC 3339 with nanoseconds. Lines are in the order of cause and effect. Times never go
    /// back for one process or for one CPU, unless the wall clock does. Between CPUs they can go back by the time it
    /// takes to write a record. That is microseconds, and less than 1 ms unless an interrupt or a hypervisor delays a
    /// CPU.
    time: Timestamp,
    /// `CLOCK_BOOTTIME` of the event, in nanoseconds. After 104 days of uptime this exceeds 2^53. Programs that read
    /// all numbers as floating point (JavaScript, jq before 1.7) then round it by a few nanoseconds. `time` is exact.
    boot_ns: Option<u64>,
    /// CPU on which it happened.
    cpu: Option<u32>,
    /// The process that the event is about, in its state after the event.
    process: Option<Process>,
    /// How much of argv was captured (exec, exec_failed).
    argv_info: Option<ArgvInfo>,
    /// Details of an exec.
    exec: Option<Box<Exec>>,
    /// The parameters and the error of a failed exec.
    exec_failed: Option<Box<ExecFailed>>,
    /// How a process or thread exited.
    exit: Option<Box<Exit>>,
    /// The new parent, and why it is the parent.
    reparent: Option<Box<Reparent>>,
    /// The process that reaped a zombie.
    reap: Option<Box<Reap>>,
    /// The process that has not reaped a zombie.
    zombie: Option<Box<Zombie>>,
    /// The container that the event is about.
    container: Option<Box<Container>>,
    /// What was lost.
    lost: Option<Box<Lost>>,
    /// What was dropped because the reader was too slow.
    dropped: Option<Box<Dropped>>,
    /// What a storm spawned (with `--collapse` or `--storm-alert`).
    storm: Option<Box<Storm>>,
    /// The ancestors of the process, nearest first (with `--ancestors`, and for a storm).
    ancestors: Option<Vec<Ancestor>>,
    /// What is traced, and how.
    hello: Option<Box<Hello>>,
    /// The totals of the stream.
    bye: Option<Box<Bye>>,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FlatEvent::deserialize(deserializer)?.into_event().map_err(de::Error::missing_field)
    }
}

impl FlatEvent {
    /// Converts it to an event. Keys of other kinds are ignored. A missing key is the error.
    fn into_event(self) -> Result<Event, &'static str> {
        let container = self.container.ok_or("container");
        let detail = match self.kind {
            Kind::Hello => Detail::Hello(self.hello.ok_or("hello")?),
            Kind::Process => Detail::Process,
            Kind::Fork => Detail::Fork,
            Kind::Exec => Detail::Exec(self.exec.map(|mut exec| {
                exec.argv_info = self.argv_info;
                exec
            })),
            Kind::ExecFailed => {
                let mut failed = self.exec_failed.ok_or("exec_failed")?;
                failed.argv_info = self.argv_info;
                Detail::ExecFailed(failed)
            }
            Kind::Exit => Detail::Exit(self.exit.ok_or("exit")?),
            Kind::Reparent => Detail::Reparent(self.reparent.ok_or("reparent")?),
            Kind::Reap => Detail::Reap(self.reap.ok_or("reap")?),
            Kind::Zombie => Detail::Zombie(self.zombie.ok_or("zombie")?),
            Kind::ThreadStart => Detail::ThreadStart,
            Kind::ThreadExit => Detail::ThreadExit(self.exit.ok_or("exit")?),
            Kind::ContainerCreate => Detail::ContainerCreate(container?),
            Kind::ContainerInfo => Detail::ContainerInfo(container?),
            Kind::ContainerStart => Detail::ContainerStart(container?),
            Kind::ContainerExec => Detail::ContainerExec(container?),
            Kind::ContainerExit => Detail::ContainerExit(container?),
            Kind::ContainerRemove => Detail::ContainerRemove(container?),
            Kind::Lost => Detail::Lost(self.lost.ok_or("lost")?),
            Kind::Dropped => Detail::Dropped(self.dropped.ok_or("dropped")?),
            Kind::Storm => Detail::Storm(self.storm.ok_or("storm")?),
            Kind::Bye => Detail::Bye(self.bye.ok_or("bye")?),
        };
        let Self { v, seq, time, boot_ns, cpu, process, ancestors, .. } = self;
        Ok(Event { v, seq, time, boot_ns, cpu, process, detail, ancestors })
    }
}

impl JsonSchema for Event {
    fn schema_name() -> Cow<'static, str> {
        "Event".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        FlatEvent::json_schema(generator)
    }
}
