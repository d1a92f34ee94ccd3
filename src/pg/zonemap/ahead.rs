//! Up to when rows find a partition, as the relation cache says: a hundredth of what reading bounds out of the catalogs
//! costs, where each is text, and no lock is waited for.
use super::look::Held;
use crate::pg::xact::transaction_time;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// Microseconds since 2000 on the clock that bounds show. The ends of all time are the ends of its type: a date may lie
/// behind what a timestamp holds.
type At = i128;
const DAY: At = 86_400_000_000;

/// What is known without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// Somebody has locked the table, or it is not partitioned by a column.
    Unknown,
    /// Rows of this moment find no partition.
    Nowhere,
    /// Up to this moment, a timestamptz.
    Until(i64),
}

/// Up to when partitions lie without a gap from the transaction's time on. Columns without a time zone show the clock of `zone`.
pub fn ahead(table: pg_sys::Oid, zone: Datum) -> Ahead {
    let Some(_held) = Held::table(table) else { return Ahead::Unknown };
    let Some((class, columns)) = key(table) else { return Ahead::Unknown };
    // SAFETY: a look-up of an operator class that the catalog names: it says the type, whatever domain the column is of.
    let of = unsafe { pg_sys::get_opclass_input_type(class) };
    let now = transaction_time();
    let zoned = of == pg_sys::TIMESTAMPTZOID;
    let times = zoned || of == pg_sys::TIMESTAMPOID || of == pg_sys::DATEOID;
    let Some(bounds) = (times && columns == 1).then(|| bounds(table, of)).flatten() else {
        return Ahead::Nowhere;
    };
    let shown = if zoned { now } else { changed(pg_sys::timestamptz_zone, zone, now) };
    match bounds.covered_until(shown.into()) {
        None => Ahead::Nowhere,
        Some(At::MAX) => Ahead::Until(i64::MAX),
        Some(end) if zoned => Ahead::Until(within(end)),
        Some(end) => Ahead::Until(changed(pg_sys::timestamp_zone, zone, within(end))),
    }
}

/// A time as a timestamp, which a date may lie behind: an error as the cast raises it.
fn within(at: At) -> i64 {
    i64::try_from(at).ok().filter(|at| *at < END).unwrap_or_else(|| {
        crate::pg::error::raise(
            pgrx::PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
            "a bound of a partition is out of range for type timestamp",
        )
    })
}

/// The first moment that no timestamp holds, in the year 294277.
const END: i64 = 9_223_371_331_200_000_000;

/// A time with time zone as the clock of a zone shows it, or the other way round.
fn changed(function: unsafe fn(pg_sys::FunctionCallInfo) -> Datum, zone: Datum, at: i64) -> i64 {
    // SAFETY: both functions take a text and an int8 of time, and give one; an error of theirs is raised.
    let found = unsafe { pgrx::direct_function_call_as_datum(function, &[Some(zone), Some(at.into())]) };
    found.map_or(i64::MAX, |at| at.value() as i64)
}

/// The operator class of the first column of a partition key, and how many columns the key has; None where the table is not
/// partitioned, or by an expression.
fn key(table: pg_sys::Oid) -> Option<(pg_sys::Oid, i16)> {
    // Of pg_partitioned_table.
    const COLUMNS: i16 = 3;
    const ATTRIBUTES: i16 = 5;
    const CLASSES: i16 = 6;
    // SAFETY: a look-up that tolerates absence; what is read is copied before the row is let go. No column of these is NULL, and
    // the vectors have as many elements as the key has columns, one at least.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PARTRELID as i32;
        let none = Datum::from(0usize);
        let row = pg_sys::SearchSysCache(cache, table.into(), none, none, none);
        if row.is_null() {
            return None;
        }
        let mut null = false;
        let columns = pg_sys::SysCacheGetAttr(cache, row, COLUMNS, &mut null).value() as i16;
        let attributes: *const pg_sys::int2vector =
            pg_sys::SysCacheGetAttr(cache, row, ATTRIBUTES, &mut null).cast_mut_ptr();
        let classes: *const pg_sys::oidvector =
            pg_sys::SysCacheGetAttr(cache, row, CLASSES, &mut null).cast_mut_ptr();
        let first = ((*attributes).values.as_slice(1)[0], (*classes).values.as_slice(1)[0]);
        pg_sys::ReleaseSysCache(row);
        (first.0 != 0).then_some((first.1, columns))
    }
}

/// The bounds of a table that is partitioned by range of one column, ascending, and of each whether a partition ends there.
#[derive(Debug, Default)]
struct Bounds {
    at: Vec<At>,
    ends: Vec<bool>,
}

impl Bounds {
    /// Up to where partitions lie without a gap from a moment on; None where it lies in none.
    fn covered_until(&self, from: At) -> Option<At> {
        let first = self.at.partition_point(|bound| *bound <= from);
        let rest = self.ends.get(first..)?;
        let many = rest.iter().take_while(|ends| **ends).count();
        many.checked_sub(1).map(|last| self.at[first + last])
    }
}

/// Those of a table that the caller has locked; None where it is partitioned otherwise.
fn bounds(table: pg_sys::Oid, of: pg_sys::Oid) -> Option<Bounds> {
    // SAFETY: the relation stays open while its descriptor is read. Of a table that is partitioned by range it has for each of
    // `ndatums` bounds a value and a kind for each column, and one index more than bounds, each that of the partition which ends there.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::NoLock as i32);
        if relation.is_null() {
            return None;
        }
        // A partition that is being detached does not count. 'r' is by range, as pg_partitioned_table says it.
        let described = (*pg_sys::RelationGetPartitionDesc(relation, true)).boundinfo;
        let mut found = None;
        if !described.is_null() && (*described).strategy as u8 == b'r' {
            let number = (*described).ndatums as usize;
            let bound = |n: usize| value(*(*(*described).datums.add(n)), **(*described).kind.add(n), of);
            found = Some(Bounds {
                at: (0..number).map(bound).collect(),
                ends: (0..number).map(|n| *(*described).indexes.add(n) >= 0).collect(),
            });
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        found
    }
}

/// A bound of a column of that type.
fn value(datum: Datum, kind: pg_sys::PartitionRangeDatumKind::Type, of: pg_sys::Oid) -> At {
    use pg_sys::PartitionRangeDatumKind::{PARTITION_RANGE_DATUM_MAXVALUE, PARTITION_RANGE_DATUM_MINVALUE};
    match kind {
        PARTITION_RANGE_DATUM_MINVALUE => At::MIN,
        PARTITION_RANGE_DATUM_MAXVALUE => At::MAX,
        _ if of == pg_sys::DATEOID => match datum.value() as i32 {
            i32::MIN => At::MIN,
            i32::MAX => At::MAX,
            day => At::from(day) * DAY,
        },
        _ => match datum.value() as i64 {
            i64::MIN => At::MIN,
            i64::MAX => At::MAX,
            at => at.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{At, Bounds};

    #[test]
    fn partitions_without_a_gap() {
        let some = Bounds {
            at: vec![At::MIN, 10, 20, 30, 40, At::MAX],
            ends: vec![false, true, true, false, true, false],
        };
        for (from, until) in [
            (-5, Some(20)),
            (10, Some(20)),
            (19, Some(20)),
            (20, None),
            (29, None),
            (30, Some(40)),
            (40, None),
        ] {
            assert_eq!(some.covered_until(from), until, "{from}");
        }
        let endless = Bounds { at: vec![10, At::MAX, At::MAX], ends: vec![false, true, true] };
        assert_eq!((endless.covered_until(9), endless.covered_until(10)), (None, Some(At::MAX)));
        assert_eq!(Bounds::default().covered_until(0), None);
    }
}
