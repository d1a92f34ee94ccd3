//! The sub-query is made, and put into the query.
use super::matching::Match;
use super::offer::Offer;
use super::tree::{self, Node};
use super::{Asked, Engine};
use crate::pg::ctext::c_text;
use pgrx::{PgList, pg_sys};

/// The sub-query that stands for the raw table, its tables locked.
///
/// # Safety
/// The match is of a query whose entry `rt` is the source.
pub(super) unsafe fn sub_query(
    engine: &Engine,
    m: &Match,
    offer: &Offer,
    levels: &[usize],
    rt: i32,
) -> *mut pg_sys::Query {
    // SAFETY: the trees are copies; tables are there as long as the offer holds, which the caller looks at.
    unsafe {
        let kind = if offer.about.grid.zoned { pg_sys::TIMESTAMPTZOID } else { pg_sys::TIMESTAMPOID };
        let mut parts: Vec<Node> = vec![tree::all_of(&m.times)];
        let mut types = vec![pg_sys::BOOLOID];
        let mut bounds = Vec::new();
        for b in &m.ask.bounds {
            parts.push(b.moment);
            types.push(kind);
            let (at, mut of) = (parts.len(), Vec::new());
            for table in std::iter::once(0).chain(levels.iter().map(|l| l + 1)) {
                let bucket = tree::replaced(offer.buckets[table], &mut |n, _| {
                    let is_time = (*n).type_ == pg_sys::NodeTag::T_Var;
                    is_time.then(|| tree::copied(b.moment))
                });
                parts.push(bucket);
                types.push(kind);
                of.push(parts.len());
            }
            bounds.push((at, of));
        }
        let asked = Asked { ask: &m.ask, bounds, timed: !m.times.is_empty(), levels };
        let query = offer.statement(&(engine.sql)(offer, &asked), &types);
        let (owner, ours) = (offer.about.owner, &offer.about.catalog);
        let sub = tree::replaced(query.cast(), &mut |n, level| {
            if (*n).type_ == pg_sys::NodeTag::T_Query {
                read_as(&mut *n.cast::<pg_sys::Query>(), owner, ours);
                return None;
            }
            if (*n).type_ != pg_sys::NodeTag::T_Param {
                return None;
            }
            let at = (*n.cast::<pg_sys::Param>()).paramid as usize - 1;
            let part = tree::copied(*parts.get(at)?);
            // The query that the sub-query is put into lies around it.
            let level = level as i32;
            if at == 0 {
                // The time of the raw table, as the only table of where it is put.
                pg_sys::IncrementVarSublevelsUp(part, level, 1);
                if rt != 1 {
                    pg_sys::ChangeVarNodes(part, rt, 1, 0);
                }
            } else {
                pg_sys::IncrementVarSublevelsUp(part, level, 0);
            }
            Some(part)
        });
        sub.cast()
    }
}

/// Has the tables of one query read by the rights of the rollup's owner, those of the catalog of rollups by the
/// extension's; takes their locks.
///
/// # Safety
/// The query is analysed and ours.
unsafe fn read_as(q: &mut pg_sys::Query, owner: pg_sys::Oid, ours: &[pg_sys::Oid]) {
    let role = |table: pg_sys::Oid| {
        if ours.contains(&table) { pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID) } else { owner }
    };
    // SAFETY: the lists are the query's.
    unsafe {
        for e in PgList::<pg_sys::RangeTblEntry>::from_pg(q.rtable).iter_ptr() {
            if (*e).rtekind == pg_sys::RTEKind::RTE_RELATION {
                pg_sys::LockRelationOid((*e).relid, (*e).rellockmode);
                #[cfg(feature = "pg15")]
                {
                    (*e).checkAsUser = role((*e).relid);
                }
            }
        }
        #[cfg(not(feature = "pg15"))]
        for p in PgList::<pg_sys::RTEPermissionInfo>::from_pg(q.rteperminfos).iter_ptr() {
            (*p).checkAsUser = role((*p).relid);
        }
    }
}

/// Puts the sub-query into the query.
///
/// # Safety
/// The match is of this query; the sub-query is ours.
pub(super) unsafe fn graft(
    q: &mut pg_sys::Query,
    rt: i32,
    m: &Match,
    sub: *mut pg_sys::Query,
    offer: &Offer,
) {
    // SAFETY: nodes are made as PostgreSQL makes them; the query's lists are its own.
    unsafe {
        let entry = pg_sys::palloc0(size_of::<pg_sys::RangeTblEntry>()).cast::<pg_sys::RangeTblEntry>();
        (*entry).type_ = pg_sys::NodeTag::T_RangeTblEntry;
        (*entry).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*entry).subquery = sub;
        (*entry).inFromCl = true;
        let mut names = PgList::<pg_sys::String>::new();
        for t in tree::targets(&*sub).into_iter().filter(|t| !(**t).resjunk) {
            names.push(pg_sys::makeString(pg_sys::pstrdup((*t).resname)));
        }
        let called = c_text(offer.about.name.as_str());
        (*entry).eref = pg_sys::makeAlias(called.as_ptr(), names.into_pg());
        (*entry).alias = pg_sys::makeAlias(called.as_ptr(), std::ptr::null_mut());
        q.rtable = pg_sys::lappend(q.rtable, entry.cast());
        let new = pg_sys::list_length(q.rtable);
        let from = PgList::<pg_sys::RangeTblRef>::from_pg((*q.jointree).fromlist);
        let reference = from.get_ptr(0).expect("one table");
        debug_assert_eq!((*reference).rtindex, rt);
        (*reference).rtindex = new;
        q.targetList = m.targets.cast();
        (*q.jointree).quals = m.quals;
        q.havingQual = m.having;
        #[cfg(feature = "pg18")]
        super::grouped::exchange(q, m.keys);
    }
}
