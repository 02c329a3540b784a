//! What the view shows. Keys change it.

use crossterm::event::{KeyCode, KeyEvent};
use rustc_hash::FxHashSet;

use super::rows::{Key, Row};
use crate::view::line::Line;
use crate::view::screen::{Overlay, Request, Viewport, keys};

/// What a row stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// A process, with the activity of its own children
    #[default]
    Process,
    /// A process, with the activity of all its descendants, as a tree
    Ancestor,
    /// All processes with one name
    Command,
    /// All processes of one user
    User,
    /// All processes in one container
    Container,
    /// All processes of one systemd unit
    Unit,
}

impl Group {
    /// All groups, in the order of the keys 1 to 6.
    pub const ALL: [Self; 6] = [Self::Process, Self::Ancestor, Self::Command, Self::User, Self::Container, Self::Unit];

    /// Returns the name of the group.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Ancestor => "ancestor",
            Self::Command => "command",
            Self::User => "user",
            Self::Container => "container",
            Self::Unit => "unit",
        }
    }
}

/// The column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Pid
    Pid,
    /// Processes created per second
    #[default]
    Forks,
    /// Execs per second
    Execs,
    /// Processes that exited per second
    Exits,
    /// Processes that failed per second
    Failures,
    /// CPU time of short-lived processes
    Cpu,
    /// Processes created since the start
    Total,
    /// Command
    Name,
}

impl Sort {
    /// All columns, from left to right.
    pub const ALL: [Self; 8] =
        [Self::Pid, Self::Forks, Self::Execs, Self::Exits, Self::Failures, Self::Cpu, Self::Total, Self::Name];

    /// Returns the name in the menu.
    const fn title(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Forks => "forks a second",
            Self::Execs => "execs a second",
            Self::Exits => "exits a second",
            Self::Failures => "failures a second",
            Self::Cpu => "CPU of the short-lived",
            Self::Total => "forks in all",
            Self::Name => "command",
        }
    }
}

/// What the view shows: the query, the selection, and what the last [`TopState::layout`] made of them.
#[derive(Clone, Debug, Default)]
pub struct TopState {
    /// What a row stands for.
    pub group: Group,
    /// The column to sort by: numbers in descending order, names and pids in ascending order.
    pub sort: Sort,
    /// Whether the order is reversed.
    pub inverted: bool,
    /// A text that each row must show.
    pub filter: String,
    /// The name of the only user whose processes are shown.
    pub user: Option<String>,
    /// Processes whose descendants are not listed.
    pub folded: FxHashSet<Key>,
    /// Whether the frame stays, while events are still counted.
    pub paused: bool,
    /// The index of the selected row.
    pub selected: usize,
    /// The row that stays selected when it moves. `None` selects any row that comes to the index.
    pub pinned: Option<Key>,
    /// What covers the table.
    pub overlay: Overlay,
    /// The first visible line of a popup.
    pub scroll: usize,
    /// The selected line of a menu.
    pub choice: usize,
    /// The lines of a menu.
    pub choices: Vec<String>,
    /// The text to search for.
    pub search: String,
    /// The row whose details are shown, and the details. They stay when the row is gone.
    pub details: Option<(Key, Vec<Line>)>,
    /// The visible part of the table.
    pub viewport: Viewport,
    /// All rows.
    pub rows: Vec<Row>,
    /// The names of all users with processes.
    pub users: Vec<String>,
}

/// The first line of the menu of users.
const ALL_USERS: &str = "(all users)";

impl TopState {
    /// Handles a key.
    pub fn key(&mut self, key: &KeyEvent) -> Option<Request> {
        if let Some(request) = keys::global(key) {
            return Some(request);
        }
        match self.overlay {
            Overlay::Filter => self.type_filter(key.code),
            Overlay::Search => self.type_search(key.code),
            Overlay::Help | Overlay::Details if key.code == KeyCode::F(10) => return Some(Request::End),
            Overlay::Help | Overlay::Details => self.popup_key(key.code),
            Overlay::SortMenu | Overlay::UserMenu => self.menu_key(key.code),
            Overlay::None => return self.table_key(key.code),
        }
        Some(Request::Redraw)
    }

    fn type_filter(&mut self, code: KeyCode) {
        if keys::typed(code, &mut self.filter) {
            self.overlay = Overlay::None;
        }
        self.select_index(0);
    }

    fn type_search(&mut self, code: KeyCode) {
        match code {
            KeyCode::F(3) | KeyCode::Down => self.find(self.selected + 1),
            _ if keys::typed(code, &mut self.search) => self.overlay = Overlay::None,
            KeyCode::Char(_) => self.find(self.selected),
            _ => {}
        }
    }

    /// Selects the next row with the search text. After the last row comes the first.
    fn find(&mut self, from: usize) {
        let rows = &self.rows;
        let from = if rows.is_empty() { 0 } else { from % rows.len() };
        let (before, after) = rows.split_at(from);
        let indexed = (from..rows.len()).zip(after).chain((0..from).zip(before));
        let found = indexed.into_iter().find(|(_, row)| !self.search.is_empty() && row.shows(&self.search));
        if let Some((at, row)) = found {
            (self.selected, self.pinned) = (at, Some(row.key));
        }
    }

    /// Scrolls or closes help and details.
    fn popup_key(&mut self, code: KeyCode) {
        if code == KeyCode::Char('Z') {
            self.paused ^= true;
        } else if let Some(scroll) = keys::moved(code, self.scroll, self.viewport.rows) {
            // `layout` limits it.
            self.scroll = scroll;
        } else {
            self.overlay = Overlay::None;
        }
    }

    fn menu_key(&mut self, code: KeyCode) {
        let last = self.choices.len().saturating_sub(1);
        if let Some(choice) = keys::moved(code, self.choice, self.viewport.rows) {
            self.choice = choice.min(last);
            return;
        }
        if code == KeyCode::Enter {
            let choice = self.choice.min(last);
            if self.overlay == Overlay::SortMenu {
                self.sort_by(Sort::ALL[choice.min(Sort::ALL.len() - 1)]);
            } else {
                self.user = self.choices.get(choice).filter(|_| choice > 0).cloned();
                self.select_index(0);
            }
        }
        self.overlay = Overlay::None;
    }

    fn open_menu(&mut self, menu: Overlay, choices: Vec<String>, choice: usize) {
        (self.overlay, self.choices, self.choice) = (menu, choices, choice);
    }

    fn table_key(&mut self, code: KeyCode) -> Option<Request> {
        let last = self.rows.len().saturating_sub(1);
        if let Some(index) = keys::moved(code, self.selected.min(last), self.viewport.rows) {
            self.selected = index.min(last);
            // The top stays selected, whichever row it is.
            self.pinned = self.rows.get(self.selected).map(|row| row.key).filter(|_| self.selected > 0);
            return Some(Request::Redraw);
        }
        match code {
            KeyCode::F(10) | KeyCode::Char('q') => return Some(Request::End),
            KeyCode::Char(' ') => return Some(Request::Refresh),
            KeyCode::F(1) | KeyCode::Char('h' | '?') => (self.overlay, self.scroll) = (Overlay::Help, 0),
            KeyCode::F(3) | KeyCode::Char('/') => {
                self.search.clear();
                self.overlay = Overlay::Search;
            }
            KeyCode::Char('n') => self.find(self.selected + 1),
            KeyCode::F(4) | KeyCode::Char('\\') => self.overlay = Overlay::Filter,
            KeyCode::F(5) | KeyCode::Char('t') => self.group_by(match self.group {
                Group::Ancestor => Group::Process,
                _ => Group::Ancestor,
            }),
            KeyCode::Tab | KeyCode::Char('g') => self.next_group(1),
            KeyCode::BackTab => self.next_group(Group::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='6') => self.group_by(Group::ALL[digit as usize - '1' as usize]),
            KeyCode::F(6) => {
                let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
                self.open_menu(Overlay::SortMenu, Sort::ALL.map(|sort| sort.title().to_owned()).to_vec(), at);
            }
            KeyCode::Char('u') => {
                let all = std::iter::once(ALL_USERS.to_owned());
                let choices: Vec<String> = all.chain(self.users.iter().cloned()).collect();
                let at = self.user.as_ref().and_then(|user| choices.iter().position(|choice| choice == user));
                self.open_menu(Overlay::UserMenu, choices, at.unwrap_or(0));
            }
            KeyCode::Char('>' | '.') => self.next_sort(1),
            KeyCode::Char('<' | ',') => self.next_sort(Sort::ALL.len() - 1),
            KeyCode::Char('N') => self.sort_by(Sort::Pid),
            KeyCode::Char('f') => self.sort_by(Sort::Forks),
            KeyCode::Char('e') => self.sort_by(Sort::Execs),
            KeyCode::Char('x') => self.sort_by(Sort::Exits),
            KeyCode::Char('F' | '!') => self.sort_by(Sort::Failures),
            KeyCode::Char('P') => self.sort_by(Sort::Cpu),
            KeyCode::Char('T') => self.sort_by(Sort::Total),
            KeyCode::Char('C') => self.sort_by(Sort::Name),
            KeyCode::Char('I' | 'R') => self.inverted ^= true,
            KeyCode::Char('Z') => self.paused ^= true,
            KeyCode::Char('c') => {
                let at = self.rows.iter().position(|row| row.culprit)?;
                (self.selected, self.pinned) = (at, Some(self.rows[at].key));
            }
            KeyCode::Char('-') | KeyCode::Left => self.folded.extend(self.selected_key()),
            KeyCode::Char('+') | KeyCode::Right => {
                if let Some(key) = self.selected_key() {
                    self.folded.remove(&key);
                }
            }
            KeyCode::Char('*') => {
                if self.folded.is_empty() {
                    self.folded.extend(self.rows.iter().map(|row| row.key));
                } else {
                    self.folded.clear();
                }
            }
            KeyCode::Enter | KeyCode::Char('i') => {
                self.details = Some((self.selected_key()?, Vec::new()));
                (self.overlay, self.scroll) = (Overlay::Details, 0);
            }
            KeyCode::Esc => {
                self.filter.clear();
                self.user = None;
            }
            _ => return None,
        }
        Some(Request::Redraw)
    }

    fn selected_key(&self) -> Option<Key> {
        let last = self.rows.len().saturating_sub(1);
        self.rows.get(self.selected.min(last)).map(|row| row.key)
    }

    fn select_index(&mut self, index: usize) {
        (self.selected, self.pinned) = (index, None);
    }

    fn group_by(&mut self, group: Group) {
        self.group = group;
        self.viewport.offset = 0;
        self.select_index(0);
    }

    fn next_group(&mut self, by: usize) {
        let at = Group::ALL.iter().position(|group| *group == self.group).unwrap_or(0);
        self.group_by(Group::ALL[(at + by) % Group::ALL.len()]);
    }

    fn next_sort(&mut self, by: usize) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        self.sort_by(Sort::ALL[(at + by) % Sort::ALL.len()]);
    }

    const fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.inverted = false;
    }

    /// Keeps the selection on its row, or on an existing one, and in the viewport.
    pub(super) fn follow_selection(&mut self) {
        match self.pinned.and_then(|pinned| self.rows.iter().position(|row| row.key == pinned)) {
            Some(at) => self.selected = at,
            None => self.select_index(self.selected.min(self.rows.len().saturating_sub(1))),
        }
        self.viewport.reveal(self.selected, self.rows.len());
    }
}
