//! Text and binary forms, and what is read off a sketch without any argument.
use super::{decoded, float, stored};
use crate::pg::error::OrRaise;
use crate::pg::memory::ContextMemory;
use crate::pg::native;
use crate::pg::v1::{Call, copied};
use crate::v1;
use hll_ddsketch::DdSketch;
use pgrx::pg_sys::Datum;

v1!(ddsketch_in, input);
v1!(ddsketch_out, output);
v1!(ddsketch_recv, receive);
v1!(ddsketch_send, send);
v1!(ddsketch_count, count);
v1!(ddsketch_scale, scale);
v1!(ddsketch_sum, sum);
v1!(ddsketch_avg, avg);
v1!(ddsketch_min, min);
v1!(ddsketch_max, max);

fn input(call: &mut Call) -> Datum {
    let text = native::cstring_argument(call, 0);
    stored(&DdSketch::parse(&text, ContextMemory::current()).or_raise())
}

fn output(call: &mut Call) -> Datum {
    native::cstring(&decoded(call, 0).to_string())
}

fn receive(call: &mut Call) -> Datum {
    let value = native::bytea_recv(call, 0);
    DdSketch::decode(native::payload(call, value), ContextMemory::current()).or_raise();
    value
}

fn send(call: &mut Call) -> Datum {
    copied(call, 0)
}

fn count(call: &mut Call) -> Datum {
    Datum::from(decoded(call, 0).count())
}

fn scale(call: &mut Call) -> Datum {
    Datum::from(decoded(call, 0).scale())
}

fn sum(call: &mut Call) -> Datum {
    let sum = decoded(call, 0).sum();
    float(call, sum)
}

fn avg(call: &mut Call) -> Datum {
    let avg = decoded(call, 0).avg();
    float(call, avg)
}

fn min(call: &mut Call) -> Datum {
    let min = decoded(call, 0).min();
    float(call, min)
}

fn max(call: &mut Call) -> Datum {
    let max = decoded(call, 0).max();
    float(call, max)
}
