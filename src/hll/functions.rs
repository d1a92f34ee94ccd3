//! Functions of one or two sketches. All are strict in SQL: an absent argument reads as no bytes, which no
//! sketch has, and so ends in an error.
use super::settings::{estimator, params_from, session};
use crate::pg::{
    error::OrRaise,
    v1::Call,
    value::{float8, new_cstring},
};
use crate::v1;
use hll_sketch::{Header, Heap, Sketch, cardinality_of, validate};
use pgrx::pg_sys::Datum;

fn bytes(call: &Call, n: usize) -> &[u8] {
    call.bytes(n).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Sketch {
    Sketch::decode(bytes, Heap).or_raise()
}

fn header(call: &Call) -> Header {
    validate(bytes(call, 0)).or_raise()
}

fn encode(call: &mut Call, sketch: &Sketch) -> Datum {
    call.varlena(&sketch.encode(session().max_sparse))
}

v1!(hll_eq, eq);
fn eq(call: &mut Call) -> Datum {
    Datum::from(call.bytes(0) == call.bytes(1))
}

v1!(hll_ne, ne);
fn ne(call: &mut Call) -> Datum {
    Datum::from(call.bytes(0) != call.bytes(1))
}

v1!(hll_cardinality, cardinality);
fn cardinality(call: &mut Call) -> Datum {
    match cardinality_of(bytes(call, 0), estimator()).or_raise() {
        Some(count) => float8(count),
        None => call.null(),
    }
}

v1!(hll_union, union);
fn union(call: &mut Call) -> Datum {
    let mut sketch = decode(bytes(call, 0));
    sketch.union_bytes(bytes(call, 1)).or_raise();
    encode(call, &sketch)
}

v1!(hll_add, add);
fn add(call: &mut Call) -> Datum {
    add_to(call, 0, 1)
}

v1!(hll_add_rev, add_rev);
fn add_rev(call: &mut Call) -> Datum {
    add_to(call, 1, 0)
}

fn add_to(call: &mut Call, sketch: usize, hash: usize) -> Datum {
    let mut sketch = decode(bytes(call, sketch));
    if let Some(hash) = call.i64(hash) {
        sketch.add(hash);
    }
    encode(call, &sketch)
}

v1!(hll_print, print);
fn print(call: &mut Call) -> Datum {
    new_cstring(&decode(bytes(call, 0)).print())
}

v1!(hll_empty0, empty);
v1!(hll_empty1, empty);
v1!(hll_empty2, empty);
v1!(hll_empty3, empty);
v1!(hll_empty4, empty);
fn empty(call: &mut Call) -> Datum {
    let sketch = Sketch::empty(params_from(call, 0), Heap);
    encode(call, &sketch)
}

v1!(hll_schema_version, schema_version);
fn schema_version(call: &mut Call) -> Datum {
    Datum::from(i32::from(header(call).version))
}

v1!(hll_type, kind);
fn kind(call: &mut Call) -> Datum {
    Datum::from(header(call).kind as i32)
}

v1!(hll_log2m, log2m);
fn log2m(call: &mut Call) -> Datum {
    Datum::from(i32::from(header(call).params.log2m))
}

v1!(hll_regwidth, regwidth);
fn regwidth(call: &mut Call) -> Datum {
    Datum::from(i32::from(header(call).params.regwidth))
}

v1!(hll_sparseon, sparseon);
fn sparseon(call: &mut Call) -> Datum {
    Datum::from(i32::from(header(call).params.sparseon))
}

v1!(hll_expthresh, expthresh);
fn expthresh(call: &mut Call) -> Datum {
    let params = header(call).params;
    let effective = match params.expthresh {
        -1 => params.explicit_threshold() as i64,
        set => set,
    };
    call.record(&mut [Datum::from(params.expthresh), Datum::from(effective)])
}
