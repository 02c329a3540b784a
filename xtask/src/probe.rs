//! Checks that a compiler and a bpf-linker fit, by building a small BPF object.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// Enough code that a newer LLVM of the compiler writes something that an older LLVM cannot read. It needs no BPF
/// `core`, because bpf-linker also accepts bitcode for the compiler's own machine.
const SOURCE: &str = r#"
#![no_std]
#![crate_type = "lib"]
#[unsafe(no_mangle)]
pub extern "C" fn probe(words: &mut [u64; 4], at: usize, step: Option<&u64>) -> u64 {
    if let (Some(word), Some(step)) = (words.get_mut(at), step) {
        *word = word.wrapping_add(*step);
    }
    words.iter().fold(0, |sum, word| sum ^ word)
}
"#;

/// Returns the reason if `linker` cannot link the output of `rustc`.
pub(crate) fn links(rustc: &Path, linker: &Path) -> Result<()> {
    let dir = workspace::target_dir().join("bpf").join("probe");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let [source, bitcode, object] = ["probe.rs", "probe.bc", "probe.o"].map(|name| dir.join(name));
    fs::write(&source, SOURCE)?;
    let compile =
        ["--edition=2024", "-O", "-Cpanic=abort", "-Cdebuginfo=2", "--emit=llvm-bc", "-o"].map(OsString::from);
    let link = ["--target=bpfel-unknown-none", "--btf", "--export=probe", "-o"].map(OsString::from);
    quietly(&process::command(rustc, compile.into_iter().chain([bitcode.clone().into(), source.into()])))?;
    quietly(&process::command(linker, link.into_iter().chain([object.into(), bitcode.into()])))?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn quietly(expression: &duct::Expression) -> Result<()> {
    let output = expression.stdin_null().stderr_to_stdout().stdout_capture().unchecked().run()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        bail!(
            "{}",
            said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed without a message").to_owned()
        );
    }
    Ok(())
}
