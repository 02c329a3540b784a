//! The framework of all live screens.
//!
//! Each screen has a state. A key changes the state and may return a [`Request`]. `layout` fits the state to new data or another
//! terminal size. `draw` is a pure function of the state and the data. The loop that calls them is `cli/screen`.

pub(super) mod keys;
pub(super) mod widgets;

/// What the loop of the screen does after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Draw again.
    Redraw,
    /// Draw every cell again, because another program wrote on the screen.
    Clear,
    /// Show a new frame now.
    Refresh,
    /// End the screen.
    End,
}

/// What covers a part of the screen, and takes the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlay {
    /// Nothing.
    #[default]
    None,
    /// Help.
    Help,
    /// Details of one row.
    Details,
    /// A line to type a filter.
    Filter,
    /// A line to type a search text.
    Search,
    /// A menu of the columns to sort by.
    SortMenu,
    /// A menu of users.
    UserMenu,
}

/// The part of a list that the screen shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Viewport {
    /// The first row that is shown.
    pub offset: usize,
    /// The number of rows that fit.
    pub rows: usize,
}

impl Viewport {
    /// Scrolls no further than to the last of `total` rows.
    pub fn clamp(&mut self, total: usize) {
        self.offset = self.offset.min(total.saturating_sub(self.rows));
    }

    /// Scrolls as little as possible until the row at `selected` of `total` is visible.
    pub fn reveal(&mut self, selected: usize, total: usize) {
        let rows = self.rows.max(1);
        let offset = self.offset.clamp((selected + 1).saturating_sub(rows), selected);
        self.offset = offset.min(total.saturating_sub(rows));
    }

    /// Returns those items of a list that are visible.
    pub fn visible<I: IntoIterator>(self, items: I) -> impl Iterator<Item = I::Item> {
        items.into_iter().skip(self.offset).take(self.rows)
    }
}
