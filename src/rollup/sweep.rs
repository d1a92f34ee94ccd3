//! Expiry in pieces: which rows and partitions of a table are old, and how they go, a transaction each.
//!
//! Interlock: the row of `rollup.source` is held in share mode from before the definitions are read until the
//! removal commits, and rollup.create takes it in update mode. So no rollup can come into being between the
//! two, and what each rollup has seen only grows: a row that every one of them had merged stays merged.
//!
//! Invariant: what is kept from one transaction to the next are oids, and nothing is removed for what an earlier one
//! saw. The transaction that removes takes the locks first, on the row of `rollup.retention` and by oid on the tables,
//! and looks again beneath them: that a retention is set, and how long; that the oid is a partition of this table, or
//! lies below it; that its bound lies before the cutoff; and what each is called. Under a lock a table keeps its name
//! in its schema, and its place below others: ATTACH, DETACH, INHERIT, RENAME and SET SCHEMA of a table wait for
//! whoever has any of these locks on it. A schema may be renamed all the same: so the statements, which go by name,
//! are told the oid, or it is asked afterwards what became of it.
use super::catalog::Must;
use super::error::{Result, internal};
use super::expire::{Retention, old_rows};
use super::merged::Merged;
use super::old_partitions::Partition;
use super::sql;
use super::watch::Expiring;
use super::{catalog, citus};
use crate::pg::lock::{self, Mode};
use crate::pg::query::set_local;
use crate::pg::xact::ActingAs;
use pgrx::prelude::*;

/// Pages that one statement clears: some ten thousand rows, some ten milliseconds.
const PAGES: i64 = 200;

/// Rows of one batch, about, of a table that lies on several nodes.
const BATCH: i64 = 50_000;

/// Old rows of one table without partitions: pages `next` to `last`. Of a table that Citus keeps, which has no pages
/// of its own, pieces of time instead, before each of `times`.
#[derive(Debug, Clone)]
pub struct Leaf {
    oid: pg_sys::Oid,
    /// What it was called when it was looked at: for people.
    name: String,
    next: i64,
    last: i64,
    times: Vec<String>,
    /// Where the first piece begins; None: without bound.
    from: Option<String>,
}

/// Acts as the owner of the table, while the value lives, as rows of it are compared with what is kept.
pub fn acting(r: &Retention) -> ActingAs {
    let acting = ActingAs::role(r.owner);
    super::run::set_timezone(&r.timezone);
    acting
}

/// What holds in the transaction that removes: the retention as it is now, and the rules for rows that may go.
pub struct Rule {
    /// The retention.
    pub r: Retention,
    /// True of rows that may go.
    old: String,
    /// What every rollup has merged.
    pub merged: Merged,
}

/// Takes the interlock and the row of the retention, and gives what holds beneath them; None where no retention is set
/// any more.
pub fn rule(relation: pg_sys::Oid, force: bool) -> Result<Option<Rule>> {
    {
        let _acting = ActingAs::catalog();
        catalog::execute("SELECT FROM rollup.source WHERE relation = $1 FOR SHARE", &[relation.into()])?;
    }
    let Some(r) = Retention::locked(relation)? else { return Ok(None) };
    if r.cutoff.is_some() {
        citus::commit::in_two_phases()?;
    }
    let definitions = if force { Vec::new() } else { catalog::of_source(relation, true)? };
    let merged = Merged::by_all(&definitions)?;
    Ok(Some(Rule { old: old_rows(&r, &merged), r, merged }))
}

/// The name of a relation that is locked, qualified and quoted.
pub fn name_now(oid: pg_sys::Oid) -> Result<String> {
    let _acting = ActingAs::catalog();
    catalog::write(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
        &[oid.into()],
        |row| row.get::<String>(1),
    )?
    .pop()
    .flatten()
    .ok_or_else(|| internal("a table that is locked is gone"))
}

/// The tables below `r`, itself included, that hold rows which may go, with the pages that these lie on; without
/// those partitions, which wait to be dropped.
pub fn leaves(r: &Retention, old: &str, without: &[Partition]) -> Result<Vec<Leaf>> {
    let _acting = acting(r);
    if r.cutoff.is_some() {
        // Partitions go oldest first: what is to be dropped ends where the last of them does.
        return pieces(r, old, without.last().map(|p| p.upto.clone()));
    }
    let tables = catalog::read(
        "WITH RECURSIVE t(oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid WHERE NOT i.inhdetachpending) \
         SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' ORDER BY t.oid",
        &[r.oid.into()],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, row.must::<String>(2)?)),
    )?;
    let mut found = Vec::new();
    for (oid, name) in tables.into_iter().filter(|(t, _)| without.iter().all(|p| p.oid != *t)) {
        let pages = catalog::read(
            &format!(
                "SELECT (pg_catalog.min(ctid)::pg_catalog.text::pg_catalog.point)[0]::pg_catalog.int8, \
                 (pg_catalog.max(ctid)::pg_catalog.text::pg_catalog.point)[0]::pg_catalog.int8 FROM ONLY {name} WHERE {old}"
            ),
            &[],
            |row| Ok(row.get::<i64>(1)?.zip(row.get::<i64>(2)?)),
        )?;
        if let Some((next, last)) = pages.into_iter().next().flatten() {
            found.push(Leaf { oid, name, next, last, times: Vec::new(), from: None });
        }
    }
    Ok(found)
}

/// Old rows of a table that lies on several nodes, in pieces of equal time.
fn pieces(r: &Retention, old: &str, from: Option<String>) -> Result<Vec<Leaf>> {
    let time = sql::ident(&r.time_column);
    let since = since(r, from.as_deref());
    let found = catalog::read(
        &format!(
            "SELECT ARRAY(SELECT (a + (z - a) * (n::pg_catalog.float8 / pieces))::pg_catalog.text FROM pg_catalog.generate_series(1, pieces - 1) n) || 'infinity'::pg_catalog.text \
             FROM (SELECT a, z, least(rows / {BATCH} + 1, 1000) AS pieces FROM \
             (SELECT pg_catalog.min({time}) AS a, pg_catalog.max({time}) AS z, pg_catalog.count(*) AS rows FROM {} WHERE {old}{since}) o) p WHERE a IS NOT NULL",
            r.relation
        ),
        &[],
        |row| row.get::<Vec<String>>(1),
    )?;
    let leaf =
        |times| Leaf { oid: r.oid, name: r.relation.clone(), next: 0, last: 0, times, from: from.clone() };
    Ok(found.into_iter().flatten().map(leaf).collect())
}

/// The condition that a row is not older than `from`.
fn since(r: &Retention, from: Option<&str>) -> String {
    let condition = |from| {
        format!(
            " AND {} OPERATOR(pg_catalog.>=) {}::pg_catalog.timestamptz",
            sql::ident(&r.time_column),
            sql::literal(from)
        )
    };
    from.map(condition).unwrap_or_default()
}

/// Removes the next piece of a table that lies on several nodes; returns how many rows.
fn clear_piece(r: &Retention, leaf: &Leaf, before: &str, old: &str) -> Result<i64> {
    let _acting = acting(r);
    catalog::modify(&format!(
        "DELETE FROM {} WHERE {old}{} AND {} OPERATOR(pg_catalog.<) {}::pg_catalog.timestamptz",
        r.relation,
        since(r, leaf.from.as_deref()),
        sql::ident(&r.time_column),
        sql::literal(before)
    ))
}

/// Locks a table and those between it and `r` as one who writes to it through `r` does, and says whether it lies there.
fn lock_below(r: &Retention, oid: pg_sys::Oid) -> Result<bool> {
    let between = || {
        let _acting = ActingAs::catalog();
        catalog::write(
            "WITH RECURSIVE up (oid, way) AS (SELECT $2::pg_catalog.oid, ARRAY[$2::pg_catalog.oid] UNION ALL SELECT i.inhparent, i.inhparent || up.way FROM pg_catalog.pg_inherits i \
             JOIN up ON i.inhrelid = up.oid WHERE NOT i.inhdetachpending AND up.oid <> $1) SELECT way FROM up WHERE oid = $1 ORDER BY way LIMIT 1",
            &[r.oid.into(), oid.into()],
            |row| row.get::<Vec<pg_sys::Oid>>(1),
        )
        .map(|found| found.into_iter().flatten().next())
    };
    let Some(way) = between()? else { return Ok(false) };
    for table in &way {
        if !lock::relation(*table, Mode::Write) {
            return Ok(false);
        }
    }
    Ok(between()?.as_ref() == Some(&way))
}

/// Removes old rows from the next pages of a table; returns how many. `leaf` is not moved on: that is for when the transaction has committed.
pub fn clear(relation: pg_sys::Oid, leaf: &Leaf, force: bool) -> Result<i64> {
    let Some(Rule { r, old, .. }) = rule(relation, force)? else { return Ok(0) };
    let r = &r;
    if !lock_below(r, leaf.oid)? {
        return Ok(0);
    }
    let removed = if let Some(before) = leaf.times.first() {
        clear_piece(r, leaf, before, &old)?
    } else {
        let name = name_now(leaf.oid)?;
        let _acting = acting(r);
        // These pages and no others, whatever index there is.
        set_local(c"enable_bitmapscan", c"off");
        set_local(c"enable_indexscan", c"off");
        let _expiring = Expiring::rows(leaf.oid);
        catalog::one_now(
            &format!(
                "WITH gone AS (DELETE FROM ONLY {name} WHERE ctid OPERATOR(pg_catalog.>=) '({},0)'::pg_catalog.tid \
                 AND ctid OPERATOR(pg_catalog.<) '({},0)'::pg_catalog.tid AND tableoid OPERATOR(pg_catalog.=) {}::pg_catalog.oid AND {old} RETURNING 1) \
                 SELECT pg_catalog.count(*) FROM gone",
                leaf.next,
                leaf.next + PAGES,
                leaf.oid.to_u32()
            ),
            &[],
        )?
    };
    if removed > 0 {
        let _acting = ActingAs::catalog();
        catalog::execute(
            "UPDATE rollup.retention SET removed = removed + $2 WHERE relation = $1",
            &[r.oid.into(), removed.into()],
        )?;
        r.store_expired()?;
    }
    Ok(removed)
}

impl Leaf {
    /// The leaf after the pages that were just cleared; None after the last.
    pub fn after(&self) -> Option<Leaf> {
        if let [_, rest @ ..] = &self.times[..] {
            return (!rest.is_empty()).then(|| Leaf { times: rest.to_vec(), ..self.clone() });
        }
        let next = self.next + PAGES;
        (next <= self.last).then(|| Leaf { next, ..self.clone() })
    }

    /// How far it is, for people.
    pub fn progress(&self) -> String {
        match self.times.len() {
            0 => format!("{}, page {} of {}", self.name, self.next, self.last + 1),
            left => format!("{}, {left} pieces left", self.name),
        }
    }
}

/// True of the errors that say that somebody uses a table: the next attempt may do better.
pub fn in_use(code: PgSqlErrorCode) -> bool {
    [PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED]
        .contains(&code)
}
