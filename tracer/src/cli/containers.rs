//! `tracer containers`: how containers start, live or from a file.

mod audit;
mod diff;
mod recording;

use std::path::PathBuf;

use clap::Args;

use super::exit::of_comparison;
use super::{ExitCode, Globals, UsageError};

/// Show how containers start, step by step; or hold two starts against each other
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
    #[arg(long, num_args = 2, value_names = ["A", "B"], value_hint = clap::ValueHint::FilePath, conflicts_with = "audit")]
    diff: Option<Vec<PathBuf>>,

    /// Which container of the files of --diff; given twice: of A, then of B
    ///
    /// Its name, its id or how that begins. Without, it is the first that is started.
    #[arg(long, value_name = "NAME|ID", requires = "diff", conflicts_with = "audit")]
    container: Vec<String>,

    /// Read events from FILE, as `tracer stream` or `tracer run -o` wrote them, instead of tracing; - is standard input
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with = "diff")]
    from: Option<PathBuf>,

    /// Write JSON: one object a line for each start, or one for the difference
    #[arg(long)]
    json: bool,

    /// End after so many starts
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "diff")]
    count: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  tracer containers --audit
  tracer containers --audit web
  tracer containers --audit --from events.jsonl --json
  tracer containers --diff before.jsonl after.jsonl";

const LONG_EXAMPLES: &str = "\
Examples:
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
  0  ended by SIGINT, SIGTERM, -n or the end of the file, or because the reader went away
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
        let wish = diff::Wish { files: [a, b], only, json: args.json };
        return Ok(of_comparison(diff::execute(&wish, globals)));
    }
    let Some(only) = &args.audit else {
        return wrong("give --audit, to see how containers start, or --diff, to hold two starts against each other");
    };
    let wish = audit::Wish { only, from: args.from.as_deref(), json: args.json, count: args.count };
    audit::execute(&wish, globals)
}
