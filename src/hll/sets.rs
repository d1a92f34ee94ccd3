//! Beyond postgresql-hll: two sketches as sets, folding, many elements at once, and what a sketch is made of.
use crate::hll::{ops, settings};
use crate::pg::error::OrRaise;
use crate::pg::native;
use crate::pg::v1::Call;
use crate::v1;
use hll_sketch::{Error, Heap, Kind, Overlap, overlap, standard_error, validate};
use pgrx::pg_sys::Datum;

v1!(hll_union_cardinality, union_cardinality);
v1!(hll_intersection_cardinality, intersection_cardinality);
v1!(hll_difference_cardinality, difference_cardinality);
v1!(hll_jaccard, jaccard);
v1!(hll_fold, fold);
v1!(hll_add_array, add_array);
v1!(hll_info, info);

/// NULL where one of the two is undefined.
fn compare(call: &mut Call, figure: impl Fn(Overlap) -> f64) -> Datum {
    match overlap(&ops::decoded(call, 0), &ops::decoded(call, 1)).or_raise() {
        Some(found) => Datum::from(figure(found).to_bits()),
        None => call.null(),
    }
}

fn union_cardinality(call: &mut Call) -> Datum {
    compare(call, |found| found.union())
}

fn intersection_cardinality(call: &mut Call) -> Datum {
    compare(call, |found| found.both)
}

fn difference_cardinality(call: &mut Call) -> Datum {
    compare(call, |found| found.left)
}

fn jaccard(call: &mut Call) -> Datum {
    compare(call, |found| found.jaccard())
}

fn fold(call: &mut Call) -> Datum {
    let wanted = call.i32(1).and_then(|log2m| u8::try_from(log2m).ok()).ok_or(Error::Log2m).or_raise();
    ops::stored(&ops::decoded(call, 0).folded(wanted, Heap).or_raise())
}

/// So many additions between two looks whether the user wants to stop.
const STRIDE: usize = 1 << 16;

fn add_array(call: &mut Call) -> Datum {
    let mut sketch = ops::decoded(call, 0);
    sketch.params().check_addable().or_raise();
    for some in native::words(call, 1).unwrap_or_default().chunks(STRIDE) {
        pgrx::check_for_interrupts!();
        some.iter().for_each(|hash| sketch.add(*hash));
    }
    ops::stored(&sketch)
}

fn info(call: &mut Call) -> Datum {
    let bytes = call.bytes(0).unwrap_or_default();
    let header = validate(bytes).or_raise();
    let sketch = ops::decoded(call, 0);
    let estimate = sketch.cardinality(settings::estimator()).or_raise();
    let name = match header.kind {
        Kind::Undefined => "UNDEFINED",
        Kind::Empty => "EMPTY",
        Kind::Explicit => "EXPLICIT",
        Kind::Sparse => "SPARSE",
        Kind::Full | Kind::Registers => "FULL",
    };
    let error = estimate.map(|n| match sketch.kind() {
        Kind::Registers => standard_error(&header.params, n),
        _ => 0.0,
    });
    let float = |v: f64| Datum::from(v.to_bits());
    let columns = [
        Some(crate::pg::v1::new_varlena(name.as_bytes())),
        Some(Datum::from(i32::from(header.params.log2m))),
        Some(Datum::from(i32::from(header.params.regwidth))),
        Some(Datum::from(sketch.filled() as i32)),
        Some(Datum::from(bytes.len() as i32)),
        estimate.map(float),
        error.map(float),
    ];
    native::record_of(call, &columns)
}
