//! What keys mean on every live screen.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for that is not a matter of looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Draw again.
    Redraw,
    /// Draw all of it again: something else has written on the screen.
    Clear,
    /// A new picture, now.
    Refresh,
    /// The end.
    End,
}

/// What a key means whatever is on the screen.
pub(super) fn anywhere(key: &KeyEvent) -> Option<Wish> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::End),
        KeyCode::Char('l') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Clear),
        _ => None,
    }
}

/// Where a key that moves leads from a place; none if it is another key.
pub(super) fn moved(code: KeyCode, from: usize, page: usize) -> Option<usize> {
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

/// Types into a line. True when that is done: Enter and F4 keep what is typed, Esc clears it.
pub(super) fn typed(code: KeyCode, line: &mut String) -> bool {
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

/// The first row that is shown, so that the selected one is in view where so many fit, moved no more than need be.
pub(super) fn scrolled(offset: usize, selected: usize, rows: usize, page: usize) -> usize {
    let page = page.max(1);
    offset.clamp((selected + 1).saturating_sub(page), selected).min(rows.saturating_sub(page))
}
