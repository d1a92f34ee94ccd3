//! What a finished counter answers: its largest keys, its total, itself cut to size.
use super::bound::{REST, limited};
use super::error::{MAX_DEPTH, negative, not_a_counter, too_deep};
use super::layout::{AN_ARRAY, Item, Object};
use super::merge::{absorb_whole, document, number_of};
use super::rest;
use super::state::State;
use super::writer::written;
use crate::pg::aggcontext::Context;
use crate::pg::array::Scratch;
use crate::pg::counter_map::Value;
use crate::pg::decimal::Number;
use crate::pg::interrupt;
use crate::pg::rows::materialize;
use crate::pg::v1::{Call, new_varlena};
use crate::v1;
use pgrx::pg_sys::Datum;

v1!(jsonb_counter_top, top);
v1!(jsonb_counter_total, sum_of);
v1!(jsonb_counter_limit, limit);

/// The sum of a value: its own, or that of all inside it.
pub fn total(value: Value<'_>) -> Number {
    match value {
        Value::Number(n) => n,
        Value::Child(map) => map.iter().fold(Number::ZERO, |sum, (_, value)| sum.plus(total(value))),
    }
}

fn total_of<'a>(item: Item<'a>, path: &mut Vec<&'a [u8]>) -> Number {
    match item {
        Item::Number(bytes) => number_of(bytes, path),
        Item::Object(_) if path.len() >= MAX_DEPTH => too_deep(path),
        Item::Object(object) => total_of_object(object, path),
        Item::Array(array) if path.as_slice() == [REST] => rest::whole(rest::rest_of(array)),
        Item::Array(_) => not_a_counter(path, AN_ARRAY),
        Item::Other(what) => not_a_counter(path, what),
    }
}

fn total_of_object<'a>(object: Object<'a>, path: &mut Vec<&'a [u8]>) -> Number {
    let mut sum = Number::ZERO;
    for (i, (key, item)) in object.pairs().enumerate() {
        interrupt::check_at(i + 1);
        path.push(key);
        sum = sum.plus(total_of(item, path));
        path.pop();
    }
    sum
}

/// The declaration says STRICT.
fn sum_of(call: &mut Call) -> Datum {
    let Some(counter) = call.bytes(0).map(document) else { return call.null() };
    total_of_object(counter, &mut Vec::new()).num().datum()
}

fn count(call: &Call, n: usize) -> Option<usize> {
    call.i32(n).map(|k| usize::try_from(k).unwrap_or_else(|_| negative("k", k)))
}

fn limit(call: &mut Call) -> Datum {
    let (Some(counter), k) = (call.bytes(0).map(document), count(call, 1)) else { return call.null() };
    let mut state = State::new(Context::current(), None);
    absorb_whole(&mut state, counter);
    let k = k.unwrap_or(usize::MAX);
    match state.rest {
        None => written(&limited(&state.map, k)).datum(),
        // Keys that go whole are not lowered by what the others are: of them nothing is known any more.
        Some(rest) => rest::emit(&limited(&state.map, k), rest),
    }
}

fn top(call: &mut Call) -> Datum {
    let k = count(call, 1);
    let mut ranked = Scratch::<(Number, usize)>::default();
    let mut keys = Scratch::<&[u8]>::default();
    // No key is too low by more than this.
    let mut error = Number::ZERO;
    // Borrowed from an argument, which outlives the call's rows.
    let counter = call.bytes(0).map(|bytes| document(bytes));
    for (i, (key, item)) in counter.unwrap_or(Object::EMPTY).pairs().enumerate() {
        interrupt::check_at(i + 1);
        let n = total_of(item, &mut vec![key]);
        if key != REST {
            ranked.push((n, keys.len()));
            keys.push(key);
        } else {
            // Of what came without a key, each may have had all.
            error = match item {
                Item::Array(array) => rest::error(rest::rest_of(array)),
                _ if n.is_negative() => Number::ZERO,
                _ => n,
            };
        }
    }
    // Pairs come in jsonb's order, so that of equals the first is the one with the lower place.
    let order = |a: &(Number, usize), b: &(Number, usize)| b.0.order(a.0).then(a.1.cmp(&b.1));
    let k = k.unwrap_or(usize::MAX).min(ranked.len());
    if k < ranked.len() {
        ranked.select_nth_unstable_by(k, order);
    }
    let mut compared = 0usize;
    ranked[..k].sort_unstable_by(|a, b| {
        compared += 1;
        interrupt::check_at(compared);
        order(a, b)
    });
    let mut rows = Scratch::with_capacity(k);
    ranked[..k].iter().for_each(|(n, at)| {
        rows.push((new_varlena(keys[*at]), n.num().datum(), n.plus(error).num().datum()));
    });
    materialize(call, |row| rows.iter().for_each(|(key, n, most)| row(&[Some(*key), Some(*n), Some(*most)])))
}
