//! What is looked at, and how: changed by keys.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rustc_hash::FxHashSet;

use super::rows::Key;
pub use crate::view::screen::{Over, Wish};

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
    /// Whether the picture stands still.
    pub paused: bool,
    /// Which row is selected, counted from 0.
    pub selected: usize,
    /// First row that is shown.
    pub offset: usize,
    /// What lies over it.
    pub over: Over,
    /// Processes whose descendants are not listed.
    pub folded: FxHashSet<Key>,
}

impl State {
    /// Takes in a key. `rows` are those that are shown now, `page` is how many fit on the screen.
    pub fn key(&mut self, key: &KeyEvent, rows: &[Key], page: usize) -> Option<Wish> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Some(Wish::End),
            KeyCode::Char('l') if control => return Some(Wish::Clear),
            _ => {}
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
        match code {
            KeyCode::Enter | KeyCode::F(4) => self.over = Over::Nothing,
            KeyCode::Esc => {
                self.filter.clear();
                self.over = Over::Nothing;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
        self.selected = 0;
    }

    fn plain_key(&mut self, code: KeyCode, rows: &[Key], page: usize) -> Option<Wish> {
        let last = rows.len().saturating_sub(1);
        let here = rows.get(self.selected.min(last)).copied();
        match code {
            KeyCode::F(10) | KeyCode::Char('q') => return Some(Wish::End),
            KeyCode::Char(' ') => return Some(Wish::Refresh),
            KeyCode::F(1) | KeyCode::Char('h' | '?') => self.over = Over::Help,
            KeyCode::F(3 | 4) | KeyCode::Char('/' | '\\') => self.over = Over::Filter,
            KeyCode::F(5) | KeyCode::Char('t') => self.look_at(match self.group {
                Group::Ancestor => Group::Process,
                _ => Group::Ancestor,
            }),
            KeyCode::Tab | KeyCode::Char('g') => self.next_group(1),
            KeyCode::BackTab => self.next_group(Group::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='6') => self.look_at(Group::ALL[digit as usize - '1' as usize]),
            KeyCode::F(6) | KeyCode::Char('>' | '.') => self.next_sort(1),
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
                    self.folded.extend(rows);
                } else {
                    self.folded.clear();
                }
            }
            KeyCode::Enter | KeyCode::Char('i') if here.is_some() => self.over = Over::Details,
            KeyCode::Down | KeyCode::Char('j') => self.selected = (self.selected + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.min(last).saturating_sub(1),
            KeyCode::PageDown => self.selected = (self.selected + page.max(1)).min(last),
            KeyCode::PageUp => self.selected = self.selected.min(last).saturating_sub(page.max(1)),
            KeyCode::Home => self.selected = 0,
            KeyCode::End | KeyCode::Char('G') => self.selected = last,
            KeyCode::Esc => self.filter.clear(),
            _ => return None,
        }
        Some(Wish::Redraw)
    }

    fn look_at(&mut self, group: Group) {
        self.group = group;
        (self.selected, self.offset) = (0, 0);
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

    /// Keeps the selection among so many rows, and in view where so many fit.
    pub fn clamp(&mut self, rows: usize, page: usize) {
        self.selected = self.selected.min(rows.saturating_sub(1));
        let page = page.max(1);
        self.offset = self.offset.clamp((self.selected + 1).saturating_sub(page), self.selected);
        self.offset = self.offset.min(rows.saturating_sub(page));
    }
}
