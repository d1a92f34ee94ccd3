//! The index of rolled-up tables, an access method of PostgreSQL: for each zone of 32 pages of the table the least and
//! the greatest value of each indexed column, as BRIN has them. Runs and live views find new rows by it, expiry old ones.
//!
//! Why not BRIN: there a summary may move to another page, and an insertion that has just looked its place up takes the
//! range for one without a summary and adds nothing to it (`brinGetTupleForHeapBlock` where the offset lies past the
//! page's last): rows are left out for good. Here entries have fixed places (see `page`), an insertion touches no value
//! of the row, and looks at one byte of one page. What changes an entry is logged as generic WAL: a server without this
//! library replays it.
//!
//! An entry is opened by the first insertion into its zone, and closed again by the next run of a rollup, by VACUUM, and
//! by REINDEX, though not by REINDEX CONCURRENTLY (see `bulk_delete`). Zones whose entry is open are read, whatever is
//! asked for.
pub mod ahead;
pub mod arrival;
mod buffer;
mod by_tree;
pub mod extent;
pub mod guarded;
pub mod header;
mod inspect;
pub mod look;
mod page;
mod plan;
mod rows;
mod scan;
mod summarize;

use crate::pg::error::raise;
use crate::pg::v1::Call;
use crate::pg::xact::own_transaction_id_if_any;
use pgrx::PgList;
use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, Relation};
use pgrx::prelude::*;

/// What PostgreSQL calls the access method.
pub const NAME: &str = "rollup_zonemap";

/// Types of columns that an index can be on: numbers of 4 or 8 bytes that are ordered as such.
const TYPES: [pg_sys::Oid; 4] =
    [pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID, pg_sys::DATEOID];

crate::v1!(rollup_zonemap_handler, handler);

/// The access method, as PostgreSQL asks for it.
fn handler(_call: &mut Call) -> Datum {
    // SAFETY: the node is allocated zeroed, which is false and "none" for everything that is not set here; each
    // function has the type of its field.
    unsafe {
        let routine = pg_sys::palloc0(size_of::<pg_sys::IndexAmRoutine>()).cast::<pg_sys::IndexAmRoutine>();
        let am = &mut *routine;
        am.type_ = pg_sys::NodeTag::T_IndexAmRoutine;
        am.amstrategies = 5;
        am.amcanmulticol = true;
        am.amoptionalkey = true;
        // An UPDATE that stays in its page needs no new entry for what the entry of the page's zone can be opened for.
        #[cfg(not(feature = "pg15"))]
        {
            am.amsummarizing = true;
        }
        am.ambuild = Some(build);
        am.ambuildempty = Some(build_empty);
        am.aminsert = Some(insert);
        am.ambulkdelete = Some(bulk_delete);
        am.amvacuumcleanup = Some(vacuum_cleanup);
        am.amcostestimate = Some(plan::cost_estimate);
        am.amoptions = Some(options);
        am.amvalidate = Some(plan::validate);
        am.ambeginscan = Some(begin_scan);
        am.amrescan = Some(rescan);
        am.amgetbitmap = Some(get_bitmap);
        am.amendscan = Some(end_scan);
        Datum::from(routine)
    }
}

/// What insertions remember of an index, kept with its entry in the relation cache.
struct Memory {
    /// How many pages it has at least.
    pages: u32,
    /// The buffer of the page that the last row's entry is in; 0 for none.
    recent: pg_sys::Buffer,
    /// The place, from 1, of the stamp among the columns; 0: not looked up yet; below 0: nobody is told of stamps.
    stamp: i32,
    /// What is added to the id of a transaction to give its stamp.
    offset: i64,
}

/// # Safety
/// `index` must be an open zone map. What is returned is not to be used after a call that may take notice of changes.
#[inline(always)]
unsafe fn memory<'a>(index: Relation) -> &'a mut Memory {
    // SAFETY: rd_amcache belongs to the access method: NULL, or one chunk of the index's own memory context, which goes
    // whenever PostgreSQL hears that the index was changed.
    unsafe {
        if (*index).rd_amcache.is_null() {
            (*index).rd_amcache = pg_sys::MemoryContextAllocZero((*index).rd_indexcxt, size_of::<Memory>());
        }
        &mut *(*index).rd_amcache.cast::<Memory>()
    }
}

/// Called for every row that is written, which is in its page already. Owns nothing that an error could leave behind.
unsafe extern "C-unwind" fn insert(
    index: Relation,
    values: *mut Datum,
    nulls: *mut bool,
    row: pg_sys::ItemPointer,
    table: Relation,
    _check: pg_sys::IndexUniqueCheck::Type,
    _unchanged: bool,
    info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: PostgreSQL hands over an open index and where the row lies.
    unsafe {
        let id = &(*row).ip_blkid;
        let zone = (u32::from(id.bi_hi) << 16 | u32::from(id.bi_lo)) / page::ZONE;
        let layout = buffer::layout(index);
        let (block, place) = layout.place(zone);
        if (*index).rd_amcache.is_null() || memory(index).pages <= block {
            reserve(index, block);
        }
        if !buffer::is_zero(index, block, layout.state_byte(place), &mut memory(index).recent) {
            open_entry(index, block, place);
        }
        let known = memory(index);
        if known.stamp != arrival::NOBODY {
            // The transaction has its id, by which it has written the row.
            let own = own_transaction_id_if_any().unwrap_or_default() + known.offset;
            let at = known.stamp as usize;
            if at == 0 || (*values.add(at - 1)).value() as i64 != own {
                arrival::look_at(index, values, nulls, row, table, info);
            }
        }
        false
    }
}

#[cold]
#[inline(never)]
#[pg_guard]
unsafe extern "C-unwind" fn reserve(index: Relation, block: u32) {
    // SAFETY: as in `insert`.
    unsafe {
        buffer::reserve(index, block);
        memory(index).pages = buffer::blocks(index);
    }
}

#[cold]
#[inline(never)]
#[pg_guard]
unsafe extern "C-unwind" fn open_entry(index: Relation, block: u32, place: usize) {
    // SAFETY: as in `insert`.
    unsafe { buffer::write(index, block, |page| (buffer::layout(index).open(page, place), ())) }
}

#[pg_guard]
unsafe extern "C-unwind" fn build(
    table: Relation,
    index: Relation,
    info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::IndexBuildResult {
    // SAFETY: PostgreSQL hands over the open table, its new and empty index, and what it is to be.
    unsafe {
        let refuse = |what: &str| {
            raise(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, format!("access method {NAME} {what}"))
        };
        if !(*info).ii_Expressions.is_null() || !(*info).ii_Predicate.is_null() {
            refuse("indexes columns, of all rows: neither expressions nor WHERE");
        }
        let types = std::slice::from_raw_parts((*index).rd_opcintype, (*(*index).rd_rel).relnatts as usize);
        if !types.iter().all(|t| TYPES.contains(t)) {
            refuse("indexes columns of types bigint, timestamptz, timestamp and date");
        }
        if (*(*table).rd_rel).relam != pg_sys::HEAP_TABLE_AM_OID {
            refuse("indexes tables of access method heap");
        }
        buffer::reserve(index, 0);
        let closed = summarize::summarize(table, index, std::ptr::null_mut());
        let result =
            pg_sys::palloc0(size_of::<pg_sys::IndexBuildResult>()).cast::<pg_sys::IndexBuildResult>();
        // Below 0: the rows of the table were not counted, what is known of them stays.
        (*result).heap_tuples = -1.0;
        (*result).index_tuples = f64::from(closed);
        result
    }
}

/// An unlogged table's index after a crash is a file without a page, which is a map that says nothing.
#[pg_guard]
unsafe extern "C-unwind" fn build_empty(_index: Relation) {}

/// Points at no row. VACUUM has nothing to remove; and where an index is built concurrently, PostgreSQL takes all rows for
/// missing and inserts them again, which opens their zones: those who wrote while it was built did not know of it.
#[pg_guard]
unsafe extern "C-unwind" fn bulk_delete(
    _info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    _callback: pg_sys::IndexBulkDeleteCallback,
    _state: *mut std::ffi::c_void,
) -> *mut pg_sys::IndexBulkDeleteResult {
    statistics(stats)
}

/// Those that PostgreSQL hands over, or new ones.
fn statistics(stats: *mut pg_sys::IndexBulkDeleteResult) -> *mut pg_sys::IndexBulkDeleteResult {
    if stats.is_null() {
        // SAFETY: a struct of numbers, all of them 0.
        return unsafe { pg_sys::palloc0(size_of::<pg_sys::IndexBulkDeleteResult>()).cast() };
    }
    stats
}

/// The end of VACUUM: closes what is open.
#[pg_guard]
unsafe extern "C-unwind" fn vacuum_cleanup(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: PostgreSQL hands over what it knows of the index, which it has open, as it has the index's table.
    unsafe {
        if (*info).analyze_only {
            return stats;
        }
        let (index, stats) = ((*info).index, statistics(stats));
        let table = pg_sys::IndexGetRelation((*index).rd_id, false);
        let table = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        summarize::summarize(table, index, (*info).strategy);
        (*stats).num_pages = buffer::blocks(index);
        (*stats).num_index_tuples = f64::from(buffer::blocks(table) / page::ZONE);
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
        stats
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn options(_options: Datum, validate: bool) -> *mut pg_sys::bytea {
    if validate {
        raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("access method {NAME} has no options"),
        );
    }
    std::ptr::null_mut()
}

#[pg_guard]
unsafe extern "C-unwind" fn begin_scan(index: Relation, keys: i32, orders: i32) -> pg_sys::IndexScanDesc {
    // SAFETY: PostgreSQL hands over an open index and its numbers of conditions.
    unsafe { pg_sys::RelationGetIndexScan(index, keys, orders) }
}

#[pg_guard]
unsafe extern "C-unwind" fn rescan(
    scan: pg_sys::IndexScanDesc,
    keys: pg_sys::ScanKey,
    count: i32,
    _orders: pg_sys::ScanKey,
    _order_count: i32,
) {
    // SAFETY: the scan was begun for as many conditions.
    unsafe {
        if !keys.is_null() && (*scan).numberOfKeys > 0 {
            std::ptr::copy(keys, (*scan).keyData, count.min((*scan).numberOfKeys) as usize);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn get_bitmap(scan: pg_sys::IndexScanDesc, bitmap: *mut pg_sys::TIDBitmap) -> i64 {
    // SAFETY: PostgreSQL hands over a scan that was begun here.
    unsafe {
        count_scan((*scan).indexRelation);
        #[cfg(feature = "pg18")]
        if let Some(instrument) = (*scan).instrument.as_mut() {
            instrument.nsearches += 1;
        }
        scan::fill(scan, bitmap)
    }
}

/// Counts a scan for pg_stat_user_indexes: an index that seems never to be used is one that somebody drops.
unsafe fn count_scan(index: Relation) {
    // SAFETY: the caller's index is open; its counters are there or are asked for, as the macro of pgstat.h does.
    unsafe {
        if (*index).pgstat_info.is_null() {
            if !(*index).pgstat_enabled {
                return;
            }
            pg_sys::pgstat_assoc_relation(index);
        }
        #[cfg(feature = "pg15")]
        let scans = &mut (*(*index).pgstat_info).t_counts.t_numscans;
        #[cfg(not(feature = "pg15"))]
        let scans = &mut (*(*index).pgstat_info).counts.numscans;
        *scans += 1;
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn end_scan(_scan: pg_sys::IndexScanDesc) {}

/// The id of the access method; none where the extension is not.
fn method() -> pg_sys::Oid {
    // SAFETY: a plain look at the catalog.
    unsafe { pg_sys::get_index_am_oid(c"rollup_zonemap".as_ptr(), true) }
}

unsafe extern "C-unwind" {
    /// A table and all that inherit from it, locked.
    fn find_all_inheritors(
        table: pg_sys::Oid,
        lock: pg_sys::LOCKMODE,
        parents: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
}

/// Closes the entries of every zone map of a table and of its partitions that are open and whose zones are full. Returns
/// how many; on a standby none.
pub fn summarize(table: pg_sys::Oid) -> u32 {
    // SAFETY: the tables are locked to the transaction's end as those that are read, their indexes as those that are
    // written.
    unsafe {
        if pg_sys::RecoveryInProgress() {
            return 0;
        }
        let method = method();
        let share = pg_sys::AccessShareLock as i32;
        let tables = PgList::<pg_sys::Oid>::from_pg(pg_sys::ffi::pg_guard_ffi_boundary(|| {
            find_all_inheritors(table, share, std::ptr::null_mut())
        }));
        tables.iter_oid().map(|id| summarize_one(id, method)).sum()
    }
}

unsafe fn summarize_one(table: pg_sys::Oid, method: pg_sys::Oid) -> u32 {
    // SAFETY: the caller has locked the table.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::NoLock as i32);
        let mut closed = 0;
        let class = &*(*relation).rd_rel;
        // A temporary table can inherit from one that is not; the pages of another session's are in that session.
        let foreign =
            class.relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP && !(*relation).rd_islocaltemp;
        if class.relkind as u8 == pg_sys::RELKIND_RELATION && !foreign {
            let indexes = PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation));
            for id in indexes.iter_oid() {
                let index = pg_sys::index_open(id, pg_sys::RowExclusiveLock as i32);
                if (*(*index).rd_rel).relam == method && (*(*index).rd_index).indisready {
                    closed += summarize::summarize(relation, index, std::ptr::null_mut());
                }
                pg_sys::index_close(index, pg_sys::NoLock as i32);
            }
        }
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        closed
    }
}
