//! What a kernel and these privileges allow: the findings, told apart from how they are found and shown.

pub mod checks;

use serde::Serialize;

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Area {
    /// User, capabilities, lockdown.
    Privilege,
    /// Kernel release and what it was built with.
    Kernel,
    /// Hooks: tracepoints, programs the verifier takes, ways to attach.
    Hook,
    /// Members of kernel structures that events are filled from.
    Field,
    /// Memory and other limits.
    Limit,
    /// File systems: proc, tracefs, cgroups, bpf.
    Mount,
}

impl Area {
    /// A heading for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Privilege => "Privileges",
            Self::Kernel => "Kernel",
            Self::Hook => "Hooks",
            Self::Field => "Fields",
            Self::Limit => "Limits",
            Self::Mount => "Mounts",
        }
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Absent, and something else does its work.
    Fallback,
    /// Absent, and nothing does its work: some output is left out, the rest is right.
    Missing,
    /// Tracing cannot work.
    Failed,
}

impl Status {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fallback => "fallback",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about.
    pub area: Area,
    /// What was looked for.
    pub name: String,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The programs that serve a hook.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Program>,
    /// Programs that would serve it by another way, and that the verifier takes as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spare: Vec<Program>,
}

/// A program that the verifier has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its name in the object.
    pub name: String,
    /// How many instructions the verifier went through, in the variation where they are most (told since 5.16).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u32>,
}

impl Check {
    /// A finding without a remedy.
    pub fn new(area: Area, name: impl Into<String>, status: Status, detail: impl Into<String>) -> Self {
        Self {
            area,
            name: name.into(),
            status,
            detail: detail.into(),
            remedy: None,
            programs: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// … with one.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// … with the programs that serve it.
    #[must_use]
    pub fn programs(mut self, programs: impl IntoIterator<Item = Program>) -> Self {
        self.programs.extend(programs);
        self
    }

    /// … with those of another way.
    #[must_use]
    pub fn spare(mut self, programs: impl IntoIterator<Item = Program>) -> Self {
        self.spare.extend(programs);
        self
    }
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True when tracing will work.
    pub works: bool,
    /// The findings, in the order they were made.
    pub checks: Vec<Check>,
}

impl Report {
    /// Tracing works unless a check failed.
    pub fn new(checks: Vec<Check>) -> Self {
        Self { works: checks.iter().all(|check| check.status != Status::Failed), checks }
    }

    /// How many checks came out so.
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_check_keeps_tracing_from_working() {
        let check = |status| Check::new(Area::Hook, "x", status, "y");
        assert!(Report::new(vec![check(Status::Ok), check(Status::Fallback), check(Status::Missing)]).works);
        assert!(!Report::new(vec![check(Status::Ok), check(Status::Failed)]).works);
    }
}
