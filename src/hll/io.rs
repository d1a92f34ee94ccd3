//! Text and binary forms of `hll` and `hll_hashval`, and what can be read off a value's header.
use crate::hll::typmod;
use crate::pg::error::OrRaise;
use crate::pg::native;
use crate::pg::v1::{Call, copied, new_varlena};
use crate::v1;
use hll_sketch::{Header, Heap, Sketch};
use pgrx::pg_sys::Datum;

v1!(hll_in, input);
v1!(hll_out, output);
v1!(hll_recv, receive);
v1!(hll_send, send);
v1!(hll_print, print);
v1!(hll_schema_version, schema_version);
v1!(hll_type, kind);
v1!(hll_log2m, log2m);
v1!(hll_regwidth, regwidth);
v1!(hll_sparseon, sparseon);
v1!(hll_expthresh, expthresh);
v1!(hll_hashval_in, hashval_in);
v1!(hll_hashval_out, hashval_out);
v1!(hll_hashval_recv, hashval_recv);
v1!(hll_hashval_send, hashval_send);

fn input(call: &mut Call) -> Datum {
    let value = native::bytea_in(call, 0);
    let header = hll_sketch::validate(native::payload(call, value)).or_raise();
    typmod::check(call.i32(2).unwrap_or(-1), &header.params);
    // stored to the byte as it was written, not in our choice of form
    value
}

fn output(call: &mut Call) -> Datum {
    native::bytea_out(call, 0)
}

fn receive(call: &mut Call) -> Datum {
    let value = native::bytea_recv(call, 0);
    hll_sketch::validate(native::payload(call, value)).or_raise();
    value
}

fn send(call: &mut Call) -> Datum {
    copied(call, 0)
}

fn print(call: &mut Call) -> Datum {
    let sketch = Sketch::decode(call.bytes(0).unwrap_or_default(), Heap).or_raise();
    native::cstring(&sketch.print())
}

/// The header of argument 0. Three bytes say all that is asked for here, so no more of a large value is fetched;
/// whatever uses the rest checks the rest.
fn header(call: &Call) -> Header {
    Header::read(call.prefix(0, 3).unwrap_or_default()).or_raise()
}

fn schema_version(call: &mut Call) -> Datum {
    Datum::from(i32::from(header(call).version))
}

fn kind(call: &mut Call) -> Datum {
    Datum::from(header(call).kind as i32)
}

fn log2m(call: &mut Call) -> Datum {
    Datum::from(i32::from(header(call).params.log2m))
}

fn regwidth(call: &mut Call) -> Datum {
    Datum::from(i32::from(header(call).params.regwidth))
}

fn sparseon(call: &mut Call) -> Datum {
    Datum::from(i32::from(header(call).params.sparseon))
}

fn expthresh(call: &mut Call) -> Datum {
    let params = header(call).params;
    let effective = params.explicit_threshold() as i64;
    native::record(call, &mut [Datum::from(params.expthresh), Datum::from(effective)])
}

fn hashval_in(call: &mut Call) -> Datum {
    native::int8_in(call, 0)
}

fn hashval_out(call: &mut Call) -> Datum {
    native::int8_out(call, 0)
}

fn hashval_recv(call: &mut Call) -> Datum {
    native::int8_recv(call, 0)
}

fn hashval_send(call: &mut Call) -> Datum {
    // eight bytes, the highest first, as PostgreSQL sends a bigint
    new_varlena(&call.i64(0).unwrap_or(0).to_be_bytes())
}
