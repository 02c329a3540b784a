//! Reads all running processes from the kernel's task iterator: each exactly once, even while they fork and exit.

use std::io::{self, ErrorKind, Read as _};

use aya::Ebpf;
use aya::programs::Iter;

use super::error::{LoadError, refused};
use super::hook::RUNNING;
use crate::record::running::{self, Running};

/// What happens without it.
pub(crate) const FALLBACK: &str = "running processes are read from /proc, which takes longer";

/// Size of the read buffer. It holds what the kernel returns at once (`PAGE_SIZE << 3`, kernel/bpf/bpf_iter.c), with larger
/// pages too.
const BUFFER: usize = 512 << 10;

/// Largest number of reads without a result.
const TRIES: u32 = 1000;

/// Returns all running processes.
pub(crate) fn read(ebpf: &mut Ebpf) -> Result<Vec<Running>, LoadError> {
    let program = ebpf.program_mut(RUNNING.program).ok_or_else(|| failed("the program is missing from the object"))?;
    let program: &mut Iter = program.try_into().map_err(|error: aya::programs::ProgramError| failed(error))?;
    let link = program.attach().map_err(failed)?;
    let link = program.take_link(link).map_err(failed)?;
    let mut file = link.into_file().map_err(failed)?;
    let mut bytes = Vec::with_capacity(BUFFER);
    let mut buffer = vec![0; BUFFER];
    let mut tries = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            // The iterator has visited a large number of threads without a process. The next read continues from there.
            Err(error) if error.kind() == ErrorKind::WouldBlock && tries < TRIES => tries += 1,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let mut rest = &bytes[..];
    let mut out = Vec::new();
    while !rest.is_empty() {
        out.push(running::take(&mut rest).map_err(failed)?);
    }
    // tracer itself must be among them.
    let me = std::process::id();
    if !out.iter().any(|running| running.raw.task.tgid == me) {
        return Err(failed(io::Error::new(ErrorKind::NotFound, "it does not show tracer itself")));
    }
    Ok(out)
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LoadError {
    refused("the iterator over tasks", error)
}
