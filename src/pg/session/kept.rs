//! The rows of a SELECT, kept as a relation that the statements after it read, as a trigger reads its transition tables.
//!
//! A SELECT by itself may be served by parallel workers; a part of a statement that writes may not.
use crate::pg::ctext::c_text;
use crate::pg::plan::called::Ours;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, SpiResult};
use std::ffi::{CStr, c_int};

/// Puts rows into a tuplestore. The server has such a receiver, which the bindings leave out.
#[repr(C)]
struct Keeper {
    receiver: pg_sys::DestReceiver,
    store: *mut pg_sys::Tuplestorestate,
    shape: pg_sys::TupleDesc,
    context: pg_sys::MemoryContext,
}

#[pg_guard]
unsafe extern "C-unwind" fn startup(
    this: *mut pg_sys::DestReceiver,
    _operation: c_int,
    shape: pg_sys::TupleDesc,
) {
    // SAFETY: `this` is the first field of a Keeper. Its context outlives the executor's, in which this is called.
    unsafe {
        let keeper = &mut *this.cast::<Keeper>();
        let before = pg_sys::MemoryContextSwitchTo(keeper.context);
        keeper.shape = pg_sys::CreateTupleDescCopy(shape);
        pg_sys::MemoryContextSwitchTo(before);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(
    slot: *mut pg_sys::TupleTableSlot,
    this: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: `this` is the first field of a Keeper; the row is copied into the store's own memory.
    unsafe { pg_sys::tuplestore_puttupleslot((*this.cast::<Keeper>()).store, slot) };
    true
}

unsafe extern "C-unwind" fn nothing(_this: *mut pg_sys::DestReceiver) {}

/// Runs `select` as a statement of its own, under a fresh snapshot in READ COMMITTED, and then `then`, with the number
/// of its rows; statements of that client find the rows in the relation `name`. More than `work_mem` goes to disk.
pub fn with_rows<T>(
    select: &CStr,
    name: &CStr,
    then: impl FnOnce(&mut SpiClient, i64) -> SpiResult<T>,
) -> SpiResult<T> {
    keep(select, name, false, then)
}

/// The same under the active snapshot, which is read by and no other.
pub fn with_active_rows<T>(
    select: &CStr,
    name: &CStr,
    then: impl FnOnce(&mut SpiClient, i64) -> SpiResult<T>,
) -> SpiResult<T> {
    keep(select, name, true, then)
}

/// What a statement gives under the active snapshot.
pub fn read_active<T>(
    select: &str,
    f: impl Fn(&pgrx::spi::SpiHeapTupleData) -> SpiResult<T>,
) -> SpiResult<Vec<T>> {
    let select = c_text(select);
    with_active_rows(&select, c"active rows", |client, _| {
        client.select("SELECT * FROM \"active rows\"", None, &[])?.map(|row| f(&row)).collect()
    })
}

/// Runs `body` with one snapshot active, a fresh one in READ COMMITTED.
pub fn under_one_snapshot<T, E>(body: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // SAFETY: what is pushed is popped; while an error unwinds the end of the (sub)transaction pops it.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let out = body();
        pg_sys::PopActiveSnapshot();
        out
    }
}

/// The same with the newest snapshot that there is, whatever the isolation level.
pub fn under_latest_snapshot<T, E>(body: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // SAFETY: as above.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let out = body();
        pg_sys::PopActiveSnapshot();
        out
    }
}

fn keep<T>(
    select: &CStr,
    name: &CStr,
    active: bool,
    then: impl FnOnce(&mut SpiClient, i64) -> SpiResult<T>,
) -> SpiResult<T> {
    Spi::connect_mut(|client| {
        // SAFETY: all is made in the context of the connection, which lasts until the closure returns. After an error
        // the end of the (sub)transaction frees it, and closes the files of the store.
        unsafe {
            // A value may lie out of line in the source. It stays there while a snapshot is held that is no newer than
            // the one that the rows were read under.
            if active {
                pg_sys::PushActiveSnapshot(pg_sys::GetActiveSnapshot());
            } else {
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            }
            let mut keeper = Keeper {
                receiver: pg_sys::DestReceiver {
                    receiveSlot: Some(receive),
                    rStartup: Some(startup),
                    rShutdown: Some(nothing),
                    rDestroy: Some(nothing),
                    mydest: pg_sys::CommandDest::DestTuplestore,
                },
                store: pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem),
                shape: std::ptr::null_mut(),
                context: pg_sys::CurrentMemoryContext,
            };
            let options = pg_sys::SPIExecuteOptions {
                read_only: active,
                dest: (&raw mut keeper).cast(),
                ..Default::default()
            };
            let ours = Ours::next();
            Spi::check_status(pg_sys::SPI_execute_extended(select.as_ptr(), &options))?;
            drop(ours);
            let rows = pg_sys::tuplestore_tuple_count(keeper.store);
            let mut relation = pg_sys::EphemeralNamedRelationData {
                md: pg_sys::EphemeralNamedRelationMetadataData {
                    name: name.as_ptr().cast_mut(),
                    reliddesc: pg_sys::InvalidOid,
                    tupdesc: keeper.shape,
                    enrtype: pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE,
                    enrtuples: rows as f64,
                },
                reldata: keeper.store.cast(),
            };
            Spi::check_status(pg_sys::SPI_register_relation(&mut relation))?;
            let out = then(client, rows)?;
            Spi::check_status(pg_sys::SPI_unregister_relation(name.as_ptr()))?;
            pg_sys::tuplestore_end(keeper.store);
            pg_sys::PopActiveSnapshot();
            Ok(out)
        }
    })
}
