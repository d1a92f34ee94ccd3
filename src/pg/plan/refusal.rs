//! Which queries may be exchanged at all, and why others may not.
use super::Engine;
use pgrx::{PgList, pg_sys};

mod unbound {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn has_superclass(table: pg_sys::Oid) -> bool;
    }
}

/// The number and the id of the table with rollups that a query aggregates, if it does that with one table.
///
/// # Safety
/// `q` is analysed.
pub unsafe fn candidate(q: &pg_sys::Query, engine: &Engine) -> Option<(i32, pg_sys::Oid)> {
    // SAFETY: the lists are the query's; the tags say what nodes are.
    unsafe {
        let groups = q.hasAggs || !q.groupClause.is_null();
        if q.commandType != pg_sys::CmdType::CMD_SELECT || !groups || q.jointree.is_null() {
            return None;
        }
        // The first of its tables that has rollups: where there are more, the reason says so.
        let from = PgList::<pg_sys::Node>::from_pg((*q.jointree).fromlist);
        let mut first = None;
        for item in from.iter_ptr() {
            first = first.or(source_in(item, q, engine));
        }
        first
    }
}

/// # Safety
/// `item` is a node of the join tree of `q`.
unsafe fn source_in(
    item: *mut pg_sys::Node,
    q: &pg_sys::Query,
    engine: &Engine,
) -> Option<(i32, pg_sys::Oid)> {
    // SAFETY: the tag says what the node is.
    unsafe {
        if (*item).type_ == pg_sys::NodeTag::T_JoinExpr {
            let j = &*item.cast::<pg_sys::JoinExpr>();
            return source_in(j.larg, q, engine).or_else(|| source_in(j.rarg, q, engine));
        }
        if (*item).type_ != pg_sys::NodeTag::T_RangeTblRef {
            return None;
        }
        let rt = (*item.cast::<pg_sys::RangeTblRef>()).rtindex;
        let entry = &*pg_sys::list_nth(q.rtable, rt - 1).cast::<pg_sys::RangeTblEntry>();
        let known = entry.rtekind == pg_sys::RTEKind::RTE_RELATION && (engine.is_source)(entry.relid);
        known.then_some((rt, entry.relid))
    }
}

/// Why nothing in a statement may be exchanged.
///
/// # Safety
/// `all` are the queries of the statement `top`.
pub unsafe fn of_statement(
    top: &pg_sys::Query,
    all: &[*mut pg_sys::Query],
    engine: &Engine,
) -> Option<String> {
    // SAFETY: the queries are live; `XactIsoLevel` is a variable of this process.
    unsafe {
        if pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32 {
            return Some(
                "the transaction is SERIALIZABLE: what it has read is told by locks on the raw table".into(),
            );
        }
        for q in std::iter::once(top).chain(all.iter().map(|q| &**q)) {
            if q.commandType == pg_sys::CmdType::CMD_SELECT || q.resultRelation == 0 {
                continue;
            }
            let target = &*pg_sys::list_nth(q.rtable, q.resultRelation - 1).cast::<pg_sys::RangeTblEntry>();
            let plain_insert = q.commandType == pg_sys::CmdType::CMD_INSERT && q.onConflict.is_null();
            if !plain_insert || (engine.is_source)(target.relid) || is_child(target.relid) {
                return Some("the statement changes rows".into());
            }
        }
        None
    }
}

/// Whether it is a table below another.
unsafe fn is_child(table: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the catalog, which tolerates absence; that of inheritance reads the table's row and its own
    // catalog under a lock.
    unsafe {
        pg_sys::get_rel_relispartition(table)
            || pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::has_superclass(table))
    }
}

/// Why a query that aggregates entry `rt` may not be exchanged, whatever rollups there are.
///
/// # Safety
/// `q` is analysed.
pub unsafe fn of_query(q: &pg_sys::Query, rt: i32) -> Option<String> {
    // SAFETY: the lists are the query's; the tags say what nodes are.
    unsafe {
        let entry = &*pg_sys::list_nth(q.rtable, rt - 1).cast::<pg_sys::RangeTblEntry>();
        let from = PgList::<pg_sys::Node>::from_pg((*q.jointree).fromlist);
        let alone = from.len() == 1
            && from.get_ptr(0).is_some_and(|item| (*item).type_ == pg_sys::NodeTag::T_RangeTblRef);
        let reasons: [(bool, &str); 7] = [
            (!alone, "the query reads more than the one table"),
            (q.hasRowSecurity || !entry.securityQuals.is_null(), "row-level security applies to the table"),
            (!entry.tablesample.is_null(), "the query has TABLESAMPLE"),
            (!entry.inh, "the query reads ONLY the table"),
            (!q.rowMarks.is_null() || q.hasForUpdate, "the query locks rows"),
            (entry.relkind as u8 != b'r' && entry.relkind as u8 != b'p', "the relation is no table"),
            (!q.setOperations.is_null(), "the query is a set operation"),
        ];
        reasons.into_iter().find(|(there, _)| *there).map(|(_, why)| why.to_string())
    }
}
