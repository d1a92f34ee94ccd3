//! Rows of a heap page that a scan has given.
use crate::pg::deparse;
use pgrx::pg_sys;

/// A row that was found.
pub struct Row {
    /// The table that it lies in.
    pub table: pg_sys::Oid,
    /// Where it lies there, and which transaction wrote it: no other version of a row has the same.
    pub version: (u32, u16, u32),
    /// Its time, as in `Wanted`.
    pub at: Option<i64>,
    tuple: pg_sys::HeapTupleData,
    desc: pg_sys::TupleDesc,
}

impl Row {
    /// The value of a column of its table as text, by its number; None for NULL.
    pub fn text(&self, number: i16) -> Option<String> {
        let mut null = true;
        // SAFETY: the row's page is pinned while whoever is told of it looks at it; the type is that of the column.
        unsafe {
            let value =
                pg_sys::heap_getattr((&raw const self.tuple).cast_mut(), number.into(), self.desc, &mut null);
            (!null).then(|| {
                let (mut output, mut varlena) = (pg_sys::InvalidOid, false);
                let type_ = pg_sys::get_atttype(self.table, number);
                pg_sys::getTypeOutputInfo(type_, &mut output, &mut varlena);
                deparse::string(pg_sys::OidOutputFunctionCall(output, value))
            })
        }
    }
}

/// The row that a scan has given, and all others of its page, which the scan then has given too: to be asked for each
/// takes longer than looking at it. What they say of their length is the first one's.
///
/// # Safety
/// `row` is what the scan of a heap gave last. What is returned is not to be used once the scan is asked again.
pub(super) unsafe fn rest_of_page(
    scan: pg_sys::TableScanDesc,
    row: pg_sys::HeapTuple,
) -> impl Iterator<Item = pg_sys::HeapTupleData> {
    // SAFETY: the page stays pinned until the scan is asked again; line pointers of visible rows, and the rows, stay where
    // they are as long.
    unsafe {
        let heap = scan.cast::<pg_sys::HeapScanDescData>();
        let paged = (*heap).rs_base.rs_flags & pg_sys::ScanOptions::SO_ALLOW_PAGEMODE != 0;
        // A snapshot that is none of a transaction has its rows judged one by one.
        let count = if paged { (*heap).rs_ntuples as usize } else { 1 };
        let page = pg_sys::BufferGetPage((*heap).rs_cbuf).cast::<u8>();
        let visible = (&raw const (*heap).rs_vistuples).cast::<u16>();
        if paged {
            (*heap).rs_cindex = (count - 1) as _;
        }
        (0..count).map(move |n| {
            let mut found = *row;
            if paged {
                let lines = page.add(std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp));
                found.t_self.ip_posid = visible.add(n).read();
                let line = lines.cast::<u32>().add(usize::from(found.t_self.ip_posid) - 1).read();
                found.t_data = page.add(lies_at(line)).cast();
            }
            found
        })
    }
}

/// # Safety
/// `row` is one of a page that is pinned.
pub(super) unsafe fn found_at(
    table: pg_sys::Oid,
    desc: pg_sys::TupleDesc,
    tuple: pg_sys::HeapTupleData,
    at: Option<i64>,
) -> Row {
    let place = &tuple.t_self;
    let block = u32::from(place.ip_blkid.bi_hi) << 16 | u32::from(place.ip_blkid.bi_lo);
    // SAFETY: the caller vouches for the row; of the two forms of its header a row in a table has this one.
    let writer = unsafe { (*tuple.t_data).t_choice.t_heap.t_xmin };
    Row { table, version: (block, place.ip_posid, writer.into()), at, tuple, desc }
}

/// Where a row lies in its page, by its line pointer: 15 bits, which the generated accessor takes one by one.
fn lies_at(line: u32) -> usize {
    (if cfg!(target_endian = "little") { line & 0x7fff } else { line >> 17 }) as usize
}
