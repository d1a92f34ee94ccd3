//! Intervals that are added to the moment, or taken from it, at every look: they must lead somewhere.
use super::catalog;
use super::error::{Result, fail};
use crate::pg::xact::in_subtransaction;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use std::panic::AssertUnwindSafe;

const HOUR: i128 = 3_600_000_000;

/// The least that an interval comes to, in microseconds, wherever it is counted from: months have 28 to 31 days, days
/// 23 to 25 hours.
fn least(months: i32, days: i32, micros: i64) -> i128 {
    let part = |n: i32, short: i128, long: i128| i128::from(n) * if n < 0 { long } else { short };
    part(months, 28 * 23 * HOUR, 31 * 25 * HOUR) + part(days, 23 * HOUR, 25 * HOUR) + i128::from(micros)
}

/// Without end, in versions that have such intervals.
fn infinite(i: &Interval) -> bool {
    (i.months(), i.days(), i.micros()) == (i32::MAX, i32::MAX, i64::MAX)
}

fn text(i: &Interval) -> Result<String> {
    catalog::one("SELECT $1::pg_catalog.text", &[(*i).into()])
}

/// Refuses an interval that may be zero or negative.
fn always_positive(what: &str, i: &Interval, hint: &str) -> Result<()> {
    if least(i.months(), i.days(), i.micros()) > 0 {
        return Ok(());
    }
    fail(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("{what} is {}, which is not always positive", text(i)?),
        hint,
    )
}

/// Refuses an interval with which `reached`, an expression of it as `$1`, cannot be computed.
fn within_reach(what: &str, i: &Interval, reached: &str, hint: &str) -> Result<()> {
    let sql = format!("SELECT {reached} IS NOT NULL");
    let computed = || catalog::read(&sql, &[(*i).into()], |row| row.get::<bool>(1));
    match in_subtransaction(AssertUnwindSafe(computed)) {
        Ok(_) if !infinite(i) => Ok(()),
        Err(e) if e.code != PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW => fail(e.code, e.message, hint),
        _ => fail(
            PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
            format!("{what} is {}, further than any clock reaches", text(i)?),
            hint,
        ),
    }
}

/// Refuses a time zone that the server does not know.
pub fn check_timezone(timezone: &str) -> Result<()> {
    let known = catalog::read(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_timezone_names WHERE pg_catalog.lower(name) = pg_catalog.lower($1))",
        &[timezone.into()],
        |row| row.get::<bool>(1),
    )?;
    if known.first().copied().flatten() == Some(true) {
        return Ok(());
    }
    fail(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("time zone {timezone} is not known"),
        "TABLE pg_timezone_names lists the names, such as UTC or Europe/Berlin.",
    )
}

/// How often a rollup runs. One that fails rests for five times as long.
pub fn check_every(every: &Interval) -> Result<()> {
    const HINT: &str =
        "Write an interval such as '10 seconds' or '1 hour', or NULL: then it runs only when it is called.";
    always_positive("every", every, HINT)?;
    within_reach("every", every, "pg_catalog.now() + 5 * $1", HINT)
}

/// How long rows are kept.
pub fn check_keep(keep: &Interval) -> Result<()> {
    const HINT: &str = "Write an interval such as '30 days' or '1 year', or NULL: then everything is kept.";
    always_positive("keep", keep, HINT)?;
    within_reach("keep", keep, "pg_catalog.now() - $1", HINT)
}

/// How long partitions are, and how far ahead they are made; what is too short is refused with the rest of the options.
pub fn check_partitions(width: &Interval, ahead: Option<&Interval>) -> Result<()> {
    const HINT: &str = "Write a width such as '1 day', '6 hours' or '1 month', and ahead such as '1 week'.";
    within_reach("width", width, "pg_catalog.now() + 10 * $1", HINT)?;
    ahead.map_or(Ok(()), |ahead| within_reach("ahead", ahead, "pg_catalog.now() + $1", HINT))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_least_of_an_interval_is_that_of_its_shortest_months() {
        let of = super::least;
        assert!(of(1, -26, 0) < 0 && of(1, -20, 0) > 0);
        assert!(of(0, 1, -23 * 3_600_000_000) == 0 && of(0, 0, 1) > 0 && of(0, 0, 0) == 0);
        assert!(of(-1, 30, 0) < 0);
    }
}
