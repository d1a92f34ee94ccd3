//! `jsonb_counter_merge` and `jsonb_counter_merge_agg`: the key-wise sum of finished counters.
use super::state::{MAX_DEPTH, cannot_add, emit, not_a_counter, too_deep};
use crate::pg::aggcontext::Context;
use crate::pg::counter_map::CounterMap;
use crate::pg::jsonb::{Token, Walk};
use crate::pg::v1::Call;
use crate::v1;
use pgrx::pg_sys::Datum;

v1!(jsonb_counter_merge, merge);
v1!(jsonb_counter_merge_agg_trans, merge_trans);

/// NULL is the counter of nothing: the sum of two NULLs is NULL again.
fn merge(call: &mut Call) -> Datum {
    let sides = [Walk::arg(call, 0), Walk::arg(call, 1)];
    if sides.iter().all(Option::is_none) {
        return call.null();
    }
    let sum = CounterMap::create(Context::current());
    for mut side in sides.into_iter().flatten() {
        absorb(sum, &mut side);
    }
    emit(sum)
}

fn merge_trans(call: &mut Call) -> Datum {
    let state = CounterMap::state(call, 0);
    let Some(mut counter) = Walk::arg(call, 1) else {
        return match state {
            Some(map) => map.datum(),
            None => call.null(),
        };
    };
    let map = match state {
        Some(map) => map,
        None => CounterMap::create(Context::of_aggregate(call)),
    };
    absorb(map, &mut counter);
    map.datum()
}

/// Adds a whole document to `sum`.
fn absorb(sum: &mut CounterMap, walk: &mut Walk<'_>) {
    match walk.step() {
        Token::Open => absorb_object(sum, walk, &mut Vec::new()),
        Token::Other(what) => not_a_counter(&[], what),
        _ => not_a_counter(&[], "a scalar"),
    }
}

/// Adds the object whose `{` was just read; `path` holds the keys that lead to it.
fn absorb_object(sum: &mut CounterMap, walk: &mut Walk<'_>, path: &mut Vec<Vec<u8>>) {
    loop {
        let key = match walk.step() {
            Token::Key(key) => key,
            _ => return,
        };
        match walk.step() {
            Token::Number(n) => {
                if sum.add_number(key, n).is_err() {
                    cannot_add(&joined(path, key), "a number", "an object");
                }
            }
            Token::Open => {
                if path.len() + 1 >= MAX_DEPTH {
                    too_deep(&joined(path, key));
                }
                match sum.child(key) {
                    Ok(child) => {
                        path.push(key.to_vec());
                        absorb_object(child, walk, path);
                        path.pop();
                    }
                    Err(_) => cannot_add(&joined(path, key), "an object", "a number"),
                }
            }
            Token::Other(what) => not_a_counter(&joined(path, key), what),
            Token::Key(_) | Token::Close | Token::Done => return,
        }
    }
}

fn joined<'a>(path: &'a [Vec<u8>], key: &'a [u8]) -> Vec<&'a [u8]> {
    path.iter().map(Vec::as_slice).chain([key]).collect()
}
