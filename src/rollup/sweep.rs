//! Old rows go from tables without partitions, a piece at a time: on this server by pages. See `removal`.
use super::catalog::{self, Must};
use super::error::{Result, internal};
use super::old_partitions;
use super::place::OneServer;
use super::removal::{self, Leaf, Left, PAGES, Partition, Removal, Rule, name_now, rule};
use super::retention::Retention;
use super::staying;
use super::watch::Expiring;
use crate::pg::lock::{self, Mode};
use crate::pg::query::set_local;
use crate::pg::xact::ActingAs;
use pgrx::prelude::*;

impl Removal for OneServer {
    fn begin(&self) -> Result<()> {
        Ok(())
    }

    fn wait_shortly(&self) -> Result<()> {
        set_local(c"lock_timeout", c"50ms");
        Ok(())
    }

    fn lock_partition(&self, _: &Partition, _: bool) -> Result<()> {
        Ok(())
    }

    fn before_drop(&self, r: &Retention, p: &Partition) -> Result<()> {
        old_partitions::detach_referenced(r, p)
    }

    fn before_truncate(&self) -> Result<()> {
        Ok(())
    }

    fn after(&self) -> Result<()> {
        Ok(())
    }

    fn are_empty(&self, tables: &[pg_sys::Oid]) -> Result<bool> {
        let full = "SELECT true FROM pg_catalog.unnest($1) t (oid) WHERE pg_catalog.pg_relation_size(oid) > 0 LIMIT 1";
        Ok(catalog::write(full, &[tables.to_vec().into()], |row| row.get::<bool>(1))?.is_empty())
    }

    fn leaves(&self, r: &Retention, old: &str, without: &[Partition]) -> Result<Vec<Leaf>> {
        let _acting = r.acting();
        let tables = catalog::read(
            "WITH RECURSIVE t(oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid WHERE NOT i.inhdetachpending) \
             SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_am h ON h.oid = c.relam WHERE c.relkind = 'r' AND h.amname = 'heap' ORDER BY t.oid",
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
                found.push(Leaf { oid, name, left: Left::Pages { next, last } });
            }
        }
        Ok(found)
    }

    fn beside(&self, r: &Retention, old: &str, without: &[Partition]) -> Result<Option<String>> {
        staying::beside(r, old, without)
    }

    fn clear(&self, r: &Retention, leaf: &Leaf, old: &str) -> Result<i64> {
        let Left::Pages { next, .. } = leaf.left else {
            return Err(internal("pieces of time of one server"));
        };
        let name = name_now(leaf.oid)?;
        let _acting = r.acting();
        // These pages and no others, whatever index there is.
        set_local(c"enable_bitmapscan", c"off");
        set_local(c"enable_indexscan", c"off");
        let _expiring = Expiring::rows(leaf.oid);
        catalog::one_now(
            &format!(
                "WITH gone AS (DELETE FROM ONLY {name} WHERE {} AND tableoid OPERATOR(pg_catalog.=) {}::pg_catalog.oid AND {old} RETURNING 1) \
                 SELECT pg_catalog.count(*) FROM gone",
                pages(next),
                leaf.oid.to_u32()
            ),
            &[],
        )
    }
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

/// What became of old rows.
pub struct Cleared {
    /// So many went.
    pub removed: i64,
    /// Why others stay that were to go, too.
    pub kept: Option<String>,
}

/// Removes the next of the old rows of a table. `leaf` is not moved on: that is for when the transaction
/// has committed.
pub fn clear(relation: pg_sys::Oid, leaf: &Leaf, force: bool) -> Result<Cleared> {
    let nothing = Cleared { removed: 0, kept: None };
    let Some(Rule { r, old, .. }) = rule(relation, force)? else { return Ok(nothing) };
    if r.archive.is_some() || !lock_below(&r, leaf.oid)? {
        return Ok(nothing);
    }
    let removed = removal::of(&r).clear(&r, leaf, &old)?;
    if removed > 0 {
        let _acting = ActingAs::catalog();
        catalog::execute(
            "UPDATE rollup.retention SET removed = removed + $2, last_removed = pg_catalog.clock_timestamp() WHERE relation = $1",
            &[r.oid.into(), removed.into()],
        )?;
        r.store_expired()?;
        super::notify::expired(&r)?;
    }
    let kept = match &leaf.left {
        Left::Pages { next, .. } if staying::may_keep(leaf.oid)? => kept(&r, leaf, *next, &old)?,
        _ => None,
    };
    Ok(Cleared { removed, kept })
}

/// Why old rows of these pages are there still.
fn kept(r: &Retention, leaf: &Leaf, next: i64, old: &str) -> Result<Option<String>> {
    let name = name_now(leaf.oid)?;
    let _acting = r.acting();
    let left = format!("SELECT true FROM ONLY {name} WHERE {} AND {old} LIMIT 1", pages(next));
    let any = catalog::write(&left, &[], |row| row.get::<bool>(1))?;
    Ok((!any.is_empty()).then(|| staying::kept(&name)))
}

/// The condition that a row lies on the pages that one statement clears, of which `next` is the first.
fn pages(next: i64) -> String {
    format!(
        "ctid OPERATOR(pg_catalog.>=) '({next},0)'::pg_catalog.tid AND ctid OPERATOR(pg_catalog.<) '({},0)'::pg_catalog.tid",
        next + PAGES
    )
}
