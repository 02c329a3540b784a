//! The text of the help.

/// The keys.
pub(super) const KEYS: [(&str, &str); 13] = [
    ("F1 h ?", "this help"),
    ("Enter i", "all about a container"),
    ("F6 > <", "sort by the next column, or by the one before"),
    ("s", "sort by state: what runs, the newest first"),
    ("U P T", "sort by time up, processes, all processes"),
    ("e", "sort by execs a second"),
    ("N M", "sort by name, image"),
    ("I R", "the other way round"),
    ("F4 / \\", "show only rows with a text; Esc clears"),
    ("Z", "freeze the display; counting continues"),
    ("Space", "update the display now"),
    ("arrows j k", "up and down; also PgUp, PgDn, Home, End"),
    ("F10 q", "end"),
];

/// The columns.
pub(super) const COLUMNS: [(&str, &str); 5] = [
    ("UP", "time since its first process was born, or until that ended"),
    ("PROCS", "processes that are in it"),
    ("EVER", "… that were, since it was made or tracing began"),
    ("EXEC/s", "programs that were started in it, a second"),
    ("EXIT", "how its first process ended: exit code or signal"),
];

/// The keys in the bottom line.
pub(super) const FOOT: [(&str, &str); 6] =
    [("F1", "Help"), ("F4", "Filter"), ("F6", "Sort"), ("Enter", "About"), ("Z", "Pause"), ("F10", "Quit")];
