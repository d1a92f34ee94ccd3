//! Support of hll_union_agg in a window frame that moves: see `moving` of the crate. PostgreSQL calls for each row that comes to the
//! frame, and for each that goes, in their order.
use crate::hll::ops;
use crate::pg::aggregate::{self, State};
use crate::pg::error::OrRaise;
use crate::pg::memory::ContextMemory;
use crate::pg::stack::ContextStack;
use crate::pg::v1::Call;
use crate::v1;
use hll_sketch::{Moving, Sketch};
use pgrx::pg_sys::Datum;

/// The sketches in the frame.
struct Frame(Moving<ContextMemory, ContextStack<Sketch<ContextMemory>>>);

impl State for Frame {
    const TAG: u64 = u64::from_be_bytes(*b"hllframe");
}

v1!(hll_moving_add, add);
v1!(hll_moving_remove, remove);
v1!(hll_moving_union, union);

fn add(call: &mut Call) -> Datum {
    let memory = aggregate::context_or_raise(call, "hll_moving_add", "transition");
    let sketch = call.bytes(1).map(|bytes| Sketch::decode(bytes, memory).or_raise());
    let state = call.arg(0);
    if let (Some(frame), Some(state)) = (aggregate::state_mut::<Frame>(call, 0), state) {
        if let Some(sketch) = sketch {
            frame.0.add(sketch).or_raise();
        }
        return state;
    }
    let mut frame = Moving::new(memory, [ContextStack::new(memory), ContextStack::new(memory)]);
    if let Some(sketch) = sketch {
        frame.add(sketch).or_raise();
    }
    aggregate::new_state(memory, Frame(frame))
}

/// The value that goes is the oldest: it tells no more than that it was not NULL.
fn remove(call: &mut Call) -> Datum {
    aggregate::context_or_raise(call, "hll_moving_remove", "transition");
    let (state, is_one) = (call.arg(0), call.arg(1).is_some());
    match (aggregate::state_mut::<Frame>(call, 0), state) {
        (Some(frame), Some(state)) => {
            if is_one {
                frame.0.remove().or_raise();
            }
            state
        }
        // PostgreSQL begins the frame again.
        _ => call.null(),
    }
}

fn union(call: &mut Call) -> Datum {
    aggregate::context_or_raise(call, "hll_moving_union", "aggregate");
    match aggregate::state_mut::<Frame>(call, 0).and_then(|frame| frame.0.union().or_raise()) {
        Some(sketch) => ops::stored(&sketch),
        None => call.null(),
    }
}
