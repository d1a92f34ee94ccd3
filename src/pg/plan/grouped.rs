//! Group keys from 18 on: they are expressions of an entry of the query, and what is above the groups names its columns.
//! Of a plain GROUP BY they are put back where they are used. Those of GROUPING SETS stay where they are: above, a key is NULL in
//! the groups that it is no key of.
use super::matching::Matching;
use super::tree::{self, Node};
use super::{Engine, refusal, views};
use pgrx::{PgList, pg_sys};

/// Puts the keys of a query that may be exchanged back where they are used.
///
/// # Safety
/// `q` is analysed, and the caller's to change.
pub(super) unsafe fn inline_keys(engine: &Engine, q: *mut pg_sys::Query) {
    // SAFETY: the caller vouches for the query.
    unsafe {
        let may = refusal::candidate(&*q, engine).is_some() || views::only_view(&*q).is_some();
        if may && (*q).hasGroupRTE && (*q).groupingSets.is_null() {
            let having = inlined(&*q, (*q).havingQual);
            crate::pg::tables::inline_group_keys(&mut *q);
            (*q).havingQual = having;
        }
    }
}

/// A copy of a tree above the groups with the keys in the places of columns of their entry.
///
/// # Safety
/// The tree is one of the query.
pub(super) unsafe fn inlined(q: &pg_sys::Query, node: Node) -> Node {
    // SAFETY: the caller vouches for the tree.
    let node = unsafe { tree::copied(node) };
    if !q.hasGroupRTE {
        return node;
    }
    let q = (q as *const pg_sys::Query).cast_mut();
    // SAFETY: the query is looked at, the tree is ours.
    unsafe { pg_sys::flatten_group_exprs(std::ptr::null_mut(), q, node) }
}

/// The entry of a query that has its keys; NULL where there is none.
unsafe fn entry(q: &pg_sys::Query) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: the list is the query's.
    unsafe {
        let entries = PgList::<pg_sys::RangeTblEntry>::from_pg(q.rtable);
        let of_keys = entries.iter_ptr().find(|e| (**e).rtekind == pg_sys::RTEKind::RTE_GROUP);
        of_keys.unwrap_or(std::ptr::null_mut())
    }
}

impl Matching<'_> {
    /// The keys of a query in terms of the sub-query, in their order.
    ///
    /// # Safety
    /// `q` is the query that is matched.
    pub(super) unsafe fn keys(&mut self, q: &pg_sys::Query) -> Result<*mut pg_sys::List, String> {
        // SAFETY: the entry is the query's; what is made are copies.
        unsafe {
            let mut keys = PgList::<pg_sys::Node>::new();
            if let Some(entry) = entry(q).as_ref() {
                for e in PgList::<pg_sys::Node>::from_pg(entry.groupexprs).iter_ptr() {
                    let key = tree::folded(tree::copied(e));
                    // By itself, as in a select list.
                    let target = pg_sys::makeTargetEntry(key.cast(), 1, std::ptr::null_mut(), false);
                    let mapped = self.mapped(target.cast())?.cast::<pg_sys::TargetEntry>();
                    keys.push((*mapped).expr.cast());
                }
            }
            Ok(keys.into_pg())
        }
    }
}

/// Gives a query other keys.
///
/// # Safety
/// There is one for each that it has.
pub(super) unsafe fn exchange(q: &pg_sys::Query, keys: *mut pg_sys::List) {
    // SAFETY: the entry is the query's.
    unsafe {
        if let Some(entry) = entry(q).as_mut() {
            entry.groupexprs = keys;
        }
    }
}
