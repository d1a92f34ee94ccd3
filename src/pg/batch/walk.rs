//! From rows as they lie in a page to columns.
use super::column::{Column, ROWS};
use super::page::Page;
use pgrx::pg_sys;

/// A column of the table that is passed over or taken.
#[derive(Clone, Copy)]
struct Step {
    /// Bytes; -1 for a varlena, -2 for a string that ends with 0.
    length: i16,
    align: usize,
    by_value: bool,
    /// Which column it becomes.
    column: Option<usize>,
}

/// A column that a row has not, being older.
#[derive(Clone, Copy)]
struct Missing {
    value: u64,
    null: bool,
}

/// How to come to the columns that are needed.
pub struct Walk {
    /// All columns up to the last that is needed.
    steps: Vec<Step>,
    missing: Vec<Missing>,
    /// How many of the steps are at the same place in every row without NULL, and where.
    fixed: Vec<usize>,
    /// Where the first of the others begins, before it is aligned.
    start: usize,
    /// Some column is none of those that the fast way knows.
    odd: bool,
    /// Rows that have all columns and no NULL, of the page that is looked at.
    regular: Vec<u16>,
    at: Box<[u32; ROWS]>,
}

/// The description of column `n`, from 0.
///
/// # Safety
/// `columns` is live and has that many.
#[inline]
pub unsafe fn attribute(columns: pg_sys::TupleDesc, n: usize) -> pg_sys::FormData_pg_attribute {
    // SAFETY: the caller vouches for both.
    unsafe {
        #[cfg(feature = "pg18")]
        return *pg_sys::TupleDescAttr(columns, n as i32);
        #[cfg(not(feature = "pg18"))]
        *(*columns).attrs.as_ptr().add(n)
    }
}

#[inline(always)]
fn aligned(at: usize, align: usize) -> usize {
    (at + align - 1) & !(align - 1)
}

/// The bytes of a varlena, its header included.
#[inline(always)]
unsafe fn varlena_size(p: *const u8) -> usize {
    // SAFETY: the caller's address is that of a varlena.
    unsafe {
        let first = *p;
        if first & 1 == 1 && first != 1 {
            return usize::from(first >> 1);
        }
        if first != 1 {
            return (p.cast::<u32>().read_unaligned() >> 2) as usize;
        }
        pgrx::varsize_any(p.cast())
    }
}

#[inline(always)]
unsafe fn word<const LENGTH: usize>(p: *const u8) -> u64 {
    // SAFETY: so many bytes are at the caller's address.
    unsafe {
        match LENGTH {
            1 => p.cast::<i8>().read() as i64 as u64,
            2 => p.cast::<i16>().read_unaligned() as i64 as u64,
            4 => p.cast::<i32>().read_unaligned() as i64 as u64,
            _ => p.cast::<u64>().read_unaligned(),
        }
    }
}

#[inline(always)]
unsafe fn value(p: *const u8, length: i16, by_value: bool) -> u64 {
    // SAFETY: a value of that length is at the caller's address.
    unsafe {
        match (by_value, length) {
            (false, _) => p as u64,
            (_, 1) => word::<1>(p),
            (_, 2) => word::<2>(p),
            (_, 4) => word::<4>(p),
            _ => word::<8>(p),
        }
    }
}

impl Walk {
    /// To `wanted`: numbers of columns of the table, from 1, each with that which it becomes.
    ///
    /// # Safety
    /// `columns` is the description of a table that is open, and has those columns.
    pub unsafe fn new(columns: pg_sys::TupleDesc, wanted: &[(i16, usize)]) -> Walk {
        let last = wanted.iter().map(|(number, _)| *number as usize).max().unwrap_or(0);
        let mut walk = Walk {
            steps: Vec::new(),
            missing: Vec::new(),
            fixed: Vec::new(),
            start: 0,
            odd: false,
            regular: Vec::with_capacity(ROWS),
            at: Box::new([0; ROWS]),
        };
        let (mut offset, mut moving) = (0, false);
        for n in 0..last {
            // SAFETY: the caller vouches for the description.
            let (a, missing) = unsafe {
                let mut null = true;
                let value = pg_sys::getmissingattr(columns, n as i32 + 1, &mut null);
                (attribute(columns, n), Missing { value: value.value() as u64, null })
            };
            let align = match a.attalign as u8 {
                b'c' => 1,
                b's' => 2,
                b'i' => 4,
                _ => 8,
            };
            let column = wanted.iter().find(|(number, _)| *number as usize == n + 1).map(|(_, c)| *c);
            walk.odd |= a.attlen == -2;
            if !moving {
                if a.attlen > 0 {
                    offset = aligned(offset, align);
                    walk.fixed.push(offset);
                    offset += a.attlen as usize;
                } else {
                    moving = true;
                }
                walk.start = offset;
            }
            walk.steps.push(Step { length: a.attlen, align, by_value: a.attbyval, column });
            walk.missing.push(missing);
        }
        walk
    }

    /// Fills the columns with the values of the rows of a page.
    ///
    /// # Safety
    /// The page holds rows of the table that the walk was made for, and stays where it is.
    pub unsafe fn run(&mut self, page: &Page, columns: &mut [Column]) {
        for column in self.steps.iter().filter_map(|s| s.column) {
            columns[column].clear_nulls();
        }
        let mut regular = std::mem::take(&mut self.regular);
        regular.clear();
        // SAFETY: the page's rows are live; each is read as far as its header says that it goes.
        unsafe {
            for row in 0..page.count {
                let header = &*page.rows[row].cast::<pg_sys::HeapTupleHeaderData>();
                let count = usize::from(header.t_infomask2 & pg_sys::HEAP_NATTS_MASK as u16);
                let has_null = header.t_infomask & pg_sys::HEAP_HASNULL as u16 != 0;
                if has_null || count < self.steps.len() || self.odd {
                    self.one(page.rows[row], row, columns);
                } else {
                    regular.push(row as u16);
                }
            }
            self.fixed(page, &regular, columns);
            self.moving(page, &regular, columns);
        }
        self.regular = regular;
    }

    /// The columns whose places are the same in all the rows.
    unsafe fn fixed(&self, page: &Page, rows: &[u16], columns: &mut [Column]) {
        for (step, &offset) in self.steps.iter().zip(&self.fixed) {
            let Some(column) = step.column else { continue };
            let values = &mut *columns[column].values;
            // SAFETY: these rows have the column.
            unsafe {
                macro_rules! each {
                    ($value:expr) => {
                        for &row in rows {
                            let row = usize::from(row);
                            values[row] = $value(page.data[row].add(offset));
                        }
                    };
                }
                match (step.by_value, step.length) {
                    (false, _) => each!(|p: *const u8| p as u64),
                    (_, 1) => each!(word::<1>),
                    (_, 2) => each!(word::<2>),
                    (_, 4) => each!(word::<4>),
                    _ => each!(word::<8>),
                }
            }
        }
    }

    /// The columns from the first varlena on, one after the other for all the rows.
    unsafe fn moving(&mut self, page: &Page, rows: &[u16], columns: &mut [Column]) {
        let steps = &self.steps[self.fixed.len()..];
        if steps.is_empty() {
            return;
        }
        let at = &mut *self.at;
        let mut start = Some(self.start);
        for step in steps {
            let values = step.column.map(|c| &mut *columns[c].values);
            // SAFETY: these rows have all the columns.
            unsafe {
                macro_rules! each {
                    ($next:expr) => {
                        match values {
                            Some(values) => {
                                for &row in rows {
                                    let row = usize::from(row);
                                    let from = start.unwrap_or(at[row] as usize);
                                    let (value, next): (u64, usize) = $next(page.data[row], from);
                                    values[row] = value;
                                    at[row] = next as u32;
                                }
                            }
                            None => {
                                for &row in rows {
                                    let row = usize::from(row);
                                    let from = start.unwrap_or(at[row] as usize);
                                    at[row] = $next(page.data[row], from).1 as u32;
                                }
                            }
                        }
                    };
                }
                macro_rules! word_of {
                    ($length:literal) => {
                        each!(|data: *const u8, from: usize| {
                            let from = aligned(from, step.align);
                            (word::<$length>(data.add(from)), from + $length)
                        })
                    };
                }
                match (step.by_value, step.length) {
                    (_, -1) => each!(|data: *const u8, from: usize| {
                        // A header of one byte is not aligned, and not 0, which is what pads.
                        let from = if *data.add(from) == 0 { aligned(from, step.align) } else { from };
                        (data.add(from) as u64, from + varlena_size(data.add(from)))
                    }),
                    (true, 1) => word_of!(1),
                    (true, 2) => word_of!(2),
                    (true, 4) => word_of!(4),
                    (true, _) => word_of!(8),
                    (false, length) => each!(|data: *const u8, from: usize| {
                        let from = aligned(from, step.align);
                        (data.add(from) as u64, from + length as usize)
                    }),
                }
            }
            start = None;
        }
    }

    /// The columns of one row with NULLs, or older than some of them.
    unsafe fn one(&self, row: *const u8, n: usize, columns: &mut [Column]) {
        // SAFETY: a column is read where the row has so many, and no bit says NULL.
        unsafe {
            let header = &*row.cast::<pg_sys::HeapTupleHeaderData>();
            let count = usize::from(header.t_infomask2 & pg_sys::HEAP_NATTS_MASK as u16);
            let has_null = header.t_infomask & pg_sys::HEAP_HASNULL as u16 != 0;
            let data = row.add(usize::from(header.t_hoff));
            let mut at = 0;
            for (i, step) in self.steps.iter().enumerate() {
                if i >= count {
                    if let Some(column) = step.column {
                        columns[column].set(n, self.missing[i].value, self.missing[i].null);
                    }
                    continue;
                }
                if has_null && *header.t_bits.as_ptr().add(i / 8) & (1 << (i % 8)) == 0 {
                    if let Some(column) = step.column {
                        columns[column].set(n, 0, true);
                    }
                    continue;
                }
                if step.length != -1 || *data.add(at) == 0 {
                    at = aligned(at, step.align);
                }
                let p = data.add(at);
                if let Some(column) = step.column {
                    columns[column].set(n, value(p, step.length, step.by_value), false);
                }
                at += match step.length {
                    -1 => varlena_size(p),
                    -2 => std::ffi::CStr::from_ptr(p.cast()).count_bytes() + 1,
                    length => length as usize,
                };
            }
        }
    }
}
