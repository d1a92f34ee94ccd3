//! The pages of a zone map in PostgreSQL's buffers.
use super::page::Layout;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes before the words of a page: PostgreSQL's header.
const HEADER: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);

/// Words of a page.
pub const WORDS: usize = (pg_sys::BLCKSZ as usize - HEADER) / size_of::<u64>();

/// Calls without pgrx's guard against errors, for what happens row by row. An error leaves by a jump past the frames
/// that make these calls, which therefore own nothing.
mod unguarded {
    use pgrx::pg_sys;
    #[cfg(feature = "pg15")]
    pub type Files = pg_sys::RelFileNode;
    #[cfg(not(feature = "pg15"))]
    pub type Files = pg_sys::RelFileLocator;
    unsafe extern "C-unwind" {
        pub fn ReadBuffer(relation: pg_sys::Relation, block: u32) -> pg_sys::Buffer;
        pub fn ReadRecentBuffer(files: Files, fork: i32, block: u32, recent: pg_sys::Buffer) -> bool;
        pub fn ReleaseBuffer(buffer: pg_sys::Buffer);
    }
}

/// Whether the byte at `byte` of a page's words is 0, looked at without a lock. `recent` is the buffer that was
/// looked at last, or 0: mostly the page is still there, and need not be searched for.
///
/// # Safety
/// `index` must be an open zone map with page `block`.
#[inline(always)]
pub unsafe fn is_zero(index: pg_sys::Relation, block: u32, byte: usize, recent: &mut pg_sys::Buffer) -> bool {
    #[cfg(feature = "pg15")]
    // SAFETY: the caller's index is open.
    let files = unsafe { (*index).rd_node };
    #[cfg(not(feature = "pg15"))]
    // SAFETY: the caller's index is open.
    let files = unsafe { (*index).rd_locator };
    // SAFETY: the page is pinned while the byte is read, which others may write: hence an atomic. ReadRecentBuffer pins
    // the buffer only where the very page is in it.
    unsafe {
        if *recent == 0
            || !unguarded::ReadRecentBuffer(files, pg_sys::ForkNumber::MAIN_FORKNUM, block, *recent)
        {
            *recent = unguarded::ReadBuffer(index, block);
        }
        let page = pg_sys::BufferGetPage(*recent).cast::<u8>();
        let zero = AtomicU8::from_ptr(page.add(HEADER + byte)).load(Ordering::Acquire) == 0;
        unguarded::ReleaseBuffer(*recent);
        zero
    }
}

/// The layout of the pages of `index`.
///
/// # Safety
/// `index` must be an open index.
#[inline(always)]
pub unsafe fn layout(index: pg_sys::Relation) -> Layout {
    // SAFETY: the relcache entry of an open index has its pg_class row.
    Layout::new(usize::from(unsafe { (*(*index).rd_rel).relnatts as u16 }), WORDS)
}

/// The words of the page in `buffer`.
///
/// # Safety
/// The buffer must be pinned and locked for as long as the slice is used.
#[inline(always)]
unsafe fn words<'a>(buffer: pg_sys::Buffer) -> &'a [u64] {
    // SAFETY: a buffer holds a page, which is aligned for any word.
    unsafe {
        let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
        std::slice::from_raw_parts(page.add(HEADER).cast(), WORDS)
    }
}

/// Looks at a page that exists, under its shared lock.
///
/// # Safety
/// `index` must be an open zone map with page `block`.
pub unsafe fn read<R>(index: pg_sys::Relation, block: u32, look: impl FnOnce(&[u64]) -> R) -> R {
    // SAFETY: the buffer is pinned and locked while `look` runs; an error in it ends the transaction, which lets go.
    unsafe {
        let buffer = pg_sys::ReadBuffer(index, block);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = words(buffer);
        is_new(index, page);
        let out = look(page);
        pg_sys::UnlockReleaseBuffer(buffer);
        out
    }
}

/// Whether it is a page of zeros, which whoever added it had no time to write; an error where it is no page of a zone map.
unsafe fn is_new(index: pg_sys::Relation, page: &[u64]) -> bool {
    // SAFETY: the caller's index is open.
    unsafe {
        if layout(index).is_of(page) {
            return false;
        }
        if page.iter().all(|word| *word == 0) {
            return true;
        }
        let name = CStr::from_ptr((*(*index).rd_rel).relname.data.as_ptr()).to_string_lossy();
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
            format!("index \"{name}\" has a page that is none of a zone map of version 1"),
            "zonemap",
        )
        .set_hint("REINDEX it: it holds nothing that its table does not.")
        .report(PgLogLevel::ERROR);
        unreachable!("an ERROR report does not return")
    }
}

/// Changes a page that exists, under its exclusive lock, and logs what has changed. `change` says whether it did.
///
/// # Safety
/// As `read`; and `index` must be locked as writers lock it.
pub unsafe fn write<R>(
    index: pg_sys::Relation,
    block: u32,
    change: impl FnOnce(&mut [u64]) -> (bool, R),
) -> R {
    // SAFETY: the buffer is pinned and locked until the change is logged. GenericXLog hands out a copy of the page as
    // large and as well aligned as it, and puts it in the page's place in a critical section together with its record.
    unsafe {
        let layout = layout(index);
        let buffer = pg_sys::ReadBuffer(index, block);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
        let fresh = is_new(index, words(buffer));
        let state = pg_sys::GenericXLogStart(index);
        let flags = if fresh { pg_sys::GENERIC_XLOG_FULL_IMAGE as i32 } else { 0 };
        let page = pg_sys::GenericXLogRegisterBuffer(state, buffer, flags);
        if fresh {
            // All of the page is in use: what lies between pd_lower and pd_upper is not logged.
            pg_sys::PageInit(page, pg_sys::BLCKSZ as usize, 0);
            let header = page.cast::<pg_sys::PageHeaderData>();
            (*header).pd_lower = (*header).pd_upper;
        }
        let copy = std::slice::from_raw_parts_mut(page.cast::<u8>().add(HEADER).cast::<u64>(), WORDS);
        if fresh {
            layout.init(copy);
        }
        let (changed, out) = change(copy);
        if changed || fresh {
            pg_sys::GenericXLogFinish(state);
        } else {
            pg_sys::GenericXLogAbort(state);
        }
        pg_sys::UnlockReleaseBuffer(buffer);
        out
    }
}

/// Makes sure that `index` has page `block`.
///
/// # Safety
/// As `write`.
pub unsafe fn reserve(index: pg_sys::Relation, block: u32) {
    // SAFETY: a page is added under the lock that all who add pages take; it is zeros until `write` makes it a page of
    // open entries, which is what zeros say to whoever comes between.
    unsafe {
        if blocks(index) > block {
            return;
        }
        pg_sys::LockRelationForExtension(index, pg_sys::ExclusiveLock as i32);
        let mut next = blocks(index);
        while next <= block {
            let added = pg_sys::ReadBuffer(index, pg_sys::InvalidBlockNumber);
            pg_sys::ReleaseBuffer(added);
            write(index, next, |_| (true, ()));
            next += 1;
        }
        pg_sys::UnlockRelationForExtension(index, pg_sys::ExclusiveLock as i32);
    }
}

/// Pages that a relation has.
///
/// # Safety
/// `relation` must be open.
pub unsafe fn blocks(relation: pg_sys::Relation) -> u32 {
    // SAFETY: the caller vouches for the relation.
    unsafe { pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM) }
}
