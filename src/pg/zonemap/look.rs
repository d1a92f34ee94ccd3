//! Looking for rows by their stamps without SQL: whoever asks runs nothing that the table's owner has defined, no policy,
//! no cast, no index expression, and waits for no lock.
//!
//! It rests on this: stamps are an int8, which is checked by the type's oid at every call; visibility is that of the
//! active snapshot, as for a statement; and a zone whose entry is closed holds no stamp outside its bounds (see `page`).
use super::buffer::{self, blocks, layout};
use super::by_tree;
pub use super::inspect::may_read;
use super::page::{Bounds, ZONE};
pub use super::rows::Row;
use super::rows::{found_at, rest_of_page};
use super::{find_all_inheritors, method};
use crate::pg::interrupt;
use pgrx::pg_sys;
use pgrx::{FromDatum, PgList};
use std::ffi::CString;
use std::ops::Range;

const SHARE: i32 = pg_sys::AccessShareLock as i32;

/// What is looked for, and how much of it.
pub struct Wanted<'a> {
    /// The column of the stamps.
    pub stamp: &'a str,
    /// The column of the times, of type timestamptz, timestamp or date.
    pub time: &'a str,
    /// The stamps of rows that may be wanted, as ranges in order, both ends included.
    pub ranges: &'a [(i64, i64)],
    /// Whether a row with a stamp between these two, both included, may be wanted.
    pub between: &'a dyn Fn(i64, i64) -> bool,
    /// Whether a row is wanted: its stamp, and its time in microseconds since 2000, of a column without time zone as
    /// if that were UTC; None for NULL, and for a column that holds no times.
    pub row: &'a dyn Fn(i64, Option<i64>) -> bool,
    /// Stop when so many were found.
    pub most: i64,
    /// Is told of each row that is found.
    pub each: Option<&'a dyn Fn(&Row)>,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// So many rows, and the least time of them as a timestamptz.
    Rows(i64, Option<i64>),
    /// Somebody holds a lock on the table, or a part of it, that readers would wait for.
    Locked,
    /// It cannot be told: a part of the table is not stored as a heap, or has no stamps.
    Unknown,
}

/// Looks through a table and all that inherit from it, under the active snapshot.
pub fn look(table: pg_sys::Oid, wanted: &Wanted) -> Found {
    // SAFETY: each table is locked, and known to be there, before it is opened; locks are given back at once.
    unsafe {
        let Some(_held) = Held::table(table) else { return Found::Locked };
        if !is_there(table) {
            return Found::Unknown;
        }
        let tables = PgList::<pg_sys::Oid>::from_pg(pg_sys::ffi::pg_guard_ffi_boundary(|| {
            find_all_inheritors(table, pg_sys::NoLock as i32, std::ptr::null_mut())
        }));
        let (mut rows, mut oldest) = (0, None);
        for id in tables.iter_oid() {
            let Some(held) = Held::table(id) else { return Found::Locked };
            match look_at(id, wanted) {
                Found::Rows(n, least) => {
                    rows += n;
                    oldest = [oldest, least].into_iter().flatten().min();
                }
                other => return other,
            }
            drop(held);
            if rows >= wanted.most {
                break;
            }
        }
        Found::Rows(rows, oldest)
    }
}

/// Whether a statement could read a table and all of its parts now without waiting for a lock; None where there is none.
pub fn is_free(table: pg_sys::Oid) -> Option<bool> {
    // SAFETY: as in `look`; nothing is opened. What is there when it is locked stays.
    unsafe {
        let Some(_held) = Held::table(table) else { return Some(false) };
        if !is_there(table) {
            return None;
        }
        let tables = PgList::<pg_sys::Oid>::from_pg(pg_sys::ffi::pg_guard_ffi_boundary(|| {
            find_all_inheritors(table, pg_sys::NoLock as i32, std::ptr::null_mut())
        }));
        Some(tables.iter_oid().all(|id| Held::table(id).is_some()))
    }
}

/// Whether there is such a table.
pub fn is_there(table: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the catalog that tolerates absence.
    unsafe { pg_sys::get_rel_relkind(table) != 0 }
}

/// A lock of readers on a relation.
pub(super) struct Held(pg_sys::Oid);

impl Held {
    pub(super) fn table(id: pg_sys::Oid) -> Option<Held> {
        // Made only where it is had: to drop one gives the lock back.
        // SAFETY: a lock may be taken on any oid; it says nothing of whether there is such a relation.
        unsafe { pg_sys::ConditionalLockRelationOid(id, SHARE).then(|| Held(id)) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // While an error unwinds the end of the transaction gives it back.
        if !std::thread::panicking() {
            // SAFETY: `table` took exactly this lock.
            unsafe { pg_sys::UnlockRelationOid(self.0, SHARE) };
        }
    }
}

/// The number of a column of a table, by its name.
pub fn column_number(table: pg_sys::Oid, name: &str) -> Option<i16> {
    // SAFETY: looks columns of whatever relation up in the catalog, and tolerates absence.
    unsafe { column(table, name) }.and_then(|(number, _)| i16::try_from(number).ok())
}

/// A column by its name in this very table: partitions may have others in front of it.
unsafe fn column(id: pg_sys::Oid, name: &str) -> Option<(i32, pg_sys::Oid)> {
    let name = CString::new(name).ok()?;
    // SAFETY: look-ups in the catalog that tolerate absence.
    unsafe {
        let number = pg_sys::get_attnum(id, name.as_ptr());
        (number > 0).then(|| (i32::from(number), pg_sys::getBaseType(pg_sys::get_atttype(id, number))))
    }
}

/// # Safety
/// The caller holds a lock on the relation `id`, which need not exist.
unsafe fn look_at(id: pg_sys::Oid, wanted: &Wanted) -> Found {
    // SAFETY: the relation stays open while it is read, and only a heap is read as one.
    unsafe {
        let relation = pg_sys::try_relation_open(id, pg_sys::NoLock as i32);
        if relation.is_null() {
            return Found::Rows(0, None);
        }
        let class = &*(*relation).rd_rel;
        // A temporary table of another session inherits: its pages are in that session.
        let elsewhere =
            class.relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP && !(*relation).rd_islocaltemp;
        let found = match class.relkind as u8 {
            pg_sys::RELKIND_PARTITIONED_TABLE => Found::Rows(0, None),
            _ if elsewhere => Found::Rows(0, None),
            pg_sys::RELKIND_RELATION if class.relam == pg_sys::HEAP_TABLE_AM_OID => {
                match column(id, wanted.stamp) {
                    Some((stamp, pg_sys::INT8OID)) => {
                        let time = column(id, wanted.time).filter(|(_, t)| Time::of(*t).is_some());
                        match candidates(relation, stamp, wanted) {
                            Some(pages) => read(relation, &pages, stamp, time, wanted),
                            None => Found::Locked,
                        }
                    }
                    _ => Found::Unknown,
                }
            }
            _ => Found::Unknown,
        };
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        found
    }
}

/// The pages that may hold wanted rows: by the zone map on the stamp, or a B-tree, where there is one; None where its lock is taken.
unsafe fn candidates(table: pg_sys::Relation, stamp: i32, wanted: &Wanted) -> Option<Vec<Range<u32>>> {
    // SAFETY: the table is open and locked, and so is the index while its pages are read.
    unsafe {
        let pages = blocks(table);
        let method = method();
        for id in PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(table)).iter_oid() {
            let _held = Held::table(id)?;
            let index = pg_sys::try_relation_open(id, pg_sys::NoLock as i32);
            if index.is_null() {
                continue;
            }
            let (class, about) = (&*(*index).rd_rel, &*(*index).rd_index);
            let keys = about.indkey.values.as_slice(about.indkey.dim1 as usize);
            let place = keys.iter().position(|&n| i32::from(n) == stamp);
            let usable = class.relam == method && about.indisvalid && !about.indcheckxmin;
            let found = match place {
                Some(n) if usable => Some(zones(index, pages, n, wanted)),
                // Where all are wanted the table is read as it lies.
                Some(0) if wanted.ranges != [(i64::MIN, i64::MAX)] && by_tree::is_usable(index, stamp) => {
                    Some(by_tree::pages(table, index, wanted.ranges))
                }
                _ => None,
            };
            pg_sys::relation_close(index, pg_sys::NoLock as i32);
            if found.is_some() {
                return found;
            }
        }
        Some(std::iter::once(0..pages).collect())
    }
}

/// # Safety
/// `index` must be an open zone map of a table of so many pages, its column `n` one of int8.
unsafe fn zones(index: pg_sys::Relation, pages: u32, n: usize, wanted: &Wanted) -> Vec<Range<u32>> {
    let mut found: Vec<Range<u32>> = Vec::new();
    // SAFETY: the caller vouches for the index.
    let (layout, described) = unsafe { (layout(index), blocks(index)) };
    let (zones, mut first) = (pages.div_ceil(ZONE), 0);
    while first < zones {
        interrupt::check();
        let (block, here) = (layout.place(first).0, (zones - first).min(layout.per_page()));
        let may_hold = |bounds: Option<Bounds>| {
            bounds.is_none_or(|b| !b.is_none() && (wanted.between)(b.least, b.greatest))
        };
        let matching: Vec<bool> = match block < described {
            // SAFETY: the block is one of the index.
            true => unsafe {
                buffer::read(index, block, |page| {
                    (0..here as usize).map(|at| may_hold(layout.bounds(page, at, n))).collect()
                })
            },
            false => vec![true; here as usize],
        };
        for zone in (first..).zip(matching).filter_map(|(zone, holds)| holds.then_some(zone)) {
            let end = ((zone + 1) * ZONE).min(pages);
            match found.last_mut() {
                Some(last) if last.end == zone * ZONE => last.end = end,
                _ => found.push(zone * ZONE..end),
            }
        }
        first += layout.per_page();
    }
    found
}

/// What a column of times holds.
#[derive(Clone, Copy)]
enum Time {
    Zoned,
    Local,
    Day,
}

impl Time {
    fn of(type_: pg_sys::Oid) -> Option<Time> {
        match type_ {
            pg_sys::TIMESTAMPTZOID => Some(Time::Zoned),
            pg_sys::TIMESTAMPOID => Some(Time::Local),
            pg_sys::DATEOID => Some(Time::Day),
            _ => None,
        }
    }

    /// A value as microseconds since 2000, of one without time zone as if that were UTC.
    fn micros(self, value: pg_sys::Datum) -> Option<i64> {
        // SAFETY: the type was looked at.
        unsafe {
            match self {
                Time::Zoned | Time::Local => i64::from_datum(value, false),
                Time::Day => i32::from_datum(value, false).map(|day| match day {
                    i32::MIN => i64::MIN,
                    i32::MAX => i64::MAX,
                    day => i64::from(day).saturating_mul(86_400_000_000),
                }),
            }
        }
    }

    /// The same moment in the session's time zone.
    fn instant(self, micros: i64) -> i64 {
        let mut overflow = 0;
        match self {
            Time::Zoned => micros,
            // SAFETY: a computation on a value, which saturates.
            Time::Local | Time::Day => unsafe {
                pg_sys::timestamp2timestamptz_opt_overflow(micros, &mut overflow)
            },
        }
    }
}

unsafe fn read(
    table: pg_sys::Relation,
    pages: &[Range<u32>],
    stamp: i32,
    time: Option<(i32, pg_sys::Oid)>,
    wanted: &Wanted,
) -> Found {
    if pages.iter().all(Range::is_empty) {
        return Found::Rows(0, None);
    }
    let time = time.and_then(|(number, type_)| Some((number, Time::of(type_)?)));
    let (mut rows, mut oldest, mut unwanted): (i64, Option<i64>, Option<i64>) = (0, None, None);
    let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
    // SAFETY: a heap is open and locked; the scan ends before it is closed; rows are looked at while their page is
    // pinned, and only columns of the table, of types that were checked, are.
    unsafe {
        let desc = (*table).rd_att;
        let none = std::ptr::null_mut();
        let scan = pg_sys::heap_beginscan(table, pg_sys::GetActiveSnapshot(), 0, none, none.cast(), flags);
        for (n, range) in pages.iter().filter(|r| !r.is_empty()).enumerate() {
            if n > 0 {
                pg_sys::heap_rescan(scan, none, true, false, false, true);
            }
            pg_sys::heap_setscanlimits(scan, range.start, range.end - range.start);
            loop {
                interrupt::check();
                let row = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if row.is_null() {
                    break;
                }
                for row in rest_of_page(scan, row) {
                    let mut null = true;
                    let value = pg_sys::heap_getattr((&raw const row).cast_mut(), stamp, desc, &mut null);
                    // A NULL stamp is in no set of stamps, as in SQL.
                    let Some(stamp) = i64::from_datum(value, null) else { continue };
                    // Rows of one transaction lie together.
                    if unwanted == Some(stamp) {
                        continue;
                    }
                    if !(wanted.between)(stamp, stamp) {
                        unwanted = Some(stamp);
                        continue;
                    }
                    let at = time.and_then(|(number, time)| {
                        let mut null = true;
                        let value =
                            pg_sys::heap_getattr((&raw const row).cast_mut(), number, desc, &mut null);
                        if null { None } else { time.micros(value) }
                    });
                    if (wanted.row)(stamp, at) {
                        if let Some(each) = wanted.each {
                            each(&found_at((*table).rd_id, desc, row, at));
                        }
                        rows += 1;
                        oldest = [oldest, at].into_iter().flatten().min();
                        if rows >= wanted.most {
                            break;
                        }
                    }
                }
                if rows >= wanted.most {
                    break;
                }
            }
            if rows >= wanted.most {
                break;
            }
        }
        pg_sys::heap_endscan(scan);
    }
    Found::Rows(rows, oldest.zip(time).map(|(at, (_, time))| time.instant(at)))
}
