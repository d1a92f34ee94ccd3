//! Times near the ends of what a type can hold, which whoever may insert a row can write.
//!
//! Invariant: no time of a row makes a statement of ours fail. There are two kinds of arithmetic on times. That of a
//! bucket expression, the user's or a level's, fails where a bucket begins before the first time stamp, or where a time
//! zone's clock shows a moment after the last one: where it does is found out when the rollup is made, by trying, and
//! such times are in the bucket of the infinity that they are next to. That of ranges of buckets never adds without
//! looking: what lies too near the end becomes the infinity.
//!
//! It rests on this: bucket expressions never decrease, so that those times which have a bucket lie between two that do.
use super::catalog;
use super::error::Result;
use crate::pg::literal;
use crate::pg::reach::TimeType;
use crate::pg::xact::{ActingAs, current_user, in_subtransaction};
use hll_rollup::Kind;
use hll_rollup::times::interval;

/// Of times between these days every zone's clock shows time stamps.
const FIRST: &str = "4713-01-01 BC";
const LAST: &str = "294276-01-01";

/// A bucket expression, of which `on` makes one of a value, for every time of type `time`: `value` is what it is of.
pub fn guarded(
    time: TimeType,
    key: Kind,
    zone: &str,
    value: &str,
    expression: &str,
    on: impl Fn(&str) -> String,
) -> Result<String> {
    let text = format!("SELECT ({})::pg_catalog.text", on("$1"));
    let bucket = |at: i64| {
        in_subtransaction(std::panic::AssertUnwindSafe(|| {
            let _acting = ActingAs::role(current_user());
            super::session::set_timezone(zone);
            catalog::read(&text, &[time.argument(at)], |row| row.get::<String>(1))
        }))
        .ok()
        .map(|found| found.into_iter().flatten().next())
    };
    let (first, last) = time.ends();
    let middle = 0;
    if bucket(middle).is_none() {
        return Ok(expression.into());
    }
    let name = |at: i64| -> Result<String> {
        let _acting = ActingAs::catalog();
        super::session::set_timezone("UTC");
        let text: String = catalog::one("SELECT $1::pg_catalog.text", &[time.argument(at)])?;
        Ok(format!("{}::{}", literal(&text), time.name()))
    };
    let end = |infinity: &str| format!("'{infinity}'::{}", key.type_name());
    let mut cases = String::new();
    if bucket(first).is_none() {
        let least = farthest(middle, first, &bucket);
        cases += &format!(" WHEN {value} OPERATOR(pg_catalog.<) {} THEN {}", name(least)?, end("-infinity"));
    }
    let is_infinite = bucket(time.infinity()).flatten().as_deref() == Some("infinity");
    if bucket(last).is_none() || !is_infinite {
        let most = if bucket(last).is_some() { last } else { farthest(middle, last, &bucket) };
        cases += &format!(" WHEN {value} OPERATOR(pg_catalog.>) {} THEN {}", name(most)?, end("infinity"));
    }
    Ok(if cases.is_empty() { expression.into() } else { format!("CASE{cases} ELSE {expression} END") })
}

/// The time farthest from `good`, which has a bucket, towards `bad`, which has none, that has one.
fn farthest<T>(mut good: i64, mut bad: i64, bucket: &impl Fn(i64) -> Option<T>) -> i64 {
    while good.abs_diff(bad) > 1 {
        let between = good + (bad - good) / 2;
        match bucket(between) {
            Some(_) => good = between,
            None => bad = between,
        }
    }
    good
}

/// Bounds of the times of type `time` that a key, the lower or the upper end of a range, may come of: `moment` is what
/// it is as such a time, `margin` how far they may lie from it.
pub fn around(
    kind: Kind,
    time: TimeType,
    ends: [&str; 2],
    moment: impl Fn(&str) -> String,
    margin: i64,
) -> [String; 2] {
    let (k, t, margin) = (kind.type_name(), time.name(), interval(margin));
    let [lower, upper] = ends;
    // Two days more, since the zone of the key may be another.
    let beside = |end: &str, sign: &str| {
        format!(
            "'{end}'::{t} OPERATOR(pg_catalog.{sign}) {margin} OPERATOR(pg_catalog.{sign}) '2 days'::pg_catalog.interval"
        )
    };
    let limit = |end: &str, sign: &str| format!("('{end}'::{k} OPERATOR(pg_catalog.{sign}) {margin})");
    [
        format!(
            "CASE WHEN {lower} OPERATOR(pg_catalog.<) {} THEN '-infinity'::{t} WHEN {lower} OPERATOR(pg_catalog.>) '{LAST}'::{k} THEN {} \
             ELSE {} OPERATOR(pg_catalog.-) {margin} END",
            limit(FIRST, "+"),
            beside(LAST, "-"),
            moment(lower)
        ),
        format!(
            "CASE WHEN {upper} OPERATOR(pg_catalog.>) {} THEN 'infinity'::{t} WHEN {upper} OPERATOR(pg_catalog.<) '{FIRST}'::{k} THEN {} \
             ELSE {} OPERATOR(pg_catalog.+) {margin} END",
            limit(LAST, "-"),
            beside(FIRST, "+"),
            moment(upper)
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::farthest;

    #[test]
    fn the_farthest_good_time_is_found() {
        let up_to = |most: i64| move |at: i64| (at <= most).then_some(());
        assert_eq!(farthest(0, 1_000_000, &up_to(777)), 777);
        assert_eq!(farthest(0, 1_000_000, &up_to(0)), 0);
        assert_eq!(farthest(0, i64::MAX - 1, &up_to(i64::MAX - 2)), i64::MAX - 2);
        assert_eq!(farthest(0, -500, &|at| (at >= -499).then_some(())), -499);
    }
}
