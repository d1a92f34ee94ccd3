//! The time key of a query, and its buckets.
use super::catalog::{self, Must};
use super::error::{Result, fail};
use crate::pg::query::{Entry, Target};
use hll_rollup::{Bucket, Kind};
use pgrx::prelude::*;

const WRONG: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE;

/// The group key that is the time of the rows, and the column that it is made of.
pub fn of(targets: &[Target]) -> Result<(&Target, String)> {
    let time_keys: Vec<(&Target, &Vec<String>)> = targets
        .iter()
        .filter(|t| t.is_time)
        .filter_map(|t| match &t.entry {
            Entry::Key { time_columns, .. } if !time_columns.is_empty() => Some((t, time_columns)),
            _ => None,
        })
        .collect();
    let (key, columns) = match time_keys.as_slice() {
        [one] => *one,
        [] => {
            return fail(
                WRONG,
                "the query has no time key",
                "Group by the time of the rows, as in date_trunc('minute', ingest_time) AS ingest_time.",
            );
        }
        [a, b, ..] => {
            return fail(
                WRONG,
                format!("the query has two time keys, {} and {}", a.0.name, b.0.name),
                "Group by one of them.",
            );
        }
    };
    match columns.as_slice() {
        [one] => Ok((key, one.clone())),
        _ => fail(
            WRONG,
            format!("time key {} is made of several columns: {}", key.name, columns.join(", ")),
            "Make it of one.",
        ),
    }
}

/// The buckets that a key is the beginning of, as far as levels can be laid out by them.
pub fn bucket_of(call: Option<&(String, Vec<Option<String>>)>, sql_type: &str, zone: &str) -> Result<Bucket> {
    let day = || Bucket::of_unit("day");
    Ok(match call.map(|(f, args)| (f.as_str(), args.as_slice())) {
        Some(("", _)) if Kind::of(sql_type) == Some(Kind::Date) => day(),
        Some(("", _)) => Bucket::of_unit("microsecond"),
        Some(("date", _)) => day(),
        // Levels are laid out by the clock of the rollup: of buckets by another one it is not known where they lie in these.
        Some(("date_trunc", [Some(unit), _, named])) => match named {
            Some(named) if named.eq_ignore_ascii_case(zone) => Bucket::of_unit(unit),
            _ => Bucket::Unknown,
        },
        Some(("date_trunc", [Some(unit), ..])) => Bucket::of_unit(unit),
        Some(("date_bin", [Some(stride), _, Some(origin)])) => {
            let zoned = Kind::of(sql_type) == Some(Kind::Zoned);
            let t = if zoned { "timestamptz" } else { "timestamp" };
            let found = catalog::read(
                &format!(
                    "SELECT (1000000 * extract(epoch FROM $1::pg_catalog.interval))::pg_catalog.int8, \
                     (1000000 * extract(epoch FROM $2::pg_catalog.{t} - '0001-01-01 00:00:00+00'::pg_catalog.{t}))::pg_catalog.int8"
                ),
                &[stride.as_str().into(), origin.as_str().into()],
                |row| Ok((row.must::<i64>(1)?, row.must::<i64>(2)?)),
            )?;
            match found.first() {
                Some(&(length, from)) if length > 0 => {
                    Bucket::Fixed { length, offset: from.rem_euclid(length), absolute: zoned }
                }
                _ => Bucket::Unknown,
            }
        }
        _ => Bucket::Unknown,
    })
}
