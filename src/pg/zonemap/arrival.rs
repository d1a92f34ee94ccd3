//! Rows whose stamp is not that of the transaction that inserts them: they were written elsewhere, before, and come by
//! another road. Whoever asked to be told of them is told.
//!
//! Every row that is inserted passes here, or is a new version of a row (`HEAP_UPDATED`), or lies in a table that comes
//! as a whole, of which the index hears nothing: what tells of that is in the layer above.
use super::header::{Header, header};
use super::memory;
use crate::pg::executing::{self, Left};
use crate::pg::trigger::{Micros, time_of};
use pgrx::pg_sys;
use pgrx::pg_sys::{Datum, Relation};
use pgrx::prelude::*;
use std::ffi::CStr;
use std::sync::OnceLock;

/// A row that came.
pub struct Came {
    table: Relation,
    header: Header,
    /// Its stamp.
    pub stamp: i64,
}

impl Came {
    /// The table, or the partition, that it lies in.
    pub fn table(&self) -> pg_sys::Oid {
        // SAFETY: the table is open while the row is looked at.
        unsafe { (*self.table).rd_id }
    }

    /// The (sub)transaction that inserted it.
    pub fn xmin(&self) -> u32 {
        self.header.xmin.into_inner()
    }

    /// The command of the transaction that inserted it.
    pub fn command(&self) -> u32 {
        self.header.command
    }

    /// The number of the place where it lies in its table.
    pub fn place(&self) -> i64 {
        let (page, number) = self.header.place;
        i64::from(page) << 16 | i64::from(number)
    }

    /// Its time in a column, None where that is NULL. None where it cannot be told.
    pub fn time(&self, column: &str) -> Option<Option<Micros>> {
        // SAFETY: the row is a copy of one of the table, which is open.
        unsafe { time_of((*self.table).rd_att, self.header.row, column) }
    }
}

/// Who is told.
pub struct Watcher {
    /// The column that holds stamps.
    pub column: &'static CStr,
    /// What is added to the id of a transaction to give its stamp in this table; None where nobody wants to be told.
    pub offset: fn(pg_sys::Oid) -> Option<i64>,
    /// The id of this transaction, as stamps have it.
    pub own: fn() -> i64,
    /// A row came.
    pub came: fn(&Came),
    /// A row has come from another partition.
    pub moved: fn(&Came, &Left),
}

static WATCHER: OnceLock<Watcher> = OnceLock::new();

/// Has somebody told of rows that come.
pub fn tell(watcher: Watcher) {
    let _ = WATCHER.set(watcher);
}

/// Nobody wants to hear of the rows of this index.
pub const NOBODY: i32 = -1;

/// Called where the stamp is not the one that is expected, or nothing is known of the index yet.
#[cold]
#[inline(never)]
#[pg_guard]
pub unsafe extern "C-unwind" fn look_at(
    index: Relation,
    values: *mut Datum,
    nulls: *mut bool,
    row: pg_sys::ItemPointer,
    table: Relation,
    info: *mut pg_sys::IndexInfo,
) {
    // SAFETY: PostgreSQL hands over open relations, the row's values in the index's columns, and where it lies.
    unsafe {
        let Some(watcher) = WATCHER.get() else {
            memory(index).stamp = NOBODY;
            return;
        };
        if memory(index).stamp == 0 {
            // Looking it up may take notice of changes, which forgets what is remembered of the index.
            let (stamp, offset) = match place(index, table, watcher.column) {
                None => (NOBODY, 0),
                Some(n) => match (watcher.offset)((*table).rd_id) {
                    Some(offset) => (n, offset),
                    None => (NOBODY, 0),
                },
            };
            let memory = memory(index);
            (memory.stamp, memory.offset) = (stamp, offset);
        }
        let (stamp, offset) = (memory(index).stamp, memory(index).offset);
        // Where an index is built concurrently, all rows of the table are handed over.
        if stamp == NOBODY || (*info).ii_Concurrent || *nulls.add(stamp as usize - 1) {
            return;
        }
        let stamp = (*values.add(stamp as usize - 1)).value() as i64;
        if stamp == (watcher.own)() + offset {
            return;
        }
        let Some(header) = header(table, row) else { return };
        if header.updated {
            return;
        }
        let came = Came { table, header, stamp };
        match executing::moves_from(info, watcher.column, stamp) {
            Some(left) => (watcher.moved)(&came, &left),
            None => (watcher.came)(&came),
        }
        pg_sys::heap_freetuple(came.header.row);
    }
}

/// The place, from 1, of the column of stamps in an index; None where it is not there, or no bigint.
unsafe fn place(index: Relation, table: Relation, column: &CStr) -> Option<i32> {
    // SAFETY: the caller's relations are open, and the index is one of the table.
    unsafe {
        let number = i32::from(pg_sys::get_attnum((*table).rd_id, column.as_ptr()));
        let about = &(*(*index).rd_index).indkey;
        let keys = about.values.as_slice(about.dim1 as usize);
        let at = keys.iter().position(|&n| i32::from(n) == number && number > 0)?;
        (*(*index).rd_opcintype.add(at) == pg_sys::INT8OID).then_some(at as i32 + 1)
    }
}

/// Has insertions look up again what is to be known of the zone maps of a table.
pub fn forget(table: pg_sys::Oid) {
    // SAFETY: the caller has locked the table; its indexes are found by its entry in the cache.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return;
        }
        let class = (*(*relation).rd_rel).relkind as u8;
        if class == pg_sys::RELKIND_RELATION {
            let indexes = pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation));
            for id in indexes.iter_oid() {
                pg_sys::CacheInvalidateRelcacheByRelid(id);
            }
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
    }
}
