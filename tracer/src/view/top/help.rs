//! The text of the help.

/// The keys.
pub(super) const KEYS: [(&str, &str); 20] = [
    ("F1 h ?", "this help"),
    ("Enter i", "all about a row: its ancestors, what it ran, how that ended"),
    ("c", "to the one that most of it comes from"),
    ("1 … 6", "group by process, ancestor, command, user, container, unit"),
    ("Tab g", "the next group"),
    ("F5 t", "by ancestor: everything counts for all who are above it"),
    ("F6", "choose what to sort by; > and < go to the next column, and back"),
    ("f e x F", "sort by forks, execs, exits, failures"),
    ("P T N C", "sort by CPU, total, pid, command"),
    ("I R", "the other way round"),
    ("F3 /", "search for a text, a user or a pid; n goes on to the next"),
    ("F4 \\", "show only rows with a text, a user or a pid; Esc clears"),
    ("u", "choose whose processes to show; Esc clears"),
    ("- Left", "fold what is below a row"),
    ("+ Right", "unfold it"),
    ("*", "fold all, or unfold all"),
    ("Z", "freeze the display; counting continues"),
    ("Space", "update the display now"),
    ("arrows j k", "up and down, as PgUp, PgDn, Home, End; the row stays selected"),
    ("F10 q", "end"),
];

/// The columns.
pub(super) const COLUMNS: [(&str, &str); 3] = [
    ("FORK/s …", "what children did (by ancestor: all descendants), a second"),
    ("CPU%", "CPU time of processes that lived 10 s at most and ended"),
    ("TOTAL", "processes created since tracer top began"),
];

/// The keys in the bottom line.
pub(super) const FOOT: [(&str, &str); 8] = [
    ("F1", "Help"),
    ("F3", "Search"),
    ("F4", "Filter"),
    ("F5", "Tree"),
    ("F6", "Sort"),
    ("Tab", "Group"),
    ("Z", "Pause"),
    ("F10", "Quit"),
];
