//! One table that buckets are read from: the rollup's own, or a level's. Which of its buckets are used, and where those lie
//! that are not.
//!
//! A bucket is used if it lies at or above the table's floor, wholly within the bounds, and no change that waits for a run
//! lies in it. What is said here of "the state" are columns of the common table expression of that name (see `state_text`).
use crate::pg::plan::time::Bound;
use hll_rollup::{Bucket, Kind, times};

pub const DAY: i64 = 86_400_000_000;
/// Microseconds since 2000 at which times of an ordinary kind begin.
pub const FIRST: &str = "4712-01-01 00:00:00 BC";
pub const LAST: &str = "290000-01-01 00:00:00";
/// No bucket of a row before this begins at `LAST` or later.
const WELL_BEFORE: &str = "289999-01-01 00:00:00";

/// A value of the state.
pub fn state(value: &str) -> String {
    format!("(SELECT {value} FROM \"the state\")")
}

/// What the bounds of a question are to one table: the parameters that are a moment and its bucket.
pub type BoundAt<'a> = (&'a Bound, usize, usize);

/// A table in the order in which they are read: 0 is the rollup's own, each level lies inside the next.
pub struct Table<'a> {
    pub n: usize,
    /// Qualified and quoted.
    pub name: &'a str,
    pub kind: Kind,
    /// Its buckets lie on moments, so that where one begins no row of it lies before.
    pub absolute: bool,
    /// Microseconds of the longest bucket.
    pub width: i64,
    pub bounds: Vec<BoundAt<'a>>,
    /// What has expired from the source is answered, too, in whole buckets.
    pub history: bool,
}

/// The longest that a bucket can be; where clocks change, that included.
pub fn longest(bucket: Bucket, absolute: bool) -> i64 {
    let longest = match bucket {
        Bucket::Unknown => 0,
        Bucket::Fixed { length, .. } => length,
        Bucket::Months(m) => (i64::from(m) * 31).saturating_mul(DAY),
    };
    longest.saturating_add(if absolute { 0 } else { DAY + DAY / 12 }).min(i64::MAX / 8)
}

impl Table<'_> {
    fn type_name(&self) -> &'static str {
        self.kind.type_name()
    }

    /// How far after a row its bucket may begin.
    pub fn slack(&self) -> i64 {
        if self.absolute { 0 } else { DAY }
    }

    /// The condition that the bucket `k` lies within the bounds; with `partly`, that a part of it does.
    fn within(&self, k: &str, partly: bool) -> Vec<String> {
        let absolute = self.absolute;
        (self.bounds.iter())
            .map(|(b, at, of)| match (b.lower, b.inclusive) {
                // Of what has expired a bucket is taken whole where a part of it is asked for.
                (true, _) if partly => format!("{k} OPERATOR(pg_catalog.>=) ${of}"),
                (false, false) if partly && absolute => format!("{k} OPERATOR(pg_catalog.<) ${at}"),
                (false, _) if partly => format!("{k} OPERATOR(pg_catalog.<=) ${of}"),
                (true, inclusive) if absolute => {
                    format!("{k} OPERATOR(pg_catalog.{}) ${at}", if inclusive { ">=" } else { ">" })
                }
                (true, _) => format!("{k} OPERATOR(pg_catalog.>) ${of}"),
                (false, _) => format!("{k} OPERATOR(pg_catalog.<) ${of}"),
            })
            .collect()
    }

    /// The condition that the stored bucket `k` is used.
    ///
    /// With `history`, a level goes below what the rollup's own table has only where raw rows have expired, too; and takes
    /// a bucket whole that a bound cuts where no finer table has all of what is asked for of it.
    pub fn is_used(&self, k: &str) -> String {
        let n = self.n;
        let before = |value: &str| format!("{k} OPERATOR(pg_catalog.<) {}", state(value));
        let mut all = vec![
            format!("{k} OPERATOR(pg_catalog.>=) {}", state(&format!("floor_{n}"))),
            format!("{k} OPERATOR(pg_catalog.<) 'infinity'::{}", self.type_name()),
        ];
        let unchanged = format!(
            "(pg_catalog.width_bucket({k}, {}) OPERATOR(pg_catalog.%) 2 OPERATOR(pg_catalog.=) 1) IS NOT TRUE",
            state(&format!("changed_{n}"))
        );
        if !self.history {
            all.extend(self.within(k, false));
            all.push(unchanged);
            return format!("({})", all.join(" AND "));
        }
        all.push(format!("({unchanged} OR {})", before("gone")));
        if n > 0 {
            all.push(format!("({k} OPERATOR(pg_catalog.>=) {} OR {})", state("floor_0"), before("gone")));
        }
        if !self.bounds.is_empty() {
            all.extend(self.within(k, true));
            let mut whole = vec![before("gone")];
            for finer in (0..n).map(|finer| format!("floor_{finer}")) {
                let lower = self.bounds.iter().filter(|(b, ..)| b.lower);
                whole.extend(
                    lower.map(|(_, at, _)| format!("${at} OPERATOR(pg_catalog.<) {}", state(&finer))),
                );
                whole.push(before(&finer));
            }
            all.push(format!("({} OR {})", whole.join(" AND "), self.within(k, false).join(" AND ")));
        }
        format!("({})", all.join(" AND "))
    }

    /// Where `k` can lie that its bucket here is cut by a bound. No bucket is cut by a bound that lies on one: the range is
    /// empty then, which the planner is told by NULL.
    fn beside_bound(&self, (b, at, of): &BoundAt) -> (String, String) {
        let t = self.type_name();
        let low = match (self.absolute, b.lower == b.inclusive) {
            (true, true) => format!("NULLIF(${of}, ${at})"),
            (true, false) => format!("${of}"),
            // A bucket may begin an hour late where a clock shows midnight twice.
            (false, _) => format!(
                "CASE WHEN ${of} OPERATOR(pg_catalog.>) '{FIRST}'::{t} THEN ${of} OPERATOR(pg_catalog.-) '1 day'::pg_catalog.interval ELSE '-infinity'::{t} END"
            ),
        };
        // Where buckets lie on moments the next one begins where this one ends, or earlier.
        let from = if self.absolute { of } else { at };
        let high = match (b.lower, b.constant) {
            (false, _) => format!("${at}"),
            // What is known is added now.
            (true, true) => {
                format!("(${from} OPERATOR(pg_catalog.+) {})", times::interval(self.width))
            }
            (true, false) => times::later(self.kind, &format!("${from}"), self.width),
        };
        (low, high)
    }

    /// The last time or bucket that is asked for, if it is not before `LAST`; else NULL, which leaves no range.
    fn latest(&self) -> String {
        let t = self.type_name();
        match self.bounds.iter().find(|(b, ..)| !b.lower) {
            Some((_, at, _)) => format!(
                "CASE WHEN ${at} OPERATOR(pg_catalog.>=) '{WELL_BEFORE}'::{t} THEN 'infinity'::{t} END"
            ),
            None => format!("'infinity'::{t}"),
        }
    }

    /// Where times, or finer buckets, `k` lie whose bucket here is not used. The planner takes a range to hold few rows, and
    /// half of one a third of the table. `changed` are the ranges in which changes wait, as columns of the state.
    pub fn unused(&self, k: &str, changed: &[(String, String)]) -> Vec<String> {
        let t = self.type_name();
        let between = |low: &str, high: &str| {
            format!("({k} OPERATOR(pg_catalog.>=) {low} AND {k} OPERATOR(pg_catalog.<=) {high})")
        };
        let mut ranges = vec![
            format!(
                "({k} OPERATOR(pg_catalog.>=) '-infinity'::{t} AND {k} OPERATOR(pg_catalog.<) {})",
                state(&format!("reach_{}", self.n))
            ),
            between(&format!("'{LAST}'::{t}"), &self.latest()),
        ];
        for bound in &self.bounds {
            let (low, high) = self.beside_bound(bound);
            ranges.push(between(&low, &high));
        }
        ranges.extend(changed.iter().map(|(from, to)| between(&state(from), &state(to))));
        ranges
    }
}
