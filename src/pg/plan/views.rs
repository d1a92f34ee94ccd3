//! Views and sub-selects that only select rows of a table: the query that aggregates them, as one over the table itself.
//!
//! PostgreSQL does the same when it plans. The entries that a view's rights are checked by come along: those of the view,
//! as its reader, and of the table, as the view's owner.
use super::tree::{self, Node};
use super::{Engine, reads};
use pgrx::{PgList, pg_sys};

/// Views may lie over views, so many at most.
const DEEP: usize = 16;

/// A query over the table below the view that `q` aggregates. None where it aggregates no view over a table with rollups;
/// an error, with the table, says why it cannot be.
///
/// # Safety
/// `q` is analysed.
pub unsafe fn flat(
    q: *mut pg_sys::Query,
    engine: &Engine,
) -> Result<Option<*mut pg_sys::Query>, (pg_sys::Oid, String)> {
    // SAFETY: the caller vouches for the query; what is changed is a copy.
    unsafe {
        if (*q).commandType != pg_sys::CmdType::CMD_SELECT || !has_groups(&*q) {
            return Ok(None);
        }
        let Some((_, first)) = only_view(&*q) else { return Ok(None) };
        let Some(source) = source_below((*first).subquery, engine, DEEP) else { return Ok(None) };
        if !(*q).groupingSets.is_null() {
            return Err((source, "the query has GROUPING SETS over a view or a sub-select".into()));
        }
        let mut flat = tree::copied(q);
        while let Some((at, entry)) = only_view(&*flat) {
            let why = more_than_rows(&*entry, &*(*entry).subquery);
            let merged = match why {
                None => merged(flat, at, entry),
                Some(why) => return Err((source, format!("the query is over a view or a sub-select {why}"))),
            };
            flat = merged.ok_or((source, "a whole row of a view or a sub-select is used".to_string()))?;
        }
        Ok(Some(flat))
    }
}

/// The entry of a query that reads one sub-select, or view, and nothing else.
pub(super) unsafe fn only_view(q: &pg_sys::Query) -> Option<(i32, *mut pg_sys::RangeTblEntry)> {
    // SAFETY: the lists are the query's; the tags say what nodes are.
    unsafe {
        if q.jointree.is_null() {
            return None;
        }
        let from = PgList::<pg_sys::RangeTblRef>::from_pg((*q.jointree).fromlist);
        let item = from.get_ptr(0).filter(|_| from.len() == 1)?;
        if (*item).type_ != pg_sys::NodeTag::T_RangeTblRef {
            return None;
        }
        let entry = pg_sys::list_nth(q.rtable, (*item).rtindex - 1).cast::<pg_sys::RangeTblEntry>();
        ((*entry).rtekind == pg_sys::RTEKind::RTE_SUBQUERY).then_some(((*item).rtindex, entry))
    }
}

fn has_groups(q: &pg_sys::Query) -> bool {
    q.hasAggs || !q.groupClause.is_null() || !q.groupingSets.is_null() || !q.havingQual.is_null()
}

/// The table with rollups that lies below a sub-select that has no groups: one that has them is looked at by itself.
unsafe fn source_below(sub: *mut pg_sys::Query, engine: &Engine, deep: usize) -> Option<pg_sys::Oid> {
    // SAFETY: as the caller's.
    unsafe {
        let live = |e: &pg_sys::RangeTblEntry| e.relid != pg_sys::InvalidOid && (engine.is_live)(e.relid);
        if sub.is_null() || deep == 0 || reads(sub, live) || has_groups(&*sub) {
            return None;
        }
        for e in PgList::<pg_sys::RangeTblEntry>::from_pg((*sub).rtable).iter_ptr() {
            if (*e).rtekind == pg_sys::RTEKind::RTE_RELATION && (engine.is_source)((*e).relid) {
                return Some((*e).relid);
            }
        }
        source_below((*only_view(&*sub)?.1).subquery, engine, deep - 1)
    }
}

/// What a sub-select does besides selecting rows of one table, or of another such sub-select.
unsafe fn more_than_rows(entry: &pg_sys::RangeTblEntry, sub: &pg_sys::Query) -> Option<&'static str> {
    // SAFETY: the lists are the query's.
    unsafe {
        let from = PgList::<pg_sys::Node>::from_pg((*sub.jointree).fromlist);
        let one = from.len() == 1
            && from.get_ptr(0).is_some_and(|item| (*item).type_ == pg_sys::NodeTag::T_RangeTblRef);
        let reasons: [(bool, &str); 8] = [
            (entry.security_barrier, "that is a security barrier"),
            (entry.lateral || sub.commandType != pg_sys::CmdType::CMD_SELECT, "that is LATERAL"),
            (has_groups(sub), "that has groups"),
            (
                sub.hasWindowFuncs || sub.hasTargetSRFs || sub.hasSubLinks || !sub.cteList.is_null(),
                "with window functions, sets or queries in it",
            ),
            (!sub.distinctClause.is_null(), "with DISTINCT"),
            (
                !sub.limitOffset.is_null() || !sub.limitCount.is_null() || !sub.sortClause.is_null(),
                "with ORDER BY or LIMIT",
            ),
            (!sub.rowMarks.is_null() || sub.hasForUpdate, "that locks rows"),
            (!sub.setOperations.is_null() || !one, "of more than one table"),
        ];
        let found = reasons.into_iter().find(|(there, _)| *there).map(|(_, why)| why);
        let volatile = || pg_sys::contain_volatile_functions(sub.targetList.cast());
        found.or_else(|| volatile().then_some("with a volatile function"))
    }
}

/// The query with what a sub-select reads in the place of the sub-select, its entry `at`; None where a whole row is used.
///
/// # Safety
/// `q` is ours to change, `entry` its only one that is read, which does no more than to select rows.
unsafe fn merged(
    q: *mut pg_sys::Query,
    at: i32,
    entry: *mut pg_sys::RangeTblEntry,
) -> Option<*mut pg_sys::Query> {
    // SAFETY: the caller vouches for both; the lists are theirs.
    unsafe {
        let sub = (*entry).subquery;
        pg_sys::OffsetVarNodes(sub.cast(), pg_sys::list_length((*q).rtable), 0);
        let targets = tree::targets(&*sub);
        let mut whole = false;
        let mut replace = |n: Node, level: u32| {
            if (*n).type_ != pg_sys::NodeTag::T_Var {
                return None;
            }
            let v = &*n.cast::<pg_sys::Var>();
            if v.varno != at || v.varlevelsup != level {
                return None;
            }
            let target = targets.iter().find(|t| (***t).resno == v.varattno && !(***t).resjunk);
            let Some(target) = target else {
                whole = true;
                return Some(n);
            };
            let value: Node = tree::copied((**target).expr).cast();
            pg_sys::IncrementVarSublevelsUp(value, level as i32, 0);
            Some(value)
        };
        let tree = (*q).jointree;
        (*q).targetList = tree::replaced((*q).targetList.cast(), &mut replace).cast();
        (*q).havingQual = tree::replaced((*q).havingQual, &mut replace);
        let mut quals = tree::conjuncts(tree::replaced((*tree).quals, &mut replace));
        if whole {
            return None;
        }
        quals.extend(tree::conjuncts((*(*sub).jointree).quals));
        (*tree).quals = tree::all_of(&quals);
        (*tree).fromlist = (*(*sub).jointree).fromlist;
        #[cfg(not(feature = "pg15"))]
        {
            let before = pg_sys::list_length((*q).rteperminfos) as u32;
            for e in PgList::<pg_sys::RangeTblEntry>::from_pg((*sub).rtable).iter_ptr() {
                if (*e).perminfoindex > 0 {
                    (*e).perminfoindex += before;
                }
            }
            (*q).rteperminfos = pg_sys::list_concat((*q).rteperminfos, (*sub).rteperminfos);
        }
        (*q).rtable = pg_sys::list_concat((*q).rtable, (*sub).rtable);
        (*q).hasRowSecurity |= (*sub).hasRowSecurity;
        // It is read no more: its rights are checked all the same.
        (*entry).subquery = std::ptr::null_mut();
        Some(q)
    }
}
