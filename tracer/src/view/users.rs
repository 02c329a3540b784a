//! Names of users.

use std::cell::RefCell;
use std::sync::Arc;

use nix::unistd::{Uid, User};
use rustc_hash::FxHashMap;

use super::escape;

/// Names of users, each looked up once; a number where there is no name.
#[derive(Debug)]
pub struct Users {
    names: RefCell<FxHashMap<u32, Arc<str>>>,
    lookup: fn(u32) -> Option<String>,
}

impl Users {
    /// As the system knows them.
    pub fn of_system() -> Self {
        Self::new(|uid| Some(User::from_uid(Uid::from_raw(uid)).ok()??.name))
    }

    /// As a function knows them.
    pub fn new(lookup: fn(u32) -> Option<String>) -> Self {
        Self { names: RefCell::default(), lookup }
    }

    /// The name of one, safe for a terminal.
    pub fn name(&self, uid: u32) -> Arc<str> {
        let mut names = self.names.borrow_mut();
        let name = names.entry(uid).or_insert_with(|| match (self.lookup)(uid) {
            Some(name) => escape::text(&name).into(),
            None => uid.to_string().into(),
        });
        Arc::clone(name)
    }
}
