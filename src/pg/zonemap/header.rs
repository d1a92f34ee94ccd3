//! The header of a row that lies in a heap, and a copy of the row.
use pgrx::pg_sys;
use std::ffi::CStr;

/// What the header says.
pub struct Header {
    /// A new version of a row that was there.
    pub updated: bool,
    /// The (sub)transaction that wrote it, whether or not it was frozen since.
    pub xmin: pg_sys::TransactionId,
    /// The command of that transaction that wrote it, where nothing else has been written there since.
    pub command: u32,
    /// This transaction has taken it out of its partition, to put it into another.
    pub moved_by_us: bool,
    /// Its page and its number there.
    pub place: (u32, u16),
    /// A copy of the row.
    pub row: pg_sys::HeapTuple,
}

/// Reads the row at `place`; None where there is none.
///
/// # Safety
/// `table` must be open, and `place` where a row lies or lay.
pub unsafe fn header(table: pg_sys::Relation, place: pg_sys::ItemPointer) -> Option<Header> {
    // SAFETY: the page is pinned and locked while it is read; what is returned is a copy.
    unsafe {
        if (*(*table).rd_rel).relam != pg_sys::HEAP_TABLE_AM_OID {
            return None;
        }
        let id = &(*place).ip_blkid;
        let (block, number) = (u32::from(id.bi_hi) << 16 | u32::from(id.bi_lo), (*place).ip_posid);
        if number == 0 || block == u32::MAX {
            return None;
        }
        let buffer = pg_sys::ReadBuffer(table, block);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
        let start = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
        let lines = usize::from((*page.cast::<pg_sys::PageHeaderData>()).pd_lower).saturating_sub(start)
            / size_of::<pg_sys::ItemIdData>();
        let mut found = None;
        if usize::from(number) <= lines {
            let item = &*page.add(start).cast::<pg_sys::ItemIdData>().add(usize::from(number) - 1);
            if item.lp_flags() == pg_sys::LP_NORMAL {
                let mut row = pg_sys::HeapTupleData {
                    t_len: item.lp_len(),
                    t_self: *place,
                    t_tableOid: (*table).rd_id,
                    t_data: page.add(item.lp_off() as usize).cast(),
                };
                found = Some(pg_sys::heap_copytuple(&mut row));
            }
        }
        pg_sys::UnlockReleaseBuffer(buffer);
        let row = found?;
        let header = &*(*row).t_data;
        let fields = &header.t_choice.t_heap;
        let (ctid, xmax) = (&header.t_ctid, fields.t_xmax);
        // What HeapTupleHeaderIndicatesMovedPartitions asks for.
        let moved =
            ctid.ip_posid == 0xfffd && ctid.ip_blkid.bi_hi == u16::MAX && ctid.ip_blkid.bi_lo == u16::MAX;
        Some(Header {
            updated: u32::from(header.t_infomask) & pg_sys::HEAP_UPDATED != 0,
            xmin: fields.t_xmin,
            command: fields.t_field3.t_cid,
            moved_by_us: moved && pg_sys::TransactionIdIsCurrentTransactionId(xmax),
            place: (block, number),
            row,
        })
    }
}

/// The number of a place: 65536 times that of its page, and its own.
pub fn number(place: &pg_sys::ItemPointerData) -> i64 {
    let page = i64::from(place.ip_blkid.bi_hi) << 16 | i64::from(place.ip_blkid.bi_lo);
    page << 16 | i64::from(place.ip_posid)
}

/// Whether the row at `place` of a table is a new version of one that was there; not where there is no such row, or table.
pub fn is_version(table: pg_sys::Oid, mut place: pg_sys::ItemPointerData) -> bool {
    // SAFETY: what is no table has no heap to look at; the relation is open, and locked, while it is read.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let relation = pg_sys::try_relation_open(table, lock);
        if relation.is_null() {
            return false;
        }
        let found = match (*relation).rd_rel.as_ref() {
            Some(class) if class.relam == pg_sys::HEAP_TABLE_AM_OID && has_block(relation, &place) => {
                header(relation, &raw mut place)
            }
            _ => None,
        };
        let updated = found.map(|header| {
            pg_sys::heap_freetuple(header.row);
            header.updated
        });
        pg_sys::relation_close(relation, lock);
        updated == Some(true)
    }
}

unsafe fn has_block(table: pg_sys::Relation, place: &pg_sys::ItemPointerData) -> bool {
    let block = u32::from(place.ip_blkid.bi_hi) << 16 | u32::from(place.ip_blkid.bi_lo);
    // SAFETY: the caller has opened the table.
    block < unsafe { pg_sys::RelationGetNumberOfBlocksInFork(table, pg_sys::ForkNumber::MAIN_FORKNUM) }
}

/// The bigint that a row holds in a column; None where there is none.
///
/// # Safety
/// `row` must be a row with these columns.
pub unsafe fn stamp_of(desc: pg_sys::TupleDesc, row: pg_sys::HeapTuple, column: &CStr) -> Option<i64> {
    // SAFETY: the number is of a column of the row's, whose type is looked at before the value is.
    unsafe {
        let number = pg_sys::SPI_fnumber(desc, column.as_ptr());
        if number <= 0 || pg_sys::SPI_gettypeid(desc, number) != pg_sys::INT8OID {
            return None;
        }
        let mut null = true;
        let value = pg_sys::heap_getattr(row, number, desc, &mut null);
        (!null).then(|| value.value() as i64)
    }
}
