//! What a sketch says of its values.
use super::{decoded, float};
use crate::pg::error::OrRaise;
use crate::pg::native;
use crate::pg::rows::materialize;
use crate::pg::v1::Call;
use crate::v1;
use pgrx::pg_sys::Datum;

v1!(ddsketch_percentile, percentile);
v1!(ddsketch_percentiles, percentiles);
v1!(ddsketch_rank, rank);
v1!(ddsketch_fraction_between, fraction_between);
v1!(ddsketch_trimmed_avg, trimmed_avg);
v1!(ddsketch_buckets, buckets);

/// A number among the arguments of a strict function.
fn number(call: &Call, n: usize) -> f64 {
    call.f64(n).unwrap_or_default()
}

fn percentile(call: &mut Call) -> Datum {
    let found = decoded(call, 0).quantile(number(call, 1)).or_raise();
    float(call, found)
}

/// NULL in an array gives NULL in its place.
fn percentiles(call: &mut Call) -> Datum {
    let sketch = decoded(call, 0);
    let asked = native::floats(call, 1);
    let found = asked.into_iter().map(|share| share.and_then(|share| sketch.quantile(share).or_raise()));
    native::float_array(found.collect())
}

fn rank(call: &mut Call) -> Datum {
    let found = decoded(call, 0).rank(number(call, 1)).or_raise();
    float(call, found)
}

fn fraction_between(call: &mut Call) -> Datum {
    let found = decoded(call, 0).fraction_between(number(call, 1), number(call, 2)).or_raise();
    float(call, found)
}

fn trimmed_avg(call: &mut Call) -> Datum {
    let found = decoded(call, 0).trimmed_avg(number(call, 1), number(call, 2)).or_raise();
    float(call, found)
}

fn buckets(call: &mut Call) -> Datum {
    let buckets = decoded(call, 0).buckets();
    let number = |value: f64| Some(Datum::from(value.to_bits()));
    materialize(call, |row| {
        for bucket in buckets {
            row(&[number(bucket.lower), number(bucket.upper), Some(Datum::from(bucket.count))]);
        }
    })
}
