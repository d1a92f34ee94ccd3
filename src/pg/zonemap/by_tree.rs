//! Pages of a table that may hold rows with certain stamps, by a B-tree on the stamp: tables of a Citus cluster have one.
use crate::pg::interrupt;
use pgrx::pg_sys;
use std::ops::Range;

/// Whether an index finds every row of its table by the column of that number, in the order of its values.
///
/// # Safety
/// `index` must be open.
pub(super) unsafe fn is_usable(index: pg_sys::Relation, stamp: i32) -> bool {
    // SAFETY: the caller vouches for the index, whose entry in the cache has its row of pg_index.
    unsafe {
        let (class, about) = (&*(*index).rd_rel, &*(*index).rd_index);
        let of = about.indkey.values.as_slice(about.indkey.dim1 as usize);
        let order = *(*index).rd_indoption;
        let partial = !pg_sys::heap_attisnull(
            (*index).rd_indextuple,
            pg_sys::Anum_pg_index_indpred as i32,
            std::ptr::null_mut(),
        );
        class.relam == pg_sys::BTREE_AM_OID
            && of.first().is_some_and(|&n| i32::from(n) == stamp)
            && order as u32 & pg_sys::INDOPTION_DESC == 0
            && about.indisvalid
            && about.indisready
            && !about.indcheckxmin
            && !partial
    }
}

/// The pages that have, or had, a row with a stamp in one of `ranges`, which are in order and do not meet: who sees it is not asked.
///
/// # Safety
/// `table` and `index`, which is usable, must be open and locked, the column be an int8, and a snapshot active.
pub(super) unsafe fn pages(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    ranges: &[(i64, i64)],
) -> Vec<Range<u32>> {
    let mut blocks: Vec<u32> = Vec::new();
    // SAFETY: the caller vouches for both; the scan ends before they are closed, and the key outlives it. An entry is looked at before
    // the scan is asked for the next one.
    unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        #[cfg(not(feature = "pg18"))]
        let scan = pg_sys::index_beginscan(table, index, snapshot, 1, 0);
        #[cfg(feature = "pg18")]
        let scan = pg_sys::index_beginscan(table, index, snapshot, std::ptr::null_mut(), 1, 0);
        (*scan).xs_want_itup = true;
        let mut key = pg_sys::ScanKeyData::default();
        let mut left = ranges;
        'jump: while let Some((from, _)) = left.first() {
            interrupt::check();
            pg_sys::ScanKeyInit(
                &mut key,
                1,
                pg_sys::BTGreaterEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::Oid::from(pg_sys::F_INT8GE),
                pg_sys::Datum::from(*from),
            );
            pg_sys::index_rescan(scan, &mut key, 1, std::ptr::null_mut(), 0);
            loop {
                let place = pg_sys::index_getnext_tid(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if place.is_null() {
                    break 'jump;
                }
                let stamp = stamp((*scan).xs_itup);
                while left.first().is_some_and(|(_, to)| *to < stamp) {
                    left = &left[1..];
                }
                match left.first() {
                    None => break 'jump,
                    // What lies between two ranges is passed over.
                    Some((from, _)) if stamp < *from => continue 'jump,
                    Some(_) => {
                        let block = &(*place).ip_blkid;
                        let block = u32::from(block.bi_hi) << 16 | u32::from(block.bi_lo);
                        if blocks.last() != Some(&block) {
                            blocks.push(block);
                        }
                    }
                }
            }
        }
        pg_sys::index_endscan(scan);
    }
    blocks.sort_unstable();
    blocks.dedup();
    blocks.into_iter().map(|block| block..block + 1).collect()
}

/// The first column of an entry, which is an int8 and not NULL.
///
/// # Safety
/// `entry` must be one.
unsafe fn stamp(entry: pg_sys::IndexTuple) -> i64 {
    // Behind the header, and behind the bits that tell which columns are NULL where any is.
    const WITH_NULLS: u16 = 0x8000;
    // SAFETY: the caller vouches for the entry, which is aligned to 8 bytes.
    unsafe {
        let at = if (*entry).t_info & WITH_NULLS != 0 { 16 } else { 8 };
        entry.cast::<u8>().add(at).cast::<i64>().read_unaligned()
    }
}
