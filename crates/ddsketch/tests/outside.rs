//! Histograms that others made.
mod common;

use common::{Random, of};
use hll_ddsketch::{DdSketch, Error, Exponential, Heap, MIN_SCALE, index_of};
use std::collections::BTreeMap;

#[test]
fn parts_without_sum_or_extremes_make_them_unknown() {
    let outside =
        Exponential { scale: 5, positive_offset: 31, positive: &[2, 0, 1], ..Exponential::default() };
    let known = Exponential { sum: Some(6.2), min: Some(2.0), max: Some(2.1), ..outside };
    let whole = DdSketch::from_otel(&known, Heap).unwrap();
    assert_eq!((whole.sum(), whole.min(), whole.max()), (Some(6.2), Some(2.0), Some(2.1)));
    for (part, left) in [
        (Exponential { sum: None, ..known }, [false, true, true]),
        (Exponential { min: None, ..known }, [true, false, true]),
        (Exponential { max: None, ..known }, [true, true, false]),
        (Exponential { sum: Some(f64::INFINITY), ..known }, [false, true, true]),
        (outside, [false; 3]),
    ] {
        let part = DdSketch::from_otel(&part, Heap).unwrap();
        for mut sketch in [of(5, &[1.0, 9.0]), of(5, &[]), DdSketch::from_otel(&known, Heap).unwrap()] {
            let mut turned = DdSketch::decode(&part.encode(), Heap).unwrap();
            turned.union(&sketch).unwrap();
            sketch.union_bytes(&part.encode()).unwrap();
            assert_eq!([sketch.sum().is_some(), sketch.min().is_some(), sketch.max().is_some()], left);
            assert_eq!(sketch.encode(), turned.encode());
            assert_eq!(DdSketch::parse(&sketch.to_string(), Heap).unwrap().encode(), sketch.encode());
            assert!(sketch.quantile(0.0).unwrap().is_some());
        }
    }
    // No values: nothing that is not known of them.
    let none =
        DdSketch::from_otel(&Exponential { scale: 5, positive: &[0, 0], ..Exponential::default() }, Heap)
            .unwrap();
    assert_eq!(none.encode(), of(5, &[]).encode());
}

#[test]
fn what_counted_as_zero_may_be_further_out_than_what_did_not() {
    let zeros = Exponential {
        scale: 5,
        zero_count: 7,
        min: Some(-2e-3),
        max: Some(1e-3),
        sum: Some(0.0),
        ..Exponential::default()
    };
    let zeros = DdSketch::from_otel(&zeros, Heap).unwrap();
    for value in [1e-9, -1e-9, 5.0, -5.0, 0.0] {
        for scale in [5, 2] {
            let (mut one, mut other) =
                (of(scale, &[value]), DdSketch::decode(&zeros.encode(), Heap).unwrap());
            one.union_bytes(&zeros.encode()).unwrap();
            other.union(&of(scale, &[value])).unwrap();
            let both = DdSketch::decode(&one.encode(), Heap).unwrap();
            assert_eq!(both.encode(), other.encode());
            assert_eq!((both.min(), both.max()), (Some(value.min(-2e-3)), Some(value.max(1e-3))));
        }
    }
}

#[test]
fn histograms_from_outside_are_folded_exactly() {
    let mut random = Random(11);
    for _ in 0..300 {
        let scale = MIN_SCALE + random.below(15) as i32;
        let values: Vec<f64> = random
            .values(100)
            .into_iter()
            .filter(|v| v.is_finite() && (1e-3..1e4).contains(&v.abs()) || *v == 0.0)
            .collect();
        let sketch = of(scale, &values);
        let half = |sign: f64| {
            let mut counts = BTreeMap::<i32, i64>::new();
            values
                .iter()
                .filter(|v| **v * sign > 0.0)
                .for_each(|v| *counts.entry(index_of(v * sign, scale)).or_default() += 1);
            let offset = counts.keys().next().copied().unwrap_or_default();
            let last = counts.keys().last().copied().unwrap_or(offset - 1);
            (offset, (offset..=last).map(|i| counts.get(&i).copied().unwrap_or_default()).collect::<Vec<_>>())
        };
        let (positive, negative) = (half(1.0), half(-1.0));
        let histogram = Exponential {
            scale,
            zero_count: values.iter().filter(|v| **v == 0.0).count() as i64,
            positive_offset: positive.0,
            positive: &positive.1,
            negative_offset: negative.0,
            negative: &negative.1,
            sum: None,
            min: sketch.min(),
            max: sketch.max(),
        };
        let got = DdSketch::from_otel(&histogram, Heap).unwrap().to_string();
        let without =
            |text: &str| text.split(' ').filter(|w| !w.starts_with("sum=")).collect::<Vec<_>>().join(" ");
        assert_eq!(without(&got), without(&sketch.to_string()));
    }
    let fine = |scale, offset, counts| {
        DdSketch::from_otel(
            &Exponential { scale, positive_offset: offset, positive: counts, ..Exponential::default() },
            Heap,
        )
    };
    // At scale 20 an index is 1024 times that of scale 10.
    assert_eq!(
        fine(20, 1023, &[1, 1]).unwrap().to_string(),
        "scale=10 count=2 sum=? min=? max=? positive=0:1,1:1"
    );
    assert_eq!(fine(20, -1, &[7]).unwrap().to_string(), "scale=10 count=7 sum=? min=? max=? positive=-1:7");
    assert_eq!(fine(21, 0, &[1]).unwrap_err(), Error::OutsideScale(21));
    assert_eq!(fine(-5, 0, &[1]).unwrap_err(), Error::OutsideScale(-5));
    assert_eq!(fine(5, 0, &[-1]).unwrap_err(), Error::Count(-1));
    assert_eq!(fine(0, 1025, &[1]).unwrap_err(), Error::Index(1025));
    assert_eq!(
        fine(0, -1074, &[1]).unwrap().to_string(),
        "scale=0 count=1 sum=? min=? max=? positive=-1023:1"
    );
    assert_eq!(fine(0, i32::MIN, &[1]).unwrap_err(), Error::Index(i64::from(i32::MIN)));
    assert_eq!(fine(0, i32::MAX, &[0, 0, 0]).unwrap().count(), 0);
    assert_eq!(fine(5, 0, &[i64::MAX, 1]).unwrap_err(), Error::TooMany);
}
