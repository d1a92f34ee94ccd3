//! Series for charts: where buckets begin, and what stands in those without rows.
use crate::pg::error::raise_with_hint;
use crate::pg::v1::Call;
use crate::pg::window::Window;
use crate::rollup::error::{Result, fail};
use crate::rollup::grid;
use crate::v1;
use hll_rollup::Bucket;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::iter::SetOfIterator;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

fn window(call: &Call, name: &str) -> Window {
    Window::of(call).unwrap_or_else(|| {
        raise_with_hint(
            PgSqlErrorCode::ERRCODE_WINDOWING_ERROR,
            format!("rollup.{name} needs a window"),
            format!(
                "Write rollup.{name}(...) OVER (ORDER BY at), with the column that the rows are ordered by."
            ),
        )
    })
}

// The memory of a partition is one more than the number of the last row with a value.
v1!(rollup_locf, locf);
fn locf(call: &mut Call) -> Datum {
    let mut window = window(call, "locf");
    if let Some(value) = window.current(0) {
        *window.memory() = [window.row() + 1];
        window.forget_before();
        return value;
    }
    let [last] = *window.memory();
    match (last > 0).then(|| window.at(0, last - 1)).flatten().flatten() {
        Some(value) => value,
        None => call.null(),
    }
}

v1!(rollup_interpolate, interpolate);
fn interpolate(call: &mut Call) -> Datum {
    let mut window = window(call, "interpolate");
    // Where the value is given as it is stored, too, the cast is left to the rows beside a gap.
    let plain = if call.nargs() > 2 { 2 } else { 0 };
    if let Some(value) = window.current(plain) {
        let begun = window.row() + 1;
        Gap { begun, ..Gap::default() }.remember(&mut window);
        window.forget_before();
        return if plain == 0 { value } else { call.null() };
    }
    let mut gap = Gap::of(&mut window);
    // Both sides of a gap are looked for once: a partition that is larger than work_mem is read from disk.
    if gap.begun > 0 && gap.ends == 0 {
        let side = |row| (window.at(0, row).flatten().map_or(0, bits), time(window.at(1, row).flatten()));
        (gap.last, gap.since) = side(gap.begun - 1);
        (gap.ends, gap.next, gap.until) = following(&window, window.row() + 1);
        gap.remember(&mut window);
    }
    match (gap.ends == 1).then(|| gap.at(window.current(1))).flatten() {
        Some(value) => Datum::from(value.to_bits()),
        None => call.null(),
    }
}

/// What `rollup.interpolate` remembers of a partition: the rows with values on both sides of those that have none.
#[derive(Clone, Copy, Default)]
struct Gap {
    /// One more than the number of the last row with a value.
    begun: i64,
    /// The bits of that, and its time.
    last: i64,
    since: i64,
    /// 1 where a row with a value follows, -1 where none does, 0 as long as that is not known.
    ends: i64,
    /// Its bits, and its time.
    next: i64,
    until: i64,
}

impl Gap {
    fn of(window: &mut Window) -> Gap {
        let [begun, last, since, ends, next, until] = *window.memory();
        Gap { begun, last, since, ends, next, until }
    }

    fn remember(self, window: &mut Window) {
        *window.memory() = [self.begun, self.last, self.since, self.ends, self.next, self.until];
    }

    /// The value at a time on the line from one row to the other; None where one of the three is at no finite time.
    fn at(&self, now: Option<Datum>) -> Option<f64> {
        let (a, b) = (f64::from_bits(self.last as u64), f64::from_bits(self.next as u64));
        let times = [self.since, time(now), self.until];
        if times.iter().any(|at| [i64::MIN, i64::MAX].contains(at)) {
            return None;
        }
        let [first, now, last] = times.map(i128::from);
        // Times of one moment have no line between them.
        if first == last {
            return Some(a);
        }
        let part = (now - first) as f64 / (last - first) as f64;
        Some(a * (1.0 - part) + b * part)
    }
}

fn bits(value: Datum) -> i64 {
    value.value() as i64
}

/// Microseconds of a time; that of no time is the infinity's.
fn time(value: Option<Datum>) -> i64 {
    value.map_or(i64::MAX, bits)
}

/// The first row from `row` on with a value, as a gap remembers it.
fn following(window: &Window, mut row: i64) -> (i64, i64, i64) {
    loop {
        crate::pg::interrupt::check();
        match window.at(0, row) {
            None => return (-1, 0, 0),
            Some(Some(value)) => return (1, bits(value), time(window.at(1, row).flatten())),
            Some(None) => row += 1,
        }
    }
}

/// `rollup.buckets`: where the buckets begin that have a part of the time from one moment to before another.
#[pg_extern(sql = false)]
fn rollup_buckets(
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
    width: Interval,
    timezone: &str,
) -> Result<SetOfIterator<'static, TimestampWithTimeZone>> {
    let bucket = match Bucket::of_level(width.months(), width.days(), width.micros()) {
        Ok(bucket) => bucket,
        Err(why) => {
            return fail(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("there are no buckets of {width}: {why}"),
                "Write '15 minutes', '1 hour', '1 day', '1 week' or '3 months'.",
            );
        }
    };
    let found = grid::starts(bucket, from, to, timezone, &width.to_string())?;
    Ok(SetOfIterator::new(found))
}
