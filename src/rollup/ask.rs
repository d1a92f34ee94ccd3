//! Statements of ours, and the one way to ask for what they give.
//!
//! Invariant: no statement of ours is read under a path that a caller has set. Each runs where pg_catalog alone is looked
//! through, so that a bare name or operator in it is PostgreSQL's, whatever others have put into the schemas of the
//! caller's path. Texts that a user gives, a rollup's query or the expression of a column, do not come this way: they are
//! read as their author reads them, by `query::analyse`, once, and from then on are kept with every name qualified.
//!
//! What they call is looked at where they run as a rollup's owner (see `guard`).
//!
//! A value that must be there is asked for by `one` or `must`: that it is NULL, or that there is no row, is an error, and
//! never 0 or an empty text.
use super::error::{Result, internal, raise};
use crate::pg::deparse::qualified;
use crate::pg::plan::called::Ours;
use pgrx::datum::{DatumWithOid, FromDatum, IntoDatum};
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiHeapTupleData, SpiResult, SpiTupleTable};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A row that was read.
pub trait Must {
    /// The value of a column, by its number from 1 on, which is never NULL there.
    fn must<T: IntoDatum + FromDatum>(&self, at: usize) -> SpiResult<T>;
}

impl Must for SpiHeapTupleData<'_> {
    #[track_caller]
    fn must<T: IntoDatum + FromDatum>(&self, at: usize) -> SpiResult<T> {
        Ok(there(self.get(at)?, at))
    }
}

impl Must for SpiTupleTable<'_> {
    #[track_caller]
    fn must<T: IntoDatum + FromDatum>(&self, at: usize) -> SpiResult<T> {
        Ok(there(self.get(at)?, at))
    }
}

/// Raises an error, which says where the value was asked for, where there is none.
#[track_caller]
fn there<T>(value: Option<T>, at: usize) -> T {
    match value {
        Some(value) => value,
        None => raise(internal(format!("column {at} is NULL where it cannot be"))),
    }
}

/// The value of the one row and column of a statement that reads.
#[track_caller]
pub fn one<T: IntoDatum + FromDatum>(sql: &str, args: &[DatumWithOid]) -> Result<T> {
    maybe(sql, args)?.ok_or_else(|| internal("a statement gives no value where it must"))
}

/// The same, as committed now.
#[track_caller]
pub fn one_now<T: IntoDatum + FromDatum>(sql: &str, args: &[DatumWithOid]) -> Result<T> {
    maybe_now(sql, args)?.ok_or_else(|| internal("a statement gives no value where it must"))
}

/// The first value of a statement that reads; None where there is no row, or it is NULL.
pub fn maybe<T: IntoDatum + FromDatum>(sql: &str, args: &[DatumWithOid]) -> Result<Option<T>> {
    Ok(read(sql, args, |row| row.get::<T>(1))?.into_iter().next().flatten())
}

/// The same, as committed now.
pub fn maybe_now<T: IntoDatum + FromDatum>(sql: &str, args: &[DatumWithOid]) -> Result<Option<T>> {
    Ok(write(sql, args, |row| row.get::<T>(1))?.into_iter().next().flatten())
}

/// Runs a statement that reads, under the snapshot of the calling statement; takes no transaction id.
pub fn read<T>(
    sql: &str,
    args: &[DatumWithOid],
    f: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>> {
    qualified(|| {
        let _ours = Ours::next();
        Spi::connect(|c| c.select(sql, None, args)?.map(|row| f(&row)).collect::<SpiResult<Vec<T>>>())
    })
    .map_err(internal)
}

/// As `read`, for a statement of one fixed text that runs with every look or run: its plan is kept for the session, since
/// planning it takes longer than running it. PostgreSQL plans again where what it names has changed.
pub fn read_often<T>(
    sql: &str,
    args: &[DatumWithOid],
    f: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>> {
    qualified(|| {
        Spi::connect(|c| {
            c.select(&*kept(c, sql, args)?, None, args)?.map(|row| f(&row)).collect::<SpiResult<Vec<T>>>()
        })
    })
    .map_err(internal)
}

/// As `write`, for a statement of one fixed text that runs with every run.
pub fn write_often<T>(
    sql: &str,
    args: &[DatumWithOid],
    f: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>> {
    if crate::pg::watched::is_now() {
        return read_often(sql, args, f);
    }
    qualified(|| {
        Spi::connect_mut(|c| {
            c.update(&*kept(c, sql, args)?, None, args)?.map(|row| f(&row)).collect::<SpiResult<Vec<T>>>()
        })
    })
    .map_err(internal)
}

/// As `execute`, for a statement of one fixed text that runs with every run.
pub fn execute_often(sql: &str, args: &[DatumWithOid]) -> Result<()> {
    write_often(sql, args, |_| Ok(())).map(|_| ())
}

/// The plan of a statement, kept until the session ends. Only texts that are constants of this library come here: their
/// number bounds what is kept.
fn kept(c: &SpiClient, sql: &str, args: &[DatumWithOid]) -> SpiResult<Rc<OwnedPreparedStatement>> {
    thread_local! {
        static KEPT: RefCell<HashMap<String, Rc<OwnedPreparedStatement>>> = RefCell::default();
    }
    if let Some(plan) = KEPT.with_borrow(|kept| kept.get(sql).cloned()) {
        return Ok(plan);
    }
    let types: Vec<PgOid> = args.iter().map(|arg| PgOid::from(arg.oid())).collect();
    let plan = Rc::new(c.prepare(sql, &types)?.keep());
    KEPT.with_borrow_mut(|kept| kept.insert(sql.into(), plan.clone()));
    Ok(plan)
}

/// Runs a statement that may write, under a fresh snapshot in READ COMMITTED.
pub fn write<T>(
    sql: &str,
    args: &[DatumWithOid],
    f: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>> {
    // Nothing writes where a snapshot of this moment is active already.
    if crate::pg::watched::is_now() {
        return read(sql, args, f);
    }
    qualified(|| {
        let _ours = Ours::next();
        Spi::connect_mut(|c| c.update(sql, None, args)?.map(|row| f(&row)).collect::<SpiResult<Vec<T>>>())
    })
    .map_err(internal)
}

/// Runs a statement for what it does.
pub fn execute(sql: &str, args: &[DatumWithOid]) -> Result<()> {
    qualified(|| {
        let _ours = Ours::next();
        Spi::connect_mut(|c| c.update(sql, None, args).map(|_| ()))
    })
    .map_err(internal)
}

/// Runs a statement for what it does; returns the rows it wrote.
pub fn modify(sql: &str) -> Result<i64> {
    let rows = qualified(|| {
        let _ours = Ours::next();
        Spi::connect_mut(|c| c.update(sql, None, &[]).map(|done| done.len()))
    })
    .map_err(internal)?;
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

/// Runs a statement of generated text, which has no arguments.
pub fn define(sql: &str) -> Result<()> {
    execute(sql, &[])
}

/// Runs an INSERT; returns how many rows it wrote.
pub fn inserted(insert: &str) -> Result<i64> {
    let counted = format!("WITH w AS ({insert} RETURNING 1) SELECT pg_catalog.count(*) FROM w");
    one_now(&counted, &[])
}
