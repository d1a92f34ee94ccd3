//! What the query of a rollup called when it was read, until the rollup is made. The query is read once, as the caller reads it,
//! and becomes texts, in which names are looked up again when tables and views are made of them.
//!
//! Invariant: what becomes part of a rollup, or is run while it is made, is what the query was read to call, what a merge
//! rule of its aggregates was added with, or of a role that is trusted in any case. A name that changes hands in between
//! makes the call fail, and nothing of it stays.
use super::catalog::{self, Must};
use super::error::Result;
use super::strangers::{here, odd, refused, strangers};
use super::{guard, rule_record};
use crate::pg::plan::called::{self, Called};
use crate::pg::xact::ActingAs;
use hll_rollup::routines::{Known, Record};
use pgrx::pg_sys;
use std::cell::RefCell;

/// No rollup has this id.
const DRAFT: i64 = 0;

thread_local! {
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// What was read, and what it calls.
pub struct Read<T> {
    /// What was made of it.
    pub read: T,
    called: Vec<Called>,
    rules: Vec<Known>,
}

/// Reads a query, and makes a plan of it.
pub fn reading<T>(read: impl FnOnce() -> Result<T>) -> Result<Read<T>> {
    rule_record::used();
    let (read, called) = called::noting(read);
    Ok(Read { read: read?, called, rules: rule_record::used() })
}

/// While it lives, a rollup is made.
pub struct Drafted(());

impl Drop for Drafted {
    fn drop(&mut self) {
        RECORD.set(None);
        guard::forget(DRAFT);
    }
}

impl<T> Read<T> {
    /// From now on, statements in which one of `pieces` stands are looked at.
    pub fn begin(&self, name: &str, owner: pg_sys::Oid, pieces: Vec<String>) -> Drafted {
        let mut all = strangers(&self.called, owner);
        all.extend(self.rules.iter().cloned());
        let recorded = Record { home: Some(here()), called: all };
        RECORD.set(Some(recorded.clone()));
        guard::set(DRAFT, guard::Guard { name: name.to_string(), owner, pieces, recorded });
        Drafted(())
    }
}

/// Refuses what was found where a rollup is being made whose query was not read to call it.
pub fn check(name: &str, found: &[Called], owner: pg_sys::Oid) -> Result<()> {
    let odd = RECORD.with_borrow(|record| record.as_ref().and_then(|record| odd(found, record, owner)));
    odd.map_or(Ok(()), |odd| refused(name, &odd))
}

/// The same of what the tables and views of a rollup have come to call, which PostgreSQL keeps by oids.
pub fn check_stored(id: i64, name: &str, owner: pg_sys::Oid) -> Result<()> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "WITH r (oid) AS (SELECT v.oid FROM rollup.definition d, LATERAL (VALUES (d.relation::pg_catalog.oid), (d.live), (d.shown)) v (oid) WHERE d.id = $1 \
               UNION SELECT v.oid FROM rollup.level l, LATERAL (VALUES (l.relation::pg_catalog.oid), (l.live), (l.shown)) v (oid) WHERE l.definition = $1), \
             o (classid, objid) AS (SELECT t.tableoid, t.oid FROM pg_catalog.pg_attrdef t JOIN r ON r.oid = t.adrelid \
               UNION ALL SELECT w.tableoid, w.oid FROM pg_catalog.pg_rewrite w JOIN r ON r.oid = w.ev_class) \
             SELECT DISTINCT coalesce(p.oprcode::pg_catalog.oid, x.refobjid) FROM o JOIN pg_catalog.pg_depend x ON x.classid = o.classid AND x.objid = o.objid \
             LEFT JOIN pg_catalog.pg_operator p ON x.refclassid = p.tableoid AND p.oid = x.refobjid \
             WHERE x.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)",
            &[id.into()],
            |row| Ok(Called::function(row.must::<pg_sys::Oid>(1)?)),
        )?
    };
    let own = |called: &Called| called.oid >= pg_sys::FirstNormalObjectId;
    check(name, &found.into_iter().filter(own).collect::<Vec<_>>(), owner)
}
