//! The findings of `tracer doctor`. `checks.rs` makes them, and the view shows them.

pub mod checks;

use serde::Serialize;

/// The subject of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Area {
    /// User, capabilities, lockdown.
    Privilege,
    /// Kernel release and configuration.
    Kernel,
    /// Hooks: tracepoints, and programs that load and attach.
    Hook,
    /// Members of kernel structures that fill events.
    Field,
    /// Memory and other limits.
    Limit,
    /// File systems: proc, tracefs, cgroups, bpf.
    Mount,
}

impl Area {
    /// Returns its heading.
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

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Present.
    Ok,
    /// Absent, and replaced by something else.
    Fallback,
    /// Absent and not replaced: some output is left out, the rest is correct.
    Missing,
    /// Tracing cannot work.
    Failed,
}

impl Status {
    /// Returns its name.
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
    /// Its subject.
    pub area: Area,
    /// What was checked.
    pub name: String,
    /// The result.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The programs of a hook.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Program>,
    /// Other programs for the same events that the verifier accepts too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spare: Vec<Program>,
}

/// A program that the verifier accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its name in the object.
    pub name: String,
    /// How many instructions the verifier processed, in the variation with the most (reported since 5.16).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u32>,
}

impl Check {
    /// Returns a finding without a remedy.
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

    /// Adds a remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the programs of the hook.
    #[must_use]
    pub fn programs(mut self, programs: impl IntoIterator<Item = Program>) -> Self {
        self.programs.extend(programs);
        self
    }

    /// Adds the spare programs.
    #[must_use]
    pub fn spare(mut self, programs: impl IntoIterator<Item = Program>) -> Self {
        self.spare.extend(programs);
        self
    }
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True if tracing will work.
    pub works: bool,
    /// The findings, in the order of the checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// Returns a report. Tracing works unless a check failed.
    pub fn new(checks: Vec<Check>) -> Self {
        Self { works: checks.iter().all(|check| check.status != Status::Failed), checks }
    }

    /// Returns the number of checks with this result.
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_check_prevents_tracing() {
        let check = |status| Check::new(Area::Hook, "x", status, "y");
        assert!(Report::new(vec![check(Status::Ok), check(Status::Fallback), check(Status::Missing)]).works);
        assert!(!Report::new(vec![check(Status::Ok), check(Status::Failed)]).works);
    }
}
