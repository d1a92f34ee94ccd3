//! The improved estimate against the truth, the classic one, and an independent implementation.
use hll_sketch::{Estimator, Heap, Params, Sketch, cardinality_of, murmur3, standard_error};
use hyperloglogplus::{HyperLogLog, HyperLogLogPlus};
use std::hash::{BuildHasher, Hasher};

/// Hands the other implementation the hash it is given.
#[derive(Default)]
struct Through(u64);

impl Hasher for Through {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole hashes are written");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

struct BuildThrough;

impl BuildHasher for BuildThrough {
    type Hasher = Through;

    fn build_hasher(&self) -> Through {
        Through::default()
    }
}

fn registers_only(log2m: i64, width: i64) -> Sketch {
    Sketch::empty(Params::new(log2m, width, 0, 1).unwrap(), Heap)
}

/// The hash of one of a stream's elements. Streams differ in their elements, not in the seed: MurmurHash3
/// of 8 bytes with seed 8 is always even, the two halves of its state being the same.
fn hash(stream: i32, value: i64) -> i64 {
    murmur3::hash_i64(i64::from(stream) << 32 | value, 0)
}

fn estimate(sketch: &Sketch, estimator: Estimator) -> f64 {
    sketch.cardinality(estimator).unwrap().unwrap()
}

#[test]
fn agrees_with_an_independent_implementation() {
    for stream in 0..20 {
        let mut ours = registers_only(11, 5);
        let mut theirs = HyperLogLogPlus::<u64, _>::new(11, BuildThrough).unwrap();
        let m = 2048;
        for value in 0..40 * m {
            let hash = hash(stream, value);
            ours.add(hash);
            // It takes the index from the high bits and counts zeros from the top: ours in a mirror.
            theirs.insert_any(&(hash as u64).reverse_bits());
            let n = value + 1;
            if n % m == 0 {
                let (ours, theirs) = (estimate(&ours, Estimator::Improved), theirs.count());
                let tolerance = if n > 4 * m { 0.0025 } else { 0.03 };
                assert!(
                    (ours / theirs - 1.0).abs() < tolerance,
                    "stream {stream}, n {n}: {ours} and {theirs}"
                );
            }
        }
    }
}

/// Mean and root of the mean square of the relative error over independent sketches.
fn errors(log2m: i64, width: i64, n: i64, trials: i32, estimator: Estimator) -> (f64, f64) {
    let (mut sum, mut squares) = (0.0, 0.0);
    for stream in 0..trials {
        let mut sketch = registers_only(log2m, width);
        (0..n).for_each(|value| sketch.add(hash(stream, value)));
        let error = estimate(&sketch, estimator) / n as f64 - 1.0;
        sum += error;
        squares += error * error;
    }
    (sum / f64::from(trials), (squares / f64::from(trials)).sqrt())
}

#[test]
fn has_no_bump_where_the_classic_estimate_has() {
    let (trials, n) = (400, 5120);
    let (bias, error) = errors(11, 5, n, trials, Estimator::Improved);
    let (classic_bias, classic_error) = errors(11, 5, n, trials, Estimator::Classic);
    assert!(bias.abs() < 0.003 && error < 0.022, "{bias} {error}");
    assert!(classic_bias > 0.015 && classic_error > 1.3 * error, "{classic_bias} {classic_error}");
}

#[test]
fn the_standard_error_is_what_is_seen() {
    // Of 400 sketches, the root mean square itself has a standard error of 3.5 %.
    for (log2m, n) in [(11, 500), (11, 5000), (11, 100_000), (8, 1000)] {
        let (_, seen) = errors(log2m, 5, n, 400, Estimator::Improved);
        let told = standard_error(&Params::new(log2m, 5, 0, 1).unwrap(), n as f64);
        assert!((seen / told - 1.0).abs() < 0.12, "log2m {log2m}, n {n}: seen {seen}, told {told}");
    }
    assert_eq!(standard_error(&Params::DEFAULT, 0.0), 0.0);
    assert!(standard_error(&Params::DEFAULT, f64::INFINITY).is_infinite());
}

#[test]
fn every_width_counts() {
    // Widths 6 and 7 have no classic estimate in postgresql-hll at this size; 1 to 3 are near their end.
    for (width, n) in [(1, 2000), (2, 6000), (3, 50_000), (4, 100_000), (6, 100_000), (7, 100_000)] {
        let (bias, error) = errors(11, width, n, 40, Estimator::Improved);
        assert!(bias.abs() < 0.02 && error < 0.04, "width {width}: {bias} {error}");
    }
    let (bias, error) = errors(11, 6, 100_000, 40, Estimator::Classic);
    assert!(bias.abs() < 0.02 && error < 0.04, "{bias} {error}");
}

#[test]
fn few_registers_are_not_biased() {
    for (log2m, n) in [(4, 160), (4, 1600), (6, 640)] {
        let (bias, _) = errors(log2m, 5, n, 4000, Estimator::Improved);
        assert!(bias.abs() < 0.02, "log2m {log2m}, n {n}: {bias}");
    }
}

#[test]
fn extremes() {
    for log2m in 0..=17 {
        for width in 1..=7 {
            let params = Params::new(log2m, width, 0, 0).unwrap();
            let mut bytes = Sketch::empty(params, Heap).encode(-1);
            bytes[0] = 0x14;
            let body = (params.registers() * width as usize).div_ceil(8);
            bytes.resize(3 + body, 0);
            assert_eq!(cardinality_of(&bytes, Estimator::Improved), Ok(Some(0.0)), "{params:?}");
            bytes[3..].fill(0xff);
            assert_eq!(cardinality_of(&bytes, Estimator::Improved), Ok(Some(f64::INFINITY)), "{params:?}");
            let classic = cardinality_of(&bytes, Estimator::Classic);
            assert_eq!(classic.is_err(), log2m < 4, "{params:?}");
        }
    }
}
