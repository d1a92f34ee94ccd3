//! Statements of rollups, looked at when PostgreSQL has made oids of their names: a name may change hands after the plan was
//! taken. See `trust`.
//!
//! Invariant: what is looked at is what runs. A statement that holds a piece of a plan in which something foreign is named,
//! and is run as the rollup's owner in a restricted operation, is analysed here before any of it is planned. So is every
//! other that `ask` makes: what a plan does not name may come by the type of a column, or by a table that has become a view.
use super::error::raise;
use super::strangers;
use crate::pg::deparse::shown_name;
use crate::pg::plan::called::{self, Called, Made, Watch};
use crate::pg::plan::planned::Read;
use crate::pg::security;
use crate::pg::watched;
use crate::pg::xact::{current_user, has_rights_of};
use hll_rollup::routines::Record;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// What is to hold for statements of a rollup.
pub struct Guard {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: pg_sys::Oid,
    /// One of these stands in each statement that names what is foreign.
    pub pieces: Vec<String>,
    /// What it called when it was made.
    pub recorded: Record,
}

impl Guard {
    fn is_of(&self, text: &str) -> bool {
        self.pieces.iter().any(|piece| text.contains(piece))
    }
}

thread_local! {
    static GUARDS: RefCell<BTreeMap<i64, Rc<Guard>>> = RefCell::default();
    /// What a rollup may call, with the epoch in which that was found.
    static FINE: RefCell<HashMap<(i64, Called), u64>> = RefCell::default();
}

pub fn init() {
    called::install(Watch { wants, check, ours });
}

/// From now on, holds statements of a rollup to this.
pub fn set(id: i64, guard: Guard) {
    FINE.with_borrow_mut(|fine| fine.retain(|(of, _), _| *of != id));
    GUARDS.with_borrow_mut(|all| match guard.pieces.is_empty() {
        true => _ = all.remove(&id),
        false => _ = all.insert(id, Rc::new(guard)),
    });
}

/// Holds statements of a rollup to nothing any more.
pub fn forget(id: i64) {
    FINE.with_borrow_mut(|fine| fine.retain(|(of, _), _| *of != id));
    GUARDS.with_borrow_mut(|all| _ = all.remove(&id));
}

fn of(text: &str) -> Vec<(i64, Rc<Guard>)> {
    let user = current_user();
    GUARDS.with_borrow(|all| {
        let those = all.iter().filter(|(_, guard)| guard.owner == user && guard.is_of(text));
        those.map(|(id, guard)| (*id, guard.clone())).collect()
    })
}

fn wants(text: &str) -> bool {
    GUARDS.with_borrow(|all| !all.is_empty()) && !of(text).is_empty()
}

/// Statements in which a plan names nothing foreign: a column of another type, or a table that has become a view, may have
/// them run code of whoever owns the table.
/// Tables that are written to have triggers, constraints and indexes of their owners', partitions of their own.
/// What is planned calls what the owner of a table has put into its indexes and constraints.
fn ours(made: &Made) {
    let runs_as = current_user();
    if let Some(odd) = strangers::strangers(&made.calls, runs_as).into_iter().next() {
        strangers::not_run(&odd.name, odd.role, runs_as)
    }
    check_read(&made.read, runs_as);
    check_written(&made.written);
}

/// Refuses to run, as a rollup's owner, what another role has put into a view or onto a table that is read.
pub fn check_read(read: &Read, runs_as: pg_sys::Oid) {
    for (called, table) in &read.planned {
        if let Some(odd) = strangers::strangers(&[*called], runs_as).into_iter().next() {
            strangers::not_planned(&odd, *table, runs_as)
        }
    }
    for view in &read.views {
        if let Some(owner) = security::owner_of(*view) {
            strangers::not_run(&format!("view {}", shown_name(*view)), owner.to_u32(), runs_as)
        }
    }
}

/// Refuses to have the current user, a rollup's owner or that of a table, write to tables of third roles. For TRUNCATE, too, whose
/// tables are not looked at when it is analysed.
pub fn check_written(tables: &[pg_sys::Oid]) {
    let runs_as = current_user();
    for table in tables {
        let owner = security::owner_of(*table);
        if let Some(owner) = owner.filter(|of| !called::is_superuser(*of) && !has_rights_of(*of, runs_as)) {
            strangers::not_written(*table, owner, runs_as)
        }
    }
}

fn check(text: &str, found: &[Called]) {
    let epoch = watched::routines_epoch();
    let guards = of(text);
    let known = |id: i64, called: &Called| FINE.with_borrow(|fine| fine.get(&(id, *called)) == Some(&epoch));
    for called in found {
        if guards.iter().any(|(id, _)| known(*id, called)) {
            continue;
        }
        // Rollups of one owner may name the same: what one of them may call, the owner has called already.
        let odd = |guard: &Guard| strangers::odd(&[*called], &guard.recorded, guard.owner);
        match guards.iter().find(|(_, guard)| odd(guard).is_none()) {
            Some((id, _)) => FINE.with_borrow_mut(|fine| _ = fine.insert((*id, *called), epoch)),
            None => {
                if let Some((_, guard)) = guards.first()
                    && let Some(odd) = odd(guard)
                    && let Err(e) = strangers::refused::<()>(&guard.name, &odd)
                {
                    raise(e)
                }
            }
        }
    }
}
