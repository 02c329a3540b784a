//! `tracer containers`: which there are, and how they start; live or from a file.

mod audit;
mod diff;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::exit::of_comparison;
use super::screen;
use super::{ExitCode, FromArgs, Globals, UsageError};
use crate::view::containers::state::Sort;

/// Show all containers, live; how they start, step by step; or hold two starts against each other
///
/// A table of all containers of the machine, whatever runs them (Docker, containerd, Podman, CRI-O, Kubernetes, plain runc and
/// crun, LXC, systemd-nspawn): those that run already, those that come, and the last 1,000 that have ended, with how they ended.
/// Keys are as in `tracer top`: ? or F1 tells them. With -b, -n or --json, or when standard output is no terminal, the pictures
/// are written one below the other. No daemon is asked: who is in which container is told by the kernel, names and images by the
/// files of the engines.
///
/// With --audit: waits for containers to start (Docker, containerd, Podman, plain runc and crun), and shows for each
/// what it took: the client, the daemon, the shim, the runtime, the stages of init, until the container's first process execs
/// its entrypoint. That is when a container is called ready here; what a program does then to get ready for its own work is
/// not known. Each step lasts until the next one begins, so they add up to the whole. Then comes all else that ran
/// meanwhile.
///
/// With --diff: says what is another in the start in one file than in that in another: which commands are new, gone, changed
/// (arguments, user, executable, number, status), slower or faster.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = LONG_EXAMPLES)]
pub struct ContainersArgs {
    /// Show each start of a container step by step; only of this one, if named (its name, its id or how that begins)
    #[arg(long, value_name = "NAME|ID", num_args = 0..=1, default_missing_value = "")]
    audit: Option<String>,

    /// Hold the start in file A against that in file B, as `tracer stream` or `tracer run -o` wrote them
    #[arg(long, num_args = 2, value_names = ["A", "B"], value_hint = clap::ValueHint::FilePath, conflicts_with_all = ["audit", "from"])]
    diff: Option<Vec<PathBuf>>,

    /// Only this container; with --diff: which one of the files, given twice: of A, then of B
    ///
    /// Its name, its id or how that begins. Without, it is all, or with --diff the first that is started.
    #[arg(long, value_name = "NAME|ID", conflicts_with = "audit")]
    container: Vec<String>,

    #[command(flatten)]
    from: FromArgs,

    /// Write JSON: one object a line for each container, again for each picture; for each start; or one for the difference
    #[arg(long)]
    json: bool,

    /// End after so many pictures, which are written as text; with --audit, after so many starts
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "diff")]
    count: Option<u64>,

    /// Write the pictures as text, one below the other, and take no keys
    #[arg(short, long, conflicts_with_all = ["audit", "diff"])]
    batch: bool,

    /// Time between two pictures: seconds, or e.g. 500ms
    #[arg(short, long, value_name = "TIME", default_value = "2", value_parser = screen::delay, conflicts_with_all = ["audit", "diff", "from"])]
    delay: Duration,

    /// What the table is sorted by
    #[arg(short, long, value_name = "COLUMN", default_value = "state", conflicts_with_all = ["audit", "diff"])]
    sort: Sort,

    /// Cut the lines of -b to so many columns
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
      All containers, every two seconds.
  tracer containers -n 1 --sort execs
      One picture as text: in which are most programs started?
  tracer containers --json -d 10 | jq -c 'select(.state == \"exited\") | [.container.name, .container.end]'
      How containers ended.
  tracer stream -o events.jsonl; tracer containers --from events.jsonl
      Those in a recording, as they were in the end; rates are of all the time.
  tracer containers --audit
      Every container that is started from now on, step by step.
  tracer containers --audit web
      Only those called web.
  tracer run -- docker run --rm alpine true
      Run a container, and see its start in the end.
  tracer stream -o events.jsonl; tracer containers --audit --from events.jsonl
      The starts in a file of events.
  tracer run -o before.jsonl -- docker run --rm web:1; tracer run -o after.jsonl -- docker run --rm web:2
  tracer containers --diff before.jsonl after.jsonl
      What the new image does otherwise when it starts.
  tracer containers --diff --container web --container api all.jsonl all.jsonl
      Two containers of the same file.

Columns:
  ID       its id, or how that begins; a name where the runtime has no ids
  STATE    running, paused, created (its entrypoint has not been exec'd yet), exited, removed (it never was)
  UP       since its first process was born, or until that ended
  PROCS    processes that are in it, those that came by nsenter too; EVER: that were since it was made or tracing began
  EXEC/s   programs that were started in it, a second
  EXIT     exit code of its first process, or the signal that ended it
  RUNTIME  what made it and what runs it
  POD      namespace and name of its pod in Kubernetes, or the pod's uid

Columns of --audit:
  AT       since the start began: the client's exec; where no client was seen, the first step that was
  TOOK     until the next step began; these add up to the time to the entrypoint's exec
  LASTED   until the program ended or the process exec'd the next one; - if it still ran
  STEP     client, daemon, shim, runtime (it makes the container), init (what becomes the container's first process),
           start (the runtime lets the entrypoint go), entrypoint, first child
           A daemon runs already: its step begins with the first process it makes for this start.
           Of all else that ran: below it (it descends from one of the steps), inside (it ran in the container),
           names it (its arguments name the container), daemon's (a child of the daemon, at that time)
  COMMAND  its arguments; (in brackets) the name of a process that is only a copy of another

The client of a daemon is found by its arguments (name, image, command), or else it is the one that was waiting then.

Columns of --diff (what is the same is left out; --json has it too):
  WHAT     new, gone, changed; slower or faster if the one took at least half as long again and 10 ms more than the other
  A, B     of a step TOOK, of all else LASTED; MORE and RATIO are of B beside A

Steps are held against each other by what they do, all else by what it runs below, never by pid; what runs several times alike is
one with its number. Arguments are the same if they differ only in what is made up anew each time: the container's id and name,
names in /tmp and /var/tmp that look random, and, but for what you wrote yourself (the client's arguments, and those of
what runs inside), other random ids, pids and numbers of descriptors.

Exit status:
  0  ended by SIGHUP, SIGINT, SIGTERM, -n or the end of the file, or because the reader went away
  1  tracing is not possible (see `tracer doctor`), or the file cannot be read
  2  wrong usage
Exit status with --diff, as that of diff:
  0  nothing differs but times
  1  something differs
  2  they cannot be compared: a file cannot be read, or has no such start; or wrong usage";

/// Does what is asked for.
pub fn execute(args: &ContainersArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let wrong = |message: &str| Err(UsageError::new("containers", message).into());
    if let Some(files) = &args.diff {
        let [a, b] = &files[..] else { return wrong("--diff takes two files") };
        let only = match &args.container[..] {
            [] => [None, None],
            [both] => [Some(&**both); 2],
            [a, b] => [Some(&**a), Some(&**b)],
            _ => return wrong("--container can be given once, or once for each of the two files"),
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
