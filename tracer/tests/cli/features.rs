//! The dependencies of the library.

use std::process::Command;

/// Returns the crates that the library depends on with these options of `cargo tree`, by name.
fn crates(options: &[&str]) -> Vec<String> {
    // Use only the lock file and the local registry, so that no network is needed.
    let fixed = ["tree", "--offline", "--locked", "--package", "tracer", "--edges", "normal", "--prefix", "none"];
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(fixed).args(["--format", "{p}"]).args(options).current_dir(env!("CARGO_MANIFEST_DIR"));
    let tree = cargo.output().unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    tree.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

#[test]
fn the_library_needs_no_terminal_crate() {
    let terminal =
        ["anstream", "anstyle", "clap", "clap_builder", "clap_complete", "crossterm", "ratatui", "terminal_size"];
    let found = |all: &[String]| -> Vec<&str> {
        terminal.into_iter().filter(|name| all.iter().any(|found| found == name)).collect()
    };
    let library = crates(&["--no-default-features"]);
    assert!(library.iter().any(|name| name == "aya"), "{library:?}");
    assert_eq!(found(&library), [""; 0]);
    assert!(found(&crates(&[])).contains(&"ratatui"), "the command has them");
}
