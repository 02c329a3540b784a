//! Keys that mean the same on several screens.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Request;

/// Returns the request of a key that works whatever the screen shows.
pub(in crate::view) fn global(key: &KeyEvent) -> Option<Request> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Request::End),
        KeyCode::Char('l') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Request::Clear),
        _ => None,
    }
}

/// Returns the row to which a key moves from another row, or `None` for any other key.
pub(in crate::view) fn moved(code: KeyCode, from: usize, page: usize) -> Option<usize> {
    Some(match code {
        KeyCode::Down | KeyCode::Char('j') => from.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
        KeyCode::PageDown => from.saturating_add(page.max(1)),
        KeyCode::PageUp => from.saturating_sub(page.max(1)),
        KeyCode::Home => 0,
        KeyCode::End | KeyCode::Char('G') => usize::MAX,
        _ => return None,
    })
}

/// Types a key into a line. Returns true if the key ends the input: Enter and F4 keep the text, Esc clears it.
pub(in crate::view) fn typed(code: KeyCode, line: &mut String) -> bool {
    match code {
        KeyCode::Enter | KeyCode::F(4) => return true,
        KeyCode::Esc => {
            line.clear();
            return true;
        }
        KeyCode::Backspace => drop(line.pop()),
        KeyCode::Char(c) => line.push(c),
        _ => {}
    }
    false
}
