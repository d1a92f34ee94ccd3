//! Closing entries: reads the rows of zones whose entries say nothing, and writes their bounds.
use super::buffer::{self, blocks, layout};
use super::page::{Bounds, Layout, ZONE};
use crate::pg::interrupt;
use pgrx::pg_sys;

mod unguarded {
    // Without pgrx's guard, row by row: it reads the row it is given and raises no error.
    unsafe extern "C-unwind" {
        pub fn nocachegetattr(
            row: pgrx::pg_sys::HeapTuple,
            number: std::ffi::c_int,
            columns: pgrx::pg_sys::TupleDesc,
        ) -> pgrx::pg_sys::Datum;
    }
}

/// An indexed column, as rows of the table have it.
pub(super) struct Column {
    /// From 1.
    number: i32,
    /// Bytes: 4 or 8.
    width: usize,
    /// What rows hold that are older than the column.
    missing: Option<i64>,
}

impl Column {
    /// # Safety
    /// `table` must be open and have column `number`, of so many bytes.
    pub(super) unsafe fn of(table: pg_sys::Relation, number: i32, width: usize) -> Column {
        let mut null = true;
        // SAFETY: the caller vouches for both.
        let value = unsafe { pg_sys::getmissingattr((*table).rd_att, number, &mut null) };
        Column { number, width, missing: (!null).then(|| self::number(value, width)) }
    }
}

/// A datum of `width` bytes as a number: dates and instants are ordered as the numbers they are kept as.
#[inline(always)]
pub fn number(datum: pg_sys::Datum, width: usize) -> i64 {
    if width == 4 { i64::from(datum.value() as i32) } else { datum.value() as i64 }
}

/// Closes the entries of all zones of `table` that are full and whose entry is not closed; returns how many.
///
/// # Safety
/// `table` must be an open table of the heap, `index` its zone map, open and locked as writers lock it.
pub unsafe fn summarize(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    strategy: pg_sys::BufferAccessStrategy,
) -> u32 {
    // SAFETY: the caller vouches for both.
    unsafe {
        let layout = layout(index);
        let full = blocks(table) / ZONE;
        if full == 0 {
            return 0;
        }
        buffer::reserve(index, layout.place(full - 1).0);
        let columns = columns(table, index);
        let (mut closed, mut first) = (0, 0);
        while first < full {
            let here = (full - first).min(layout.per_page()) as usize;
            closed += page(table, index, layout, first, here, &columns, strategy);
            first += layout.per_page();
        }
        closed
    }
}

/// Closes what is not closed of the page whose first zone is `first`, of its `here` first entries.
unsafe fn page(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    layout: Layout,
    first: u32,
    here: usize,
    columns: &[Column],
    strategy: pg_sys::BufferAccessStrategy,
) -> u32 {
    let block = layout.place(first).0;
    let silent = |page: &[u64]| (0..here).filter(|at| !layout.is_closed(page, *at)).collect::<Vec<_>>();
    // SAFETY: the page was reserved.
    unsafe {
        if buffer::read(index, block, silent).is_empty() {
            return 0;
        }
        let (places, token) = buffer::write(index, block, |page| {
            let places = silent(page);
            let token = layout.begin(page, &places);
            (true, (places, token))
        });
        let mut bounds = vec![Bounds::NONE; places.len() * columns.len()];
        for (place, bounds) in places.iter().zip(bounds.chunks_exact_mut(columns.len())) {
            interrupt::check();
            let zone = first + *place as u32;
            for block in zone * ZONE..(zone + 1) * ZONE {
                read_block(table, block, columns, bounds, strategy);
            }
        }
        buffer::write(index, block, |page| {
            let of = bounds.chunks_exact(columns.len());
            let closed =
                places.iter().zip(of).filter(|(place, b)| layout.finish(page, **place, token, b)).count();
            (closed > 0, closed as u32)
        })
    }
}

/// The columns of `table` that `index` is on.
///
/// # Safety
/// Both must be open, and the index one of the table.
pub(super) unsafe fn columns(table: pg_sys::Relation, index: pg_sys::Relation) -> Vec<Column> {
    // SAFETY: an index that was built has plain columns of its table, of the types that its operator classes are for.
    unsafe {
        let keys = &(*(*index).rd_index).indkey;
        keys.values
            .as_slice(keys.dim1 as usize)
            .iter()
            .enumerate()
            .map(|(n, &number)| Column::of(table, i32::from(number), width(index, n)))
            .collect()
    }
}

/// Bytes of a value in column `n`, from 0, of an index.
///
/// # Safety
/// `index` must be open and have that column.
pub unsafe fn width(index: pg_sys::Relation, n: usize) -> usize {
    // SAFETY: the caller vouches for the index, whose entry in the cache has the types of its columns.
    unsafe { pg_sys::get_typlen(*(*index).rd_opcintype.add(n)) as usize }
}

/// Takes the rows of a page of the table into the bounds: all of them, whoever sees them.
///
/// # Safety
/// `table` must be open, have the page and the columns; there are bounds for each.
pub(super) unsafe fn read_block(
    table: pg_sys::Relation,
    block: u32,
    columns: &[Column],
    bounds: &mut [Bounds],
    strategy: pg_sys::BufferAccessStrategy,
) {
    // SAFETY: the page is pinned and locked while it is read, so that line pointers and rows stay where they are.
    unsafe {
        let buffer = pg_sys::ReadBufferExtended(
            table,
            pg_sys::ForkNumber::MAIN_FORKNUM,
            block,
            pg_sys::ReadBufferMode::RBM_NORMAL,
            strategy,
        );
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
        let header = page.cast::<pg_sys::PageHeaderData>();
        let start = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
        let lines = usize::from((*header).pd_lower).saturating_sub(start) / size_of::<pg_sys::ItemIdData>();
        let items = page.add(start).cast::<pg_sys::ItemIdData>();
        let mut row = pg_sys::HeapTupleData { t_tableOid: (*table).rd_id, ..Default::default() };
        for n in 0..lines {
            let item = &*items.add(n);
            if item.lp_flags() == pg_sys::LP_NORMAL {
                row.t_len = item.lp_len();
                row.t_data = page.add(item.lp_off() as usize).cast();
                for (column, bounds) in columns.iter().zip(&mut *bounds) {
                    if let Some(value) = value(&mut row, column, (*table).rd_att) {
                        bounds.add(value);
                    }
                }
            }
        }
        pg_sys::UnlockReleaseBuffer(buffer);
    }
}

/// A column's value in a row; None for NULL, which no condition of the index finds.
#[inline(always)]
unsafe fn value(row: &mut pg_sys::HeapTupleData, column: &Column, desc: pg_sys::TupleDesc) -> Option<i64> {
    // SAFETY: the row lies in a locked page. The value is there where the row has so many columns and no bit says NULL.
    unsafe {
        let header = &*row.t_data;
        let count = i32::from(header.t_infomask2 & pg_sys::HEAP_NATTS_MASK as u16);
        if column.number > count {
            return column.missing;
        }
        if header.t_infomask & pg_sys::HEAP_HASNULL as u16 != 0 {
            let bit = (column.number - 1) as usize;
            if *header.t_bits.as_ptr().add(bit / 8) & (1 << (bit % 8)) == 0 {
                return None;
            }
        }
        if column.number == count {
            // The last column's value ends the row. The stamp is the last: no need to walk there.
            let end = row.t_data.cast::<u8>().add(row.t_len as usize - column.width);
            return Some(match column.width {
                4 => i64::from(end.cast::<i32>().read_unaligned()),
                _ => end.cast::<i64>().read_unaligned(),
            });
        }
        Some(number(unguarded::nocachegetattr(row, column.number, desc), column.width))
    }
}
