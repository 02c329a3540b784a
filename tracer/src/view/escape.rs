//! Escapes untrusted text for a terminal.
//!
//! A process chooses its name and arguments. Unescaped, they could move the cursor, change colours, retitle the window or
//! reverse the reading order. So control characters and invisible characters are shown as escapes.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns whether a character has an effect or is invisible: control characters (C0, DEL, C1), line and paragraph separators,
/// marks of the writing direction, and characters without width.
const fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Writes each unsafe character as `\n`, `\t`, `\r`, `\x1b` or `\u{202e}`.
pub fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        push(&mut out, c);
    }
    Cow::Owned(out)
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str(r"\n"),
        '\t' => out.push_str(r"\t"),
        '\r' => out.push_str(r"\r"),
        c if !is_unsafe(c) => out.push(c),
        c if (c as u32) < 0x100 => {
            let _ = write!(out, r"\x{:02x}", c as u32);
        }
        c => {
            let _ = write!(out, r"\u{{{:x}}}", c as u32);
        }
    }
}

/// Quotes an argument for a shell, if necessary. Uses `$'…'` for characters that need an escape. The result can be pasted into a
/// shell.
pub fn argument(argument: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,^".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return Cow::Borrowed(argument);
    }
    if argument.contains(is_unsafe) {
        let mut out = String::with_capacity(argument.len() + 8);
        out.push_str("$'");
        for c in argument.chars() {
            match c {
                '\'' | '\\' => out.extend(['\\', c]),
                c if is_unsafe(c) && (c as u32) >= 0x80 => {
                    // In a shell, \x is a byte and \u is a character.
                    let width = if (c as u32) < 0x1_0000 { ('u', 4) } else { ('U', 8) };
                    let _ = write!(out, "\\{}{:0w$x}", width.0, c as u32, w = width.1);
                }
                c => push(&mut out, c),
            }
        }
        out.push('\'');
        return Cow::Owned(out);
    }
    if argument.contains('\'') && !argument.contains(['"', '$', '`', '\\', '!']) {
        return Cow::Owned(format!("\"{argument}\""));
    }
    Cow::Owned(format!("'{}'", argument.replace('\'', r"'\''")))
}

/// Joins the arguments of a command line, and quotes those that need it.
pub fn command_line<S: AsRef<str>>(argv: impl IntoIterator<Item = S>) -> String {
    let mut out = String::new();
    for (i, arg) in argv.into_iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        out.push_str(&argument(arg.as_ref()));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_and_direction_characters_are_escaped() {
        assert_eq!(text("plain äöü 日本"), "plain äöü 日本");
        assert_eq!(text("a\x1b[2Jb\u{9b}c\x7f"), r"a\x1b[2Jb\x9bc\x7f");
        assert_eq!(text("exe\u{202e}gpj.\u{2066}\u{2069}"), r"exe\u{202e}gpj.\u{2066}\u{2069}");
        assert_eq!(text("two\nlines\r\t"), r"two\nlines\r\t");
    }

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        for (raw, typed) in [
            ("-lah", "-lah"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's", r#""it's""#),
            ("it's $5", r"'it'\''s $5'"),
            ("a\nb", r"$'a\nb'"),
            ("'\x1b\\", r"$'\'\x1b\\'"),
            ("\u{9b}\u{202e}", r"$'\u009b\u202e'"),
            ("~", "'~'"),
            ("*.rs", "'*.rs'"),
        ] {
            assert_eq!(argument(raw), typed);
        }
        assert_eq!(command_line(["sh", "-c", "echo hi"]), "sh -c 'echo hi'");
    }

    proptest! {
        #[test]
        fn no_unsafe_character_remains(raw in any::<String>()) {
            prop_assert!(!text(&raw).contains(is_unsafe));
            prop_assert!(!argument(&raw).contains(is_unsafe));
        }

        #[test]
        fn a_shell_reads_quoted_arguments_back(raw in "[^\0]{0,12}") {
            let typed = format!("printf %s {}", argument(&raw));
            let out = std::process::Command::new("bash").env("LC_ALL", "C.UTF-8").args(["-c", &typed]).output();
            // Without bash there is nothing to compare with.
            if let Ok(out) = out {
                prop_assert_eq!(String::from_utf8_lossy(&out.stdout), raw);
            }
        }
    }
}
