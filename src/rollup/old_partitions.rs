//! Old partitions go whole: which they are, and how they are dropped, or emptied while their table is in use.
//!
//! What holds of one transaction and the next stands at the head of `sweep`.
use super::catalog::{self, Must};
use super::error::{Result, fail};
use super::guard;
use super::merged::Merged;
use super::removal::{self, Partition, Rule, name_now, rule};
use super::retention::{Retention, past};
use super::watch::Expiring;
use crate::pg::leaving;
use crate::pg::lock::{self, Mode};
use crate::pg::xact::ActingAs;
use pgrx::prelude::*;

/// Partitions that lie wholly before the cutoff, oldest first; never the newest of the table. Of `one` alone, where it
/// is given, as committed now. Foreign tables can be detached, to be archived, and are not dropped: their rows lie elsewhere.
fn old_partitions(r: &Retention, one: Option<pg_sys::Oid>) -> Result<Vec<Partition>> {
    let _acting = r.acting();
    let sql = format!(
        "WITH bounds AS MATERIALIZED (SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, \
         pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = i.inhparent \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] \
         WHERE i.inhparent = $1 AND NOT i.inhdetachpending AND p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = $2::pg_catalog.name AND (c.relkind <> 'f' OR $4)), \
         ends AS MATERIALIZED (SELECT oid, name, CASE WHEN bound LIKE '% TO (MAXVALUE)' THEN 'infinity' \
         ELSE pg_catalog.substring(bound, ' TO \\(''([^'']*)''\\)$') END::pg_catalog.timestamptz AS upto FROM bounds WHERE bound <> 'DEFAULT') \
         SELECT name, upto::pg_catalog.text, oid FROM ends e WHERE {} AND EXISTS (SELECT FROM ends newer WHERE newer.upto > e.upto) \
         AND ($3::pg_catalog.oid IS NULL OR oid = $3) ORDER BY upto",
        past("upto", r, "<=")
    );
    let args = &[r.oid.into(), r.time_column.clone().into(), one.into(), r.archive.is_some().into()];
    let partition = |row: &pgrx::spi::SpiHeapTupleData| {
        Ok(Partition { name: row.must(1)?, upto: row.must(2)?, oid: row.must(3)? })
    };
    if one.is_some() { catalog::write(&sql, args, partition) } else { catalog::read(&sql, args, partition) }
}

/// The partitions that may go, as the calling statement sees them.
pub fn partitions(r: &Retention) -> Result<Vec<Partition>> {
    old_partitions(r, None)
}

/// The partition with this oid, if it is one that may go, as committed now.
fn still_old(r: &Retention, oid: pg_sys::Oid) -> Result<Option<Partition>> {
    Ok(old_partitions(r, Some(oid))?.pop())
}

fn holds_unmerged(r: &Retention, p: &Partition, merged: &Merged) -> Result<bool> {
    let _acting = r.acting();
    let any = format!("SELECT true FROM {} WHERE NOT ({merged}) LIMIT 1", p.name);
    Ok(!catalog::write(&any, &[], |row| row.get::<bool>(1))?.is_empty())
}

/// Takes a partition's lock and those below it, for as long as this transaction lasts, and looks at it again; gives it as
/// it is now, with the tables that it consists of. None where it may not go any more.
fn take_partition(
    r: &Retention,
    p: &Partition,
    merged: &Merged,
) -> Result<Option<(Partition, Vec<pg_sys::Oid>)>> {
    // No lock on what is somebody else's by now.
    if still_old(r, p.oid)?.is_none() {
        return Ok(None);
    }
    let tables = {
        let _acting = r.acting();
        removal::of(r).wait_shortly()?;
        lock::tree(p.oid, Mode::All)
    };
    let (Some(tables), Some(p)) = (tables, still_old(r, p.oid)?) else { return Ok(None) };
    {
        let _acting = r.acting();
        removal::of(r).lock_partition(&p, !merged.is_every_row())?;
    }
    Ok(Some((p, tables)))
}

/// Refuses what went by a name that meant another table when it was run: all of it is undone.
fn another_table<T>(p: &Partition) -> Result<T> {
    fail(
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        format!("the schema of {} was renamed just now", p.name),
        "Call again.",
    )
}

/// Drops a partition, if every rollup has all of it; says whether. That takes a lock on the table above, too, which
/// anyone who reads or writes any of it stands in the way of. Where it is to be archived first it is detached.
pub fn drop_partition(relation: pg_sys::Oid, p: &Partition, force: bool, first: First) -> Result<Dropped> {
    let Some(Rule { r, merged, .. }) = rule(relation, force)? else { return Ok(Dropped::NotOld) };
    if r.archive.is_some() != (first == First::Archive) {
        return Ok(Dropped::NotOld);
    }
    let Some(p) = still_old(&r, p.oid)? else { return Ok(Dropped::NotOld) };
    if holds_unmerged(&r, &p, &merged)? {
        return Ok(Dropped::Unmerged);
    }
    {
        let _acting = r.acting();
        removal::of(&r).wait_shortly()?;
        if !lock::relation(r.oid, Mode::All) {
            return Ok(Dropped::NotOld);
        }
    }
    let Some((p, tables)) = take_partition(&r, &p, &merged)? else { return Ok(Dropped::NotOld) };
    // Nobody has an uncommitted row in it now, nor will one come.
    if holds_unmerged(&r, &p, &merged)? {
        return Ok(Dropped::Unmerged);
    }
    {
        let _acting = r.acting();
        // That they have expired is stored below.
        let _expiring = Expiring::tables(tables);
        if first == First::Archive {
            catalog::execute(&format!("ALTER TABLE {} DETACH PARTITION {}", name_now(r.oid)?, p.name), &[])?;
        } else {
            removal::of(&r).before_drop(&r, &p)?;
            catalog::execute(&format!("DROP TABLE {}", p.name), &[])?;
            removal::of(&r).after()?;
        }
    }
    if first == First::Archive {
        if !leaving::parents(p.oid).is_empty() {
            return another_table(&p);
        }
        super::archive::remember(&r, &p)?;
        r.store_expired()?;
        super::notify::expired(&r)?;
        return Ok(Dropped::Yes);
    }
    if lock::there(p.oid) {
        return another_table(&p);
    }
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.retention SET dropped = dropped + 1, last_removed = pg_catalog.clock_timestamp() WHERE relation = $1",
        &[r.oid.into()],
    )?;
    r.store_expired()?;
    super::notify::expired(&r)?;
    Ok(Dropped::Yes)
}

/// What is done before a partition is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Nothing.
    Nothing,
    /// It is archived.
    Archive,
}

/// What became of a partition that was to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It is gone.
    Yes,
    /// It has rows that some rollup does not have.
    Unmerged,
    /// It is none that may go, any more.
    NotOld,
}

/// Detaches a partition, where foreign keys refer to the table: rows that are referred to stand in the way of dropping it,
/// the foreign keys as such do not.
pub fn detach_referenced(r: &Retention, p: &Partition) -> Result<()> {
    let keys = "SELECT true FROM pg_catalog.pg_constraint WHERE confrelid = $1 AND contype = 'f' LIMIT 1";
    if catalog::write(keys, &[r.oid.into()], |row| row.get::<bool>(1))?.is_empty() {
        return Ok(());
    }
    catalog::execute(&format!("ALTER TABLE {} DETACH PARTITION {}", name_now(r.oid)?, p.name), &[])
}

/// Empties a partition of a table that is in use, if every rollup has all of it: that takes a lock on the partition
/// alone. Returns the rows that went; to drop what is left can wait.
pub fn empty_partition(relation: pg_sys::Oid, p: &Partition, force: bool) -> Result<i64> {
    let Some(Rule { r, merged, .. }) = rule(relation, force)? else { return Ok(0) };
    if r.archive.is_some() {
        return Ok(0);
    }
    let Some(p) = still_old(&r, p.oid)? else { return Ok(0) };
    let any = {
        let _acting = r.acting();
        catalog::write(&format!("SELECT true FROM {} LIMIT 1", p.name), &[], |row| row.get::<bool>(1))?
    };
    if any.is_empty() || holds_unmerged(&r, &p, &merged)? {
        return Ok(0);
    }
    let Some((p, tables)) = take_partition(&r, &p, &merged)? else { return Ok(0) };
    let rows = {
        let _acting = r.acting();
        let sql = format!("SELECT pg_catalog.count(*) FROM {} HAVING pg_catalog.bool_and({merged})", p.name);
        let rows = catalog::write(&sql, &[], |row| row.get::<i64>(1))?.into_iter().next().flatten();
        let Some(rows) = rows else { return Ok(0) };
        removal::of(&r).before_truncate()?;
        {
            guard::check_written(&tables);
            let _expiring = Expiring::tables(tables.clone());
            catalog::execute(&format!("TRUNCATE TABLE {}", p.name), &[])?;
        }
        removal::of(&r).after()?;
        if !removal::of(&r).are_empty(&tables)? {
            return another_table(&p);
        }
        rows
    };
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.retention SET removed = removed + $2, last_removed = pg_catalog.clock_timestamp() WHERE relation = $1",
        &[r.oid.into(), rows.into()],
    )?;
    r.store_expired()?;
    super::notify::expired(&r)?;
    Ok(rows)
}
