//! Short texts for processes and their exits.

use nix::errno::Errno;

use crate::event::{ExecFailed, Exit, Process, Provenance};

use super::escape;

/// Returns the command line of a process, quoted for a shell. If it is unknown, returns the executable or the name.
pub fn command(process: &Process) -> String {
    match (&process.image.argv, &process.image.exe, &process.image.comm) {
        _ if process.kthread => format!("[{}]", name(process)),
        (Some(argv), ..) if !argv.is_empty() => escape::command_line(argv),
        (_, Some(exe), _) => escape::argument(exe).into_owned(),
        (_, None, Some(comm)) => escape::text(comm).into_owned(),
        (_, None, None) => "?".into(),
    }
}

/// Returns the command line of a process, or its name in parentheses if it executed nothing since its fork. The arguments are its
/// parent's then.
pub fn ran(process: &Process) -> String {
    if process.execs == 0 && process.source == Provenance::Kernel && !process.kthread {
        format!("({})", name(process))
    } else {
        command(process)
    }
}

/// Returns the name of a process.
pub fn name(process: &Process) -> String {
    process.image.comm.as_deref().map_or_else(|| "?".into(), |comm| escape::text(comm).into_owned())
}

/// Returns a container's id as short as in `docker ps`. A name stays as it is.
pub fn container(id: &str) -> &str {
    let long = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if long { &id[..12] } else { id }
}

/// Returns the exit code of a process, or the signal that killed it.
pub fn status(exit: &Exit) -> String {
    match (&exit.signal, exit.code) {
        (Some(signal), _) => escape::text(signal).into_owned(),
        (None, Some(code)) => code.to_string(),
        (None, None) => "?".into(),
    }
}

/// Returns what a process tried to execute: the given path, and the arguments if they say more.
pub fn attempt(failed: &ExecFailed) -> String {
    let path = match (failed.filename.as_deref(), failed.dirfd) {
        (None | Some(""), Some(fd)) => format!("/dev/fd/{fd}"),
        (Some(path), Some(fd)) if !path.starts_with('/') => format!("/dev/fd/{fd}/{path}"),
        (Some(path), _) => path.into(),
        (None, None) => "?".into(),
    };
    let mut out = escape::argument(&path).into_owned();
    if let Some(argv) = &failed.argv
        && (argv.len() > 1 || argv.first().is_some_and(|arg| arg != path && !path.ends_with(&format!("/{arg}"))))
    {
        out.push_str(": ");
        out.push_str(&escape::command_line(argv));
    }
    out
}

/// Returns why an exec failed: the name of the error, e.g. `ENOENT`, and its meaning.
pub fn refusal(failed: &ExecFailed) -> (String, &'static str) {
    (escape::text(&failed.errno).into_owned(), Errno::from_raw(failed.code).desc())
}

/// Returns whether a process exited with another code than 0 or was killed.
pub fn failed(exit: &Exit) -> bool {
    exit.failed()
}

/// Returns what killed a process, if anything did: `core dumped, by 4711 (bash)`.
pub fn cause(process: &Process, exit: &Exit) -> Option<String> {
    let mut facts = Vec::new();
    if exit.core {
        facts.push("core dumped".to_owned());
    }
    if let Some(cause) = &exit.cause {
        match (cause.sender_pid, &cause.sender_comm) {
            _ if cause.oom => facts.push("out of memory".into()),
            _ if cause.kernel => facts.push("by the kernel".into()),
            (Some(pid), _) if pid == process.pid => facts.push("by itself".into()),
            (Some(pid), Some(comm)) => facts.push(format!("by {pid} ({})", escape::text(comm))),
            (Some(pid), None) => facts.push(format!("by {pid}")),
            (None, _) => {}
        }
        if cause.raised_again {
            facts.push("raised again by itself".into());
        }
    }
    (!facts.is_empty()).then(|| facts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Cause;
    use crate::event::id::ProcessId;

    fn process(comm: Option<&str>, exe: Option<&str>, argv: Option<&[&str]>) -> Process {
        let mut process = Process::new(ProcessId::from_ticks(1, 42), Provenance::Procfs);
        let image = process.image_mut();
        image.comm = comm.map(Into::into);
        image.exe = exe.map(Into::into);
        image.argv = argv.map(|argv| argv.iter().collect());
        process
    }

    #[test]
    fn a_command_has_its_best_known_name() {
        assert_eq!(command(&process(Some("sh"), Some("/bin/sh"), Some(&["sh", "-c", "a b"]))), "sh -c 'a b'");
        assert_eq!(command(&process(Some("sh"), Some("/bin/my sh"), Some(&[]))), "'/bin/my sh'");
        assert_eq!(command(&process(Some("s\x1bh"), None, None)), r"s\x1bh");
        assert_eq!(command(&process(None, None, None)), "?");
        let mut kthread = process(Some("kworker/0:1"), None, Some(&[]));
        kthread.kthread = true;
        assert_eq!((command(&kthread), ran(&kthread)), ("[kworker/0:1]".into(), "[kworker/0:1]".into()));
    }

    #[test]
    fn causes_name_the_sender_of_a_signal() {
        let cause_of = |exit: Exit| cause(&process(None, None, None), &exit);
        let by =
            |cause: Cause| cause_of(Exit { signal: Some("SIGKILL".into()), cause: Some(cause), ..Exit::default() });
        let sender = |pid, comm: Option<&str>| Cause {
            sender_pid: Some(pid),
            sender_comm: comm.map(Into::into),
            ..Cause::default()
        };
        assert_eq!(by(sender(7, Some("kill\n"))).unwrap(), r"by 7 (kill\n)");
        assert_eq!(by(sender(7, None)).unwrap(), "by 7");
        assert_eq!(by(sender(42, Some("sh"))).unwrap(), "by itself");
        assert_eq!(by(Cause { oom: true, ..sender(7, None) }).unwrap(), "out of memory");
        assert_eq!(by(Cause { kernel: true, ..Cause::default() }).unwrap(), "by the kernel");
        let raised = Cause { raised_again: true, ..sender(7, Some("sh")) };
        assert_eq!(by(raised).unwrap(), "by 7 (sh), raised again by itself");
        assert_eq!(by(Cause::default()), None);
        assert_eq!(cause_of(Exit { core: true, ..Exit::default() }).unwrap(), "core dumped");
    }
}
