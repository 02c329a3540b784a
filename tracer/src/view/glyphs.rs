//! The signs that pictures are drawn with: Unicode where the locale says UTF-8, else ASCII.

use std::env;
use std::ffi::OsStr;

/// A set of signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// Before a child that is not the last.
    pub branch: &'static str,
    /// Before the last child.
    pub last: &'static str,
    /// Beside the descendants of a child that is not the last.
    pub vertical: &'static str,
    /// From a parent to its only child.
    pub single: &'static str,
    /// From a parent to the first of several.
    pub first: &'static str,
    /// What was cut off.
    pub ellipsis: &'static str,
    /// From one to the next.
    pub arrow: &'static str,
    /// So many of the same.
    pub times: &'static str,
    /// All is well.
    pub ok: &'static str,
    /// Something else does it.
    pub fallback: &'static str,
    /// Something is absent.
    pub missing: &'static str,
    /// It does not work.
    pub failed: &'static str,
    /// Between facts.
    pub dot: &'static str,
    /// Millionths of a second.
    pub microseconds: &'static str,
    /// A piece of a bar.
    pub bar: &'static str,
}

/// Box drawing characters.
pub const UNICODE: Glyphs = Glyphs {
    branch: "├─",
    last: "└─",
    vertical: "│ ",
    single: "───",
    first: "─┬─",
    ellipsis: "…",
    arrow: "→",
    times: "×",
    ok: "✔",
    fallback: "↷",
    missing: "–",
    failed: "✘",
    dot: "·",
    microseconds: "µs",
    bar: "█",
};

/// What every terminal has.
pub const ASCII: Glyphs = Glyphs {
    branch: "|-",
    last: "`-",
    vertical: "| ",
    single: "---",
    first: "-+-",
    ellipsis: "+",
    arrow: "->",
    times: "*",
    ok: "+",
    fallback: "~",
    missing: "-",
    failed: "X",
    dot: "-",
    microseconds: "us",
    bar: "#",
};

impl Glyphs {
    /// Those that the locale of the environment can show.
    pub fn of_locale() -> &'static Self {
        Self::of(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// The first of LC_ALL, LC_CTYPE and LANG that is set decides (locale(7)).
    fn of<S: AsRef<OsStr>>(variable: impl Fn(&str) -> Option<S>) -> &'static Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
        let name = locale.map(|name| name.as_ref().to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if name.contains("utf-8") || name.contains("utf8") { &UNICODE } else { &ASCII }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let of = |all, ctype, lang| {
            Glyphs::of(move |name| match name {
                "LC_ALL" => all,
                "LC_CTYPE" => ctype,
                _ => lang,
            })
        };
        assert_eq!(of(None::<&str>, None, Some("de_DE.UTF-8")), &UNICODE);
        assert_eq!(of(Some("C"), None, Some("de_DE.UTF-8")), &ASCII);
        assert_eq!(of(None, Some("en_US.utf8"), Some("C")), &UNICODE);
        assert_eq!(of(None, None, None), &ASCII);
    }
}
