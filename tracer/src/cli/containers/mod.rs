//! `tracer containers`: shows all containers, how they start, or how two starts differ. Live or from a file.

mod audit;
mod diff;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::delay;
use super::exit::of_comparison;
use super::{ExitCode, FromArgs, Globals, UsageError};
use crate::view::containers::state::Sort;

/// Show all containers, the steps of their starts, or the difference of two starts
///
/// Shows a table of all containers of the machine, live, whatever runs them: Docker, containerd, Podman, CRI-O, Kubernetes, plain
/// runc and crun, LXC, systemd-nspawn. It has the running containers, new ones, and the last 1,000 that exited, with their
/// exit status. The keys are those of `tracer top`: ? or F1 lists them. With -b, -n or --json, frames are written as text, one
/// after the other. The same happens if standard output is not a terminal. tracer asks no daemon. The kernel reports which
/// process is in which container. Names and images come from the files of the engines.
///
/// With --audit: waits for container starts (Docker, containerd, Podman, plain runc and crun) and shows the steps of each. The
/// steps are the client, the daemon, the shim, the runtime, the stages of init, and the exec of the entrypoint. At that exec the
/// container is ready here. tracer does not know when the program is ready for its own work. A step lasts until the next one
/// begins, so the steps add up to the whole. Below the steps are all other processes that ran meanwhile.
///
/// With --diff: compares the start in one file with the start in another file. It shows commands that are new, gone, slower or
/// faster, and those with other arguments, user, executable, count or status.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = LONG_EXAMPLES)]
pub struct ContainersArgs {
    /// Show the steps of each container start, or only those of the given container
    ///
    /// The container is given by its name, its id or a prefix of the id.
    #[arg(long, value_name = "NAME|ID", num_args = 0..=1, default_missing_value = "")]
    audit: Option<String>,

    /// Compare the start recorded in file A with the one in file B
    ///
    /// `tracer stream` or `tracer run -o` wrote the files.
    #[arg(long, num_args = 2, value_names = ["A", "B"], value_hint = clap::ValueHint::FilePath, conflicts_with_all = ["audit", "from"])]
    diff: Option<Vec<PathBuf>>,

    /// Show only this container, by name, id or prefix of the id
    ///
    /// With --diff, it selects the container in both files. Given twice, it selects first the container in A, then the one in B.
    /// By default, the table shows all containers, and --diff compares the first start of each file.
    #[arg(long, value_name = "NAME|ID", conflicts_with = "audit")]
    container: Vec<String>,

    #[command(flatten)]
    from: FromArgs,

    /// Write JSON, one object a line
    ///
    /// Writes an object for each container of each frame. With --audit, writes one for each start. With --diff, writes one
    /// object for the difference.
    #[arg(long)]
    json: bool,

    /// End after N frames, written as text, or after N starts with --audit
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "diff")]
    count: Option<u64>,

    /// Write frames as text, one after the other, and read no keys
    #[arg(short, long, conflicts_with_all = ["audit", "diff"])]
    batch: bool,

    /// Set the time between two frames, in seconds or e.g. 500ms
    #[arg(short, long, value_name = "TIME", default_value = "2", value_parser = delay, conflicts_with_all = ["audit", "diff", "from"])]
    delay: Duration,

    /// Set the column to sort by
    #[arg(short, long, value_name = "COLUMN", default_value = "state", conflicts_with_all = ["audit", "diff"])]
    sort: Sort,

    /// Truncate the lines of -b to COLUMNS
    #[arg(short, long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(1..), conflicts_with_all = ["audit", "diff"])]
    width: Option<u16>,
}

const EXAMPLES: &str = "\
Examples:
  tracer containers
  tracer containers -n 1
  tracer containers --audit
  tracer containers --audit web
  tracer containers --audit --from events.jsonl --json
  tracer containers --diff before.jsonl after.jsonl";

const LONG_EXAMPLES: &str = "\
Examples:
  tracer containers
      Show all containers, every two seconds.
  tracer containers -n 1 --sort execs
      Print one frame as text, with the containers that execute most programs first.
  tracer containers --json -d 10 | jq -c 'select(.state == \"exited\") | [.container.name, .container.end]'
      Show how containers exited.
  tracer stream -o events.jsonl; tracer containers --from events.jsonl
      Show the containers at the end of a recording. The rates are those of the whole recording.
  tracer containers --audit
      Show the steps of every container start from now on.
  tracer containers --audit web
      Show only the starts of containers named web.
  tracer run -- docker run --rm alpine true
      Run a container, and show its start at the end.
  tracer stream -o events.jsonl; tracer containers --audit --from events.jsonl
      Show the starts in a recording.
  tracer run -o before.jsonl -- docker run --rm web:1; tracer run -o after.jsonl -- docker run --rm web:2
  tracer containers --diff before.jsonl after.jsonl
      Show what the new image does differently when it starts.
  tracer containers --diff --container web --container api all.jsonl all.jsonl
      Compare two containers of the same recording.

Columns:
  ID       id or its prefix; a name if the runtime has no ids
  STATE    running, paused, created (the entrypoint is not executed yet), exited, removed (the entrypoint never was)
  UP       time since the fork of its first process, or until that exited
  PROCS    processes in it, including those that entered with nsenter
  EVER     all processes since it was created or tracing began
  EXEC/s   programs executed in it per second
  EXIT     exit code of its first process, or the signal that killed it
  RUNTIME  the engine that created it and the runtime that runs it
  POD      namespace and name of its pod in Kubernetes, or the pod's uid

Columns of --audit:
  AT       time since the start began with the client's exec, or with the first known step
  TOOK     time until the next step began; these add up to the time until the entrypoint's exec
  LASTED   time until the program exited or executed the next one; - if it still ran
  STEP     client, daemon, shim, runtime (creates the container), init (becomes the container's first process),
           start (the runtime starts the entrypoint), entrypoint, first child
           A daemon already runs: its step begins with the first process that it creates for this start.
           Other processes: below it (descends from one of the steps), inside (ran in the container),
           names it (its arguments name the container), daemon's (a child of the daemon, at that time)
  COMMAND  arguments, or (in parentheses) the name of a forked process that executed nothing

The client of a daemon is found by its arguments (name, image, command). Otherwise it is the client that waited then.

Columns of --diff (equal commands are left out, except with --json):
  WHAT     new, gone, changed, slower or faster
           Slower means at least 1.5 times as long and 10 ms more. Faster is the opposite.
  A, B     TOOK of a step, LASTED of another process; MORE and RATIO compare B with A

Steps are matched by role, other processes by their place in the tree, never by pid. Equal commands are shown once,
with their number. Arguments are equal if they differ only in values regenerated on each run: the container's id and
name, and random names in /tmp and /var/tmp. Other random ids, pids and numbers of descriptors are ignored too, but
not in arguments that you wrote yourself: those of the client and of the processes inside.

Exit status:
  0  ended by SIGHUP, SIGINT, SIGTERM, -n or the end of the file, or because the reader closed the output
  1  tracing is not possible (see `tracer doctor`), or the file cannot be read
  2  wrong usage
Exit status with --diff, as with diff:
  0  nothing but times differs
  1  something differs
  2  the starts cannot be compared: a file cannot be read or has no such start; or wrong usage";

/// Shows the table, the starts or the difference.
pub fn execute(args: &ContainersArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let wrong = |message: &str| Err(UsageError::new("containers", message).into());
    if let Some(files) = &args.diff {
        let [a, b] = &files[..] else { return wrong("--diff takes two files") };
        let only = match &args.container[..] {
            [] => [None, None],
            [both] => [Some(&**both); 2],
            [a, b] => [Some(&**a), Some(&**b)],
            _ => return wrong("--container can be given at most twice: once for each file"),
        };
        if [a, b].iter().all(|file| file.as_os_str() == "-") {
            return wrong("only one of the two files can be standard input");
        }
        let plan = diff::DiffPlan { files: [a, b], only, json: args.json };
        return Ok(of_comparison(diff::execute(&plan, globals)));
    }
    if let Some(only) = &args.audit {
        let plan = audit::AuditPlan { only, from: args.from.file(), json: args.json, count: args.count };
        return audit::execute(&plan, globals);
    }
    let plan = table::TablePlan {
        only: args.container.clone(),
        from: args.from.file(),
        json: args.json,
        batch: args.batch,
        delay: args.delay,
        count: args.count,
        sort: args.sort,
        width: args.width.map(usize::from),
    };
    table::execute(plan, globals)
}
