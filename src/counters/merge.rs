//! `jsonb_counter_merge` and `jsonb_counter_merge_agg`: the key-wise sum of finished counters.
use super::bound::REST;
use super::count::{check_bound, max_keys};
use super::error::{
    MAX_DEPTH, NUMBER, OBJECT, bounded_object, cannot_add, negative_number, not_a_counter, refused, too_deep,
};
use super::layout::{self, AN_ARRAY, Item, Object};
use super::rest;
use super::state::{State, emit, own, unchanged};
use super::writer::Writer;
use crate::pg::aggcontext::Context;
use crate::pg::counter_map::{CounterMap, Value};
use crate::pg::decimal::Number;
use crate::pg::interrupt;
use crate::pg::v1::Call;
use crate::v1;
use pgrx::pg_sys::Datum;
use std::cmp::Ordering;

v1!(jsonb_counter_merge, merge);
v1!(jsonb_counter_merge_agg_trans, merge_trans);

/// NULL is the counter of nothing: the sum of two NULLs is NULL again.
fn merge(call: &mut Call) -> Datum {
    let sides = [call.bytes(0), call.bytes(1)];
    if sides == [None, None] {
        return call.null();
    }
    let [a, b] = sides.map(|side| side.map_or(Object::EMPTY, document));
    if rest::find(a).is_some() || rest::find(b).is_some() {
        let mut both = State::new(Context::current(), None);
        [a, b].into_iter().for_each(|side| absorb_whole(&mut both, side));
        return emit(&both);
    }
    sum(a, b, &mut Vec::new()).datum()
}

/// Both objects have their keys in order, so has their sum: each pair is looked at once.
fn sum<'a>(a: Object<'a>, b: Object<'a>, path: &mut Vec<&'a [u8]>) -> Writer<'a> {
    let mut out = Writer::new(a.len().max(b.len()));
    let mut pairs = 0;
    let (mut left, mut right) = (a.pairs().peekable(), b.pairs().peekable());
    loop {
        let next = match (left.peek(), right.peek()) {
            (None, None) => return out,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => layout::order(a, b),
        };
        let (one, two) = match next {
            Ordering::Less => (left.next(), None),
            Ordering::Greater => (right.next(), None),
            Ordering::Equal => (left.next(), right.next()),
        };
        let Some((key, one)) = one else { return out };
        pairs += 1;
        interrupt::check_at(pairs);
        path.push(key);
        match (one, two.map(|(_, item)| item)) {
            (Item::Other(what), _) | (_, Some(Item::Other(what))) => not_a_counter(path, what),
            (Item::Array(_), _) | (_, Some(Item::Array(_))) => not_a_counter(path, AN_ARRAY),
            (Item::Number(n), None) => out.copy(key, n),
            (Item::Number(a), Some(Item::Number(b))) => {
                out.number(key, number_of(a, path).plus(number_of(b, path)));
            }
            (Item::Object(a), None) => nest(&mut out, key, a, Object::EMPTY, path),
            (Item::Object(a), Some(Item::Object(b))) => nest(&mut out, key, a, b, path),
            (Item::Object(_), Some(Item::Number(_))) => cannot_add(path, NUMBER, OBJECT),
            (Item::Number(_), Some(Item::Object(_))) => cannot_add(path, OBJECT, NUMBER),
        }
        path.pop();
    }
}

fn nest<'a>(out: &mut Writer<'a>, key: &'a [u8], a: Object<'a>, b: Object<'a>, path: &mut Vec<&'a [u8]>) {
    if path.len() >= MAX_DEPTH {
        too_deep(path);
    }
    out.object(key, &sum(a, b, path));
}

/// The object in a jsonb argument.
pub fn document(payload: &[u8]) -> Object<'_> {
    layout::document(payload).unwrap_or_else(|what| not_a_counter(&[], what))
}

/// The number of a numeric in a document, its length word included.
#[inline]
pub fn number_of(stored: &[u8], path: &[&[u8]]) -> Number {
    Number::read(&stored[4..]).unwrap_or_else(|| not_a_counter(path, "NaN or infinite"))
}

fn merge_trans(call: &mut Call) -> Datum {
    let Some(counter) = call.bytes(1).map(document) else { return unchanged(call) };
    let max_keys = max_keys(call, 2);
    let state = own(call, max_keys);
    let counted = state.value_mut();
    check_bound(counted.bound.as_ref().map(|b| b.max_keys()), max_keys);
    if counted.bound.is_none() {
        absorb_whole(counted, counter);
        counted.cut_if_large();
        return state.datum();
    }
    let mut next = 0;
    for (i, (key, item)) in counter.pairs().enumerate() {
        interrupt::check_at(i + 1);
        match item {
            Item::Number(n) => {
                let n = number_of(n, &[key]);
                if n.is_negative() {
                    negative_number(key);
                }
                match counted.add(key, n, next) {
                    Ok(at) => next = at + 1,
                    Err(why) => refused(why, &[key], NUMBER),
                }
            }
            Item::Array(array) if key == REST => {
                let all = rest::whole(rest::rest_of(array));
                counted.add(key, all, next).unwrap_or_else(|why| refused(why, &[key], NUMBER));
            }
            Item::Object(_) => bounded_object(key),
            Item::Array(_) => not_a_counter(&[key], AN_ARRAY),
            Item::Other(what) => not_a_counter(&[key], what),
        }
    }
    state.datum()
}

/// Adds a counter, which may be a bounded one.
pub fn absorb_whole(state: &mut State, counter: Object<'_>) {
    absorb(&mut state.map, counter, &mut Vec::new());
    if let Some(rest) = rest::find(counter) {
        state.join_rest(rest);
    }
}

/// Adds an object but what a bounded one has under `*`; `path` holds the keys that lead to it.
pub fn absorb<'a>(sum: &mut CounterMap, object: Object<'a>, path: &mut Vec<&'a [u8]>) {
    // Counters of one group mostly have the same keys in the same order.
    let mut next = 0;
    for (i, (key, item)) in object.pairs().enumerate() {
        interrupt::check_at(i + 1);
        match item {
            Item::Number(n) => {
                let Some(n) = Number::read(&n[4..]) else {
                    not_a_counter(&[path, &[key][..]].concat(), "NaN or infinite")
                };
                let added = sum.obtain_near(key, next).and_then(|at| {
                    next = at + 1;
                    sum.add_at(at, n)
                });
                if let Err(why) = added {
                    path.push(key);
                    refused(why, path, NUMBER);
                }
            }
            Item::Object(inner) => {
                path.push(key);
                if path.len() >= MAX_DEPTH {
                    too_deep(path);
                }
                match sum.child(key) {
                    Ok(child) => absorb(child, inner, path),
                    Err(why) => refused(why, path, OBJECT),
                }
                path.pop();
            }
            Item::Array(_) if path.is_empty() && key == REST => {}
            Item::Array(_) => {
                path.push(key);
                not_a_counter(path, AN_ARRAY);
            }
            Item::Other(what) => {
                path.push(key);
                not_a_counter(path, what);
            }
        }
    }
}

/// Adds what a map holds under a key.
pub fn add_value<'a>(sum: &mut CounterMap, key: &'a [u8], value: Value<'a>, path: &mut Vec<&'a [u8]>) {
    path.push(key);
    match value {
        Value::Number(n) => sum.add(key, n).unwrap_or_else(|why| refused(why, path, NUMBER)),
        Value::Child(inner) => match sum.child(key) {
            Ok(child) => inner.iter().for_each(|(key, value)| add_value(child, key, value, path)),
            Err(why) => refused(why, path, OBJECT),
        },
    }
    path.pop();
}
