//! Draws the findings of `tracer doctor`.

use unicode_width::UnicodeWidthStr as _;

use super::escape;
use super::glyphs::Glyphs;
use super::line::{Line, Role};
use super::units;
use crate::doctor::{Area, Check, Report, Status};

/// Number of successful checks of one area from which on they are only counted.
const MANY: usize = 20;

/// Draws the findings by area, and the result. `all` lists every finding.
pub fn draw(report: &Report, glyphs: &Glyphs, all: bool) -> Vec<Line> {
    let mut areas: Vec<Area> = report.checks.iter().map(|check| check.area).collect();
    areas.sort();
    areas.dedup();
    let of = |area: Area| report.checks.iter().filter(move |check| check.area == area);
    let successes = |area: Area| of(area).filter(|check| check.status == Status::Ok).count();
    let counted = |check: &&Check| !all && check.status == Status::Ok && successes(check.area) >= MANY;
    let listed = || report.checks.iter().filter(|check| !counted(check));
    let name_width = listed().map(|check| check.name.width()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for area in areas {
        lines.push(Line::new().with(Role::Heading, area.title()));
        if of(area).any(|check| counted(&check)) {
            let line = Line::new().with(Role::Plain, "  ").with(Role::Good, glyphs.ok);
            let text = format!(" {} as they should be", units::count(successes(area) as u64));
            lines.push(line.with(Role::Plain, &text).with(Role::Dim, "  (-v lists them)"));
        }
        for check in of(area).filter(|check| !counted(check)) {
            let (glyph, role) = sign(check.status, glyphs);
            let name = escape::text(&check.name);
            let padding = " ".repeat(name_width.saturating_sub(name.width()) + 2);
            let mut line = Line::new().with(Role::Plain, "  ").with(role, glyph).with(Role::Plain, &format!(" {name}"));
            if !check.detail.is_empty() {
                line.push(Role::Plain, &padding);
                line.push(Role::Dim, &escape::text(&check.detail));
            }
            lines.push(line);
            if let Some(remedy) = &check.remedy {
                let indent = " ".repeat(4 + name_width + 2);
                lines.push(Line::new().with(role, &format!("{indent}{} {}", glyphs.arrow, escape::text(remedy))));
            }
        }
        lines.push(Line::new());
    }
    let verdict =
        if report.works { (Role::Good, "Tracing works here") } else { (Role::Bad, "Tracing does not work here") };
    let counts = [Status::Ok, Status::Fallback, Status::Missing, Status::Failed].into_iter().filter_map(|status| {
        let count = report.count(status) as u64;
        (count > 0).then(|| match status {
            Status::Fallback => units::counted(count, "fallback"),
            status => format!("{} {}", units::count(count), status.name()),
        })
    });
    let counts: Vec<_> = counts.collect();
    lines.push(Line::new().with(verdict.0, verdict.1).with(Role::Plain, &format!(": {}", counts.join(", "))));
    lines
}

fn sign(status: Status, glyphs: &Glyphs) -> (&'static str, Role) {
    match status {
        Status::Ok => (glyphs.ok, Role::Good),
        Status::Fallback => (glyphs.fallback, Role::Notice),
        Status::Missing => (glyphs.missing, Role::Notice),
        Status::Failed => (glyphs.failed, Role::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::glyphs::UNICODE;

    fn text(report: &Report, all: bool) -> String {
        draw(report, &UNICODE, all).iter().map(|line| line.plain() + "\n").collect()
    }

    #[test]
    fn findings_stand_by_area_and_failures_with_their_remedy() {
        let report = Report::new(vec![
            Check::new(Area::Hook, "sched_process_exec", Status::Ok, "raw BTF tracepoint"),
            Check::new(Area::Privilege, "CAP_BPF", Status::Failed, "not permitted").remedy("run as root, or: setcap …"),
            Check::new(Area::Hook, "signal_generate", Status::Missing, "no cause of the exit"),
            Check::new(Area::Limit, "memlock", Status::Fallback, "8 MiB; memory is charged to the cgroup"),
            Check::new(Area::Kernel, "release", Status::Ok, ""),
        ]);
        insta::assert_snapshot!(text(&report, false), @"
        Privileges
          ✘ CAP_BPF             not permitted
                                → run as root, or: setcap …

        Kernel
          ✔ release

        Hooks
          ✔ sched_process_exec  raw BTF tracepoint
          – signal_generate     no cause of the exit

        Limits
          ↷ memlock             8 MiB; memory is charged to the cgroup

        Tracing does not work here: 2 ok, 1 fallback, 1 missing, 1 failed
        ");
    }

    #[test]
    fn what_came_out_well_is_counted_where_it_is_much() {
        let mut checks: Vec<_> =
            (0..30).map(|n| Check::new(Area::Field, format!("task_struct.f{n}"), Status::Ok, "offset 8")).collect();
        checks[7].status = Status::Missing;
        let report = Report::new(checks);
        insta::assert_snapshot!(text(&report, false), @"
        Fields
          ✔ 29 as they should be  (-v lists them)
          – task_struct.f7  offset 8

        Tracing works here: 29 ok, 1 missing
        ");
        assert_eq!(text(&report, true).lines().count(), 1 + 30 + 2);
    }
}
