//! `max_keys`: counters that stay small whatever comes as a key.
//!
//! A bounded state keeps up to `4 * max_keys + 64` keys (Space-Saving, in batches). When one more comes, the half that
//! may have been the larger stays, and the numbers of the other half go to `*`: nothing is lost from the total. What a key has
//! counted is exact from when it came; what it had before that, and lost to `*`, is at most the floor of that moment. So
//! it is behind the truth by no more than it says, and a rank, the number plus that, is never below the truth.
//!
//! The floor is the largest rank that had to go, and where no number is negative it is at most the sum of all numbers
//! divided by `2 * max_keys + 33`. For call a key's rank minus the floor its lead, 0 for a key that has none. A number adds
//! itself to one lead. Raising the floor takes the raise from the lead of each key that stays and of the one that goes with
//! the largest rank: `2 * max_keys + 33` keys at least, whose leads come from numbers alone. Two states are joined by adding
//! numbers and floors, and so their bounds.
use super::layout;
use super::merge::add_value;
use super::read::total;
use super::writer::written;
use crate::pg::aggcontext::Context;
use crate::pg::array::{Array, Scratch};
use crate::pg::counter_map::{CounterMap, Refused, Value};
use crate::pg::decimal::Number;
use crate::pg::interrupt;
use pgrx::pg_sys::Datum;

/// The key of all that has no key of its own.
pub const REST: &[u8] = b"*";

/// What a bounded state knows besides its numbers.
pub struct Bound {
    max_keys: u32,
    floor: f64,
    behind: Array<f64>,
}

impl Bound {
    /// A bound of that many keys besides `*`.
    pub fn new(max_keys: u32) -> Bound {
        Bound { max_keys, floor: 0.0, behind: Array::EMPTY }
    }

    /// The bound.
    pub fn max_keys(&self) -> u32 {
        self.max_keys
    }

    /// No key that is not there had counted more than this.
    pub fn floor(&self) -> f64 {
        self.floor
    }

    /// How much entry `at` may have lost.
    pub fn behind(&self, at: usize) -> f64 {
        self.behind.slice()[at]
    }

    /// How many keys stay of a full state.
    fn kept(&self) -> usize {
        2 * self.max_keys as usize + 32
    }

    /// Adds a number to `key`, which is looked for at entry `guess` first, and says at which it is.
    pub fn add(
        &mut self,
        map: &mut CounterMap,
        key: &[u8],
        n: Number,
        guess: usize,
    ) -> Result<usize, Refused> {
        let at = match map.position(key, guess) {
            Some(at) => at,
            None => {
                if map.len() >= 2 * self.kept() {
                    self.shrink(map)?;
                }
                self.insert(map, key, self.floor)?
            }
        };
        map.add_at(at, n)?;
        Ok(at)
    }

    fn insert(&mut self, map: &mut CounterMap, key: &[u8], behind: f64) -> Result<usize, Refused> {
        let at = map.obtain_near(key, 0)?;
        if at == self.behind.len() {
            self.behind.extend(map.context(), &[behind]);
        }
        Ok(at)
    }

    /// Leaves the keys of the highest ranks, among equals the first in jsonb's order.
    fn shrink(&mut self, map: &mut CounterMap) -> Result<(), Refused> {
        let mut ranks = Scratch::with_capacity(map.len());
        for (at, (key, value)) in map.iter().enumerate() {
            if key != REST {
                ranks.push((number(value).approximate() + self.behind(at), at));
            }
        }
        let kept = self.kept();
        if ranks.len() <= kept {
            return Ok(());
        }
        let (_, first_out, _) = ranks.select_nth_unstable_by(kept, |a, b| {
            let keys = || layout::order(map.entry(a.1).0, map.entry(b.1).0);
            b.0.total_cmp(&a.0).then_with(keys)
        });
        self.floor = self.floor.max(first_out.0.min(f64::MAX));
        let rest = self.insert(map, REST, 0.0)?;
        let mut goes = Scratch::default();
        goes.extend_with(map.len(), |_| ());
        for (_, at) in &ranks[kept..] {
            interrupt::check_at(*at);
            goes[*at] = 1u8;
            map.add_at(rest, number(map.entry(*at).1))?;
        }
        let mut end = 0;
        map.retain(|at| {
            let stays = goes[at] == 0;
            if stays {
                self.behind.slice_mut()[end] = self.behind.slice()[at];
                end += 1;
            }
            stays
        });
        self.behind.truncate(end);
        Ok(())
    }

    /// Begins to add another state, whose floor is given, to this one.
    pub fn join<'a>(&'a mut self, map: &'a mut CounterMap, floor: f64) -> Joining<'a> {
        // What the other state does not have, it may have lost.
        self.behind.slice_mut().iter_mut().for_each(|behind| *behind += floor);
        Joining { own_floor: self.floor, floor, bound: self, map }
    }
}

/// Two states of which the second is being added to the first.
pub struct Joining<'a> {
    bound: &'a mut Bound,
    map: &'a mut CounterMap,
    own_floor: f64,
    floor: f64,
}

impl Joining<'_> {
    /// Adds a key of the second state, which was `behind` by so much there.
    pub fn add(&mut self, key: &[u8], n: Number, behind: f64) -> Result<(), Refused> {
        let at = match self.map.position(key, usize::MAX) {
            Some(at) => {
                let here = &mut self.bound.behind.slice_mut()[at];
                *here = (*here - self.floor + behind).max(0.0);
                at
            }
            None => self.bound.insert(self.map, key, self.own_floor + behind)?,
        };
        self.map.add_at(at, n)
    }

    /// Makes the sum as small as either.
    pub fn finish(self) {
        self.bound.floor = (self.own_floor + self.floor).min(f64::MAX);
        if self.map.len() > 2 * self.bound.kept() {
            // Adding numbers to `*` meets no object, and takes no room that was not there.
            let shrunk = self.bound.shrink(self.map);
            debug_assert_eq!(shrunk, Ok(()));
        }
    }
}

/// A bounded state holds no objects; they would count as nothing.
fn number(value: Value<'_>) -> Number {
    match value {
        Value::Number(n) => n,
        Value::Child(_) => Number::ZERO,
    }
}

/// The counter as jsonb, with its `k` largest keys and the rest under `*`.
pub fn emit_limited(map: &CounterMap, k: usize) -> Datum {
    written(&limited(map, k)).datum()
}

/// The `k` largest keys, among equals the first in jsonb's order, and the rest under `*`, in the current context.
pub fn limited(map: &CounterMap, k: usize) -> CounterMap {
    let mut totals = Scratch::with_capacity(map.len());
    for (at, (key, value)) in map.iter().enumerate() {
        interrupt::check_at(at + 1);
        if key != REST {
            totals.push((total(value), at));
        }
    }
    let kept = totals.len().min(k);
    if kept < totals.len() {
        totals.select_nth_unstable_by(kept, |a, b| {
            let keys = || layout::order(map.entry(a.1).0, map.entry(b.1).0);
            b.0.order(a.0).then_with(keys)
        });
    }
    let mut stays = Scratch::default();
    stays.extend_with(map.len(), |_| ());
    totals[..kept].iter().for_each(|(_, at)| stays[*at] = 1u8);
    let mut limited = CounterMap::new(Context::current());
    for (at, (key, value)) in map.iter().enumerate() {
        interrupt::check_at(at + 1);
        let key = if stays[at] == 1 { key } else { REST };
        add_value(&mut limited, key, value, &mut Vec::new());
    }
    limited
}
