//! Conditions on the rows of a page.
use super::column::{Column, Kind, ROWS};
use super::program::Ground;
use pgrx::pg_sys;

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
#[derive(Clone, Copy)]
pub enum Operand {
    /// NULL as well.
    Value(Option<i64>),
    Column(usize),
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
            Condition::Compare { column, how, with: Operand::Value(Some(value)) }
                if !columns[*column].has_nulls =>
            {
                let values = &*columns[*column].values;
                let value = *value;
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
            Condition::Compare { column, how, with: Operand::Value(Some(value)) }
                if !columns[*column].has_nulls =>
            {
                compare(&columns[*column].values, *how, *value, rows, out);
            }
            Condition::Compare { column, how, with } => {
                let column = &columns[*column];
                let other = |row| match with {
                    Operand::Value(value) => *value,
                    Operand::Column(other) => columns[*other].word(row).map(|word| word as i64),
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

fn together(
    parts: &[Condition],
    join: fn(u8, u8) -> u8,
    start: u8,
    rows: &[u16],
    columns: &[Column],
    ground: &mut Ground,
    out: &mut [u8; ROWS],
) {
    rows.iter().for_each(|&row| out[usize::from(row)] = start);
    let mut one = [FALSE; ROWS];
    for part in parts {
        part.truth(rows, columns, ground, &mut one);
        for &row in rows {
            let row = usize::from(row);
            out[row] = join(out[row], one[row]);
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

/// Whether it is a type whose values are words that are ordered as numbers.
pub fn is_number(of: pg_sys::Oid) -> bool {
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
pub enum Width {
    One,
    Two,
    Four,
    Eight,
}

impl Width {
    pub fn of(length: i16) -> Width {
        match length {
            1 => Width::One,
            2 => Width::Two,
            4 => Width::Four,
            _ => Width::Eight,
        }
    }

    /// Of the values of a type, or of their addresses.
    pub fn of_type(of: pg_sys::Oid) -> Width {
        let (mut length, mut by_value) = (0, false);
        // SAFETY: a look-up in the catalog's cache.
        unsafe { pg_sys::get_typlenbyval(of, &mut length, &mut by_value) };
        if by_value { Width::of(length) } else { Width::Eight }
    }

    /// The value, extended by its sign.
    #[inline(always)]
    pub fn extended(self, value: pg_sys::Datum) -> u64 {
        match self {
            Width::One => value.value() as i8 as i64 as u64,
            Width::Two => value.value() as i16 as i64 as u64,
            Width::Four => value.value() as i32 as i64 as u64,
            Width::Eight => value.value() as u64,
        }
    }
}

/// How values of a type are kept; None of one that is kept in no such way.
pub fn kind_of(of: pg_sys::Oid) -> Option<Kind> {
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
