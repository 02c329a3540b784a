//! Names of users.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::escape;
use crate::sys::user_names::UserNames;

/// Looks up names of users, each once. A user without a name is shown as a number.
pub struct Users {
    names: RefCell<FxHashMap<u32, Arc<str>>>,
    lookup: RefCell<Lookup>,
}

/// Finds the name of a user.
type Lookup = Box<dyn FnMut(u32) -> Option<String> + Send>;

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Users {
    /// Returns the users of `/etc/passwd`.
    pub fn of_system() -> Self {
        let mut names = UserNames::of_system();
        Self::new(move |uid| names.name(uid).map(str::to_owned))
    }

    /// Returns the users that a function knows.
    pub fn new(lookup: impl FnMut(u32) -> Option<String> + Send + 'static) -> Self {
        Self { names: RefCell::default(), lookup: RefCell::new(Box::new(lookup)) }
    }

    /// Returns the name of a user, escaped for a terminal.
    pub fn name(&self, uid: u32) -> Arc<str> {
        let mut names = self.names.borrow_mut();
        let name = names.entry(uid).or_insert_with(|| match (self.lookup.borrow_mut())(uid) {
            Some(name) => escape::text(&name).into(),
            None => uid.to_string().into(),
        });
        Arc::clone(name)
    }
}
