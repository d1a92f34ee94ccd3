//! Rollups: the SQL functions of schema `rollup`. A SELECT is analysed (`plan`), becomes SQL (`sql`), is run
//! (`run`) and lets old rows go (`expire`).
use crate::pg::v1::Call;
use crate::pg::xact;
use error::Result;
use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::prelude::*;

pub mod catalog;
mod create;
pub mod error;
pub mod expire;
mod plan;
pub mod run;
mod sql;

crate::v1!(rollup_stamp, stamp);

fn stamp(_: &mut Call) -> pg_sys::Datum {
    pg_sys::Datum::from(xact::own_transaction_id())
}

fn required<T>(value: Option<T>, what: &str) -> Result<T> {
    value.ok_or_else(|| {
        error::report(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("{what} must not be NULL"),
            "Give a value.",
        )
    })
}

#[pg_extern(sql = false)]
fn rollup_create(
    name: Option<&str>,
    query: Option<&str>,
    every: Option<Interval>,
    timezone: Option<&str>,
) -> Result<i64> {
    create::create(required(name, "name")?, required(query, "query")?, every, required(timezone, "timezone")?)
}

#[pg_extern(sql = false)]
fn rollup_run_source(source: pg_sys::Oid) -> Result<i64> {
    run::run_source(source)
}

#[pg_extern(sql = false)]
fn rollup_run_due() -> Result<i64> {
    let mut rows = 0;
    for (id, name, owner) in run::due()? {
        if catalog::check_owner(&owner, &name).is_ok() {
            rows += run::run_one(id)?;
        }
    }
    Ok(rows)
}

#[pg_extern(sql = false)]
fn rollup_retain(relation: Option<pg_sys::Oid>, keep: Option<Interval>) -> Result<()> {
    expire::retain(required(relation, "relation")?, keep)
}

#[pg_extern(sql = false)]
fn rollup_expire(relation: pg_sys::Oid) -> Result<i64> {
    let mut total = 0;
    loop {
        let removed = expire::expire(relation, expire::BATCH, true)?;
        total += removed;
        if removed < expire::BATCH {
            return Ok(total);
        }
    }
}

fn set_state(name: &str, state: &str) -> Result<()> {
    let d = catalog::by_name(name)?;
    catalog::check_owner(&d.owner_name, &format!("rollup {name}"))?;
    let _acting = xact::ActingAs::catalog();
    catalog::execute("UPDATE rollup.definition SET state = $2 WHERE id = $1", &[d.id.into(), state.into()])
}

#[pg_extern(sql = false)]
fn rollup_pause(name: &str) -> Result<()> {
    set_state(name, "paused")
}

#[pg_extern(sql = false)]
fn rollup_resume(name: &str) -> Result<()> {
    set_state(name, "active")
}

#[pg_extern(sql = false)]
fn rollup_drop(name: &str, keep_data: bool) -> Result<()> {
    let d = catalog::by_name(name)?;
    catalog::check_owner(&d.owner_name, &format!("rollup {name}"))?;
    create::drop(&d, keep_data)
}

#[pg_extern(sql = false)]
fn rollup_explain(name: &str) -> Result<String> {
    let d = catalog::by_name(name)?;
    catalog::check_owner(&d.owner_name, &format!("rollup {name}"))?;
    let (source, target, _) = d.parts()?;
    Ok(sql::run(&d.plan()?, source, target, &d.seen, &catalog::current_snapshot(false)?))
}

#[pg_extern(sql = false)]
fn rollup_lag_rows(id: i64) -> Result<Option<i64>> {
    let Some(d) = catalog::by_id(id)? else { return Ok(None) };
    let Some(source) = &d.source else { return Ok(None) };
    let readable = catalog::read(
        "SELECT pg_catalog.has_table_privilege($1::pg_catalog.oid, 'SELECT')",
        &[d.source_oid.into()],
        |row| row.get::<bool>(1),
    )?;
    if readable.first().copied().flatten() != Some(true) {
        return Ok(None);
    }
    let count = format!("SELECT pg_catalog.count(*) FROM {source} WHERE {}", sql::unfinished(&d.seen));
    Ok(catalog::read(&count, &[], |row| row.get::<i64>(1))?.first().copied().flatten())
}
