//! What is done with the rows of a page of one table: conditions, then expressions, a column at a time.
use super::column::{Column, ROWS, Width};
use super::condition::Condition;
use super::known::Hash;
use super::page::Page;
use super::walk::Walk;
use pgrx::pg_sys;

/// The executor, for what is not known here: it evaluates an expression on a row in the scan's own slot.
pub struct Ground {
    pub scan: *mut pg_sys::ScanState,
    tuple: Box<pg_sys::HeapTupleData>,
    page: *const Page,
}

impl Ground {
    pub fn of(scan: *mut pg_sys::ScanState) -> Ground {
        Ground { scan, tuple: Box::default(), page: std::ptr::null() }
    }

    /// An expression's value in a row of the page. Frames below own nothing that an error could leave behind.
    #[inline]
    pub fn evaluate(&mut self, state: *mut pg_sys::ExprState, row: usize) -> (pg_sys::Datum, bool) {
        // SAFETY: `Program::run` has set the page, which is that of the scan; the state was made for the scan's slot. What
        // it gives lies in the scan's memory for a row, which the scan resets when it goes on to the next page.
        unsafe {
            let context = (*self.scan).ps.ps_ExprContext;
            (*self.page).store(row, &mut self.tuple, self.scan);
            (*context).ecxt_scantuple = (*self.scan).ss_ScanTupleSlot;
            let mut null = false;
            let value = match (*state).evalfunc {
                Some(evaluate) => evaluate(state, context, &mut null),
                None => pg_sys::Datum::from(0usize),
            };
            (value, null)
        }
    }
}

/// Computes a column from others.
pub enum Step {
    /// The beginning of the bucket that a moment lies in, where that is from `from` up to, not including, `to`; the executor says it of
    /// all others.
    Bucket {
        of: usize,
        into: usize,
        length: i64,
        origin: i64,
        from: i64,
        to: i64,
        other: *mut pg_sys::ExprState,
    },
    /// The day of a moment without a time zone, under the same conditions.
    Day {
        of: usize,
        into: usize,
        other: *mut pg_sys::ExprState,
    },
    Hash {
        of: usize,
        into: usize,
        seed: i32,
        hash: Hash,
    },
    /// One of two columns: the first where the condition is true.
    Choice {
        condition: Condition,
        then: usize,
        other: usize,
        into: usize,
    },
    /// A float8 of an integer.
    Float {
        of: usize,
        into: usize,
    },
    /// What the executor says.
    Executor {
        into: usize,
        state: *mut pg_sys::ExprState,
        width: Width,
    },
}

/// Days from 2000 on, in microseconds.
pub const DAY: i64 = 86_400_000_000;
/// From the year 1 to the year 200000, times are far from where arithmetic ends.
pub const EARLIEST: i64 = -730_119 * DAY;
pub const LATEST: i64 = 72_000_000 * DAY;

/// Where buckets of `date_trunc` begin, from 2000 on, and how long they are; weeks begin on Mondays.
pub fn truncated(unit: &str) -> Option<(i64, i64)> {
    Some(match unit.to_ascii_lowercase().trim_end_matches('s') {
        "second" => (0, 1_000_000),
        "minute" => (0, 60_000_000),
        "hour" => (0, 3_600_000_000),
        "day" => (0, DAY),
        "week" => (2 * DAY, 7 * DAY),
        _ => return None,
    })
}

impl Step {
    fn run(&self, rows: &[u16], columns: &mut [Column], ground: &mut Ground) {
        let (Step::Bucket { into, .. }
        | Step::Day { into, .. }
        | Step::Hash { into, .. }
        | Step::Float { into, .. }
        | Step::Choice { into, .. }
        | Step::Executor { into, .. }) = self;
        // A step writes to the last of the columns it knows: those it reads come before.
        let (before, rest) = columns.split_at_mut(*into);
        let out = &mut rest[0];
        out.clear_nulls();
        match *self {
            Step::Choice { ref condition, then, other, .. } => {
                let truth = condition.known_truth(rows, before, ground);
                for row in rows.iter().map(|&row| usize::from(row)) {
                    let from = &before[if truth[row] { then } else { other }];
                    match from.word(row) {
                        Some(word) => out.values[row] = word,
                        None => out.set(row, 0, true),
                    }
                }
            }
            Step::Bucket { of, length, origin, from, to, other, .. } => {
                let buckets = Buckets { length, origin, from, to };
                buckets.run(rows, &before[of], out, |row| ground.evaluate(other, row));
            }
            Step::Day { of, other, .. } => days(rows, &before[of], out, |row| ground.evaluate(other, row)),
            Step::Hash { of, seed, hash, .. } => hashes(rows, &before[of], out, seed, hash),
            Step::Float { of, .. } => {
                let values = &before[of];
                for row in rows.iter().map(|&row| usize::from(row)) {
                    match values.word(row) {
                        Some(word) => out.values[row] = (word as i64 as f64).to_bits(),
                        None => out.set(row, 0, true),
                    }
                }
            }
            Step::Executor { state, width, .. } => {
                for row in rows.iter().map(|&row| usize::from(row)) {
                    let (value, null) = ground.evaluate(state, row);
                    out.set(row, width.extended(value), null);
                }
            }
        }
    }
}

/// Buckets of moments from `from` up to, not including, `to`.
struct Buckets {
    length: i64,
    origin: i64,
    from: i64,
    to: i64,
}

impl Buckets {
    /// Where the bucket of each row begins; `other` says it of moments outside.
    #[inline]
    fn run(
        &self,
        rows: &[u16],
        values: &Column,
        out: &mut Column,
        mut other: impl FnMut(usize) -> (pg_sys::Datum, bool),
    ) {
        let Buckets { length, origin, from, to } = *self;
        // The bucket of the row before; rows of one come together.
        let mut last = i64::MIN;
        for row in rows.iter().map(|&row| usize::from(row)) {
            let Some(word) = values.word(row) else {
                let (value, null) = other(row);
                out.set(row, value.value() as u64, null);
                continue;
            };
            let t = word as i64;
            if t >= from && (t.wrapping_sub(last) as u64) < length as u64 {
                out.values[row] = last as u64;
            } else if (from..to).contains(&t) {
                last = t - (t - origin).rem_euclid(length);
                out.values[row] = last as u64;
                // A part of this bucket may lie past the limit.
                if last > to - length {
                    last = i64::MIN;
                }
            } else {
                let (value, null) = other(row);
                out.set(row, value.value() as u64, null);
            }
        }
    }
}

/// The day of each row's moment; `other` says it of moments far away.
#[inline]
fn days(
    rows: &[u16],
    values: &Column,
    out: &mut Column,
    mut other: impl FnMut(usize) -> (pg_sys::Datum, bool),
) {
    for row in rows.iter().map(|&row| usize::from(row)) {
        match values.word(row).map(|word| word as i64) {
            Some(t) if (EARLIEST..LATEST).contains(&t) => out.values[row] = t.div_euclid(DAY) as u64,
            _ => {
                let (value, null) = other(row);
                out.set(row, Width::Four.extended(value), null);
            }
        }
    }
}

/// The hash of each row's value.
#[inline]
fn hashes(rows: &[u16], values: &Column, out: &mut Column, seed: i32, hash: Hash) {
    macro_rules! each {
        ($get:expr) => {
            for row in rows.iter().map(|&row| usize::from(row)) {
                match $get(row) {
                    Some(hash) => out.values[row] = hash as u64,
                    None => out.set(row, 0, true),
                }
            }
        };
    }
    match hash {
        Hash::Bytes(hash) => each!(|row| values.bytes(row).map(|bytes| hash(bytes, seed))),
        Hash::Four(hash) => each!(|row| values.word(row).map(|word| hash(word as i32, seed))),
        Hash::Eight(hash) => each!(|row| values.word(row).map(|word| hash(word as i64, seed))),
    }
}

/// What an aggregate takes of each row.
pub struct Input {
    /// Its arguments.
    pub arguments: Vec<usize>,
    /// The condition of its FILTER, one of the program's.
    pub filter: Option<usize>,
}

/// What is done with the rows of one table.
pub struct Program {
    pub ground: Ground,
    pub walk: Walk,
    pub columns: Vec<Column>,
    /// Each with how many of the steps are run before.
    pub conditions: Vec<(usize, Condition)>,
    pub steps: Vec<Step>,
    pub keys: Vec<usize>,
    pub inputs: Vec<Input>,
    pub filters: Vec<Condition>,
    /// The rows that pass all conditions.
    pub rows: Vec<u16>,
}

impl Program {
    /// Reads a page and leaves in `rows` which of its rows count, in `columns` what they hold.
    ///
    /// # Safety
    /// The page is that of this program's scan, whose memory for a row is the current context.
    pub unsafe fn run(&mut self, page: &Page) {
        self.ground.page = page;
        // SAFETY: the walk was made for the table that is scanned.
        unsafe { self.walk.run(page, &mut self.columns) };
        self.rows.clear();
        self.rows.extend(0..page.count as u16);
        let mut run = 0;
        for (steps, condition) in &self.conditions {
            for step in &self.steps[run..*steps] {
                step.run(&self.rows, &mut self.columns, &mut self.ground);
            }
            run = *steps;
            condition.narrow(&mut self.rows, &self.columns, &mut self.ground);
            if self.rows.is_empty() {
                return;
            }
        }
        for step in &self.steps[run..] {
            step.run(&self.rows, &mut self.columns, &mut self.ground);
        }
    }

    /// The rows that pass a FILTER, each with its group.
    pub fn filtered(&mut self, filter: usize, groups: &[u32], rows: &mut Vec<u16>, of: &mut Vec<u32>) {
        rows.clear();
        rows.extend(&self.rows);
        self.filters[filter].narrow(rows, &self.columns, &mut self.ground);
        of.clear();
        if rows.len() == self.rows.len() {
            of.extend(groups);
            return;
        }
        // Both ascend.
        let mut at = 0;
        for row in rows.iter() {
            while self.rows[at] != *row {
                at += 1;
            }
            of.push(groups[at]);
        }
    }
}

const _: () = assert!(ROWS < u16::MAX as usize);
