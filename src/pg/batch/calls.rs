//! What a query consists of: calls of aggregates above scans of heaps.
use pgrx::{PgList, pg_sys};
use std::ffi::c_void;

/// The calls of aggregates in expressions that consist of them and of the keys.
pub struct Calls<'a> {
    keys: &'a [*mut pg_sys::Expr],
    pub calls: Vec<*mut pg_sys::Aggref>,
}

impl<'a> Calls<'a> {
    pub fn new(keys: &'a [*mut pg_sys::Expr]) -> Calls<'a> {
        Calls { keys, calls: Vec::new() }
    }

    /// Records the calls in `node`; false where there is a column that is neither in a call nor in a key.
    ///
    /// # Safety
    /// `node` is NULL, an expression or a list of such.
    pub unsafe fn of(&mut self, node: *mut pg_sys::Node) -> bool {
        // SAFETY: the caller vouches for the node.
        unsafe { !walk(node, (&raw mut *self).cast()) }
    }
}

unsafe extern "C-unwind" fn walk(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the context is that of `of`; nodes are read as what their tags say.
    unsafe {
        let found = &mut *context.cast::<Calls>();
        if found.keys.iter().any(|k| pg_sys::equal((*k).cast(), node.cast())) {
            return false;
        }
        match (*node).type_ {
            pg_sys::NodeTag::T_Aggref => {
                let call = node.cast::<pg_sys::Aggref>();
                if !found.calls.iter().any(|c| pg_sys::equal((*c).cast(), call.cast())) {
                    found.calls.push(call);
                }
                false
            }
            pg_sys::NodeTag::T_Var
            | pg_sys::NodeTag::T_PlaceHolderVar
            | pg_sys::NodeTag::T_GroupingFunc
            | pg_sys::NodeTag::T_SubLink => true,
            _ => pg_sys::expression_tree_walker(node, Some(walk), context),
        }
    }
}

/// Whether it is a path whose plan is a scan of a heap by pages, or an Append of such.
///
/// # Safety
/// `path` is one of the planner's.
pub unsafe fn is_scan(path: *mut pg_sys::Path, root: *mut pg_sys::PlannerInfo) -> bool {
    // SAFETY: the tags say what the paths are.
    unsafe {
        let mut path = path;
        if (*path).pathtarget.is_null()
            || (*(*path).pathtarget).exprs.is_null()
            || !(*path).param_info.is_null()
        {
            // Without a column to be read, a scan by a bitmap may leave pages alone.
            return false;
        }
        if (*path).type_ == pg_sys::NodeTag::T_AppendPath {
            let parts = PgList::<pg_sys::Path>::from_pg((*path.cast::<pg_sys::AppendPath>()).subpaths);
            return !parts.is_empty() && parts.iter_ptr().all(|p| !is_append(p) && is_scan(p, root));
        }
        if (*path).type_ == pg_sys::NodeTag::T_ProjectionPath {
            path = (*path.cast::<pg_sys::ProjectionPath>()).subpath;
        }
        let scans = match (*path).type_ {
            pg_sys::NodeTag::T_Path => (*path).pathtype == pg_sys::NodeTag::T_SeqScan,
            pg_sys::NodeTag::T_BitmapHeapPath => true,
            _ => false,
        };
        scans && is_heap((*path).parent, root)
    }
}

unsafe fn is_append(path: *mut pg_sys::Path) -> bool {
    // SAFETY: the caller's path is live.
    unsafe { (*path).type_ == pg_sys::NodeTag::T_AppendPath }
}

/// Whether it is a relation whose rows lie in a heap.
unsafe fn is_heap(rel: *mut pg_sys::RelOptInfo, root: *mut pg_sys::PlannerInfo) -> bool {
    // SAFETY: the relation is one of the query's range table; the tuple of the cache is released.
    unsafe {
        let entry = *(*root).simple_rte_array.add((*rel).relid as usize);
        if entry.is_null() || (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION {
            return false;
        }
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            pg_sys::Datum::from((*entry).relid),
        );
        if tuple.is_null() {
            return false;
        }
        let heap = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(tuple)).relam
            == pg_sys::HEAP_TABLE_AM_OID;
        pg_sys::ReleaseSysCache(tuple);
        heap
    }
}
