//! The states of aggregates, one for each group.
use super::called::Called;
use super::column::{Column, Rows};
use super::known::Kernel;
use crate::pg::aggcontext::Context;
use crate::pg::aggregate::{self, State};
use crate::pg::array::Array;
use crate::pg::expanded::{Expanded, Flatten};
use crate::pg::memory::ContextMemory;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// States of a kernel: words that PostgreSQL carries, 0 for none.
pub struct States {
    words: Array<u64>,
    context: Context,
}

impl States {
    /// The state of a group whose SQL type is `internal`, made where there is none.
    #[inline(always)]
    pub fn internal<S: State>(&mut self, group: usize, make: impl FnOnce(ContextMemory) -> S) -> &mut S {
        let word = &mut self.words.slice_mut()[group];
        if *word == 0 {
            let memory = ContextMemory::of(self.context);
            *word = aggregate::new_state(memory, make(memory)).value() as u64;
        }
        // SAFETY: the word is of a state that was made here; the tag is looked at.
        unsafe { aggregate::state_at(Datum::from(*word)) }
    }

    /// The state of a group that is an expanded object, made where there is none.
    #[inline(always)]
    pub fn expanded<T: Flatten>(&mut self, group: usize, make: impl FnOnce(Context) -> T) -> &mut T {
        let word = &mut self.words.slice_mut()[group];
        if *word == 0 {
            *word = Expanded::create_in(self.context, make).datum().value() as u64;
        }
        // SAFETY: the word is of a state that was made here; the tag is looked at.
        unsafe { Expanded::<T>::at(Datum::from(*word)) }.value_mut()
    }
}

/// How the states of one aggregate are kept.
pub enum Way {
    /// `count`, of rows or of values that are not NULL.
    Count(Array<i64>),
    /// The sum of integers of 2 or 4 bytes.
    Sum(Array<i64>, Array<bool>),
    /// The least or the greatest of numbers or moments.
    Extreme { greatest: bool, values: Array<i64>, seen: Array<bool> },
    /// A feature's.
    Kernel(Kernel, States),
    /// As the executor does.
    Called(Called),
}

/// What is known of an aggregate without a look at its rows.
#[derive(Clone, Copy)]
pub enum Plain {
    Count,
    Sum,
    Least,
    Greatest,
}

/// Aggregates of pg_catalog that are counted here.
pub fn plain(aggregate: pg_sys::Oid) -> Option<Plain> {
    Some(match aggregate.to_u32() {
        pg_sys::F_COUNT_ | pg_sys::F_COUNT_ANY => Plain::Count,
        pg_sys::F_SUM_INT2 | pg_sys::F_SUM_INT4 => Plain::Sum,
        pg_sys::F_MIN_INT2
        | pg_sys::F_MIN_INT4
        | pg_sys::F_MIN_INT8
        | pg_sys::F_MIN_DATE
        | pg_sys::F_MIN_TIMESTAMP
        | pg_sys::F_MIN_TIMESTAMPTZ => Plain::Least,
        pg_sys::F_MAX_INT2
        | pg_sys::F_MAX_INT4
        | pg_sys::F_MAX_INT8
        | pg_sys::F_MAX_DATE
        | pg_sys::F_MAX_TIMESTAMP
        | pg_sys::F_MAX_TIMESTAMPTZ => Plain::Greatest,
        _ => return None,
    })
}

impl Way {
    pub fn plain(plain: Plain) -> Way {
        match plain {
            Plain::Count => Way::Count(Array::EMPTY),
            Plain::Sum => Way::Sum(Array::EMPTY, Array::EMPTY),
            Plain::Least => Way::Extreme { greatest: false, values: Array::EMPTY, seen: Array::EMPTY },
            Plain::Greatest => Way::Extreme { greatest: true, values: Array::EMPTY, seen: Array::EMPTY },
        }
    }

    pub fn kernel(kernel: Kernel, context: Context) -> Way {
        Way::Kernel(kernel, States { words: Array::EMPTY, context })
    }

    /// Sees that there are states for so many groups, those that are new without rows.
    pub fn grow(&mut self, context: Context, groups: usize) {
        fn fill<T: Copy>(array: &mut Array<T>, context: Context, groups: usize, with: T) {
            for _ in array.len()..groups {
                array.extend(context, &[with]);
            }
        }
        match self {
            Way::Count(counts) => fill(counts, context, groups, 0),
            Way::Sum(values, seen) | Way::Extreme { values, seen, .. } => {
                fill(values, context, groups, 0);
                fill(seen, context, groups, false);
            }
            Way::Kernel(_, states) => fill(&mut states.words, context, groups, 0),
            Way::Called(called) => called.grow(groups),
        }
    }

    /// Forgets all states: the memory context was reset.
    pub fn forget(&mut self) {
        match self {
            Way::Count(counts) => *counts = Array::EMPTY,
            Way::Sum(values, seen) | Way::Extreme { values, seen, .. } => {
                (*values, *seen) = (Array::EMPTY, Array::EMPTY);
            }
            Way::Kernel(_, states) => states.words = Array::EMPTY,
            Way::Called(called) => called.forget(),
        }
    }

    /// Adds rows, whose arguments are in these columns, to the states of their groups.
    pub fn add(&mut self, rows: Rows, arguments: &[&Column]) {
        match self {
            Way::Count(counts) => {
                let counts = counts.slice_mut();
                match arguments.first() {
                    Some(of) if of.has_nulls => rows
                        .iter()
                        .filter(|(row, _)| !of.nulls[*row])
                        .for_each(|(_, group)| counts[group] += 1),
                    _ => rows.iter().for_each(|(_, group)| counts[group] += 1),
                }
            }
            Way::Sum(sums, seen) => {
                let (sums, seen) = (sums.slice_mut(), seen.slice_mut());
                let Some(of) = arguments.first() else { return };
                for (row, group) in rows.iter() {
                    if let Some(word) = of.word(row) {
                        sums[group] = sums[group].wrapping_add(word as i64);
                        seen[group] = true;
                    }
                }
            }
            Way::Extreme { greatest, values, seen } => {
                let (values, seen) = (values.slice_mut(), seen.slice_mut());
                let Some(of) = arguments.first() else { return };
                for (row, group) in rows.iter() {
                    if let Some(word) = of.word(row) {
                        let word = word as i64;
                        if !seen[group]
                            || (if *greatest { word > values[group] } else { word < values[group] })
                        {
                            values[group] = word;
                            seen[group] = true;
                        }
                    }
                }
            }
            Way::Kernel(kernel, states) => (kernel.add)(states, rows, arguments),
            Way::Called(called) => called.add(rows, arguments),
        }
    }

    /// The state of a group as PostgreSQL has it; None for NULL.
    pub fn state(&self, group: usize) -> Option<Datum> {
        match self {
            Way::Count(counts) => Some(Datum::from(counts.slice()[group])),
            Way::Sum(values, seen) | Way::Extreme { values, seen, .. } => {
                seen.slice()[group].then(|| Datum::from(values.slice()[group]))
            }
            Way::Kernel(_, states) => Some(states.words.slice()[group]).filter(|w| *w != 0).map(Datum::from),
            Way::Called(called) => called.state(group),
        }
    }
}
