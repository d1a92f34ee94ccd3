//! Locks that are no locks on tables: on a piece of work, and on a database as DROP DATABASE takes it.
use pgrx::pg_sys;

/// Sets these locks apart from the advisory locks that users take, whose last field is 1 or 2.
const OURS: u16 = 47;

fn tag(fields: [u32; 3], last: u16, kind: u32, method: u32) -> pg_sys::LOCKTAG {
    let [locktag_field1, locktag_field2, locktag_field3] = fields;
    pg_sys::LOCKTAG {
        locktag_field1,
        locktag_field2,
        locktag_field3,
        locktag_field4: last,
        locktag_type: kind as u8,
        locktag_lockmethodid: method as u8,
    }
}

/// Takes a lock for the session, where nobody else has it.
fn acquire(tag: &pg_sys::LOCKTAG) -> bool {
    // SAFETY: the tag is a value that is copied.
    let got = unsafe { pg_sys::LockAcquire(tag, pg_sys::ExclusiveLock as i32, true, true) };
    got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Whether this session holds a lock that `acquire` takes.
fn holds(tag: &pg_sys::LOCKTAG) -> bool {
    // SAFETY: a look at what this process knows of its locks.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return pg_sys::LockHeldByMe(tag, pg_sys::ExclusiveLock as i32);
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        return pg_sys::LockHeldByMe(tag, pg_sys::ExclusiveLock as i32, false);
    }
}

/// Gives back a lock that `acquire` took, if it is still held.
fn release(tag: &pg_sys::LOCKTAG) {
    if holds(tag) {
        // SAFETY: it is held, for the session: nobody takes such a lock for a transaction.
        unsafe { pg_sys::LockRelease(tag, pg_sys::ExclusiveLock as i32, true) };
    }
}

/// The sole right to work on one source, among workers: held over several transactions, until dropped or until
/// the process ends. It keeps workers out of each other's way; what keeps rollups exact is the lock on their row. Code that
/// an owner defines may give back every lock of this kind that the session holds, by pg_advisory_unlock_all(), and no row's.
#[derive(Debug)]
pub struct Work(pg_sys::LOCKTAG);

impl Work {
    /// Takes it, where no other process has it.
    pub fn on(source: pg_sys::Oid) -> Option<Work> {
        // SAFETY: reads a variable of this process; the tag is a value that is copied.
        unsafe {
            let tag = tag(
                [pg_sys::MyDatabaseId.to_u32(), 0, source.to_u32()],
                OURS,
                pg_sys::LockTagType::LOCKTAG_ADVISORY,
                pg_sys::USER_LOCKMETHOD,
            );
            // Made only where it is had: to drop one gives the lock back.
            acquire(&tag).then(|| Work(tag))
        }
    }
}

/// A lock that a process holds until it ends, or gives back: on the turn of an owner, of whom one process at a time
/// serves the rollups; and, held by the scheduler, the sign that other owners wait for a process.
#[derive(Debug)]
pub struct Turn(pg_sys::LOCKTAG);

impl Turn {
    /// That of an owner, where no other process has it.
    pub fn of(owner: pg_sys::Oid) -> Option<Turn> {
        Turn::take(owner.to_u32())
    }

    /// Takes it again, where it was given back meanwhile; false where another process has it by now.
    pub fn again(&self) -> bool {
        holds(&self.0) || acquire(&self.0)
    }

    /// The sign that owners wait, where it is not given already.
    pub fn sign() -> Option<Turn> {
        Turn::take(0)
    }

    /// Whether the sign is given.
    pub fn is_awaited() -> bool {
        Turn::sign().is_none()
    }

    fn take(field: u32) -> Option<Turn> {
        // SAFETY: reads a variable of this process; the tag is a value that is copied.
        unsafe {
            let tag = tag(
                [pg_sys::MyDatabaseId.to_u32(), 0, field],
                OURS + 2,
                pg_sys::LockTagType::LOCKTAG_ADVISORY,
                pg_sys::USER_LOCKMETHOD,
            );
            acquire(&tag).then(|| Turn(tag))
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        release(&self.0);
    }
}

/// The lock between readers of a rollup's state that read on several nodes (share), and the run that changes it.
fn state(id: i64) -> pg_sys::LOCKTAG {
    // SAFETY: reads a variable of this process.
    let database = unsafe { pg_sys::MyDatabaseId.to_u32() };
    tag(
        [database, (id >> 32) as u32, id as u32],
        OURS + 1,
        pg_sys::LockTagType::LOCKTAG_ADVISORY,
        pg_sys::USER_LOCKMETHOD,
    )
}

/// Lets nobody change the state of a rollup until the transaction ends.
pub fn share_state(id: i64) {
    // SAFETY: the tag is a value that is copied; the lock is the transaction's.
    unsafe { pg_sys::LockAcquire(&state(id), pg_sys::ShareLock as i32, false, false) };
}

/// Waits for those who read the state of a rollup, and lets nobody read it until the transaction ends, on all nodes.
pub fn take_state(id: i64) {
    // SAFETY: as above.
    unsafe { pg_sys::LockAcquire(&state(id), pg_sys::ExclusiveLock as i32, false, false) };
}

/// Lets nobody else make partitions of a table until the transaction ends.
///
/// Invariant: whoever changes the row of `rollup.partitioning` of a table and locks that table in one transaction takes this
/// lock before either: a call by hand comes to the row first, the worker to the table.
pub fn take_partitions(table: pg_sys::Oid) {
    // SAFETY: reads a variable of this process; the tag is a value that is copied; the lock is the transaction's.
    unsafe {
        let tag = tag(
            [pg_sys::MyDatabaseId.to_u32(), 0, table.to_u32()],
            OURS + 3,
            pg_sys::LockTagType::LOCKTAG_ADVISORY,
            pg_sys::USER_LOCKMETHOD,
        );
        pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, false);
    }
}

/// Waits for whoever is about to define a rollup of a table that may be there already, and keeps others waiting until the
/// transaction ends.
pub fn take_definitions(source: pg_sys::Oid) {
    // SAFETY: reads a variable of this process; the tag is a value that is copied; the lock is the transaction's.
    unsafe {
        let tag = tag(
            [pg_sys::MyDatabaseId.to_u32(), 1, source.to_u32()],
            OURS + 3,
            pg_sys::LockTagType::LOCKTAG_ADVISORY,
            pg_sys::USER_LOCKMETHOD,
        );
        pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, false);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        release(&self.0);
    }
}

/// Whether somebody is dropping this database, or copying it, and waits for everyone to leave. Call inside a
/// transaction.
pub fn asked_to_leave(database: pg_sys::Oid) -> bool {
    // SAFETY: as above; the lock is one that every session takes as it connects, and is given back at once.
    unsafe {
        let tag = tag(
            [0, pg_sys::DatabaseRelationId.to_u32(), database.to_u32()],
            0,
            pg_sys::LockTagType::LOCKTAG_OBJECT,
            pg_sys::DEFAULT_LOCKMETHOD,
        );
        let mode = pg_sys::RowExclusiveLock as i32;
        if pg_sys::LockAcquire(&tag, mode, false, true) == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&tag, mode, false);
        false
    }
}

/// Takes a lock on a relation, by its oid, until the transaction ends, within `lock_timeout`; false where there is no
/// such relation, any more.
///
/// Once it is had, even the weakest, the relation keeps its name within its schema: RENAME and SET SCHEMA take the
/// lock that no other lock is compatible with. Its schema may be renamed still.
pub fn relation(oid: pg_sys::Oid, mode: Mode) -> bool {
    // SAFETY: the lock is the transaction's; taking it takes notice of what others have changed, so that the look-up
    // says what is there now.
    unsafe {
        pg_sys::LockRelationOid(oid, mode as i32);
        there(oid)
    }
}

/// Waits for who has a relation to itself, and keeps no lock.
pub fn pass(oid: pg_sys::Oid) {
    // SAFETY: what is given back is what was taken here.
    unsafe {
        pg_sys::LockRelationOid(oid, Mode::Read as i32);
        pg_sys::UnlockRelationOid(oid, Mode::Read as i32);
    }
}

mod declared {
    // Of a header that pgrx does not bind.
    unsafe extern "C-unwind" {
        pub fn find_all_inheritors(
            table: pgrx::pg_sys::Oid,
            lock: pgrx::pg_sys::LOCKMODE,
            parents: *mut *mut pgrx::pg_sys::List,
        ) -> *mut pgrx::pg_sys::List;
    }
}

/// The same for a table and all that are below it, whose oids it returns with its own; None where there is none.
pub fn tree(oid: pg_sys::Oid, mode: Mode) -> Option<Vec<pg_sys::Oid>> {
    if !relation(oid, mode) {
        return None;
    }
    // SAFETY: the relation is there and locked; the list is read at once.
    unsafe {
        // Guarded by hand: to wait for a lock may raise an error.
        let below = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            declared::find_all_inheritors(oid, mode as i32, std::ptr::null_mut())
        });
        Some(pgrx::PgList::<pg_sys::Oid>::from_pg(below).iter_oid().collect())
    }
}

/// A table and all that are below it, as the catalog has it now: nothing is locked.
pub fn below(oid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: a look-up in the catalog; the list is read at once.
    unsafe {
        let below = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            declared::find_all_inheritors(oid, pg_sys::NoLock as i32, std::ptr::null_mut())
        });
        pgrx::PgList::<pg_sys::Oid>::from_pg(below).iter_oid().collect()
    }
}

/// Whether there is a relation with this oid, as this transaction sees the catalog now.
pub fn there(oid: pg_sys::Oid) -> bool {
    let key = pg_sys::Datum::from(oid);
    let none = pg_sys::Datum::from(0);
    // SAFETY: a look-up that tolerates absence.
    unsafe { pg_sys::SearchSysCacheExists(pg_sys::SysCacheIdentifier::RELOID as i32, key, none, none, none) }
}

/// How strong a lock on a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Mode {
    /// As a reader's.
    Read = pg_sys::AccessShareLock as i32,
    /// As that of whoever writes rows.
    Write = pg_sys::RowExclusiveLock as i32,
    /// Concurrently with readers and writers: nobody attaches or detaches a partition of it.
    Shape = pg_sys::ShareUpdateExclusiveLock as i32,
    /// Nobody reads it.
    All = pg_sys::AccessExclusiveLock as i32,
}
