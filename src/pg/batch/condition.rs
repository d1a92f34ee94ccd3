//! Conditions on the rows of a page.
use super::column::{Column, ROWS, Width};
use super::program::Ground;
use pgrx::pg_sys;
use std::cell::Cell;

/// `FALSE < UNKNOWN < TRUE`, so that AND is the least of two, OR the greatest, and NOT what is left to `TRUE`.
const FALSE: u8 = 0;
const UNKNOWN: u8 = 1;
const TRUE: u8 = 2;

/// What a condition can come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Truth {
    False = FALSE,
    Unknown = UNKNOWN,
    True = TRUE,
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
    Unequal,
}

/// With what a column is compared.
pub enum Operand {
    /// NULL as well.
    Value(Option<i64>),
    Column(usize),
    Once(Once),
}

/// What an expression comes to that no row has a part in. The executor is asked when the first row is compared with it, and
/// so never where there is none: the expression may raise an error.
pub struct Once {
    pub state: *mut pg_sys::ExprState,
    pub width: Width,
    pub known: Cell<Option<Option<i64>>>,
}

impl Once {
    fn value(&self, row: usize, ground: &mut Ground) -> Option<i64> {
        self.known.get().unwrap_or_else(|| {
            let (value, null) = ground.evaluate(self.state, row);
            let value = (!null).then(|| self.width.extended(value) as i64);
            self.known.set(Some(value));
            value
        })
    }
}

impl Operand {
    /// The value that is the same for all of the rows, if there is one.
    fn same_for_all(&self, rows: &[u16], ground: &mut Ground) -> Option<Option<i64>> {
        match self {
            Operand::Value(value) => Some(*value),
            Operand::Column(_) => None,
            Operand::Once(once) => rows.first().map(|&row| once.value(usize::from(row), ground)),
        }
    }
}

/// A condition. Columns are numbers of those that the program has.
pub enum Condition {
    Compare {
        column: usize,
        how: Comparison,
        with: Operand,
    },
    /// One of these numbers, ascending.
    OneOf {
        column: usize,
        values: Vec<i64>,
    },
    /// The same text, byte by byte.
    SameBytes {
        column: usize,
        bytes: Vec<u8>,
    },
    IsNull(usize),
    /// A column of type boolean.
    Holds(usize),
    Constant(Option<bool>),
    Not(Box<Condition>),
    /// IS TRUE, IS FALSE or IS UNKNOWN: never unknown itself.
    Is(Box<Condition>, Truth),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    /// What the executor says.
    Executor(*mut pg_sys::ExprState),
}

impl Condition {
    /// Keeps the rows for which it is true.
    pub fn narrow(&self, rows: &mut Vec<u16>, columns: &[Column], ground: &mut Ground) {
        match self {
            Condition::All(parts) => parts.iter().for_each(|part| part.narrow(rows, columns, ground)),
            Condition::Compare { column, how, with }
                if !columns[*column].has_nulls
                    && let Some(Some(value)) = with.same_for_all(rows, ground) =>
            {
                let values = &*columns[*column].values;
                macro_rules! keep {
                    ($operator:tt) => { keep(rows, |row| (values[row] as i64) $operator value) };
                }
                match how {
                    Comparison::Less => keep!(<),
                    Comparison::AtMost => keep!(<=),
                    Comparison::Equal => keep!(==),
                    Comparison::AtLeast => keep!(>=),
                    Comparison::Greater => keep!(>),
                    Comparison::Unequal => keep!(!=),
                }
            }
            _ => {
                let mut truth = [FALSE; ROWS];
                self.truth(rows, columns, ground, &mut truth);
                keep(rows, |row| truth[row] == TRUE);
            }
        }
    }

    /// Whether it is true for each of the rows.
    pub fn known_truth(&self, rows: &[u16], columns: &[Column], ground: &mut Ground) -> [bool; ROWS] {
        let mut truth = [FALSE; ROWS];
        self.truth(rows, columns, ground, &mut truth);
        truth.map(|truth| truth == TRUE)
    }

    /// Whether it holds for each of the rows.
    fn truth(&self, rows: &[u16], columns: &[Column], ground: &mut Ground, out: &mut [u8; ROWS]) {
        let mut set = |f: &mut dyn FnMut(usize) -> Option<bool>| {
            for &row in rows {
                out[usize::from(row)] = match f(usize::from(row)) {
                    Some(true) => TRUE,
                    Some(false) => FALSE,
                    None => UNKNOWN,
                };
            }
        };
        match self {
            Condition::Compare { column, how, with } => {
                let column = &columns[*column];
                let value = with.same_for_all(rows, ground);
                if let Some(Some(value)) = value
                    && !column.has_nulls
                {
                    return compare(&column.values, *how, value, rows, out);
                }
                let other = |row| match with {
                    Operand::Column(other) => columns[*other].word(row).map(|word| word as i64),
                    Operand::Value(_) | Operand::Once(_) => value.flatten(),
                };
                set(&mut |row| Some(how.holds(column.word(row)? as i64, other(row)?)));
            }
            Condition::OneOf { column, values } => {
                let column = &columns[*column];
                // Of nothing not even NULL is one.
                if values.is_empty() {
                    return set(&mut |_| Some(false));
                }
                set(&mut |row| Some(values.binary_search(&(column.word(row)? as i64)).is_ok()));
            }
            Condition::SameBytes { column, bytes } => {
                let column = &columns[*column];
                set(&mut |row| Some(column.bytes(row)? == bytes));
            }
            Condition::IsNull(column) => {
                let column = &columns[*column];
                set(&mut |row| Some(column.has_nulls && column.nulls[row]));
            }
            Condition::Holds(column) => {
                let column = &columns[*column];
                set(&mut |row| Some(column.word(row)? & 0xff != 0));
            }
            Condition::Constant(value) => set(&mut |_| *value),
            Condition::Not(inner) => {
                inner.truth(rows, columns, ground, out);
                rows.iter().for_each(|&row| out[usize::from(row)] = TRUE - out[usize::from(row)]);
            }
            Condition::Is(inner, what) => {
                inner.truth(rows, columns, ground, out);
                let is = |truth: u8| if truth == *what as u8 { TRUE } else { FALSE };
                rows.iter().for_each(|&row| out[usize::from(row)] = is(out[usize::from(row)]));
            }
            Condition::All(parts) => together(parts, u8::min, TRUE, rows, columns, ground, out),
            Condition::Any(parts) => together(parts, u8::max, FALSE, rows, columns, ground, out),
            Condition::Executor(state) => set(&mut |row| {
                let (value, null) = ground.evaluate(*state, row);
                (!null).then(|| value.value() & 0xff != 0)
            }),
        }
    }

    /// Whether it is computed here, the executor left out.
    pub fn is_known(&self) -> bool {
        match self {
            Condition::Executor(_) => false,
            Condition::Not(inner) | Condition::Is(inner, _) => inner.is_known(),
            Condition::All(parts) | Condition::Any(parts) => parts.iter().all(Condition::is_known),
            _ => true,
        }
    }
}

/// How each of the rows compares with one value, where none is NULL.
#[inline]
fn compare(values: &[u64; ROWS], how: Comparison, value: i64, rows: &[u16], out: &mut [u8; ROWS]) {
    macro_rules! each {
        ($operator:tt) => {
            for &row in rows {
                let row = usize::from(row);
                out[row] = if (values[row] as i64) $operator value { TRUE } else { FALSE };
            }
        };
    }
    match how {
        Comparison::Less => each!(<),
        Comparison::AtMost => each!(<=),
        Comparison::Equal => each!(==),
        Comparison::AtLeast => each!(>=),
        Comparison::Greater => each!(>),
        Comparison::Unequal => each!(!=),
    }
}

/// AND and OR. A part is looked at for the rows alone of which the parts before have not said it all: as the executor
/// does, which may be asked for it.
fn together(
    parts: &[Condition],
    join: fn(u8, u8) -> u8,
    start: u8,
    rows: &[u16],
    columns: &[Column],
    ground: &mut Ground,
    out: &mut [u8; ROWS],
) {
    let last = TRUE - start;
    rows.iter().for_each(|&row| out[usize::from(row)] = start);
    // No memory that an error of the executor would leave behind.
    let (mut left, mut count) = ([0; ROWS], rows.len());
    left[..count].copy_from_slice(rows);
    let mut one = [FALSE; ROWS];
    for part in parts {
        part.truth(&left[..count], columns, ground, &mut one);
        let all = count;
        count = 0;
        for n in 0..all {
            let row = usize::from(left[n]);
            out[row] = join(out[row], one[row]);
            left[count] = left[n];
            count += usize::from(out[row] != last);
        }
        if count == 0 {
            break;
        }
    }
}

/// Keeps the rows that `keep` says yes to, in their order.
#[inline(always)]
fn keep(rows: &mut Vec<u16>, keep: impl Fn(usize) -> bool) {
    let mut kept = 0;
    for n in 0..rows.len() {
        let row = rows[n];
        rows[kept] = row;
        kept += usize::from(keep(usize::from(row)));
    }
    rows.truncate(kept);
}

impl Comparison {
    #[inline(always)]
    fn holds(self, a: i64, b: i64) -> bool {
        match self {
            Comparison::Less => a < b,
            Comparison::AtMost => a <= b,
            Comparison::Equal => a == b,
            Comparison::AtLeast => a >= b,
            Comparison::Greater => a > b,
            Comparison::Unequal => a != b,
        }
    }

    /// With the sides exchanged.
    pub fn turned(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::AtMost => Comparison::AtLeast,
            Comparison::AtLeast => Comparison::AtMost,
            Comparison::Greater => Comparison::Less,
            same => same,
        }
    }

    /// What an operator of integers, dates or times is, whose sides are ordered as the numbers that they are kept as.
    ///
    /// # Safety
    /// Called inside a transaction.
    pub unsafe fn of(operator: pg_sys::Oid) -> Option<Comparison> {
        /// The families of btree operators: integers, dates and times, whose types are not compared with each other.
        const INTEGERS: pg_sys::Oid = pg_sys::Oid::from_u32(1976);
        const TIMES: pg_sys::Oid = pg_sys::Oid::from_u32(434);
        if operator.to_u32() >= pg_sys::FirstNormalObjectId {
            return None;
        }
        // SAFETY: look-ups in the catalog's cache.
        unsafe {
            let strategy = |operator: pg_sys::Oid| {
                let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
                match pg_sys::get_op_opfamily_strategy(operator, INTEGERS) {
                    0 => {}
                    found => return found,
                }
                match pg_sys::get_op_opfamily_strategy(operator, TIMES) {
                    0 => 0,
                    found => {
                        pg_sys::op_input_types(operator, &mut left, &mut right);
                        if left == right { found } else { 0 }
                    }
                }
            };
            Some(match strategy(operator) {
                1 => Comparison::Less,
                2 => Comparison::AtMost,
                3 => Comparison::Equal,
                4 => Comparison::AtLeast,
                5 => Comparison::Greater,
                _ => {
                    let negator = pg_sys::get_negator(operator);
                    if negator == pg_sys::InvalidOid || strategy(negator) != 3 {
                        return None;
                    }
                    Comparison::Unequal
                }
            })
        }
    }
}
