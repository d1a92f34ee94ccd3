//! The pages of a scan that PostgreSQL runs.
//!
//! A scan of a heap, sequential or by a bitmap, records which rows of a page are visible when it comes to the page, and then
//! gives them one by one. It is asked for the first, all are taken, and it is told that it has given them.
use super::column::ROWS;
use crate::pg::error::raise;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The visible rows of a page, in their order.
pub struct Page {
    pub count: usize,
    /// The rows, which begin with their headers.
    pub rows: Box<[*const u8; ROWS]>,
    /// Where their columns begin.
    pub data: Box<[*const u8; ROWS]>,
    lengths: Box<[u32; ROWS]>,
    block: u32,
    offsets: Box<[u16; ROWS]>,
    buffer: pg_sys::Buffer,
}

impl Page {
    pub fn new() -> Page {
        Page {
            count: 0,
            rows: Box::new([std::ptr::null(); ROWS]),
            data: Box::new([std::ptr::null(); ROWS]),
            lengths: Box::new([0; ROWS]),
            block: 0,
            offsets: Box::new([0; ROWS]),
            buffer: 0,
        }
    }

    /// Goes on to the next page that has visible rows. Returns the scan that it is one of, NULL at the end.
    ///
    /// # Safety
    /// `node` is a scan of a heap or an Append of such, whose scans give rows as they lie in their pages. What was taken
    /// from the page before is not to be used any more.
    pub unsafe fn next(&mut self, node: *mut pg_sys::PlanState) -> *mut pg_sys::ScanState {
        // SAFETY: the node is run as PostgreSQL runs it. After it has given a row, the scan's page is pinned, and stays so
        // until it is run again; line pointers of visible rows, and the rows, stay where they are as long.
        unsafe {
            let slot = run(node);
            if slot.is_null() || (*slot).tts_flags & pg_sys::TTS_FLAG_EMPTY as u16 != 0 {
                return std::ptr::null_mut();
            }
            let scan = current(node);
            let heap = (*scan).ss_currentScanDesc.cast::<pg_sys::HeapScanDescData>();
            let paged = (*heap).rs_base.rs_flags & pg_sys::ScanOptions::SO_ALLOW_PAGEMODE != 0;
            let count = (*heap).rs_ntuples as usize;
            if (*slot).tts_ops != &raw const pg_sys::TTSOpsBufferHeapTuple
                || !paged
                || (*heap).rs_cbuf == 0
                || count > ROWS
            {
                raise(
                    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                    "a scan gave a row that lies in no page of a heap",
                );
            }
            self.count = count;
            self.buffer = (*heap).rs_cbuf;
            self.block = (*heap).rs_cblock;
            let page = pg_sys::BufferGetPage(self.buffer).cast::<u8>();
            let lines = page.add(std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp));
            for n in 0..count {
                let offset = (&raw const (*heap).rs_vistuples).cast::<u16>().add(n).read();
                let line = &*lines.cast::<pg_sys::ItemIdData>().add(usize::from(offset) - 1);
                let row = page.add(line.lp_off() as usize).cast_const();
                self.offsets[n] = offset;
                self.lengths[n] = line.lp_len();
                self.rows[n] = row;
                self.data[n] = row.add(usize::from((*row.cast::<pg_sys::HeapTupleHeaderData>()).t_hoff));
            }
            // A sequential scan has given the row that its index says, a bitmap's the one before.
            let sequential = (*scan).ps.type_ == pg_sys::NodeTag::T_SeqScanState;
            (*heap).rs_cindex = (count - usize::from(sequential)) as _;
            let rest = count as i64 - 1;
            count_rows((*scan).ss_currentRelation, sequential, rest);
            if let Some(instrument) = (*node).instrument.as_mut() {
                instrument.tuplecount += rest as f64;
            }
            if !std::ptr::eq(node, scan.cast())
                && let Some(instrument) = (*scan).ps.instrument.as_mut()
            {
                instrument.tuplecount += rest as f64;
            }
            scan
        }
    }

    /// Puts row `n` into a slot, for the executor to look at. `tuple` is to last as long.
    ///
    /// # Safety
    /// The page is that of the scan whose slot it is.
    pub unsafe fn store(&self, n: usize, tuple: &mut pg_sys::HeapTupleData, scan: *mut pg_sys::ScanState) {
        mod unguarded {
            use pgrx::pg_sys;
            unsafe extern "C-unwind" {
                pub fn ExecStoreBufferHeapTuple(
                    tuple: pg_sys::HeapTuple,
                    slot: *mut pg_sys::TupleTableSlot,
                    buffer: pg_sys::Buffer,
                ) -> *mut pg_sys::TupleTableSlot;
            }
        }
        // SAFETY: the row lies in the page in the buffer, which is pinned.
        unsafe {
            tuple.t_len = self.lengths[n];
            tuple.t_data = self.rows[n].cast_mut().cast();
            tuple.t_tableOid = (*(*scan).ss_currentRelation).rd_id;
            tuple.t_self.ip_blkid.bi_hi = (self.block >> 16) as u16;
            tuple.t_self.ip_blkid.bi_lo = (self.block & 0xffff) as u16;
            tuple.t_self.ip_posid = self.offsets[n];
            unguarded::ExecStoreBufferHeapTuple(tuple, (*scan).ss_ScanTupleSlot, self.buffer);
        }
    }
}

/// Has the scans below `node`, or itself, give all visible rows as they lie in their pages: their conditions are looked at
/// elsewhere.
///
/// # Safety
/// `node` is a scan of a heap, or an Append of such, that was begun and has not given a row.
pub unsafe fn take_over(node: *mut pg_sys::PlanState) {
    // SAFETY: nodes are read as what their tags say. A node without condition and projection gives what is in its slot.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_AppendState => {
                let append = &*node.cast::<pg_sys::AppendState>();
                (0..append.as_nplans as usize).for_each(|n| take_over(*append.appendplans.add(n)));
                return;
            }
            pg_sys::NodeTag::T_SeqScanState => pg_sys::ExecSetExecProcNode(node, Some(next_row)),
            pg_sys::NodeTag::T_BitmapHeapScanState => {
                let scan = &mut *node.cast::<pg_sys::BitmapHeapScanState>();
                scan.bitmapqualorig = std::ptr::null_mut();
                #[cfg(any(feature = "pg15", feature = "pg16"))]
                {
                    scan.can_skip_fetch = false;
                }
                // There it is the scan that skips pages, which is begun here so that it is told not to.
                #[cfg(feature = "pg17")]
                if scan.ss.ss_currentScanDesc.is_null() {
                    scan.ss.ss_currentScanDesc = pg_sys::table_beginscan_bm(
                        scan.ss.ss_currentRelation,
                        (*scan.ss.ps.state).es_snapshot,
                        0,
                        std::ptr::null_mut(),
                        true,
                    );
                }
            }
            _ => {
                raise(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "a plan has a node that reads no heap by pages")
            }
        }
        (*node).qual = std::ptr::null_mut();
        (*node).ps_ProjInfo = std::ptr::null_mut();
    }
}

/// The next row of a sequential scan, without more. In the place of `ExecSeqScan`, which 18 has made for each of the ways in
/// which it can have conditions.
unsafe extern "C-unwind" fn next_row(node: *mut pg_sys::PlanState) -> *mut pg_sys::TupleTableSlot {
    mod unguarded {
        use pgrx::pg_sys;
        unsafe extern "C-unwind" {
            pub fn heap_getnextslot(
                scan: pg_sys::TableScanDesc,
                direction: pg_sys::ScanDirection::Type,
                slot: *mut pg_sys::TupleTableSlot,
            ) -> bool;
        }
    }
    // SAFETY: PostgreSQL calls this for a node that `take_over` gave it to; parallel scans were begun before.
    unsafe {
        let scan = &mut *node.cast::<pg_sys::ScanState>();
        pg_sys::MemoryContextReset((*scan.ps.ps_ExprContext).ecxt_per_tuple_memory);
        if scan.ss_currentScanDesc.is_null() {
            scan.ss_currentScanDesc = pg_sys::table_beginscan(
                scan.ss_currentRelation,
                (*scan.ps.state).es_snapshot,
                0,
                std::ptr::null_mut(),
            );
        }
        let slot = scan.ss_ScanTupleSlot;
        (*slot).tts_tableOid = (*scan.ss_currentRelation).rd_id;
        unguarded::heap_getnextslot(
            scan.ss_currentScanDesc,
            pg_sys::ScanDirection::ForwardScanDirection,
            slot,
        );
        slot
    }
}

/// What a node gives next: `ExecProcNode` of executor.h.
unsafe fn run(node: *mut pg_sys::PlanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the caller's node is live; its function is its own.
    unsafe {
        if !(*node).chgParam.is_null() {
            pg_sys::ExecReScan(node);
        }
        match (*node).ExecProcNode {
            Some(next) => next(node),
            None => std::ptr::null_mut(),
        }
    }
}

/// The scan that has given a row: the node itself, or that which an Append is at.
unsafe fn current(node: *mut pg_sys::PlanState) -> *mut pg_sys::ScanState {
    // SAFETY: nodes are read as what their tags say.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_AppendState {
            let append = node.cast::<pg_sys::AppendState>();
            return (*(*append).appendplans.add((*append).as_whichplan as usize)).cast();
        }
        node.cast()
    }
}

/// Counts rows that were not asked for one by one, for pg_stat_user_tables.
unsafe fn count_rows(table: pg_sys::Relation, sequential: bool, rows: i64) {
    // SAFETY: the table is open; its counters are there once the scan has counted its first row.
    unsafe {
        if (*table).pgstat_info.is_null() {
            return;
        }
        #[cfg(feature = "pg15")]
        let (returned, fetched) = {
            let counts = &mut (*(*table).pgstat_info).t_counts;
            (&mut counts.t_tuples_returned, &mut counts.t_tuples_fetched)
        };
        #[cfg(not(feature = "pg15"))]
        let (returned, fetched) = {
            let counts = &mut (*(*table).pgstat_info).counts;
            (&mut counts.tuples_returned, &mut counts.tuples_fetched)
        };
        *(if sequential { returned } else { fetched }) += rows;
    }
}
