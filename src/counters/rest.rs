//! Counters that are bounded where they are stored, and merge: those that a rollup keeps of `jsonb_counter_agg(key, n, max_keys)`.
//!
//! Such a counter has an array under `*`: what was taken from keys, `max_keys` and, where there is any, what came without a key.
//! `crates/frequent` says why no key is too low by more than the first divided by `max_keys + 1`, whatever was merged in
//! whatever order. In one call of an aggregate numbers are exact as long as they are in [`bound`](super::bound); what that has
//! lost is made up for at its end.
use super::bound::{Bound, REST};
use super::error::{bounded_object, not_a_counter};
use super::layout::{AN_ARRAY, Array, Item, Object};
use super::merge::{document, number_of};
use super::state::State;
use super::writer::written_with;
use crate::pg::aggcontext::Context;
use crate::pg::counter_map::{CounterMap, Refused, Value};
use crate::pg::decimal::{Decimal, Number};
use crate::pg::interrupt;
use crate::pg::v1::Call;
use crate::v1;
use hll_frequent::{Amount, Counters, agree, cut};
use pgrx::pg_sys::Datum;
use std::cmp::Ordering;

v1!(jsonb_counter_bounded_final, bounded);
v1!(rollup_counters_agree, counters_agree);

/// What a bounded counter has under `*`.
pub type Rest = hll_frequent::Rest<Number>;

impl Amount for Number {
    const ZERO: Number = Number::ZERO;

    fn plus(self, other: Number) -> Number {
        Number::plus(self, other)
    }

    fn order(self, other: Number) -> Ordering {
        Number::order(self, other)
    }
}

/// The keys of a map but `*`.
struct Keyed<'a>(&'a mut CounterMap);

impl Counters for Keyed<'_> {
    type Amount = Number;

    fn amounts(&self) -> impl Iterator<Item = Number> {
        self.0.iter().filter(|(key, _)| *key != REST).map(|(_, value)| number(value))
    }

    fn lower(&mut self, by: Number) -> Number {
        let (mut taken, less) = (Number::ZERO, by.negated());
        let mut goes = vec![false; self.0.len()];
        for (at, goes) in goes.iter_mut().enumerate() {
            interrupt::check_at(at + 1);
            let (key, value) = self.0.entry(at);
            let n = number(value);
            if key == REST {
                continue;
            }
            *goes = n.order(by) != Ordering::Greater;
            taken = taken.plus(if *goes { n } else { by });
            if !*goes {
                // What is there already takes no room that was not there, and is no object.
                let lowered = self.0.add_at(at, less);
                debug_assert_eq!(lowered, Ok(()));
            }
        }
        self.0.retain(|at| !goes[at]);
        taken
    }
}

/// Bounded states hold no objects; they would count as nothing.
fn number(value: Value<'_>) -> Number {
    match value {
        Value::Number(n) => n,
        Value::Child(_) => Number::ZERO,
    }
}

/// What an array under `*` says, if it says that.
pub fn rest_of(array: Array<'_>) -> Rest {
    let Some((numbers, third)) = array.numbers() else { not_a_counter(&[REST], AN_ARRAY) };
    let read = |n: &[u8]| number_of(n, &[REST]);
    let [taken, max_keys] = numbers.map(read);
    let unknown = third.map_or(Number::ZERO, read);
    match max_keys.whole() {
        Some(max_keys) if !taken.is_negative() && !unknown.is_negative() => Rest { taken, max_keys, unknown },
        _ => not_a_counter(&[REST], "an array that no bounded counter has"),
    }
}

/// What a counter has under `*` beside numbers: None where it is not a bounded one.
pub fn find(counter: Object<'_>) -> Option<Rest> {
    // Keys ascend by length, and few are as short as this: a walk begins with a look at every key.
    if counter.shortest_key().is_none_or(|length| length > REST.len()) {
        return None;
    }
    counter.pairs().take_while(|(key, _)| key.len() <= REST.len()).find_map(|(key, item)| match item {
        Item::Array(array) if key == REST => Some(rest_of(array)),
        _ => None,
    })
}

/// All that is under `*`.
pub fn whole(rest: Rest) -> Number {
    rest.taken.plus(rest.unknown)
}

/// No key is too low by more than this.
pub fn error(rest: Rest) -> Number {
    rest.taken.divided(i64::from(rest.max_keys) + 1).plus(rest.unknown)
}

impl State {
    /// Adds the rest of a bounded counter, in the state's own memory.
    pub fn join_rest(&mut self, other: Rest) {
        let context = self.map.context();
        let sum = self.rest.map_or(other, |rest| rest.union(other));
        let kept = |n: Number| n.copy_to(context);
        let new = Rest { taken: kept(sum.taken), unknown: kept(sum.unknown), ..sum };
        if let Some(old) = self.rest.replace(new) {
            old.taken.free();
            old.unknown.free();
        }
    }

    /// Cuts a bounded counter that has far more keys than it will have in the end.
    #[inline]
    pub fn cut_if_large(&mut self) {
        if let Some(rest) = self.rest
            && self.map.len() > rest.room()
        {
            let nothing = Rest { taken: Number::ZERO, unknown: Number::ZERO, ..rest };
            let mut taken = nothing;
            cut(&mut Keyed(&mut self.map), &mut taken, rest.room() / 2);
            self.join_rest(taken);
        }
    }
}

/// A copy of the numbers of a map, in the current context: who asks may go on counting.
fn copied(map: &CounterMap) -> CounterMap {
    let mut copy = CounterMap::new(Context::current());
    for (at, (key, value)) in map.iter().enumerate() {
        interrupt::check_at(at + 1);
        match value {
            Value::Number(n) => well(copy.add(key, n)),
            Value::Child(_) => bounded_object(key),
        }
    }
    copy
}

/// The map that this is a copy of took it.
fn well(added: Result<(), Refused>) {
    debug_assert_eq!(added, Ok(()));
}

/// The bounded counter of a map and its rest, cut. What the map has under `*` came without a key.
pub fn emit(map: &CounterMap, rest: Rest) -> Datum {
    let mut map = copied(map);
    let unkeyed = map.position(REST, usize::MAX).map_or(Number::ZERO, |at| number(map.entry(at).1));
    let mut rest = Rest { unknown: rest.unknown.plus(unkeyed), ..rest };
    let keep = rest.max_keys as usize;
    cut(&mut Keyed(&mut map), &mut rest, keep);
    with_rest(map, rest)
}

/// A counter with this rest, which stands where a map has `*`.
pub fn with_rest(mut map: CounterMap, rest: Rest) -> Datum {
    well(map.add(REST, Number::ZERO));
    let numbers = [rest.taken, Number::Small(Decimal::whole(i64::from(rest.max_keys))), rest.unknown];
    let count = if rest.unknown.order(Number::ZERO) == Ordering::Equal { 2 } else { 3 };
    written_with(&map, |out, key, value| match key == REST {
        true => out.numbers(key, &numbers[..count]),
        false => out.value(key, value),
    })
    .datum()
}

/// The state as a bounded counter; NULL where nothing was counted.
fn bounded(call: &mut Call) -> Datum {
    super::state::finished(call, |state| match &state.bound {
        Some(bound) => settled(&state.map, bound),
        None => super::state::emit(state),
    })
}

/// What a bounded state has counted, as the numbers that every key has at least: its lead over the floor, so that what it
/// lost is in the rest. `2 * max_keys + 33` times the floor was taken from keys in all, as `bound` proves; no key is too low
/// by more than the floor. That is half of what the rest stands for, which leaves room for the rounding of doubles.
fn settled(map: &CounterMap, bound: &Bound) -> Datum {
    let mut rest = Rest::new(bound.max_keys());
    let mut leads = CounterMap::new(Context::current());
    let scale = map.iter().map(|(_, value)| number(value).scale()).max().unwrap_or_default();
    for (at, (key, value)) in map.iter().enumerate() {
        interrupt::check_at(at + 1);
        let n = number(value);
        if key == REST {
            rest.taken = rest.taken.plus(n);
            continue;
        }
        let less = match bound.floor() - bound.behind(at) {
            less if less > 0.0 => Number::rounded(less, scale).unwrap_or(n),
            _ => Number::ZERO,
        };
        match n.order(less) {
            Ordering::Less | Ordering::Equal if less.order(Number::ZERO) != Ordering::Equal => {
                rest.taken = rest.taken.plus(n);
            }
            _ => {
                rest.taken = rest.taken.plus(less);
                well(leads.add(key, n.plus(less.negated())));
            }
        }
    }
    emit(&leads, rest)
}

/// Whether two counters are the same, or are bounded and may be of the same rows: totals are the same, and no two numbers of a key differ by more than they
/// may be too low.
fn counters_agree(call: &mut Call) -> Datum {
    let (Some(a), Some(b)) = (call.bytes(0), call.bytes(1)) else { return call.null() };
    Datum::from(a == b || agreed(document(a), document(b)))
}

/// Of bounded counters; others are the same or are not.
fn agreed(a: Object<'_>, b: Object<'_>) -> bool {
    let (Some(x), Some(y)) = (find(a), find(b)) else { return false };
    if x.max_keys != y.max_keys || x.unknown.order(y.unknown) != Ordering::Equal {
        return false;
    }
    let mut pairs = Vec::new();
    let mut totals = [x.taken, y.taken];
    for (side, counter) in [a, b].into_iter().enumerate() {
        for (n, (key, item)) in counter.pairs().enumerate() {
            interrupt::check_at(n + 1);
            match item {
                Item::Number(n) => {
                    let n = number_of(n, &[key]);
                    totals[side] = totals[side].plus(n);
                    pairs.push((key, side, n));
                }
                Item::Array(_) if key == REST => {}
                Item::Object(_) => bounded_object(key),
                Item::Array(_) => not_a_counter(&[key], AN_ARRAY),
                Item::Other(what) => not_a_counter(&[key], what),
            }
        }
    }
    pairs.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let both = pairs.chunk_by(|a, b| a.0 == b.0).map(|same| {
        let of = |side| same.iter().find(|pair| pair.1 == side).map_or(Number::ZERO, |pair| pair.2);
        [of(0), of(1)]
    });
    let errors = [x, y].map(|rest| Rest { unknown: Number::ZERO, ..rest }).map(error);
    totals[0].order(totals[1]) == Ordering::Equal && agree(both, errors)
}
