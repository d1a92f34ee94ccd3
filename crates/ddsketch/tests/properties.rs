//! Laws that every sketch obeys, beside sorted values, over random values, weights, scales and trees of unions; and sizes.
mod common;

use common::{Random, of};
use hll_ddsketch::{DdSketch, Error, Heap, MAX_BUCKETS, MIN_SCALE, index_of};
use std::collections::BTreeSet;

/// The scale of values by its definition.
fn scale_by_definition(most: i32, values: &[f64]) -> i32 {
    let fits = |scale: &i32| {
        let half = |sign: f64| {
            let of_half = values.iter().map(|v| v * sign).filter(|v| *v > 0.0);
            of_half.map(|v| index_of(v, *scale)).collect::<BTreeSet<_>>().len()
        };
        half(1.0).max(half(-1.0)) <= MAX_BUCKETS
    };
    (MIN_SCALE..=most).rev().find(fits).unwrap()
}

#[test]
fn any_tree_of_unions_gives_the_same_bytes() {
    let mut random = Random(1);
    for round in 0..100_000 {
        let parts: Vec<(i32, Vec<f64>)> = (0..1 + random.below(6))
            .map(|_| (MIN_SCALE + random.below(15) as i32, random.values(6)))
            .collect();
        let scale = parts.iter().map(|(scale, _)| *scale).min().unwrap();
        let all: Vec<f64> = parts.iter().flat_map(|(_, values)| values.clone()).collect();
        let expected = of(scale, &all).encode();
        let mut sketches: Vec<DdSketch> = parts.iter().map(|(scale, values)| of(*scale, values)).collect();
        while sketches.len() > 1 {
            let part = sketches.swap_remove(random.below(sketches.len()));
            let at = random.below(sketches.len());
            match random.below(3) {
                0 => sketches[at].union(&part).unwrap(),
                1 => sketches[at].union_bytes(&part.encode()).unwrap(),
                _ => {
                    let mut turned = DdSketch::parse(&part.to_string(), Heap).unwrap();
                    turned.union(&sketches[at]).unwrap();
                    sketches[at] = turned;
                }
            }
        }
        assert_eq!(sketches[0].encode(), expected, "round {round}: {parts:?}");
    }
}

#[test]
fn too_many_buckets_fold_in_any_order() {
    let mut random = Random(2);
    for round in 0..15 {
        // Values over many octaves, so that scales from 10 on do not fit.
        let parts: Vec<(i32, Vec<f64>)> = (0..4)
            .map(|_| {
                let octaves = [4, 40, 400, 2000][random.below(4)];
                let len = random.below(6000);
                let value = |random: &mut Random| {
                    let sign = if random.below(4) == 0 { -1.0 } else { 1.0 };
                    sign * ((random.unit() - 0.5) * f64::from(octaves)).exp2()
                };
                (3 + random.below(8) as i32, (0..len).map(|_| value(&mut random)).collect())
            })
            .collect();
        let least = parts.iter().map(|(scale, _)| *scale).min().unwrap();
        let mut all: Vec<f64> = parts.iter().flat_map(|(_, values)| values.clone()).collect();
        let expected = of(least, &all);
        assert_eq!(expected.scale(), scale_by_definition(least, &all), "round {round}");
        let mut united = of(parts[0].0, &parts[0].1);
        for (scale, values) in &parts[1..] {
            let mut part = of(*scale, values);
            if random.below(2) == 0 {
                std::mem::swap(&mut part, &mut united);
            }
            united.union_bytes(&part.encode()).unwrap();
        }
        assert_eq!(united.encode(), expected.encode(), "round {round}");
        all.reverse();
        assert_eq!(of(least, &all).encode(), expected.encode(), "round {round}");
    }
}

#[test]
fn quantiles_are_those_of_sorted_values() {
    let mut random = Random(3);
    for _ in 0..2000 {
        let scale = MIN_SCALE + random.below(15) as i32;
        let mut values = random.values(300);
        // What is subnormal counts as the least normal number, and is no closer to that than the rule says.
        values.retain(|v| *v == 0.0 || v.abs() >= f64::MIN_POSITIVE);
        let sketch = of(scale, &values);
        values.sort_by(f64::total_cmp);
        let gamma = (-f64::from(sketch.scale())).exp2().exp2();
        let error = (gamma - 1.0) / (gamma + 1.0) * (1.0 + 1e-9);
        for p in [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0, random.unit()] {
            let got = sketch.quantile(p).unwrap();
            if values.is_empty() {
                assert_eq!(got, None);
                continue;
            }
            let rank = (p * values.len() as f64).ceil().max(1.0) as usize;
            let (got, exact) = (got.unwrap(), values[rank - 1]);
            let close = got == exact || (got - exact).abs() <= error * exact.abs();
            assert!(close, "{p} of {} at scale {scale}: {got} {exact}", values.len());
        }
        let some = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).map(|v| v + 0.0);
        assert_eq!((sketch.min(), sketch.max()), (some(f64::min), some(f64::max)));
        assert_eq!(sketch.count(), values.len() as u64);
    }
}

#[test]
fn shares_and_means_are_those_of_sorted_values() {
    let mut random = Random(4);
    for _ in 0..500 {
        let mut values: Vec<f64> =
            (0..1 + random.below(300)).map(|_| random.normal().exp2() * 100.0).collect();
        let sketch = of(7, &values);
        values.sort_by(f64::total_cmp);
        let (len, error) = (values.len() as f64, 0.0028);
        for _ in 0..5 {
            let x = values[random.below(values.len())] * (0.99 + random.unit() / 50.0);
            let share = |x: f64| values.iter().filter(|v| **v <= x).count() as f64 / len;
            // Only values of the bucket that x lies in are in question.
            let [low, high] = [x * (1.0 - 2.0 * error), x * (1.0 + 2.0 * error)].map(share);
            let rank = sketch.rank(x).unwrap().unwrap();
            assert!((low..=high).contains(&rank), "{x}: {low} {rank} {high}");
            let other = sketch.rank(x / 3.0).unwrap().unwrap();
            let between = sketch.fraction_between(x / 3.0, x).unwrap().unwrap();
            assert!((between - (rank - other)).abs() < 1e-12);
        }
        let (lo, hi) = (random.unit() / 2.0, 0.5 + random.unit() / 2.0 + 1e-9);
        let (from, to) = (lo * len, hi.min(1.0) * len);
        let weight = |n: usize| (to.min(n as f64 + 1.0) - from.max(n as f64)).max(0.0);
        let exact: f64 = values.iter().enumerate().map(|(n, v)| v * weight(n)).sum::<f64>() / (to - from);
        let got = sketch.trimmed_avg(lo, hi.min(1.0)).unwrap().unwrap();
        assert!((got / exact - 1.0).abs() <= 0.0028, "{got} {exact}");
        let plain: f64 = values.iter().sum::<f64>() / len;
        assert!((sketch.avg().unwrap() / plain - 1.0).abs() < 1e-13);
        assert_eq!(sketch.trimmed_avg(0.0, 1.0), Ok(sketch.avg()));
    }
}

#[test]
fn buckets_have_the_values() {
    let mut random = Random(5);
    for _ in 0..300 {
        let values = random.values(200);
        let sketch = of(MIN_SCALE + random.below(15) as i32, &values);
        let mut counted = 0;
        let mut last = f64::NEG_INFINITY;
        for bucket in sketch.buckets() {
            assert!(bucket.lower >= last && bucket.lower <= bucket.upper, "{bucket:?} after {last}");
            last = bucket.upper;
            let within = |v: &&f64| {
                let v = **v;
                v == bucket.lower && v == bucket.upper
                    || v > 0.0 && bucket.lower < v && v <= bucket.upper
                    || v < 0.0 && bucket.lower <= v && v < bucket.upper
            };
            assert_eq!(values.iter().filter(within).count() as u64, bucket.count, "{bucket:?}");
            counted += bucket.count;
        }
        assert_eq!(counted, values.len() as u64);
    }
}

#[test]
fn a_weight_is_as_many_values() {
    let mut random = Random(6);
    for _ in 0..500 {
        let mut weighted = DdSketch::new(6, Heap).unwrap();
        let mut each = Vec::new();
        for value in random.values(20) {
            let weight = random.below(9);
            weighted.add_times(value, weight as i64).unwrap();
            each.extend(vec![value; weight]);
        }
        assert_eq!(weighted.encode(), of(6, &each).encode());
    }
    let mut many = DdSketch::new(5, Heap).unwrap();
    for (value, weight) in [(1.5, 1 << 40), (-2.5, i64::from(u32::MAX) + 7), (1.5, 5), (2.0, 1)] {
        many.add_times(value, weight).unwrap();
        many = DdSketch::decode(&many.encode(), Heap).unwrap();
    }
    assert_eq!(many.count(), (1 << 40) + u64::from(u32::MAX) + 13);
    assert_eq!(many.add_times(1.0, i64::MAX), Err(Error::TooMany));
    assert_eq!(many.add_times(1.0, -1), Err(Error::Weight(-1)));
    assert_eq!(many.add(f64::NAN), Err(Error::NotANumber));
}

/// Log-normal latencies in milliseconds.
fn latencies(number: usize, random: &mut Random, middle: f64, spread: f64) -> Vec<f64> {
    (0..number).map(|_| ((random.normal() * spread).exp() * middle).clamp(1.0, 60_000.0)).collect()
}

#[test]
fn sizes_are_those_promised() {
    let mut random = Random(7);
    // A spread at which a million values fill all of 1 ms to 60 s, half of the way on each side.
    let sizes = [1_000_000, 10_000].map(|number| {
        let values = latencies(number, &mut random, 245.0, 1.5);
        let sketch = of(5, &values);
        (sketch.buckets().len(), sketch.encode().len())
    });
    println!("buckets and bytes of 1,000,000 and of 10,000 latencies: {sizes:?}");
    assert!(sizes[0].0 >= 500 && sizes[0].1 <= 1200, "{sizes:?}");
    assert!(sizes[1].1 <= 400, "{sizes:?}");
    assert!(of(5, &[42.0]).encode().len() <= 20);
    // The widest there is.
    let widest: Vec<f64> = (0..4096).map(|n| (f64::from(n) / 4.0 - 500.0).exp2()).collect();
    assert!(of(10, &widest).encode().len() < 20_000);
}

#[test]
fn text_says_everything() {
    let mut random = Random(8);
    for _ in 0..3000 {
        let sketch = of(MIN_SCALE + random.below(15) as i32, &random.values(40));
        let text = sketch.to_string();
        let back = DdSketch::parse(&text, Heap).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!((back.encode(), back.to_string()), (sketch.encode(), text));
    }
    let text = of(5, &[3.0, 1.0, -5.0, 0.0]).to_string();
    assert_eq!(text, "scale=5 count=4 sum=-1 min=-5 max=3 zero=1 negative=74:1 positive=-1:1,50:1");
    assert_eq!(of(5, &[]).to_string(), "scale=5 count=0");
    let odd = of(5, &[0.1, 0.2, 0.3]).to_string();
    assert!(odd.contains("sum=0x"), "{odd}");
}
