//! The values of one expression in the rows of a page.
use crate::pg::v1::varlena_payload;
use pgrx::pg_sys;

/// The most rows that a page holds: a line pointer and a header without columns each.
pub const ROWS: usize = (pg_sys::BLCKSZ as usize - 24) / 28;

/// How a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number or a moment of 1, 2, 4 or 8 bytes, as PostgreSQL's datum has it: extended by its sign.
    Word,
    /// The address of a varlena.
    Bytes,
    /// The address of so many bytes.
    Fixed(u16),
}

/// The values of one expression in the rows of a page. Those that are no words lie in the page, or in memory that lasts as
/// long as it is looked at.
pub struct Column {
    pub(super) kind: Kind,
    pub(super) values: Box<[u64; ROWS]>,
    pub(super) nulls: Box<[bool; ROWS]>,
    /// False where no row has NULL.
    pub(super) has_nulls: bool,
}

impl Column {
    pub(super) fn new(kind: Kind) -> Column {
        Column { kind, values: Box::new([0; ROWS]), nulls: Box::new([false; ROWS]), has_nulls: false }
    }

    /// One value in every row.
    pub(super) fn of(kind: Kind, value: u64, null: bool) -> Column {
        Column { kind, values: Box::new([value; ROWS]), nulls: Box::new([null; ROWS]), has_nulls: null }
    }

    #[inline(always)]
    pub(super) fn set(&mut self, row: usize, value: u64, null: bool) {
        self.values[row] = value;
        self.nulls[row] = null;
        self.has_nulls |= null;
    }

    /// No row has NULL.
    #[inline(always)]
    pub(super) fn clear_nulls(&mut self) {
        if self.has_nulls {
            self.nulls.fill(false);
            self.has_nulls = false;
        }
    }

    /// The word of a row.
    #[inline(always)]
    pub fn word(&self, row: usize) -> Option<u64> {
        (!self.has_nulls || !self.nulls[row]).then(|| self.values[row])
    }

    /// The bytes of a row; the column is one of varlenas.
    #[inline(always)]
    pub fn bytes(&self, row: usize) -> Option<&[u8]> {
        assert!(self.kind == Kind::Bytes, "a column of {:?} has no bytes", self.kind);
        // SAFETY: such a column holds addresses of varlenas, that last as long as the page is looked at.
        self.word(row).map(|word| unsafe { varlena_payload(pg_sys::Datum::from(word)) })
    }

    /// What is at the address of a value that is no word, without headers.
    ///
    /// # Safety
    /// `value` is one of this kind, which is not `Word`, and lasts as long as the slice.
    #[inline(always)]
    pub(super) unsafe fn behind<'a>(kind: Kind, value: u64) -> &'a [u8] {
        // SAFETY: the caller vouches for the address.
        unsafe {
            match kind {
                Kind::Fixed(length) => std::slice::from_raw_parts(value as *const u8, usize::from(length)),
                _ => varlena_payload(pg_sys::Datum::from(value)),
            }
        }
    }
}

/// Rows of a page, each with the group that it belongs to.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub(super) rows: &'a [u16],
    pub(super) groups: &'a [u32],
}

impl<'a> Rows<'a> {
    /// Each row and its group.
    #[inline(always)]
    pub fn iter(self) -> impl Iterator<Item = (usize, usize)> + 'a {
        // As many of both.
        self.rows.iter().zip(self.groups).map(|(row, group)| (usize::from(*row), *group as usize))
    }
}

/// Whether it is a type whose values are words that are ordered as numbers.
pub(super) fn is_number(of: pg_sys::Oid) -> bool {
    [
        pg_sys::INT2OID,
        pg_sys::INT4OID,
        pg_sys::INT8OID,
        pg_sys::DATEOID,
        pg_sys::TIMESTAMPOID,
        pg_sys::TIMESTAMPTZOID,
    ]
    .contains(&of)
}

/// How many bytes of a datum are a value's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    One,
    Two,
    Four,
    Eight,
}

impl Width {
    pub(super) fn of(length: i16) -> Width {
        match length {
            1 => Width::One,
            2 => Width::Two,
            4 => Width::Four,
            _ => Width::Eight,
        }
    }

    /// Of the values of a type, or of their addresses.
    pub(super) fn of_type(of: pg_sys::Oid) -> Width {
        let (mut length, mut by_value) = (0, false);
        // SAFETY: a look-up in the catalog's cache.
        unsafe { pg_sys::get_typlenbyval(of, &mut length, &mut by_value) };
        if by_value { Width::of(length) } else { Width::Eight }
    }

    /// The value, extended by its sign.
    #[inline(always)]
    pub(super) fn extended(self, value: pg_sys::Datum) -> u64 {
        match self {
            Width::One => value.value() as i8 as i64 as u64,
            Width::Two => value.value() as i16 as i64 as u64,
            Width::Four => value.value() as i32 as i64 as u64,
            Width::Eight => value.value() as u64,
        }
    }
}

/// How values of a type are kept; None of one that is kept in no such way.
pub(super) fn kind_of(of: pg_sys::Oid) -> Option<Kind> {
    let (mut length, mut by_value) = (0, false);
    // SAFETY: a look-up in the catalog's cache.
    unsafe { pg_sys::get_typlenbyval(of, &mut length, &mut by_value) };
    match (by_value, length) {
        (true, _) => Some(Kind::Word),
        (_, -1) => Some(Kind::Bytes),
        (_, 1..) => Some(Kind::Fixed(length as u16)),
        _ => None,
    }
}
