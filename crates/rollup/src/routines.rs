//! Who a function or a type was when a rollup was made, so that it is known again: here by its oid, and where a dump was
//! restored, and every oid is another, by its name and the name of its owner.
//!
//! Invariant: what is known again is what was recorded, or belongs to the role that what was recorded belonged to. That role
//! could have put anything into it before.
use serde::{Deserialize, Serialize};

/// A database, in which oids mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The system identifier of its cluster.
    pub cluster: i64,
    /// Its oid there.
    pub database: u32,
}

/// A function, or a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// It is a type.
    pub is_type: bool,
    /// Its oid.
    pub oid: u32,
    /// Its name, qualified, with the types of its arguments.
    pub name: String,
    /// The oid of the role that it belongs to.
    pub role: u32,
    /// That role's name.
    pub owner: String,
}

/// What a rollup called when it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where the oids are those of; None: nowhere.
    pub home: Option<Home>,
    /// All of it.
    pub called: Vec<Known>,
}

impl Record {
    /// Whether what was found in database `here` was recorded.
    pub fn holds(&self, here: Home, found: &Known) -> bool {
        let home = self.home == Some(here);
        self.called.iter().filter(|k| k.is_type == found.is_type).any(|k| match home {
            true => k.oid == found.oid || (k.name == found.name && k.role == found.role),
            // Oids are chance here, of roles too.
            false => k.name == found.name && k.owner == found.owner,
        })
    }

    /// Whether something else has the name of what was recorded.
    pub fn is_usurped(&self, here: Home, found: &Known) -> bool {
        let named = |k: &Known| k.is_type == found.is_type && k.name == found.name;
        !self.holds(here, found) && self.called.iter().any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Home = Home { cluster: 1, database: 5 };

    fn known(oid: u32, name: &str, role: u32, owner: &str) -> Known {
        Known { is_type: !name.ends_with(')'), oid, name: name.into(), role, owner: owner.into() }
    }

    fn record() -> Record {
        Record { home: Some(HERE), called: vec![known(100, "t.f(integer)", 10, "analyst")] }
    }

    #[test]
    fn at_home_oids_are_known_again() {
        let r = record();
        assert!(r.holds(HERE, &known(100, "u.f(integer)", 11, "renamed")), "moved, and given away");
        assert!(r.holds(HERE, &known(101, "t.f(integer)", 10, "renamed")), "made anew by its owner");
        assert!(!r.holds(HERE, &known(101, "t.f(integer)", 11, "analyst")), "a new role of an old name");
        assert!(!r.holds(HERE, &known(101, "t.f(text)", 10, "analyst")));
        assert!(!r.holds(HERE, &known(100, "t.f", 11, "evil")), "a type that has the oid of a function");
        assert!(r.is_usurped(HERE, &known(101, "t.f(integer)", 11, "evil")));
        assert!(!r.is_usurped(HERE, &known(101, "t.g(integer)", 11, "evil")));
    }

    #[test]
    fn elsewhere_names_are() {
        for there in [Home { cluster: 2, database: 5 }, Home { cluster: 1, database: 6 }] {
            let r = record();
            assert!(r.holds(there, &known(900, "t.f(integer)", 90, "analyst")));
            assert!(!r.holds(there, &known(100, "t.f(integer)", 10, "evil")), "chance");
            assert!(!r.holds(there, &known(100, "t.g(integer)", 10, "analyst")));
        }
        assert!(!Record::default().holds(HERE, &known(100, "t.f(integer)", 10, "analyst")));
    }
}
