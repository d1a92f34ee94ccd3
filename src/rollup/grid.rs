//! Where the buckets of a level begin.
use super::ask;
use super::error::{Result, fail};
use hll_rollup::sql::literal;
use hll_rollup::{Bucket, Kind, Step, bin_of, fill};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

/// A call makes no more buckets than this.
const MOST: i64 = 10_000_000;

/// The beginnings of the buckets that have a part of the time from one moment to before another, in order; an error where
/// they have no end or are too many. `shown` is how the width is shown there.
pub fn starts(
    bucket: Bucket,
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
    timezone: &str,
    shown: &str,
) -> Result<Vec<TimestampWithTimeZone>> {
    let (first, end) = (i64::from(from), i64::from(to));
    if first == i64::MIN || end == i64::MAX {
        return fail(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("there are buckets without end from {} to {}", from.to_iso_string(), to.to_iso_string()),
            "Write two moments, as in now() - interval '1 day', now().",
        );
    }
    let expected = end.saturating_sub(first) / bucket.shortest();
    if expected > MOST {
        return fail(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("the time has about {expected} buckets of {shown}, more than {MOST}"),
            "Write a shorter time or wider buckets.",
        );
    }
    if end <= first {
        return Ok(Vec::new());
    }
    match bucket.absolute_length(timezone) {
        Some(length) => steps(first, end, length),
        None => by_the_clock(bucket, from, to, timezone),
    }
}

/// Buckets that each have `length` microseconds.
fn steps(first: i64, end: i64, length: i64) -> Result<Vec<TimestampWithTimeZone>> {
    let begin = bin_of(first, length);
    let moments = (0..).map_while(|n| begin.checked_add(length * n).filter(|at| *at < end));
    moments
        .map(|at| {
            TimestampWithTimeZone::try_from(at).or_else(|_| {
                fail(
                    PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
                    "the first bucket begins before the first timestamp",
                    "Write a later moment to begin at.",
                )
            })
        })
        .collect()
}

/// Buckets that the clock of a time zone cuts, some of them longer and shorter than others. No bucket is shorter than half its
/// width, so that steps of half a width by the time, or of a width by the clock, leave none out.
fn by_the_clock(
    bucket: Bucket,
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
    timezone: &str,
) -> Result<Vec<TimestampWithTimeZone>> {
    let expression = bucket.expression(Kind::Zoned, timezone);
    let of = |at: &str| fill(&expression, |n| (n == 1).then(|| at.to_string()));
    let zone = literal(timezone);
    let begin = of("$1");
    let moments = match bucket.step() {
        Step::Time(half) => {
            // What the clock shows twice may be in a bucket that begins later.
            format!(
                "pg_catalog.generate_series(least({begin}, $1), $2, '{half} microseconds'::pg_catalog.interval) AS at"
            )
        }
        Step::Clock(step) => format!(
            "pg_catalog.generate_series(({begin}) AT TIME ZONE {zone}, $2 AT TIME ZONE {zone}, '{step}'::pg_catalog.interval) AS local, \
             LATERAL (SELECT local AT TIME ZONE {zone} AS at) AS a"
        ),
    };
    let bucket = of("at");
    let found = ask::read(
        &format!("SELECT b FROM (SELECT DISTINCT {bucket} AS b FROM {moments}) AS s WHERE b < $2 ORDER BY b"),
        &[from.into(), to.into()],
        |row| row.get::<TimestampWithTimeZone>(1),
    )?;
    Ok(found.into_iter().flatten().collect())
}
