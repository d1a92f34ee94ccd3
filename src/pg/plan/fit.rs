//! Which of a table's rollups fit a query; the one that costs least takes the table's place.
use super::matching::{self, Match};
use super::offer::Offer;
use super::{Engine, borrowed, choose, graft};
use pgrx::pg_sys;
use std::rc::Rc;

/// What a query can be answered from.
pub(super) struct Fit {
    /// The rollup.
    pub(super) offer: Rc<Offer>,
    /// The levels that are read besides the rollup's own table.
    pub(super) levels: Vec<usize>,
    matched: Match,
    cost: (bool, f64),
}

/// What fits a query and costs least; or why nothing does.
///
/// # Safety
/// `q` is an analysed SELECT that aggregates rows of its entry `rt`, which is `source`.
unsafe fn cheapest(
    engine: &Engine,
    q: &pg_sys::Query,
    rt: i32,
    source: pg_sys::Oid,
    parameters: pg_sys::ParamListInfo,
) -> Result<Fit, String> {
    let (mut best, mut why): (Option<Fit>, Option<String>) = (None, None);
    for offer in (engine.offers)(source).iter() {
        let found = match offer {
            // SAFETY: as the caller's.
            Ok(offer) => unsafe { fit(engine, q, rt, offer, parameters) },
            Err((_, reason)) => Err(reason.clone()),
        };
        match found {
            Ok(found) if best.as_ref().is_none_or(|best| found.cost < best.cost) => best = Some(found),
            Ok(_) => {}
            Err(reason) => _ = why.get_or_insert(reason),
        }
    }
    best.ok_or_else(|| why.unwrap_or_else(|| "the table has no rollup".into()))
}

/// # Safety
/// As of `cheapest`.
unsafe fn fit(
    engine: &Engine,
    q: &pg_sys::Query,
    rt: i32,
    offer: &Rc<Offer>,
    parameters: pg_sys::ParamListInfo,
) -> Result<Fit, String> {
    // SAFETY: as the caller's; the bounds are of the query.
    unsafe {
        let matched = matching::matched(engine, q, rt, offer)?;
        let span = choose::span(&matched.ask.bounds, parameters);
        let history = (engine.history)();
        if !history && let Some(why) = choose::too_short(offer, &matched.ask.bounds, span) {
            return Err(why);
        }
        let levels = choose::levels(offer, &matched, span, history);
        let cost = choose::cost(offer, &levels, span);
        Ok(Fit { offer: offer.clone(), levels, matched, cost })
    }
}

/// Answers a query from what fits it and costs least.
///
/// # Safety
/// `q` is an analysed SELECT that aggregates rows of its entry `rt`, which is `source`.
pub(super) unsafe fn try_offers(
    engine: &Engine,
    q: &mut pg_sys::Query,
    rt: i32,
    source: pg_sys::Oid,
    parameters: pg_sys::ParamListInfo,
) -> Result<Fit, String> {
    // Locks that are taken below may bring word of what makes the offers void.
    for _ in 0..3 {
        let epoch = (engine.epoch)();
        // SAFETY: as the caller's; the match is of this query.
        unsafe {
            let found = cheapest(engine, q, rt, source, parameters)?;
            // What is dropped or renamed at this moment is so before its name is looked up, or once this has ended.
            let about = &found.offer.about;
            let levels = found.levels.iter().map(|n| about.levels[*n].target);
            for table in std::iter::once(about.target).chain(levels) {
                pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as i32);
            }
            if (engine.epoch)() != epoch {
                continue;
            }
            let m = &found.matched;
            let sub = graft::sub_query(engine, m, &found.offer, &found.levels, rt);
            let typed: *mut pg_sys::Query = q;
            let made = [sub.cast(), m.targets, m.quals, m.having, m.keys.cast()];
            if let Some(called) = borrowed::code(typed.cast(), &made) {
                return Err(format!(
                    "rollup {} calls {}, which the query does not",
                    found.offer.about.name,
                    called.shown()
                ));
            }
            if (engine.epoch)() == epoch {
                graft::graft(q, rt, &found.matched, sub, &found.offer);
                return Ok(found);
            }
        }
    }
    Err("the rollup changes at this moment".into())
}
