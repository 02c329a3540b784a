//! Names of users by number.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use super::passwd::{Passwd, User};

/// Names of users by number, as `/etc/passwd` has them. It is read again when a number is missing and the file has changed.
#[derive(Debug)]
pub struct UserNames {
    passwd: Passwd,
    names: HashMap<u32, String>,
    /// Which state of the file the names are from.
    read: Option<Stamp>,
}

/// A state of a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), bytes: meta.size(), changed: (meta.ctime(), meta.ctime_nsec()) }
    }
}

impl UserNames {
    /// Those of this machine.
    pub fn of_system() -> Self {
        Self { passwd: Passwd::of_system(), names: HashMap::new(), read: None }
    }

    #[cfg(test)]
    fn at(path: impl Into<std::path::PathBuf>) -> Self {
        Self { passwd: Passwd { path: path.into() }, names: HashMap::new(), read: None }
    }

    /// The name of a user, if the file has one.
    pub fn name(&mut self, uid: u32) -> Option<&str> {
        if !self.names.contains_key(&uid) && self.has_changed() {
            let users = self.passwd.read();
            self.names.clear();
            for User { name, uid } in users {
                // As with `getpwuid`.
                self.names.entry(uid).or_insert(name);
            }
        }
        self.names.get(&uid).map(String::as_str)
    }

    /// Notes the present state of the file; true if it was another before.
    fn has_changed(&mut self) -> bool {
        let now = std::fs::metadata(&self.passwd.path).ok().map(|meta| Stamp::of(&meta));
        let changed = self.read != now;
        self.read = now;
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_user_that_is_added_later_is_found() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("passwd");
        let mut names = UserNames::at(&path);
        assert_eq!(names.name(7), None, "there is no file");
        fs::write(&path, "one:x:7:7:::\ntwo:x:7:7:::\n").unwrap();
        assert_eq!(names.name(7), Some("one"), "the first line counts");
        assert_eq!(names.name(8), None);
        fs::write(&path, "one:x:7:7:::\nthree:x:8:8:::\n").unwrap();
        assert_eq!(names.name(8), Some("three"));
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let place = tempfile::tempdir().unwrap();
        let fifo = place.path().join("passwd");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(UserNames::at(&fifo).name(0), None, "and it does not block");
        assert_eq!(UserNames::at(place.path()).name(0), None);
    }
}
