//! What is looked at, and how: changed by keys.

use crossterm::event::{KeyCode, KeyEvent};
use rustc_hash::FxHashSet;

use super::rows::{Key, Row};
use crate::view::keys;
pub use crate::view::keys::Wish;
use crate::view::line::Line;

/// What the rows stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// A process, with what its own children do.
    #[default]
    Process,
    /// A process, with what all do that descend from it, as a tree.
    Ancestor,
    /// All of one name.
    Command,
    /// All of one user.
    User,
    /// All of one container.
    Container,
    /// All of one systemd unit.
    Unit,
}

impl Group {
    /// Every way to group, in the order of the keys 1 to 6.
    pub const ALL: [Self; 6] = [Self::Process, Self::Ancestor, Self::Command, Self::User, Self::Container, Self::Unit];

    /// Its name.
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

/// What the rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Pid.
    Pid,
    /// Processes created.
    #[default]
    Forks,
    /// Execs.
    Execs,
    /// Processes ended.
    Exits,
    /// Those that failed.
    Failures,
    /// CPU time of short-lived processes.
    Cpu,
    /// Processes created since the begin.
    Total,
    /// Command.
    Name,
}

impl Sort {
    /// Every order, as the columns stand.
    pub const ALL: [Self; 8] =
        [Self::Pid, Self::Forks, Self::Execs, Self::Exits, Self::Failures, Self::Cpu, Self::Total, Self::Name];

    /// What the menu calls it.
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

/// What lies over the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// Nothing.
    #[default]
    Nothing,
    /// Help.
    Help,
    /// All about one row.
    Details,
    /// A line in which a filter is typed.
    Filter,
    /// A line in which is typed what is searched for.
    Search,
    /// What to sort by.
    SortMenu,
    /// Whose processes to show.
    UserMenu,
}

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What the rows stand for.
    pub group: Group,
    /// What they are sorted by, the largest first (names and pids: the smallest).
    pub sort: Sort,
    /// The other way round.
    pub inverted: bool,
    /// Only rows that show this text.
    pub filter: String,
    /// Only processes of this user, by name.
    pub user: Option<String>,
    /// Whether the picture stands still.
    pub paused: bool,
    /// Which row is selected, counted from 0.
    pub selected: usize,
    /// The row that stays selected, wherever it goes. None: whichever is at that place.
    pub on: Option<Key>,
    /// First row that is shown.
    pub offset: usize,
    /// What lies over it.
    pub over: Over,
    /// First line that is shown of what lies over it.
    pub scroll: usize,
    /// Which line of a menu is selected, and its lines.
    pub choice: usize,
    /// See [`State::choice`].
    pub choices: Vec<String>,
    /// What is searched for.
    pub search: String,
    /// The details that are shown, of which row; they stay when that is gone.
    pub details: Option<(Key, Vec<Line>)>,
    /// Processes whose descendants are not listed.
    pub folded: FxHashSet<Key>,
}

/// What there is to look at: the rows that are shown, how many fit on the screen, and the users that there are.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The rows.
    pub rows: &'a [Row],
    /// How many fit.
    pub page: usize,
    /// Names of users.
    pub users: &'a [String],
}

/// The first line of the menu of users.
const ALL_USERS: &str = "(all users)";

impl State {
    /// Takes in a key.
    pub fn key(&mut self, key: &KeyEvent, shown: Shown<'_>) -> Option<Wish> {
        if let Some(wish) = keys::anywhere(key) {
            return Some(wish);
        }
        match self.over {
            Over::Filter => self.type_filter(key.code),
            Over::Search => self.type_search(key.code, shown.rows),
            Over::Help | Over::Details if key.code == KeyCode::F(10) => return Some(Wish::End),
            Over::Help | Over::Details => self.popup_key(key.code, shown.page),
            Over::SortMenu | Over::UserMenu => self.menu_key(key.code, shown.page),
            Over::Nothing => return self.plain_key(key.code, shown),
        }
        Some(Wish::Redraw)
    }

    fn type_filter(&mut self, code: KeyCode) {
        if keys::typed(code, &mut self.filter) {
            self.over = Over::Nothing;
        }
        self.select_place(0);
    }

    fn type_search(&mut self, code: KeyCode, rows: &[Row]) {
        match code {
            KeyCode::F(3) | KeyCode::Down => self.find(rows, self.selected + 1),
            _ if keys::typed(code, &mut self.search) => self.over = Over::Nothing,
            KeyCode::Char(_) => self.find(rows, self.selected),
            _ => {}
        }
    }

    /// Selects the next row that shows what is searched for, the first one after the last.
    fn find(&mut self, rows: &[Row], from: usize) {
        let from = if rows.is_empty() { 0 } else { from % rows.len() };
        let (before, after) = rows.split_at(from);
        let places = (from..rows.len()).zip(after).chain((0..from).zip(before));
        let found = places.into_iter().find(|(_, row)| !self.search.is_empty() && row.shows(&self.search));
        if let Some((at, row)) = found {
            (self.selected, self.on) = (at, Some(row.key));
        }
    }

    /// Help and details are scrolled; any other key closes them.
    fn popup_key(&mut self, code: KeyCode, page: usize) {
        if code == KeyCode::Char('Z') {
            self.paused ^= true;
        } else if let Some(scroll) = keys::moved(code, self.scroll, page) {
            // How far it can be scrolled is known when it is drawn.
            self.scroll = scroll;
        } else {
            self.over = Over::Nothing;
        }
    }

    fn menu_key(&mut self, code: KeyCode, page: usize) {
        let last = self.choices.len().saturating_sub(1);
        if let Some(choice) = keys::moved(code, self.choice, page) {
            self.choice = choice.min(last);
            return;
        }
        if code == KeyCode::Enter {
            let (choice, chosen) = (self.choice.min(last), self.choices.get(self.choice.min(last)));
            if self.over == Over::SortMenu {
                self.sort_by(Sort::ALL[choice.min(Sort::ALL.len() - 1)]);
            } else {
                self.user = chosen.filter(|_| choice > 0).cloned();
                self.select_place(0);
            }
        }
        self.over = Over::Nothing;
    }

    fn open_menu(&mut self, menu: Over, choices: Vec<String>, choice: usize) {
        (self.over, self.choices, self.choice) = (menu, choices, choice);
    }

    fn plain_key(&mut self, code: KeyCode, shown: Shown<'_>) -> Option<Wish> {
        let Shown { rows, page, users } = shown;
        let last = rows.len().saturating_sub(1);
        let here = rows.get(self.selected.min(last)).map(|row| row.key);
        if let Some(place) = keys::moved(code, self.selected.min(last), page) {
            self.selected = place.min(last);
            // At the top it is the first row, whichever that is.
            self.on = rows.get(self.selected).map(|row| row.key).filter(|_| self.selected > 0);
            return Some(Wish::Redraw);
        }
        match code {
            KeyCode::F(10) | KeyCode::Char('q') => return Some(Wish::End),
            KeyCode::Char(' ') => return Some(Wish::Refresh),
            KeyCode::F(1) | KeyCode::Char('h' | '?') => (self.over, self.scroll) = (Over::Help, 0),
            KeyCode::F(3) | KeyCode::Char('/') => {
                self.search.clear();
                self.over = Over::Search;
            }
            KeyCode::Char('n') => self.find(rows, self.selected + 1),
            KeyCode::F(4) | KeyCode::Char('\\') => self.over = Over::Filter,
            KeyCode::F(5) | KeyCode::Char('t') => self.look_at(match self.group {
                Group::Ancestor => Group::Process,
                _ => Group::Ancestor,
            }),
            KeyCode::Tab | KeyCode::Char('g') => self.next_group(1),
            KeyCode::BackTab => self.next_group(Group::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='6') => self.look_at(Group::ALL[digit as usize - '1' as usize]),
            KeyCode::F(6) => {
                let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
                self.open_menu(Over::SortMenu, Sort::ALL.map(|sort| sort.title().to_owned()).to_vec(), at);
            }
            KeyCode::Char('u') => {
                let choices: Vec<String> = std::iter::once(ALL_USERS.to_owned()).chain(users.iter().cloned()).collect();
                let at = self.user.as_ref().and_then(|user| choices.iter().position(|choice| choice == user));
                self.open_menu(Over::UserMenu, choices, at.unwrap_or(0));
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
                let at = rows.iter().position(|row| row.culprit)?;
                (self.selected, self.on) = (at, Some(rows[at].key));
            }
            KeyCode::Char('+' | '-') | KeyCode::Left | KeyCode::Right => {
                let fold = matches!(code, KeyCode::Char('-') | KeyCode::Left);
                if let Some(key) = here {
                    if fold {
                        self.folded.insert(key)
                    } else {
                        self.folded.remove(&key)
                    };
                }
            }
            KeyCode::Char('*') => {
                if self.folded.is_empty() {
                    self.folded.extend(rows.iter().map(|row| row.key));
                } else {
                    self.folded.clear();
                }
            }
            KeyCode::Enter | KeyCode::Char('i') => {
                self.details = Some((here?, Vec::new()));
                (self.over, self.scroll) = (Over::Details, 0);
            }
            KeyCode::Esc => {
                self.filter.clear();
                self.user = None;
            }
            _ => return None,
        }
        Some(Wish::Redraw)
    }

    fn select_place(&mut self, place: usize) {
        (self.selected, self.on) = (place, None);
    }

    fn look_at(&mut self, group: Group) {
        self.group = group;
        self.offset = 0;
        self.select_place(0);
    }

    fn next_group(&mut self, by: usize) {
        let at = Group::ALL.iter().position(|group| *group == self.group).unwrap_or(0);
        self.look_at(Group::ALL[(at + by) % Group::ALL.len()]);
    }

    fn next_sort(&mut self, by: usize) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        self.sort_by(Sort::ALL[(at + by) % Sort::ALL.len()]);
    }

    const fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.inverted = false;
    }

    /// Keeps the selection on its row, or else among those there are, and in view where so many fit.
    pub fn clamp(&mut self, rows: &[Row], page: usize) {
        match self.on.and_then(|on| rows.iter().position(|row| row.key == on)) {
            Some(at) => self.selected = at,
            None => self.select_place(self.selected.min(rows.len().saturating_sub(1))),
        }
        self.offset = keys::scrolled(self.offset, self.selected, rows.len(), page);
    }
}
