//! Which rollup, and which of its levels, a query is answered from, where several fit: the one of which the fewest rows are read.
//!
//! Nothing here is about what the answer is. Bounds are looked at as they are when the query is planned, parameters and
//! `now()` included; a plan that is executed with others later is as right, and may be slower.
use super::matching::{Column, Match};
use super::offer::Offer;
use super::time::Bound;
use hll_rollup::Bucket;
use pgrx::pg_sys;
use std::cmp::Ordering;

const DAY: i64 = 86_400_000_000;
/// A range that is not known is taken to be so long.
const UNKNOWN: i64 = DAY;
/// Of a range of so many buckets, those at its ends, whose rows are read raw, are no matter.
const MANY: i64 = 10;

/// So many levels are read, each of which makes planning longer; with history at most.
const ENOUGH: usize = 2;
/// The rollup's own table and these are as many as `state_of` tells of.
const MOST: usize = 4;

/// How long the range is that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// No bound.
    All,
    /// So many microseconds.
    Known(i64),
    /// It cannot be told yet.
    Unknown,
}

/// The value of a bound, as far as it is known now.
///
/// # Safety
/// The bound is of a query that is about to be planned, with these parameters.
unsafe fn value(bound: &Bound, parameters: pg_sys::ParamListInfo) -> Option<i64> {
    // SAFETY: the planner's state is made as far as the function looks at it: the parameters. The tag says what is left.
    unsafe {
        let root = pg_sys::palloc0(size_of::<pg_sys::PlannerInfo>()).cast::<pg_sys::PlannerInfo>();
        (*root).type_ = pg_sys::NodeTag::T_PlannerInfo;
        let glob = pg_sys::palloc0(size_of::<pg_sys::PlannerGlobal>()).cast::<pg_sys::PlannerGlobal>();
        (*glob).type_ = pg_sys::NodeTag::T_PlannerGlobal;
        (*glob).boundParams = parameters;
        (*root).glob = glob;
        let node = pg_sys::estimate_expression_value(root, bound.moment);
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_Const {
            return None;
        }
        let c = &*node.cast::<pg_sys::Const>();
        (!c.constisnull).then(|| c.constvalue.value() as i64)
    }
}

/// How long a range with these bounds is.
///
/// # Safety
/// As of `value`.
pub unsafe fn span(bounds: &[Bound], parameters: pg_sys::ParamListInfo) -> Span {
    if bounds.is_empty() {
        return Span::All;
    }
    let (mut low, mut high) = (None, None);
    for b in bounds {
        // SAFETY: as the caller's.
        let Some(at) = (unsafe { value(b, parameters) }) else { return Span::Unknown };
        match b.lower {
            true => low = low.max(Some(at)),
            false => high = Some(high.map_or(at, |h: i64| h.min(at))),
        }
    }
    let Some(low) = low else { return Span::All };
    // What is asked for without an end reaches to this moment, most often.
    // SAFETY: reads a variable of this process.
    let high = high.unwrap_or_else(|| unsafe { pg_sys::GetCurrentTransactionStartTimestamp() });
    Span::Known(high.saturating_sub(low))
}

/// Why a query over so short a range is better answered raw.
pub fn too_short(offer: &Offer, bounds: &[Bound], span: Span) -> Option<String> {
    let ended = bounds.iter().any(|b| b.lower) && bounds.iter().any(|b| !b.lower);
    match span {
        Span::Known(span) if ended && span < offer.about.grid.bucket.shortest() => {
            Some(format!("no bucket of rollup {} lies wholly in the range", offer.about.name))
        }
        _ => None,
    }
}

/// The levels to read besides the rollup's own table, finest first: the coarsest that fits and of which a bucket lies in the
/// range, or one without some keys that has fewer rows, and the coarsest of those that lie inside it; with `history` all that lie
/// each inside the next, since of what has expired from one another may know. Invariant: each has every key that is asked for.
pub fn levels(offer: &Offer, m: &Match, span: Span, history: bool) -> Vec<usize> {
    let all = &offer.about.levels;
    let fits = |n: &usize| {
        let long = all[*n].grid.bucket.shortest();
        m.ask.levels[*n].is_some()
            && has_keys(offer, m, *n)
            && match span {
                Span::Known(span) if !history => span >= long.saturating_mul(2),
                _ => true,
            }
    };
    let inside = |n: usize, coarser: usize| {
        let (grid, coarser) = (&all[n].grid, &all[coarser].grid);
        grid.bucket.nests_in(coarser.bucket, grid.zone.eq_ignore_ascii_case("utc"))
    };
    let coarsest = (0..all.len()).rev().find(&fits);
    let first = match history {
        true => coarsest,
        false => coarsest.map(|coarsest| narrower(offer, coarsest, (0..coarsest).filter(&fits))),
    };
    let chain =
        std::iter::successors(first, |last| (0..*last).rev().filter(&fits).find(|n| inside(*n, *last)));
    let mut chain: Vec<usize> = chain.take(if history { MOST } else { ENOUGH }).collect();
    if history {
        // Those of the same buckets and of other keys, too.
        let same = |n: &usize| chain.iter().any(|c| c != n && all[*c].grid.bucket == all[*n].grid.bucket);
        let others = (0..all.len()).rev().filter(&fits).filter(|n| !chain.contains(n)).filter(same);
        let others: Vec<usize> = others.take(MOST - chain.len()).collect();
        chain.extend(others);
    }
    chain.sort_unstable();
    chain
}

/// Whether a level has every key that is asked for.
fn has_keys(offer: &Offer, m: &Match, level: usize) -> bool {
    m.ask.columns.iter().all(|c| match c {
        Column::Key(n) => offer.about.levels[level].keys.contains(&offer.keys[*n].name),
        Column::Time | Column::Value(_) => true,
    })
}

/// Of a level and finer ones without some keys of the rollup the one of the fewest rows, as far as rows do not expire.
fn narrower(offer: &Offer, coarsest: usize, finer: impl Iterator<Item = usize>) -> usize {
    let all = &offer.about.levels;
    let size = |n: usize| rows(all[n].target);
    let fewer = |n: &usize| all[*n].keys.len() < offer.about.keys.len() && !all[*n].expires;
    // Of tables of which nothing is known yet all are taken to be alike.
    let known = size(coarsest).is_some();
    let candidates = finer.filter(|n| known && fewer(n) && size(*n).is_some());
    let least = candidates.min_by(|a, b| size(*a).partial_cmp(&size(*b)).unwrap_or(Ordering::Equal));
    least.filter(|n| size(*n) < size(coarsest)).unwrap_or(coarsest)
}

/// What a rollup with these levels costs to read: whether the ends of the range are much of it, and how many rows.
pub fn cost(offer: &Offer, levels: &[usize], span: Span) -> (bool, f64) {
    let own = offer.about.grid.bucket.shortest();
    let span = match span {
        Span::All => i64::MAX,
        Span::Known(span) => span,
        Span::Unknown => UNKNOWN,
    };
    if span < own.saturating_mul(MANY) {
        return (true, own as f64);
    }
    let (target, bucket) = match levels.last() {
        None => (offer.about.target, offer.about.grid.bucket),
        Some(n) => (offer.about.levels[*n].target, offer.about.levels[*n].grid.bucket),
    };
    let keys = levels.last().map_or(&offer.about.keys, |n| &offer.about.levels[*n].keys);
    (false, rows(target).unwrap_or_else(|| guessed(bucket, keys.len())))
}

/// Rows of a table of which nothing is known: more of short buckets, and of many keys.
fn guessed(bucket: Bucket, keys: usize) -> f64 {
    1e15 * keys as f64 / bucket.shortest().max(1) as f64
}

/// How many rows the catalog says that a table has.
fn rows(table: pg_sys::Oid) -> Option<f64> {
    // SAFETY: the cached tuple is released before return; what is read of it is its fixed part.
    unsafe {
        let of = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(of, pg_sys::Datum::from(table));
        if tuple.is_null() {
            return None;
        }
        let rows = f64::from((*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(tuple)).reltuples);
        pg_sys::ReleaseSysCache(tuple);
        (rows >= 0.0).then_some(rows)
    }
}
