//! `jsonb_counter_merge` and `jsonb_counter_merge_agg`: the key-wise sum of finished counters.
use super::layout::{self, Item, Object, Writer};
use super::state::{MAX_DEPTH, cannot_add, document, emit_document, not_a_counter, too_deep, too_large};
use crate::pg::aggcontext::Context;
use crate::pg::counter_map::CounterMap;
use crate::pg::numeric::{Num, whole_of};
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
    emit_document(&sum(a, b, &mut Vec::new()))
}

/// Both objects have their keys in order, so has their sum: each pair is looked at once.
fn sum<'a>(a: Object<'a>, b: Object<'a>, path: &mut Vec<&'a [u8]>) -> Writer<'a> {
    let mut out = Writer::default();
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
        path.push(key);
        match (one, two.map(|(_, item)| item)) {
            (Item::Other(what), _) | (_, Some(Item::Other(what))) => not_a_counter(path, what),
            (Item::Number(n), None) => out.number(key, |bytes| bytes.extend_from_slice(n)),
            (Item::Number(a), Some(Item::Number(b))) => out.number(key, |bytes| add_numbers(a, b, bytes)),
            (Item::Object(a), None) => nest(&mut out, key, a, Object::EMPTY, path),
            (Item::Object(a), Some(Item::Object(b))) => nest(&mut out, key, a, b, path),
            (Item::Object(_), Some(Item::Number(_))) => cannot_add(path, "a number", "an object"),
            (Item::Number(_), Some(Item::Object(_))) => cannot_add(path, "an object", "a number"),
        }
        path.pop();
    }
}

fn nest<'a>(out: &mut Writer<'a>, key: &'a [u8], a: Object<'a>, b: Object<'a>, path: &mut Vec<&'a [u8]>) {
    if path.len() >= MAX_DEPTH {
        too_deep(path);
    }
    if out.object(key, sum(a, b, path)).is_err() {
        too_large();
    }
}

/// Appends the exact sum of two numerics.
fn add_numbers(a: &[u8], b: &[u8], out: &mut Vec<u8>) {
    match whole_of(a).zip(whole_of(b)).and_then(|(a, b)| a.checked_add(b)) {
        Some(whole) => layout::write_whole(whole, out),
        None => out.extend_from_slice(Num::of(a).plus(Num::of(b)).bytes()),
    }
}

fn merge_trans(call: &mut Call) -> Datum {
    let state = CounterMap::state(call, 0);
    let Some(counter) = call.bytes(1).map(document) else {
        return match state {
            Some(map) => map.datum(),
            None => call.null(),
        };
    };
    let map = match state {
        Some(map) => map,
        None => CounterMap::create(Context::of_aggregate(call)),
    };
    absorb(map, counter, &mut Vec::new());
    map.datum()
}

/// Adds an object; `path` holds the keys that lead to it.
fn absorb<'a>(sum: &mut CounterMap, object: Object<'a>, path: &mut Vec<&'a [u8]>) {
    for (key, item) in object.pairs() {
        let clash = match item {
            Item::Number(n) => {
                let added = match whole_of(n) {
                    Some(whole) => sum.add_whole(key, whole),
                    None => sum.add_number(key, Num::of(n)),
                };
                added.is_err().then_some(("a number", "an object"))
            }
            Item::Object(inner) => {
                path.push(key);
                if path.len() >= MAX_DEPTH {
                    too_deep(path);
                }
                let child = sum.child(key).map(|child| absorb(child, inner, path));
                path.pop();
                child.is_err().then_some(("an object", "a number"))
            }
            Item::Other(what) => {
                path.push(key);
                not_a_counter(path, what)
            }
        };
        if let Some((this, other)) = clash {
            path.push(key);
            cannot_add(path, this, other);
        }
    }
}
