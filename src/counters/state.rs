//! The state of the counter aggregates, SQL type `jsonb_counter_state`: its text and binary forms, combine, and the result.
use super::bound::{self, Bound};
use super::codec;
use super::error::damaged;
use super::rest::{self, Rest};
use super::writer::written;
use crate::pg::aggcontext::Context;
use crate::pg::array::Array;
use crate::pg::counter_map::{CounterMap, Refused};
use crate::pg::decimal::Number;
use crate::pg::expanded::{Argument, Expanded, Flatten};
use crate::pg::native;
use crate::pg::v1::{Call, copied};
use crate::v1;
use pgrx::pg_sys::Datum;

v1!(jsonb_counter_state_in, input);
v1!(jsonb_counter_state_out, output);
v1!(jsonb_counter_state_recv, receive);
v1!(jsonb_counter_state_send, send);
v1!(jsonb_counter_combine, combine);
v1!(jsonb_counter_final, finish);

/// What was counted so far.
pub struct State {
    /// The keys and their numbers.
    pub map: CounterMap,
    /// What keeps the keys few, where `max_keys` was given.
    pub bound: Option<Bound>,
    /// What bounded counters that were added have under `*`. Not beside a bound, which holds that as its own.
    pub rest: Option<Rest>,
}

/// A state as PostgreSQL carries it.
pub type Counter = Expanded<State>;

impl Flatten for State {
    const TAG: u64 = 0x636F_756E_7465_7273; // "counters"

    fn flatten(&self, out: &mut Array<u8>, context: Context) {
        codec::encode(self, out, context);
    }
}

impl State {
    /// Nothing counted.
    pub fn new(context: Context, max_keys: Option<u32>) -> State {
        State { map: CounterMap::new(context), bound: max_keys.map(Bound::new), rest: None }
    }

    /// Adds a number to `key`, which is looked for at entry `guess` first, and says at which it is.
    #[inline(always)]
    pub fn add(&mut self, key: &[u8], n: Number, guess: usize) -> Result<usize, Refused> {
        match &mut self.bound {
            None => {
                let at = self.map.obtain_near(key, guess)?;
                self.map.add_at(at, n)?;
                Ok(at)
            }
            Some(bound) => bound.add(&mut self.map, key, n, guess),
        }
    }
}

/// The aggregate's own state from argument 0, made where there is none; a compact one is read once.
pub fn own<'a>(call: &Call, max_keys: Option<u32>) -> &'a mut Counter {
    match Counter::argument(call, 0) {
        Argument::Own(state) => state,
        Argument::Nothing => Counter::create(call, |context| State::new(context, max_keys)),
        Argument::Shared(_) | Argument::Flat(_) => {
            let flat = codec::Flat::open(call.bytes(0).unwrap_or_default()).unwrap_or_else(damaged);
            let state = Counter::create(call, |context| State::new(context, flat.max_keys()));
            flat.add_to(state.value_mut()).unwrap_or_else(damaged);
            state
        }
    }
}

/// The state as it came, for a row that counts nothing.
pub fn unchanged(call: &mut Call) -> Datum {
    Context::check_aggregate(call);
    match call.arg(0) {
        Some(state) => state,
        None => call.null(),
    }
}

fn combine(call: &mut Call) -> Datum {
    let Some(bytes) = call.bytes(1) else { return unchanged(call) };
    let flat = codec::Flat::open(bytes).unwrap_or_else(damaged);
    let state = own(call, flat.max_keys());
    flat.add_to(state.value_mut()).unwrap_or_else(damaged);
    state.datum()
}

/// The state as jsonb; NULL where nothing was counted.
fn finish(call: &mut Call) -> Datum {
    finished(call, emit)
}

/// What `emit` makes of the state; NULL where nothing was counted.
pub fn finished(call: &mut Call, emit: impl Fn(&State) -> Datum) -> Datum {
    match Counter::argument(call, 0) {
        Argument::Nothing => call.null(),
        Argument::Own(state) => emit(state.value()),
        Argument::Shared(state) => emit(state.value()),
        Argument::Flat(bytes) => emit(&read(bytes)),
    }
}

/// The state as jsonb.
pub fn emit(state: &State) -> Datum {
    match (&state.bound, state.rest) {
        (Some(bound), _) => bound::emit_limited(&state.map, bound.max_keys() as usize),
        (None, Some(rest)) => rest::emit(&state.map, rest),
        (None, None) => written(&state.map).datum(),
    }
}

/// A compact state, read as a whole.
fn read(bytes: &[u8]) -> State {
    let flat = codec::Flat::open(bytes).unwrap_or_else(damaged);
    let mut state = State::new(Context::current(), flat.max_keys());
    flat.add_to(&mut state).unwrap_or_else(damaged);
    state
}

/// A compact state made of a bytea, once it has proved to be one.
fn checked(call: &Call, bytea: Datum) -> Datum {
    read(native::payload(call, bytea));
    bytea
}

fn input(call: &mut Call) -> Datum {
    checked(call, native::bytea_in(call, 0))
}

fn output(call: &mut Call) -> Datum {
    native::bytea_out(call, 0)
}

fn receive(call: &mut Call) -> Datum {
    checked(call, native::bytea_recv(call, 0))
}

fn send(call: &mut Call) -> Datum {
    copied(call, 0)
}
