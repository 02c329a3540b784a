//! Arguments without the values that each start regenerates: container ids, other random ids, temporary names, descriptors,
//! pids. Two arguments that differ only in these are equal.
//!
//! Arguments that people wrote are compared as they are: those of the client and of programs in the container. There only
//! the container's id and name and temporary names are replaced.

use rustc_hash::FxHashSet;

use crate::analysis::audit::role::{self, Role};
use crate::analysis::audit::{Evidence, Ran, Start};

/// Smallest number of hexadecimal digits of a random id. Engines show the first 12 of 64.
const ID: usize = 12;

/// The shape of a UUID, as lengths of hexadecimal digits with `-` between them.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];

/// The separators that split an argument into pieces.
const SEPARATORS: [char; 9] = ['/', '=', ':', ',', '@', ';', ' ', '\'', '"'];

/// The values that a start generates.
#[derive(Debug)]
pub(super) struct Names<'a> {
    id: &'a str,
    pids: FxHashSet<u32>,
}

impl<'a> Names<'a> {
    pub(super) fn of(start: &'a Start) -> Self {
        let pids = start.steps.iter().chain(&start.others).map(|ran| ran.pid).collect();
        Self { id: &start.container.id, pids }
    }

    /// Returns the arguments of a command with a placeholder for each generated value.
    pub(super) fn argv(&self, ran: &Ran) -> Vec<String> {
        let argv: Vec<&str> = ran.argv.iter().flatten().collect();
        let own = is_own(ran);
        let word = |at: usize| self.word(argv[at], at.checked_sub(1).map(|before| argv[before]), own);
        let mut words: Vec<String> = (0..argv.len()).map(word).collect();
        if let Some((at, before)) = name(ran, &argv) {
            words[at] = format!("{before}<name>");
        }
        words
    }

    /// Returns its executable, likewise.
    pub(super) fn exe(&self, ran: &Ran) -> Option<String> {
        ran.exe.as_ref().map(|exe| self.word(exe, None, is_own(ran)))
    }

    fn word(&self, word: &str, before: Option<&str>, own: bool) -> String {
        let number = || word.parse::<u32>().ok();
        if !own && before.is_some_and(|option| option.starts_with('-') && option.ends_with("fd")) && number().is_some()
        {
            return "<fd>".into();
        }
        if !own && number().is_some_and(|pid| self.pids.contains(&pid)) {
            return "<pid>".into();
        }
        let mut out = String::with_capacity(word.len());
        // The two pieces before this one, the nearer one first.
        let mut last = ["", ""];
        for piece in word.split_inclusive(SEPARATORS) {
            let text = piece.trim_end_matches(SEPARATORS);
            out.push_str(&self.piece(text, last, own));
            out.push_str(&piece[text.len()..]);
            last = [text, last[0]];
        }
        out
    }

    fn piece(&self, text: &str, [last, before]: [&str; 2], own: bool) -> String {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if last.ends_with("sha256") {
            // A digest identifies its content, so it stays.
            text.into()
        } else if text == self.id {
            "<container>".into()
        } else if last == "proc" && is_number {
            "<pid>".into()
        } else if last == "fd" && is_number && (matches!(before, "self" | "dev") || before.parse::<u32>().is_ok()) {
            "<fd>".into()
        } else if last == "tmp" && matches!(before, "" | "var") && looks_generated(text) {
            "<tmp>".into()
        } else {
            self.ids(text, own)
        }
    }

    /// Replaces the random ids in a piece.
    fn ids(&self, text: &str, own: bool) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut inside_word = false;
        while let Some(c) = rest.chars().next() {
            let run = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
            let uuid = uuid(rest);
            let length = uuid.unwrap_or(run);
            let (word, after) = rest.split_at(length);
            let alone = !inside_word && !after.starts_with(|c: char| c.is_ascii_alphanumeric());
            let random = length >= ID && word.bytes().any(|b| b.is_ascii_digit());
            if alone && random && (self.id.starts_with(word) || !own) {
                out.push_str(if self.id.starts_with(word) { "<container>" } else { "<id>" });
                rest = after;
            } else {
                let length = c.len_utf8().max(if alone { length } else { 0 });
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            }
            inside_word = out.ends_with(|c: char| c.is_ascii_alphanumeric());
        }
        out
    }
}

/// Returns true for commands that people wrote: the client's, and those in the container.
fn is_own(ran: &Ran) -> bool {
    match ran.role {
        Some(role) => matches!(role, Role::Client | Role::Entrypoint | Role::FirstChild),
        None => ran.tie == Evidence::Container,
    }
}

/// Returns the index of the argument with the container's name, and the prefix before the name.
///
/// The client chooses the name, and it has no consequences.
fn name(ran: &Ran, argv: &[&str]) -> Option<(usize, &'static str)> {
    let option = match ran.role {
        Some(Role::Client) => "--name",
        Some(Role::Shim) if role::program(argv.first()?) == "conmon" => "-n",
        _ => return None,
    };
    let at = argv.iter().position(|&word| word == option || word.starts_with("--name="))?;
    if argv[at] == option { (at + 1 < argv.len()).then_some((at + 1, "")) } else { Some((at, "--name=")) }
}

/// Returns the length of the UUID that a text begins with.
fn uuid(text: &str) -> Option<usize> {
    let mut rest = text;
    for (i, length) in UUID.into_iter().enumerate() {
        rest = if i == 0 { rest } else { rest.strip_prefix('-')? };
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits != length {
            return None;
        }
        rest = &rest[length..];
    }
    Some(text.len() - rest.len())
}

/// Returns true for temporary names of `mktemp`, Python, Go and others: `tmp.x8Kq0a2LzP`, `tmpv3_ab12`, `build871623`,
/// `ccS0j5KT.s`.
fn looks_generated(name: &str) -> bool {
    let class = |b: u8| match b {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        _ => 2,
    };
    let random = |run: &str| {
        let bytes = run.as_bytes();
        let turns = bytes.windows(2).filter(|two| class(two[0]) != class(two[1])).count();
        let digits = run.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
        bytes.len() >= 6 && turns >= 2 || digits >= 5
    };
    let prefixed = name.trim_start_matches('.').strip_prefix("tmp").is_some_and(|rest| rest.len() >= 6);
    prefixed || name.split(|c: char| !c.is_ascii_alphanumeric()).any(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "06393b042233115a61066e07b132837ee9497a1fe807e8c0dc482c039b6aaacd";

    fn names<'a>() -> Names<'a> {
        Names { id: HEX, pids: [4711].into_iter().collect() }
    }

    #[test]
    fn generated_values_become_placeholders() {
        for (word, before, plain) in [
            (HEX, None, "<container>"),
            ("06393b042233", None, "<container>"),
            (&*format!("/run/x/{HEX}/log.json"), None, "/run/x/<container>/log.json"),
            (&*format!("libpod-{HEX}.scope"), None, "libpod-<container>.scope"),
            ("/run/netns/dd9ab0337367", None, "/run/netns/<id>"),
            ("cni-1b2c3d4e-0a1b-2c3d-4e5f-0123456789ab", None, "cni-<id>"),
            ("/proc/815/ns/net", None, "/proc/<pid>/ns/net"),
            ("/proc/self/fd/7", None, "/proc/self/fd/<fd>"),
            ("/proc/815/fd/7", None, "/proc/<pid>/fd/<fd>"),
            ("3", Some("--console-fd"), "<fd>"),
            ("4711", Some("-t"), "<pid>"),
            ("--pid-file=/tmp/tmp.x8Kq0a2LzP/pid", None, "--pid-file=/tmp/<tmp>/pid"),
            ("/var/tmp/go-build871623", None, "/var/tmp/<tmp>"),
            ("/tmp/ccS0j5KT.s", None, "/tmp/<tmp>"),
        ] {
            assert_eq!(names().word(word, before, false), plain, "{word}");
        }
    }

    #[test]
    fn meaningful_arguments_stay() {
        for word in [
            "web@sha256:06393b042233115a61066e07b132837ee9497a1fe807e8c0dc482c039b6aaacd",
            "/tmp/demo/socket",
            "/tmp/a.sh",
            "/srv/tmp.d/x8Kq0a2LzP",
            "facade",
            "deadbeef",
            "abcdefabcdef",
            "x06393b042233",
            "8080",
            "/bin/sh",
            "größe",
            "",
        ] {
            assert_eq!(names().word(word, None, false), word);
        }
    }

    #[test]
    fn arguments_that_people_wrote_stay() {
        for word in ["0123456789ab", "4711", "1b2c3d4e-0a1b-2c3d-4e5f-0123456789ab"] {
            assert_eq!(names().word(word, None, true), word);
        }
        assert_eq!(names().word("06393b042233", None, true), "<container>");
        assert_eq!(names().word("--cidfile=/tmp/tmp.x8Kq0a2LzP", None, true), "--cidfile=/tmp/<tmp>");
    }
}
