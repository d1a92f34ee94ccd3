//! Two sketches together: what only one holds and what both hold, by maximum likelihood over both.
//!
//! The difference of estimates (inclusion and exclusion) throws away which registers agree. Ertl, "New
//! cardinality estimation algorithms for HyperLogLog sketches" (2017), section 4, models each pair of
//! registers by three independent Poisson streams, left only, right only and both, and finds the three
//! rates under which the pairs seen are most likely. The result is never negative.
use crate::estimate::levels;
use crate::sketch::State;
use crate::{Error, Estimator, Heap, Memory, Params, Sketch};

/// How two sets relate: estimated numbers of distinct elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// Elements of the left set that the right one lacks.
    pub left: f64,
    /// Elements of the right set that the left one lacks.
    pub right: f64,
    /// Elements of both.
    pub both: f64,
}

impl Overlap {
    /// Elements of either set.
    pub fn union(&self) -> f64 {
        self.left + self.right + self.both
    }

    /// The Jaccard index, elements of both to elements of either, from 0 to 1. Two empty sets are equal: 1.
    pub fn jaccard(&self) -> f64 {
        match self.union() {
            0.0 => 1.0,
            all if all.is_infinite() => 1.0,
            all => self.both / all,
        }
    }
}

/// Compares two sketches of equal parameters: exact where both are explicit or one is empty, estimated from
/// the registers elsewhere. `None` where one is undefined.
pub fn overlap<L: Memory, R: Memory>(left: &Sketch<L>, right: &Sketch<R>) -> Result<Option<Overlap>, Error> {
    let params = left.params;
    params.check_same(&right.params)?;
    let count = |sketch: &Sketch<_>| sketch.cardinality(Estimator::Improved);
    Ok(Some(match (&left.state, &right.state) {
        (State::Undefined, _) | (_, State::Undefined) => return Ok(None),
        (State::Empty, _) => {
            let right = right.cardinality(Estimator::Improved)?.unwrap_or(0.0);
            Overlap { left: 0.0, right, both: 0.0 }
        }
        (_, State::Empty) => Overlap { left: count(left)?.unwrap_or(0.0), right: 0.0, both: 0.0 },
        (State::Explicit(a), State::Explicit(b)) => {
            let both = a.iter().filter(|hash| b.binary_search(hash).is_ok()).count();
            let only = |all: usize| (all - both) as f64;
            Overlap { left: only(a.len()), right: only(b.len()), both: both as f64 }
        }
        _ => {
            let (a, b) = (in_registers(left)?, in_registers(right)?);
            match (&a.state, &b.state) {
                (State::Registers(a), State::Registers(b)) => likeliest(&params, a, b),
                _ => unreachable!("both were turned into registers"),
            }
        }
    }))
}

/// A copy whose hashes have become registers.
fn in_registers(sketch: &Sketch<impl Memory>) -> Result<Sketch, Error> {
    let mut copy = Sketch::empty(sketch.params, Heap);
    copy.as_registers();
    copy.union(sketch)?;
    Ok(copy)
}

/// Registers are counted by value; no width has more values.
const VALUES: usize = 128;

/// What of the register pairs the likelihood depends on: how often each value was seen, by the stream or
/// streams that it tells about.
struct Pairs {
    /// The smaller left value of unequal pairs: left only and both together.
    left_and_both: [u32; VALUES],
    /// The larger right value of those pairs: right only.
    right: [u32; VALUES],
    /// The larger left value of unequal pairs: left only.
    left: [u32; VALUES],
    /// The smaller right value of those pairs: right only and both together.
    right_and_both: [u32; VALUES],
    /// The value of equal pairs.
    equal: [u32; VALUES],
    /// A register follows the law of a hash of log2m + q bits and ends at q + 1.
    q: usize,
}

impl Pairs {
    fn count(params: &Params, left: &[u8], right: &[u8]) -> Pairs {
        let q = levels(params);
        let none = [0; VALUES];
        let mut pairs =
            Pairs { left_and_both: none, right: none, left: none, right_and_both: none, equal: none, q };
        for (a, b) in left.iter().zip(right) {
            // No addition reaches the classes beyond q + 1; foreign values there count as that one.
            let (a, b) = (usize::from(*a).min(q + 1), usize::from(*b).min(q + 1));
            match a.cmp(&b) {
                core::cmp::Ordering::Less => {
                    pairs.left_and_both[a] += 1;
                    pairs.right[b] += 1;
                }
                core::cmp::Ordering::Greater => {
                    pairs.left[a] += 1;
                    pairs.right_and_both[b] += 1;
                }
                core::cmp::Ordering::Equal => pairs.equal[a] += 1,
            }
        }
        pairs
    }

    /// The negative logarithm of the likelihood at the logarithms of the three rates (elements a register:
    /// left only, right only, both), and its gradient.
    fn loss(&self, at: [f64; 3]) -> (f64, [f64; 3]) {
        let [a, b, x] = at.map(f64::exp);
        let (mut loss, mut slope) = (0.0, [0.0; 3]);
        let mut alone = |counts: &[u32; VALUES], rates: [f64; 3]| {
            let rate: f64 = rates.iter().sum();
            for (value, count) in counts.iter().enumerate().take(self.q + 2).filter(|(_, c)| **c > 0) {
                let (log, by_rate) = log_one(value, rate, self.q);
                let count = f64::from(*count);
                loss -= count * log;
                for (slope, part) in slope.iter_mut().zip(rates) {
                    *slope -= count * by_rate * part;
                }
            }
        };
        alone(&self.left_and_both, [a, 0.0, x]);
        alone(&self.right, [0.0, b, 0.0]);
        alone(&self.left, [a, 0.0, 0.0]);
        alone(&self.right_and_both, [0.0, b, x]);
        for (value, count) in self.equal.iter().enumerate().take(self.q + 2).filter(|(_, c)| **c > 0) {
            let (log, by_log) = log_equal(value, [a, b, x], self.q);
            let count = f64::from(*count);
            loss -= count * log;
            for (slope, part) in slope.iter_mut().zip(by_log) {
                *slope -= count * part;
            }
        }
        (loss, slope)
    }
}

/// The logarithm of the probability that one register of this rate has this value, and its derivative by
/// the rate.
fn log_one(value: usize, rate: f64, q: usize) -> (f64, f64) {
    if value == 0 {
        return (-rate, -1.0);
    }
    let last = value > q;
    let scale = 0.5f64.powi(value.min(q) as i32);
    let y = rate * scale;
    let (seen, by_seen) = ((-(-y).exp_m1()).ln(), scale / y.exp_m1());
    if last { (seen, by_seen) } else { (seen - y, by_seen - scale) }
}

/// The logarithm of the probability that both registers have this value, and its derivatives by the
/// logarithms of the three rates.
fn log_equal(value: usize, rates: [f64; 3], q: usize) -> (f64, [f64; 3]) {
    let [a, b, x] = rates;
    if value == 0 {
        return (-(a + b + x), [-a, -b, -x]);
    }
    let last = value > q;
    let scale = 0.5f64.powi(value.min(q) as i32);
    let [a, b, x] = [a * scale, b * scale, x * scale];
    // Either both streams reach the value by themselves, or the shared one does.
    let [u, v, w] = [a, b, x].map(|y| -(-y).exp_m1());
    let d = w + (1.0 - w) * u * v;
    let rest = if last { 0.0 } else { 1.0 };
    let by = [
        a * ((1.0 - w) * (1.0 - u) * v / d - rest),
        b * ((1.0 - w) * (1.0 - v) * u / d - rest),
        x * ((1.0 - w) * (1.0 - u * v) / d - rest),
    ];
    (d.ln() - rest * (a + b + x), by)
}

/// No stream is taken to have fewer elements a register than this: its logarithm must exist.
const FLOOR: f64 = 1e-9;

fn likeliest(params: &Params, left: &[u8], right: &[u8]) -> Overlap {
    let m = params.registers() as f64;
    let estimate = |registers: &[u8]| {
        crate::estimate::of_registers(params, registers, Estimator::Improved).unwrap_or(f64::INFINITY)
    };
    let united: Vec<u8> = left.iter().zip(right).map(|(a, b)| *a.max(b)).collect();
    let [a, b, all] = [estimate(left), estimate(right), estimate(&united)];
    if all.is_infinite() {
        // Every register is at its end: of how many elements, nothing says.
        let saturated = |n: f64| if n.is_infinite() { n } else { 0.0 };
        let both = saturated(a.min(b));
        return Overlap { left: saturated(a), right: saturated(b), both };
    }
    let both = (a + b - all).clamp(0.0, a.min(b));
    let floor = (FLOOR / m).max(f64::MIN_POSITIVE);
    let start = [a - both, b - both, both].map(|n| (n / m).max(1e-4 * all / m).max(floor).ln());
    let pairs = Pairs::count(params, left, right);
    let [left, right, both] = descend(|at| pairs.loss(at), start, floor.ln()).map(|log| log.exp() * m);
    Overlap { left, right, both }
}

/// Steps of the search at most; a dozen are usual.
const STEPS: usize = 200;

/// The minimum of a smooth function of three variables, none below `floor`, by the method of Broyden,
/// Fletcher, Goldfarb and Shanno with backtracking (Nocedal and Wright, Numerical Optimization, 6.1).
fn descend(f: impl Fn([f64; 3]) -> (f64, [f64; 3]), start: [f64; 3], floor: f64) -> [f64; 3] {
    const UNIT: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let times = |h: &[[f64; 3]; 3], g: [f64; 3]| [dot(h[0], g), dot(h[1], g), dot(h[2], g)];
    let mut at = start;
    let (mut value, mut slope) = f(at);
    // The curvature of a Poisson likelihood by a logarithm is of the order of the slope's own scale.
    let steepest = slope.iter().fold(1.0, |most: f64, s| most.max(s.abs()));
    let mut inverse = UNIT.map(|row| row.map(|v| v / steepest));
    for _ in 0..STEPS {
        let mut direction = times(&inverse, slope).map(|d| -d);
        let mut downhill = dot(direction, slope);
        if downhill >= 0.0 {
            inverse = UNIT.map(|row| row.map(|v| v / steepest));
            direction = times(&inverse, slope).map(|d| -d);
            downhill = dot(direction, slope);
        }
        if -downhill < 1e-10 {
            break;
        }
        // A factor of e^2 at a time, so that no rate leaves what floating point can hold.
        let longest = direction.iter().fold(0.0, |most: f64, d| most.max(d.abs()));
        let mut length = (2.0 / longest).min(1.0);
        let (mut next, mut there);
        loop {
            next = at;
            for (next, step) in next.iter_mut().zip(direction) {
                *next = (*next + length * step).max(floor);
            }
            there = f(next);
            if there.0 <= value + 1e-4 * length * downhill || length < 1e-12 {
                break;
            }
            length *= 0.5;
        }
        let step = [0, 1, 2].map(|i| next[i] - at[i]);
        let turn = [0, 1, 2].map(|i| there.1[i] - slope[i]);
        let gain = value - there.0;
        (at, value, slope) = (next, there.0, there.1);
        if gain <= 1e-12 * value.abs() {
            break;
        }
        let curvature = dot(step, turn);
        if curvature > 1e-14 {
            let turned = times(&inverse, turn);
            let weight = (1.0 + dot(turn, turned) / curvature) / curvature;
            for i in 0..3 {
                for j in 0..3 {
                    inverse[i][j] +=
                        weight * step[i] * step[j] - (turned[i] * step[j] + step[i] * turned[j]) / curvature;
                }
            }
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::murmur3;

    /// Sketches of which `shared` elements are in both, and `left` and `right` in one alone.
    fn two(params: Params, stream: i64, left: i64, right: i64, shared: i64) -> (Sketch, Sketch) {
        let (mut a, mut b) = (Sketch::empty(params, Heap), Sketch::empty(params, Heap));
        let hash = |n: i64| murmur3::hash_i64(stream << 40 | n, 0);
        (0..shared).for_each(|n| {
            a.add(hash(n));
            b.add(hash(n));
        });
        (0..left).for_each(|n| a.add(hash(1 << 30 | n)));
        (0..right).for_each(|n| b.add(hash(2 << 30 | n)));
        (a, b)
    }

    #[test]
    fn the_gradient_is_the_slope() {
        for (width, log2m) in [(5, 8), (3, 6), (6, 8)] {
            let params = Params::new(log2m, width, 0, 1).unwrap();
            let (a, b) = two(params, 7, 3000, 500, 900);
            let (State::Registers(a), State::Registers(b)) = (&a.state, &b.state) else { unreachable!() };
            let pairs = Pairs::count(&params, a, b);
            for at in [[0.0, 1.0, -1.0], [2.0, 0.5, 1.5], [-3.0, -2.0, 3.0]] {
                let (_, slope) = pairs.loss(at);
                for i in 0..3 {
                    let (mut less, mut more) = (at, at);
                    less[i] -= 1e-5;
                    more[i] += 1e-5;
                    let measured = (pairs.loss(more).0 - pairs.loss(less).0) / 2e-5;
                    let error = (measured - slope[i]).abs() / (1.0 + slope[i].abs());
                    assert!(error < 1e-5, "{at:?} {i}: {measured} and {}", slope[i]);
                }
            }
        }
    }

    #[test]
    fn explicit_sets_are_compared_exactly() {
        let (a, b) = two(Params::DEFAULT, 1, 30, 50, 20);
        let overlap = overlap(&a, &b).unwrap().unwrap();
        assert_eq!(overlap, Overlap { left: 30.0, right: 50.0, both: 20.0 });
        assert_eq!(overlap.jaccard(), 0.2);
    }

    /// Root of the mean square of the relative error of the intersection, and its smallest value.
    fn error(log2m: i64, [left, right, shared]: [i64; 3], trials: i64) -> (f64, f64) {
        let params = Params::new(log2m, 5, 0, 1).unwrap();
        let (mut squares, mut smallest) = (0.0, f64::INFINITY);
        for stream in 0..trials {
            let (a, b) = two(params, stream, left, right, shared);
            let both = overlap(&a, &b).unwrap().unwrap().both;
            squares += (both / shared as f64 - 1.0).powi(2);
            smallest = smallest.min(both);
        }
        ((squares / trials as f64).sqrt(), smallest)
    }

    #[test]
    fn intersections_are_near_the_limit_that_the_registers_set() {
        // Cramer-Rao 8.96 % and 2.89 %; inclusion and exclusion comes to 15.5 % and 6.3 %.
        let (tenth, smallest) = error(11, [45_000, 45_000, 10_000], 100);
        assert!(tenth < 0.11 && smallest > 0.0, "{tenth}");
        let (half, _) = error(11, [1250, 1250, 2500], 100);
        assert!(half < 0.034, "{half}");
    }

    #[test]
    fn one_in_the_other_and_strangers() {
        let params = Params::new(11, 5, 0, 1).unwrap();
        let (a, b) = two(params, 3, 0, 20_000, 5000);
        let inside = overlap(&a, &b).unwrap().unwrap();
        assert!(inside.left < 250.0 && (inside.both / 5000.0 - 1.0).abs() < 0.1, "{inside:?}");
        let (a, b) = two(params, 3, 20_000, 20_000, 0);
        let strangers = overlap(&a, &b).unwrap().unwrap();
        assert!((0.0..800.0).contains(&strangers.both), "{strangers:?}");
        assert!(strangers.jaccard() < 0.02);
        let same = overlap(&a, &a).unwrap().unwrap();
        assert!(same.jaccard() > 0.99, "{same:?}");
    }

    #[test]
    fn nothing_undefined_and_saturated() {
        let params = Params::new(5, 2, 0, 1).unwrap();
        let empty = Sketch::empty(params, Heap);
        let (some, full) = two(params, 1, 10, 100_000, 0);
        assert_eq!(overlap(&empty, &empty).unwrap().unwrap().jaccard(), 1.0);
        assert_eq!(overlap(&empty, &some).unwrap().unwrap().both, 0.0);
        assert_eq!(overlap(&Sketch::undefined(params, Heap), &some), Ok(None));
        let overlap = overlap(&full, &some).unwrap().unwrap();
        assert!(overlap.union().is_infinite() && overlap.both >= 0.0, "{overlap:?}");
    }
}
