//! What one set has and another lacks, against the truth and against inclusion and exclusion.
use hll_sketch::{Estimator, Heap, Moving, Params, Sketch, murmur3, overlap};
use proptest::prelude::*;

fn hash(stream: i64, n: i64) -> i64 {
    murmur3::hash_i64(stream << 40 | n, 0)
}

/// Sketches of sets of which `shared` elements are in both, and `left` and `right` in one alone.
fn two(params: Params, stream: i64, [left, right, shared]: [i64; 3]) -> (Sketch, Sketch) {
    let (mut a, mut b) = (Sketch::empty(params, Heap), Sketch::empty(params, Heap));
    (0..shared).for_each(|n| {
        a.add(hash(stream, n));
        b.add(hash(stream, n));
    });
    (0..left).for_each(|n| a.add(hash(stream, 1 << 30 | n)));
    (0..right).for_each(|n| b.add(hash(stream, 2 << 30 | n)));
    (a, b)
}

fn count(sketch: &Sketch) -> f64 {
    sketch.cardinality(Estimator::Improved).unwrap().unwrap()
}

/// The estimate, and that by inclusion and exclusion: the union less the right set.
fn differences(a: &Sketch, b: &Sketch) -> [f64; 2] {
    let mut both = Sketch::empty(a.params(), Heap);
    both.union(a).unwrap();
    both.union(b).unwrap();
    [overlap(a, b).unwrap().unwrap().left, count(&both) - count(b)]
}

/// Mean and root of the mean square of the relative error of either.
fn errors(log2m: i64, sizes: [i64; 3], trials: i64) -> [(f64, f64); 2] {
    let params = Params::new(log2m, 5, 0, 1).unwrap();
    let mut sums = [(0.0, 0.0); 2];
    for stream in 0..trials {
        let (a, b) = two(params, stream, sizes);
        for (sum, found) in sums.iter_mut().zip(differences(&a, &b)) {
            let error = found / sizes[0] as f64 - 1.0;
            *sum = (sum.0 + error, sum.1 + error * error);
        }
    }
    sums.map(|(sum, squares)| (sum / trials as f64, (squares / trials as f64).sqrt()))
}

#[test]
fn bias_and_error() {
    const TRIALS: i64 = 200;
    let mut worst: f64 = 0.0;
    for log2m in [8, 11] {
        let m = 1 << log2m;
        // Left only, right only, both: in registers' worth.
        for (left, right, shared) in
            [(1, 1, 1), (2, 10, 5), (10, 1, 20), (1, 20, 20), (20, 20, 2), (50, 5, 50)]
        {
            let sizes = [left * m, right * m, shared * m];
            let [(bias, error), (other_bias, other)] = errors(log2m, sizes, TRIALS);
            println!(
                "2^{log2m} registers, {left}, {right} and {shared} a register: bias {:.2} %, error {:.2} %; by inclusion and exclusion {:.2} %, {:.2} %",
                100.0 * bias,
                100.0 * error,
                100.0 * other_bias,
                100.0 * other
            );
            // A mean of so many trials is off by their error over its root: four of these are one time in sixteen thousand.
            assert!(bias.abs() < 4.0 * error / (TRIALS as f64).sqrt() + 0.02, "{sizes:?}: {bias}");
            assert!(error < 1.02 * other, "{sizes:?}: {error} and {other}");
            worst = worst.max(error / other);
        }
    }
    assert!(worst > 0.1, "the two were compared");
}

#[test]
fn a_little_of_much_is_what_the_likelihood_gains() {
    // One element in fifty is new: inclusion and exclusion takes the difference of two large numbers.
    let [(_, error), (_, other)] = errors(11, [2_000, 2_000, 100_000], 100);
    println!(
        "2000 of 102,000: error {:.1} %, by inclusion and exclusion {:.1} %",
        100.0 * error,
        100.0 * other
    );
    assert!(error < 0.9 * other, "{error} and {other}");
}

#[test]
fn what_is_known_exactly() {
    let params = Params::DEFAULT;
    let (a, b) = two(params, 1, [30, 50, 20]);
    assert_eq!(differences(&a, &b), [30.0, 30.0]);
    assert_eq!(differences(&b, &a)[0], 50.0);
    let empty = Sketch::empty(params, Heap);
    assert_eq!(differences(&a, &empty)[0], 50.0);
    assert_eq!(differences(&empty, &a)[0], 0.0);
    assert_eq!(overlap(&Sketch::undefined(params, Heap), &a), Ok(None));
    let other = Sketch::empty(Params::new(10, 5, 0, 1).unwrap(), Heap);
    assert!(overlap(&a, &other).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 200 }, ..ProptestConfig::default() })]

    /// Never negative, as inclusion and exclusion may be, no more than the set has, and the parts make the whole.
    #[test]
    fn a_difference_is_a_part(log2m in 4_i64..12, left in 0_i64..3000, right in 0_i64..3000, shared in 0_i64..3000, stream in 0_i64..1000) {
        let (a, b) = two(Params::new(log2m, 5, -1, 1).unwrap(), stream, [left, right, shared]);
        let found = overlap(&a, &b).unwrap().unwrap();
        prop_assert!(found.left >= 0.0 && found.right >= 0.0 && found.both >= 0.0);
        let error = 6.0 * 1.04 / 2f64.powf(log2m as f64 / 2.0);
        let whole = (left + right + shared) as f64;
        prop_assert!((found.left - left as f64).abs() <= 2.0 * error * whole + 3.0, "{found:?}");
        let turned = overlap(&b, &a).unwrap().unwrap();
        prop_assert!((turned.right - found.left).abs() <= 1e-3 * (1.0 + whole));
    }

    /// The union of a window that moves is that of what lies in it, whatever comes and goes.
    #[test]
    fn a_window_moves(log2m in 4_i64..10, threshold in prop::sample::select(vec![-1_i64, 0, 16]), steps in prop::collection::vec((0_u8..5, 0_i64..400), 0..60)) {
        let params = Params::new(log2m, 5, threshold, 1).unwrap();
        let mut moving = Moving::new(Heap, [Vec::new(), Vec::new()]);
        let mut window: Vec<Sketch> = Vec::new();
        let of = |step: usize, elements: i64| {
            let mut sketch = if elements == 13 { Sketch::undefined(params, Heap) } else { Sketch::empty(params, Heap) };
            (0..elements).for_each(|n| sketch.add(hash(step as i64 % 7, n)));
            if elements == 13 { Sketch::undefined(params, Heap) } else { sketch }
        };
        for (step, (what, elements)) in steps.into_iter().enumerate() {
            if what < 3 {
                window.push(of(step, elements));
                moving.add(of(step, elements)).unwrap();
            } else {
                if !window.is_empty() {
                    window.remove(0);
                }
                moving.remove().unwrap();
            }
            let mut all: Option<Sketch> = None;
            for sketch in &window {
                all.get_or_insert_with(|| Sketch::empty(params, Heap)).union(sketch).unwrap();
            }
            let (expected, found) = (all.map(|s| s.encode(-1)), moving.union().unwrap().map(|s| s.encode(-1)));
            prop_assert_eq!(expected, found);
        }
    }
}
