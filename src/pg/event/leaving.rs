//! Tables that are about to leave: dropped, while they can still be read; or detached, by what the catalog of inheritance
//! has just lost.
use pgrx::pg_sys;
use std::sync::OnceLock;

static NEXT: OnceLock<pg_sys::object_access_hook_type> = OnceLock::new();
static TELL: OnceLock<fn(pg_sys::Oid)> = OnceLock::new();

/// Has somebody told of each table that is about to be dropped and lies below another, by whichever command: before its
/// first index goes, and once more before it goes itself. The command has it locked by then, so that nobody writes to it.
pub fn install(tell: fn(pg_sys::Oid)) {
    // SAFETY: the library is loaded by the only thread of the process; the next hook is kept and called.
    unsafe {
        if NEXT.set(pg_sys::object_access_hook).is_ok() {
            let _ = TELL.set(tell);
            pg_sys::object_access_hook = Some(accessed);
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn accessed(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: std::ffi::c_int,
    argument: *mut std::ffi::c_void,
) {
    // SAFETY: PostgreSQL's arguments are passed on as they came; that of a drop says how it is done.
    unsafe {
        if let Some(Some(next)) = NEXT.get() {
            // An error of the next hook must unwind these frames, not jump over them.
            pg_sys::ffi::pg_guard_ffi_boundary(|| next(access, class, object, part, argument));
        }
        if access != pg_sys::ObjectAccessType::OAT_DROP || class != pg_sys::RelationRelationId || part != 0 {
            return;
        }
        // Indexes that are dropped concurrently with readers and writers go alone, as REINDEX CONCURRENTLY has it.
        let beside =
            (pg_sys::PERFORM_DELETION_CONCURRENTLY | pg_sys::PERFORM_DELETION_CONCURRENT_LOCK) as i32;
        if argument.is_null() || (*argument.cast::<pg_sys::ObjectAccessDrop>()).dropflags & beside != 0 {
            return;
        }
        let table = match pg_sys::get_rel_relkind(object) as u8 {
            pg_sys::RELKIND_RELATION => object,
            pg_sys::RELKIND_INDEX => pg_sys::IndexGetRelation(object, true),
            _ => return,
        };
        if table != pg_sys::InvalidOid
            && (pg_sys::get_rel_relispartition(table) || !parents(table).is_empty())
            && let Some(tell) = TELL.get()
        {
            tell(table);
        }
    }
}

/// Of the catalog of inheritance, an index and the number of its first column.
struct By {
    index: u32,
    column: i16,
}

/// pg_inherits, which every version of PostgreSQL calls by this id.
const INHERITS: u32 = 2611;
/// pg_inherits_relid_seqno_index and pg_inherits_parent_index, which every version of PostgreSQL calls by these ids.
const BY_CHILD: By = By { index: 2680, column: 1 };
const BY_PARENT: By = By { index: 2187, column: 2 };

/// How a row of that catalog begins.
#[repr(C)]
struct Inherits {
    inhrelid: pg_sys::Oid,
    inhparent: pg_sys::Oid,
}

/// Rows of the catalog of inheritance, child and parent: those that are there, or those that this transaction has removed.
unsafe fn inheritance(by: By, of: pg_sys::Oid, removed: bool) -> Vec<(pg_sys::Oid, pg_sys::Oid)> {
    let mut found = Vec::new();
    // SAFETY: a look-up by index in pg_inherits, whose rows begin with the struct that is read. Scan and relation are
    // closed before return. Under SnapshotAny a row counts where the transaction that removed it is this one.
    unsafe {
        let table = pg_sys::table_open(INHERITS.into(), pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            by.column,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_OIDEQ.into(),
            of.into(),
        );
        let snapshot = if removed { &raw mut pg_sys::SnapshotAnyData } else { std::ptr::null_mut() };
        let scan = pg_sys::systable_beginscan(table, by.index.into(), true, snapshot, 1, &mut key);
        loop {
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            let header = &*(*row).t_data;
            let gone =
                u32::from(header.t_infomask) & (pg_sys::HEAP_XMAX_INVALID | pg_sys::HEAP_XMAX_IS_MULTI) == 0
                    && pg_sys::TransactionIdIsCurrentTransactionId(header.t_choice.t_heap.t_xmax);
            if !removed || gone {
                let about = &*pg_sys::GETSTRUCT(row).cast::<Inherits>();
                found.push((about.inhrelid, about.inhparent));
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
    }
    found
}

/// The tables that a table lies below.
pub fn parents(table: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: inside a command.
    unsafe { inheritance(BY_CHILD, table, false) }.into_iter().map(|(_, parent)| parent).collect()
}

/// The tables that lay below `parent` until this transaction took them from there.
pub fn taken_from(parent: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: inside a command.
    unsafe { inheritance(BY_PARENT, parent, true) }.into_iter().map(|(child, _)| child).collect()
}

/// The tables that a table lay below until this transaction took it from there.
pub fn taken_away(child: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: inside a command.
    unsafe { inheritance(BY_CHILD, child, true) }.into_iter().map(|(_, parent)| parent).collect()
}

/// pg_get_expr(pg_node_tree, oid), in every version.
const GET_EXPR: u32 = 1716;

/// The bounds of a partition as text, those that it has or, where this transaction has detached it, had.
pub fn bounds(partition: pg_sys::Oid) -> Option<String> {
    // SAFETY: a look-up by index in pg_class under SnapshotAny, of whose versions of the row the last with bounds counts
    // that is there or that this transaction has replaced; they are deparsed without a relation, since they name none.
    unsafe {
        let class = pg_sys::table_open(pg_sys::RelationRelationId, pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_class_oid as i16,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_OIDEQ.into(),
            partition.into(),
        );
        let any = &raw mut pg_sys::SnapshotAnyData;
        let scan = pg_sys::systable_beginscan(class, pg_sys::ClassOidIndexId.into(), true, any, 1, &mut key);
        let mut found = None;
        loop {
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            let header = &*(*row).t_data;
            let there = u32::from(header.t_infomask) & pg_sys::HEAP_XMAX_INVALID != 0
                || pg_sys::TransactionIdIsCurrentTransactionId(header.t_choice.t_heap.t_xmax);
            let mut null = true;
            let bound = pg_sys::heap_getattr(
                row,
                pg_sys::Anum_pg_class_relpartbound as i32,
                (*class).rd_att,
                &mut null,
            );
            if there && !null {
                let text = pg_sys::OidFunctionCall2Coll(
                    GET_EXPR.into(),
                    pg_sys::InvalidOid,
                    bound,
                    pg_sys::Datum::from(0),
                );
                found = <String as pgrx::FromDatum>::from_datum(text, false);
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(class, pg_sys::AccessShareLock as i32);
        found
    }
}
