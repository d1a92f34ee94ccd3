//! Arithmetic on times near the ends of what a type can hold: it never fails, what lies too near the end becomes the infinity.
use crate::bucket::Kind;

const DAY: i64 = 86_400_000_000;
/// Of times up to this day every zone's clock shows time stamps.
const LAST: &str = "294276-01-01";

/// A key, `micros` or a little more later.
pub fn later(kind: Kind, key: &str, micros: i64) -> String {
    let t = kind.type_name();
    let (last, length) = match kind {
        Kind::Date => ("5874897-12-30", format!("{}", micros / DAY + 1)),
        _ => (LAST, interval(micros)),
    };
    let minus = format!("'{last}'::{t} OPERATOR(pg_catalog.-) {length}");
    format!(
        "CASE WHEN {key} OPERATOR(pg_catalog.>) ({minus}) THEN 'infinity'::{t} ELSE {key} OPERATOR(pg_catalog.+) {length} END"
    )
}

/// So many microseconds as an interval.
pub fn interval(micros: i64) -> String {
    format!("'{micros} microseconds'::pg_catalog.interval")
}

/// A time of a row as a timestamptz, whatever its type.
pub fn zoned(time: &str) -> String {
    // Days go on where time stamps have ended.
    format!(
        "CASE WHEN {time} OPERATOR(pg_catalog.>) '294276-12-30'::pg_catalog.date THEN 'infinity'::pg_catalog.timestamptz ELSE {time}::pg_catalog.timestamptz END"
    )
}

/// The same of a column without time zone, as if its times were those of UTC.
pub fn as_if_utc(time: &str) -> String {
    format!(
        "CASE WHEN {time} OPERATOR(pg_catalog.>) '294276-12-30'::pg_catalog.date THEN 'infinity'::pg_catalog.timestamptz ELSE pg_catalog.timezone('UTC', {time}::pg_catalog.timestamp) END"
    )
}
