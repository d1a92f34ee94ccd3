//! Retention: old rows go, and a raw row never before every rollup of its table has counted it.
use super::bounds;
use super::catalog::{self, Definition};
use super::error::{Result, fail, report};
use super::sql;
use crate::pg::xact::ActingAs;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Rows that one statement removes.
pub const BATCH: i64 = 20_000;

struct Retention {
    relation: String,
    time_column: String,
    keep: String,
    owner: String,
    owner_oid: Option<pg_sys::Oid>,
}

/// Sets, or with None ends, the retention of a table that is rolled up or a rollup.
pub fn retain(relation: pg_sys::Oid, keep: Option<pgrx::datum::Interval>) -> Result<()> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT k.c::pg_catalog.text, r.rolname::pg_catalog.text FROM pg_catalog.pg_class t JOIN pg_catalog.pg_roles r ON r.oid = t.relowner, \
             LATERAL (SELECT s.time_column AS c FROM rollup.source s WHERE s.relation = t.oid \
              UNION ALL SELECT d.plan->>'time_key' FROM rollup.definition d WHERE d.relation = t.oid \
              OR d.id IN (SELECT l.definition FROM rollup.level l WHERE l.relation = t.oid) LIMIT 1) k WHERE t.oid = $1",
            &[relation.into()],
            |row| Ok((row.get::<String>(1)?.unwrap_or_default(), row.get::<String>(2)?.unwrap_or_default())),
        )?
    };
    let Some((column, owner)) = found.into_iter().next() else {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("{} is neither rolled up nor a rollup", name_of(relation)?),
            "SELECT rollup.create(name, query) first: the rollup's time key says which rows are old.",
        );
    };
    catalog::check_owner(&owner, &name_of(relation)?)?;
    let _acting = ActingAs::catalog();
    match keep {
        None => catalog::execute("DELETE FROM rollup.retention WHERE relation = $1", &[relation.into()]),
        Some(keep) => catalog::execute(
            "INSERT INTO rollup.retention (relation, time_column, keep, owner) VALUES ($1, $2::pg_catalog.name, $3, $4::pg_catalog.name) \
             ON CONFLICT (relation) DO UPDATE SET keep = excluded.keep, time_column = excluded.time_column, owner = excluded.owner",
            &[relation.into(), column.into(), keep.into(), owner.into()],
        ),
    }
}

/// The name of a relation, qualified where it must be.
pub fn name_of(relation: pg_sys::Oid) -> Result<String> {
    Ok(catalog::read("SELECT $1::pg_catalog.regclass::pg_catalog.text", &[relation.into()], |row| {
        row.get::<String>(1)
    })?
    .into_iter()
    .next()
    .flatten()
    .unwrap_or_default())
}

fn retention(relation: pg_sys::Oid) -> Result<Retention> {
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), t.time_column::pg_catalog.text, t.keep::pg_catalog.text, t.owner::pg_catalog.text, \
         (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = t.owner) \
         FROM rollup.retention t JOIN pg_catalog.pg_class c ON c.oid = t.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE t.relation = $1",
        &[relation.into()],
        |row| {
            Ok(Retention {
                relation: row.get(1)?.unwrap_or_default(),
                time_column: row.get(2)?.unwrap_or_default(),
                keep: row.get(3)?.unwrap_or_default(),
                owner: row.get(4)?.unwrap_or_default(),
                owner_oid: row.get(5)?,
            })
        },
    )?;
    let Some(found) = found.into_iter().next() else {
        return fail(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("no retention is set for {}", name_of(relation)?),
            "SELECT rollup.retain(table, '7 days') sets one.",
        );
    };
    Ok(found)
}

/// The rule for rows that may go: past their time, and merged by every rollup.
fn old_rows(r: &Retention, definitions: &[Definition]) -> Result<String> {
    let mut rule = String::new();
    for d in definitions {
        d.check_cluster()?;
        rule += &format!(" AND {}", bounds::merged("", &d.plan()?, &d.state));
    }
    Ok(format!(
        "{} OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) {}::pg_catalog.interval){rule}",
        sql::ident(&r.time_column),
        sql::literal(&r.keep)
    ))
}

fn any_old(r: &Retention, owner: pg_sys::Oid, old: &str) -> Result<bool> {
    let _acting = ActingAs::role(owner);
    super::run::set_timezone("UTC");
    let found =
        catalog::read(&format!("SELECT EXISTS (SELECT FROM {} WHERE {old})", r.relation), &[], |row| {
            row.get::<bool>(1)
        })?;
    Ok(found.first().copied().flatten() == Some(true))
}

/// Removes up to `limit` rows past their time; returns how many went.
///
/// Interlock: the row of `rollup.source` is held in share mode from before the definitions are read until the
/// deletion commits, and rollup.create takes it in update mode. So no rollup can come into being between the
/// two, and what each rollup has seen only grows: a row that every one of them had merged stays merged.
pub fn expire(relation: pg_sys::Oid, limit: i64, check: bool) -> Result<i64> {
    let r = retention(relation)?;
    if check {
        catalog::check_owner(&r.owner, &r.relation)?;
    }
    let owner = r.owner_oid.ok_or_else(|| {
        report(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("role {}, which set the retention of {}, is gone", r.owner, r.relation),
            "SELECT rollup.retain(…) again.",
        )
    })?;
    // Nothing old: no lock, no transaction id.
    if !any_old(&r, owner, &old_rows(&r, &catalog::of_source(relation, false)?)?)? {
        return Ok(0);
    }
    let definitions = {
        let _acting = ActingAs::catalog();
        catalog::execute("SELECT FROM rollup.source WHERE relation = $1 FOR SHARE", &[relation.into()])?;
        catalog::of_source(relation, true)?
    };
    let old = old_rows(&r, &definitions)?;
    let removed = {
        let _acting = ActingAs::role(owner);
        super::run::set_timezone("UTC");
        // tableoid: a ctid names a row of one partition only
        catalog::write(
            &format!(
                "WITH old AS MATERIALIZED (SELECT tableoid AS t, ctid AS c FROM {0} WHERE {old} LIMIT {limit} FOR UPDATE SKIP LOCKED), \
                 gone AS (DELETE FROM {0} USING old WHERE {0}.tableoid OPERATOR(pg_catalog.=) old.t AND {0}.ctid OPERATOR(pg_catalog.=) old.c RETURNING 1) \
                 SELECT pg_catalog.count(*) FROM gone",
                r.relation
            ),
            &[],
            |row| row.get::<i64>(1),
        )?
        .first()
        .copied()
        .flatten()
        .unwrap_or(0)
    };
    if removed > 0 {
        let _acting = ActingAs::catalog();
        catalog::execute(
            "UPDATE rollup.retention SET removed = removed + $2 WHERE relation = $1",
            &[relation.into(), removed.into()],
        )?;
        catalog::execute(
            "INSERT INTO rollup.expired AS e (relation, below) VALUES ($1, pg_catalog.now() - $2::pg_catalog.interval) \
             ON CONFLICT (relation) DO UPDATE SET below = greatest(e.below, excluded.below)",
            &[relation.into(), r.keep.clone().into()],
        )?;
    }
    Ok(removed)
}

/// Relations that have a retention.
pub fn retained() -> Result<Vec<pg_sys::Oid>> {
    let _acting = ActingAs::catalog();
    catalog::read(
        "SELECT t.relation::pg_catalog.oid FROM rollup.retention t JOIN pg_catalog.pg_class c ON c.oid = t.relation",
        &[],
        |row| Ok(row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::InvalidOid)),
    )
}
