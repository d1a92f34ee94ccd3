//! Expiry in pieces: which rows and partitions of a table are old, and how they go, a transaction each.
//!
//! Interlock: the row of `rollup.source` is held in share mode from before the definitions are read until the
//! removal commits, and rollup.create takes it in update mode. So no rollup can come into being between the
//! two, and what each rollup has seen only grows: a row that every one of them had merged stays merged.
use super::error::Result;
use super::expire::{Retention, merged_by_all, old_rows, past};
use super::sql;
use super::watch::Expiring;
use super::{catalog, citus};
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
    name: String,
    next: i64,
    last: i64,
    times: Vec<String>,
    /// Where the first piece begins; None: without bound.
    from: Option<String>,
}

/// A partition that lies wholly before the cutoff.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Its name, qualified and quoted.
    pub name: String,
    /// Where it ends.
    upto: String,
}

fn acting(r: &Retention) -> Result<ActingAs> {
    let acting = ActingAs::role(r.owner);
    super::run::set_timezone("UTC");
    set_local(c"datestyle", c"ISO, MDY");
    Ok(acting)
}

/// Takes the interlock, and gives the rule for rows that may go, as it is under it.
fn lock_out_creation(r: &Retention, force: bool) -> Result<(String, String)> {
    if r.cutoff.is_some() {
        citus::commit::in_two_phases()?;
    }
    let definitions = {
        let _acting = ActingAs::catalog();
        catalog::execute("SELECT FROM rollup.source WHERE relation = $1 FOR SHARE", &[r.oid.into()])?;
        if force { Vec::new() } else { catalog::of_source(r.oid, true)? }
    };
    Ok((old_rows(r, &definitions)?, merged_by_all(&definitions)?))
}

/// The tables below `r`, itself included, that hold rows which may go, with the pages that these lie on; without
/// those partitions, which wait to be dropped.
pub fn leaves(r: &Retention, old: &str, without: &[Partition]) -> Result<Vec<Leaf>> {
    let _acting = acting(r)?;
    if r.cutoff.is_some() {
        // Partitions go oldest first: what is to be dropped ends where the last of them does.
        return pieces(r, old, without.last().map(|p| p.upto.clone()));
    }
    let tables = catalog::read(
        "WITH RECURSIVE t(oid) AS (SELECT $1::pg_catalog.oid UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' ORDER BY t.oid",
        &[r.oid.into()],
        |row| row.get::<String>(1),
    )?;
    let mut found = Vec::new();
    for name in tables.into_iter().flatten().filter(|t| without.iter().all(|p| p.name != *t)) {
        let pages = catalog::read(
            &format!(
                "SELECT (pg_catalog.min(ctid)::pg_catalog.text::pg_catalog.point)[0]::pg_catalog.int8, \
                 (pg_catalog.max(ctid)::pg_catalog.text::pg_catalog.point)[0]::pg_catalog.int8 FROM ONLY {name} WHERE {old}"
            ),
            &[],
            |row| Ok(row.get::<i64>(1)?.zip(row.get::<i64>(2)?)),
        )?;
        if let Some((next, last)) = pages.into_iter().next().flatten() {
            found.push(Leaf { name, next, last, times: Vec::new(), from: None });
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
    let leaf = |times| Leaf { name: r.relation.clone(), next: 0, last: 0, times, from: from.clone() };
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
    let _acting = acting(r)?;
    catalog::modify(&format!(
        "DELETE FROM {} WHERE {old}{} AND {} OPERATOR(pg_catalog.<) {}::pg_catalog.timestamptz",
        r.relation,
        since(r, leaf.from.as_deref()),
        sql::ident(&r.time_column),
        sql::literal(before)
    ))
}

/// Removes old rows from the next pages of a table; returns how many. `leaf` is not moved on: that is for when the transaction has committed.
pub fn clear(r: &Retention, leaf: &Leaf, force: bool) -> Result<i64> {
    let (old, _) = lock_out_creation(r, force)?;
    let removed = if let Some(before) = leaf.times.first() {
        clear_piece(r, leaf, before, &old)?
    } else {
        let _acting = acting(r)?;
        let _expiring = Expiring::new();
        // These pages and no others, whatever index there is.
        set_local(c"enable_bitmapscan", c"off");
        set_local(c"enable_indexscan", c"off");
        catalog::write(
            &format!(
                "WITH gone AS (DELETE FROM ONLY {} WHERE ctid OPERATOR(pg_catalog.>=) '({},0)'::pg_catalog.tid \
                 AND ctid OPERATOR(pg_catalog.<) '({},0)'::pg_catalog.tid AND {old} RETURNING 1) SELECT pg_catalog.count(*) FROM gone",
                leaf.name,
                leaf.next,
                leaf.next + PAGES
            ),
            &[],
            |row| row.get::<i64>(1),
        )?
        .first()
        .copied()
        .flatten()
        .unwrap_or_default()
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

/// Partitions that lie wholly before the cutoff, oldest first; never the newest of the table.
pub fn partitions(r: &Retention) -> Result<Vec<Partition>> {
    let _acting = acting(r)?;
    catalog::read(
        &format!(
            "WITH bounds AS MATERIALIZED (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, \
             pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = i.inhparent \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] \
             WHERE i.inhparent = $1 AND NOT i.inhdetachpending AND p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = $2::pg_catalog.name), \
             ends AS MATERIALIZED (SELECT name, CASE WHEN bound LIKE '% TO (MAXVALUE)' THEN 'infinity' \
             ELSE pg_catalog.substring(bound, ' TO \\(''([^'']*)''\\)$') END::pg_catalog.timestamptz AS upto FROM bounds WHERE bound <> 'DEFAULT') \
             SELECT name, upto::pg_catalog.text FROM ends e WHERE {} AND EXISTS (SELECT FROM ends newer WHERE newer.upto > e.upto) ORDER BY upto",
            past("upto", r, "<=")
        ),
        &[r.oid.into(), r.time_column.clone().into()],
        |row| Ok(Partition { name: row.get(1)?.unwrap_or_default(), upto: row.get(2)?.unwrap_or_default() }),
    )
}

fn holds_unmerged(r: &Retention, p: &Partition, merged: &str) -> Result<bool> {
    let _acting = acting(r)?;
    let any = format!("SELECT true FROM {} WHERE NOT ({merged}) LIMIT 1", p.name);
    Ok(!catalog::write(&any, &[], |row| row.get::<bool>(1))?.is_empty())
}

/// True of the errors that say that somebody uses a table: the next attempt may do better.
pub fn in_use(code: PgSqlErrorCode) -> bool {
    [PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED]
        .contains(&code)
}

/// Takes a table's lock, for as long as this transaction lasts. Whoever uses the table is waited for only shortly: others
/// who want it wait behind.
fn take(r: &Retention, table: &str) -> Result<()> {
    let _acting = acting(r)?;
    if r.cutoff.is_some() {
        citus::expire::wait_shortly()?;
    } else {
        set_local(c"lock_timeout", c"50ms");
    }
    catalog::execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"), &[])
}

/// The same for a partition whose rows `merged` is asked of.
fn take_partition(r: &Retention, p: &Partition, merged: &str) -> Result<()> {
    take(r, &p.name)?;
    if r.cutoff.is_some() && merged != "true" {
        let _acting = acting(r)?;
        citus::expire::wait_shortly()?;
        citus::expire::lock_shards(&p.name)?;
    }
    Ok(())
}

/// Drops a partition, if every rollup has all of it; says whether. That takes a lock on the table above, too, which
/// anyone who reads or writes any of it stands in the way of.
pub fn drop_partition(r: &Retention, p: &Partition, force: bool) -> Result<bool> {
    let (_, merged) = lock_out_creation(r, force)?;
    if holds_unmerged(r, p, &merged)? {
        return Ok(false);
    }
    take(r, &format!("ONLY {}", r.relation))?;
    take_partition(r, p, &merged)?;
    // Nobody has an uncommitted row in it now, nor will one come.
    if holds_unmerged(r, p, &merged)? {
        return Ok(false);
    }
    {
        let _acting = acting(r)?;
        if r.cutoff.is_some() {
            citus::expire::wait_shortly()?;
        }
        catalog::execute(&format!("DROP TABLE {}", p.name), &[])?;
        if r.cutoff.is_some() {
            citus::expire::wait_again()?;
        }
    }
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.retention SET dropped = dropped + 1 WHERE relation = $1",
        &[r.oid.into()],
    )?;
    r.store_expired()?;
    Ok(true)
}

/// Empties a partition of a table that is in use, if every rollup has all of it: that takes a lock on the partition
/// alone. Returns the rows that went; to drop what is left can wait.
pub fn empty_partition(r: &Retention, p: &Partition, force: bool) -> Result<i64> {
    let (_, merged) = lock_out_creation(r, force)?;
    let any = {
        let _acting = acting(r)?;
        catalog::write(&format!("SELECT true FROM {} LIMIT 1", p.name), &[], |row| row.get::<bool>(1))?
    };
    if any.is_empty() || holds_unmerged(r, p, &merged)? {
        return Ok(0);
    }
    take_partition(r, p, &merged)?;
    let rows = {
        let _acting = acting(r)?;
        let sql = format!("SELECT pg_catalog.count(*) FROM {} HAVING pg_catalog.bool_and({merged})", p.name);
        let rows = catalog::write(&sql, &[], |row| row.get::<i64>(1))?.into_iter().next().flatten();
        let Some(rows) = rows else { return Ok(0) };
        let _expiring = Expiring::new();
        if r.cutoff.is_some() {
            citus::expire::wait_shortly()?;
        }
        catalog::execute(&format!("TRUNCATE TABLE {}", p.name), &[])?;
        if r.cutoff.is_some() {
            citus::expire::wait_again()?;
        }
        rows
    };
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.retention SET removed = removed + $2 WHERE relation = $1",
        &[r.oid.into(), rows.into()],
    )?;
    r.store_expired()?;
    Ok(rows)
}
