//! What the view shows. Keys change it.

use crossterm::event::{KeyCode, KeyEvent};

use crate::view::screen::{Overlay, Request, Viewport, keys};

/// The column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Running, then created, then exited containers; the newest first
    #[default]
    State,
    /// Time from start to end, or until now
    Up,
    /// Processes in the container
    Processes,
    /// All processes that were ever in the container
    Ever,
    /// Execs per second
    Execs,
    /// Name
    Name,
    /// Image
    Image,
}

impl Sort {
    /// All columns, from left to right.
    pub const ALL: [Self; 7] =
        [Self::State, Self::Up, Self::Processes, Self::Ever, Self::Execs, Self::Name, Self::Image];
}

/// What the view shows: the query, the selection, and what the last [`ContainersState::layout`] made of them.
#[derive(Clone, Debug, Default)]
pub struct ContainersState {
    /// Names, ids or prefixes of ids of the containers that are shown. Empty for all.
    pub only: Vec<String>,
    /// The column to sort by: numbers in descending order, names in ascending order.
    pub sort: Sort,
    /// Whether the order is reversed.
    pub inverted: bool,
    /// A text that each row must show.
    pub filter: String,
    /// Whether the frame stays, while events are still counted.
    pub paused: bool,
    /// The index of the selected row.
    pub selected: usize,
    /// What covers the table.
    pub overlay: Overlay,
    /// The visible part of the table.
    pub viewport: Viewport,
    /// The number of rows of the table.
    pub rows: usize,
}

impl ContainersState {
    /// Handles a key.
    pub fn key(&mut self, key: &KeyEvent) -> Option<Request> {
        if let Some(request) = keys::global(key) {
            return Some(request);
        }
        match self.overlay {
            Overlay::None => return self.table_key(key.code),
            Overlay::Filter => self.type_filter(key.code),
            _ => match key.code {
                KeyCode::F(10) => return Some(Request::End),
                KeyCode::Char('Z') => self.paused ^= true,
                _ => self.overlay = Overlay::None,
            },
        }
        Some(Request::Redraw)
    }

    fn type_filter(&mut self, code: KeyCode) {
        if keys::typed(code, &mut self.filter) {
            self.overlay = Overlay::None;
        }
        self.selected = 0;
    }

    fn table_key(&mut self, code: KeyCode) -> Option<Request> {
        let last = self.rows.saturating_sub(1);
        if let Some(index) = keys::moved(code, self.selected.min(last), self.viewport.rows) {
            self.selected = index.min(last);
            return Some(Request::Redraw);
        }
        match code {
            KeyCode::F(10) | KeyCode::Char('q') => return Some(Request::End),
            KeyCode::Char(' ') => return Some(Request::Refresh),
            KeyCode::F(1) | KeyCode::Char('h' | '?') => self.overlay = Overlay::Help,
            KeyCode::F(3 | 4) | KeyCode::Char('/' | '\\') => self.overlay = Overlay::Filter,
            KeyCode::F(6) | KeyCode::Char('>' | '.') => self.next_sort(1),
            KeyCode::Char('<' | ',') => self.next_sort(Sort::ALL.len() - 1),
            KeyCode::Char('s') => self.sort_by(Sort::State),
            KeyCode::Char('U') => self.sort_by(Sort::Up),
            KeyCode::Char('P') => self.sort_by(Sort::Processes),
            KeyCode::Char('T') => self.sort_by(Sort::Ever),
            KeyCode::Char('e') => self.sort_by(Sort::Execs),
            KeyCode::Char('N') => self.sort_by(Sort::Name),
            KeyCode::Char('M') => self.sort_by(Sort::Image),
            KeyCode::Char('I' | 'R') => self.inverted ^= true,
            KeyCode::Char('Z') => self.paused ^= true,
            KeyCode::Enter | KeyCode::Char('i') if self.rows > 0 => self.overlay = Overlay::Details,
            KeyCode::Char('g') => self.selected = 0,
            KeyCode::Esc => self.filter.clear(),
            _ => return None,
        }
        Some(Request::Redraw)
    }

    fn next_sort(&mut self, by: usize) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        self.sort_by(Sort::ALL[(at + by) % Sort::ALL.len()]);
    }

    const fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.inverted = false;
    }
}
