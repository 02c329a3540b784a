//! How the text of a view is written.

use jiff::tz::TimeZone;

use super::glyphs::Glyphs;
use super::users::Users;

/// The signs, the time zone and the user names of a view.
#[derive(Debug)]
pub struct TextStyle {
    /// Signs.
    pub glyphs: &'static Glyphs,
    /// Time zone of the times.
    pub zone: TimeZone,
    /// Names of users.
    pub users: Users,
}

impl TextStyle {
    /// Returns the style of this machine: its locale, time zone and users.
    pub fn of_system() -> Self {
        Self { glyphs: Glyphs::of_locale(), zone: TimeZone::system(), users: Users::of_system() }
    }
}
