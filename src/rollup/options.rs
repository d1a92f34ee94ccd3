//! The options of rollup.create.
use super::error::{Result, fail};
use super::levels::Shape;
use super::watch::OnChange;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use std::collections::BTreeMap;

/// What becomes of a rollup of that name that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It is in the way.
    Refuse,
    /// It stays.
    Keep,
    /// It becomes what is asked for.
    Replace,
}

impl Again {
    /// As IF_NOT_EXISTS and REPLACE say.
    pub fn of(if_not_exists: bool, replace: bool) -> Result<Again> {
        match (if_not_exists, replace) {
            (false, false) => Ok(Again::Refuse),
            (true, false) => Ok(Again::Keep),
            (false, true) => Ok(Again::Replace),
            (true, true) => fail(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "if_not_exists and replace are both true",
                "if_not_exists => true keeps a rollup that is there, replace => true makes it what is asked for.",
            ),
        }
    }
}

/// What becomes of lookup tables that the query joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// They are refused.
    Refuse,
    /// Each row is joined to what they hold when it is counted.
    Snapshot,
    /// Groups are joined to what they hold when the rollup is read.
    Follow,
}

impl Joining {
    /// As JOINS says.
    pub fn parse(joins: Option<&str>) -> Result<Joining> {
        match joins {
            None => Ok(Joining::Refuse),
            Some("snapshot") => Ok(Joining::Snapshot),
            Some("follow") => Ok(Joining::Follow),
            Some(other) => fail(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("joins is {other}"),
                "It is 'snapshot', 'follow' or NULL.",
            ),
        }
    }
}

/// What rollup.create is told besides name and query.
pub struct Options {
    /// How often the worker runs it.
    pub every: Option<Interval>,
    /// Coarser levels: what each is to be, by its name.
    pub coarser: BTreeMap<String, Shape>,
    /// COARSER was given: those are all the levels that it is to have.
    pub names_levels: bool,
    /// The time zone of its buckets.
    pub timezone: String,
    /// What becomes of lookup tables.
    pub joins: Joining,
    /// The table that becomes the rollup's, where it is there.
    pub into: Option<String>,
    /// Rows that are there are counted.
    pub backfill: bool,
    /// What it does when raw rows change.
    pub on_change: OnChange,
    /// It tells when it has changed.
    pub notify: bool,
    /// The level that it is there to make, by its name.
    pub whole: Option<String>,
    /// What becomes of one of that name.
    pub again: Again,
}
