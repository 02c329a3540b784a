//! What is looked at, and how: changed by keys.

use crossterm::event::{KeyCode, KeyEvent};

use crate::view::keys;
pub use crate::view::keys::Wish;
pub use crate::view::screen::Over;

/// What the rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// What runs, what was created, what has ended; the newest first.
    #[default]
    State,
    /// Time since its start, or from that to its end.
    Up,
    /// Processes in it.
    Processes,
    /// Processes that ever were.
    Ever,
    /// Execs a second.
    Execs,
    /// Name.
    Name,
    /// Image.
    Image,
}

impl Sort {
    /// Every order, as the columns stand.
    pub const ALL: [Self; 7] =
        [Self::State, Self::Up, Self::Processes, Self::Ever, Self::Execs, Self::Name, Self::Image];
}

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Only these containers: names, ids or how they begin. Empty for all.
    pub only: Vec<String>,
    /// What they are sorted by, the largest first (names: the smallest).
    pub sort: Sort,
    /// The other way round.
    pub inverted: bool,
    /// Only rows that show this text.
    pub filter: String,
    /// Whether the picture stands still.
    pub paused: bool,
    /// Which row is selected, counted from 0.
    pub selected: usize,
    /// First row that is shown.
    pub offset: usize,
    /// What lies over it.
    pub over: Over,
}

impl State {
    /// Takes in a key. `rows` is how many there are, `page` how many fit on the screen.
    pub fn key(&mut self, key: &KeyEvent, rows: usize, page: usize) -> Option<Wish> {
        if let Some(wish) = keys::anywhere(key) {
            return Some(wish);
        }
        match self.over {
            Over::Filter => self.type_filter(key.code),
            Over::Help | Over::Details => match key.code {
                KeyCode::F(10) => return Some(Wish::End),
                KeyCode::Char('Z') => self.paused ^= true,
                _ => self.over = Over::Nothing,
            },
            Over::Nothing => return self.plain_key(key.code, rows, page),
        }
        Some(Wish::Redraw)
    }

    fn type_filter(&mut self, code: KeyCode) {
        if keys::typed(code, &mut self.filter) {
            self.over = Over::Nothing;
        }
        self.selected = 0;
    }

    fn plain_key(&mut self, code: KeyCode, rows: usize, page: usize) -> Option<Wish> {
        let last = rows.saturating_sub(1);
        if let Some(place) = keys::moved(code, self.selected.min(last), page) {
            self.selected = place.min(last);
            return Some(Wish::Redraw);
        }
        match code {
            KeyCode::F(10) | KeyCode::Char('q') => return Some(Wish::End),
            KeyCode::Char(' ') => return Some(Wish::Refresh),
            KeyCode::F(1) | KeyCode::Char('h' | '?') => self.over = Over::Help,
            KeyCode::F(3 | 4) | KeyCode::Char('/' | '\\') => self.over = Over::Filter,
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
            KeyCode::Enter | KeyCode::Char('i') if rows > 0 => self.over = Over::Details,
            KeyCode::Char('g') => self.selected = 0,
            KeyCode::Esc => self.filter.clear(),
            _ => return None,
        }
        Some(Wish::Redraw)
    }

    fn next_sort(&mut self, by: usize) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        self.sort_by(Sort::ALL[(at + by) % Sort::ALL.len()]);
    }

    const fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.inverted = false;
    }

    /// Keeps the selection among so many rows, and in view where so many fit.
    pub fn clamp(&mut self, rows: usize, page: usize) {
        self.selected = self.selected.min(rows.saturating_sub(1));
        self.offset = keys::scrolled(self.offset, self.selected, rows, page);
    }
}
