//! The signs that views are drawn with: Unicode in a UTF-8 locale, otherwise ASCII.

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
    /// From a parent to the first of several children.
    pub first: &'static str,
    /// Marks truncated text.
    pub ellipsis: &'static str,
    /// From a value to the next one.
    pub arrow: &'static str,
    /// Between a number and what is counted.
    pub times: &'static str,
    /// A check succeeded.
    pub ok: &'static str,
    /// A fallback is used.
    pub fallback: &'static str,
    /// Something is absent.
    pub missing: &'static str,
    /// A check failed.
    pub failed: &'static str,
    /// Between facts.
    pub dot: &'static str,
    /// The unit of microseconds.
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

/// ASCII characters.
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
    /// Returns the signs that the locale of the environment can show.
    pub fn of_locale() -> &'static Self {
        Self::of(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// Returns the signs for the first variable that is set: LC_ALL, LC_CTYPE or LANG (locale(7)).
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
