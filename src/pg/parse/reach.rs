//! How far times of a type reach, and the type of a column that holds times.
use hll_rollup::Kind;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use std::ffi::CString;

/// A type of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeType(pg_sys::Oid);

impl From<Kind> for TimeType {
    fn from(kind: Kind) -> TimeType {
        match kind {
            Kind::Zoned => TimeType::ZONED,
            Kind::Local => TimeType::LOCAL,
            Kind::Date => TimeType::DATE,
        }
    }
}

impl TimeType {
    /// timestamptz
    pub const ZONED: TimeType = TimeType(pg_sys::TIMESTAMPTZOID);
    /// timestamp
    pub const LOCAL: TimeType = TimeType(pg_sys::TIMESTAMPOID);
    /// date
    pub const DATE: TimeType = TimeType(pg_sys::DATEOID);

    /// That of a column; None where it holds no times.
    pub fn of(table: pg_sys::Oid, column: &str) -> Option<TimeType> {
        let name = CString::new(column).ok()?;
        // SAFETY: look-ups in the catalogs of columns and types.
        let oid = unsafe {
            let number = pg_sys::get_attnum(table, name.as_ptr());
            (number > 0).then(|| pg_sys::getBaseType(pg_sys::get_atttype(table, number)))?
        };
        [TimeType::ZONED, TimeType::LOCAL, TimeType::DATE].into_iter().find(|t| t.0 == oid)
    }

    /// Its name, qualified.
    pub fn name(self) -> &'static str {
        match self {
            TimeType::ZONED => "pg_catalog.timestamptz",
            TimeType::LOCAL => "pg_catalog.timestamp",
            _ => "pg_catalog.date",
        }
    }

    /// The first and the last moment that is none of the infinities, as numbers: microseconds, or days.
    pub fn ends(self) -> (i64, i64) {
        match self {
            TimeType::DATE => (-2_451_545, 2_145_031_948),
            _ => (-211_813_488_000_000_000, crate::pg::trigger::END - 1),
        }
    }

    /// The infinity at the end, as a number.
    pub fn infinity(self) -> i64 {
        if self == TimeType::DATE { i64::from(i32::MAX) } else { i64::MAX }
    }

    /// A moment as an argument of a statement.
    pub fn argument(self, at: i64) -> DatumWithOid<'static> {
        // SAFETY: a time stamp is its microseconds, a date its days, which fit by the bounds above.
        unsafe {
            match self {
                TimeType::DATE => DatumWithOid::new(at as i32, self.0),
                _ => DatumWithOid::new(at, self.0),
            }
        }
    }
}
