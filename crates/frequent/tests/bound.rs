//! The error term under random trees of unions, over skewed and adversarial streams.
use hll_frequent::{Counters, Rest, agree, cut};
use std::collections::BTreeMap;

/// A source of numbers that look random, the same ones every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A key and its number, in a stream of some shape.
    fn row(&mut self, shape: u64, at: u64, k: u64) -> (u64, u64) {
        match shape {
            // Skewed: key n about 1/n of the time.
            0 => ((1.0 / (self.below(1 << 20) + 1) as f64 * (1u64 << 20) as f64) as u64 % 1000, 1),
            // Every key once.
            1 => (1_000_000 + self.next() % 1_000_000_000, 1),
            // One more key than there is room for, in turn: each pushes the others out.
            2 => (at % (k + 1), 1),
            // One that is always a little less than what is there.
            3 if at == 0 => (0, 10),
            3 => (1, 9),
            // A few heavy ones between a flood of light ones.
            4 if self.below(3) == 0 => (self.below(5), 1 + self.below(20)),
            4 => (100 + self.below(5000), 1),
            // Any weights, zeros among them.
            _ => (self.below(3 * k + 3), self.below(1000) * self.below(1000)),
        }
    }
}

#[derive(Clone)]
struct Summary {
    counters: BTreeMap<u64, u64>,
    rest: Rest<u64>,
}

impl Summary {
    fn unite(&mut self, other: &Summary, then_cut: u64) {
        for (key, n) in &other.counters {
            *self.counters.entry(*key).or_default() += n;
        }
        self.rest = self.rest.union(other.rest);
        let keep = match then_cut {
            0 => return,
            1 => self.rest.room() / 2,
            _ => self.rest.max_keys as usize,
        };
        cut(&mut self.counters, &mut self.rest, keep);
    }

    fn error(&self) -> u64 {
        self.rest.taken / (u64::from(self.rest.max_keys) + 1)
    }

    fn check(&self, truth: &BTreeMap<u64, u64>, what: &str) {
        let total: u64 = truth.values().sum();
        assert_eq!(self.counters.values().sum::<u64>() + self.rest.taken, total, "{what}: the total");
        for (key, n) in &self.counters {
            assert!(truth.contains_key(key) && *n <= truth[key], "{what}: key {key} has {n}");
        }
        for (key, n) in truth {
            let low = n - self.counters.get(key).copied().unwrap_or_default();
            assert!(low <= self.error(), "{what}: key {key} is {low} too low, above {}", self.error());
            let heavy = *n > total / (u64::from(self.rest.max_keys) + 1);
            assert!(!heavy || self.counters.contains_key(key), "{what}: key {key} with {n} of {total}");
        }
    }
}

#[test]
fn any_tree_of_unions_keeps_to_the_bound() {
    let mut random = Random(1);
    for round in 0..100_000u64 {
        let (shape, k) = (random.below(6), random.below(6));
        let mut truth = BTreeMap::new();
        let mut at = 0;
        let mut parts: Vec<Summary> = (0..1 + random.below(12))
            .map(|_| {
                // Some trees are of one bound, some of several.
                let max_keys = if round % 2 == 0 { k } else { k + random.below(3) };
                let mut part = Summary { counters: BTreeMap::new(), rest: Rest::new(max_keys as u32) };
                for _ in 0..random.below(20) {
                    let (key, n) = random.row(shape, at, k);
                    at += 1;
                    *truth.entry(key).or_default() += n;
                    *part.counters.entry(key).or_default() += n;
                }
                if random.below(4) > 0 {
                    cut(&mut part.counters, &mut part.rest, max_keys as usize);
                }
                part
            })
            .collect();
        while parts.len() > 1 {
            let part = parts.swap_remove(random.below(parts.len() as u64) as usize);
            let into = random.below(parts.len() as u64) as usize;
            parts[into].unite(&part, random.below(4));
        }
        let mut whole = parts.remove(0);
        let what = format!("round {round}, shape {shape}, k {k}");
        whole.check(&truth, &what);
        let before = whole.clone();
        let keep = whole.rest.max_keys as usize;
        cut(&mut whole.counters, &mut whole.rest, keep);
        assert!(whole.counters.len() <= whole.rest.max_keys as usize);
        whole.check(&truth, &what);
        // Two trees over the same rows agree, and do not where one has a row more than errors explain.
        let keys = before.counters.keys().chain(whole.counters.keys());
        let mut pairs: Vec<[u64; 2]> = keys
            .map(|key| [&before, &whole].map(|s| s.counters.get(key).copied().unwrap_or_default()))
            .collect();
        let errors = [before.error(), whole.error()];
        assert!(agree(pairs.clone(), errors), "{what}");
        pairs.push([0, errors[0] + 1]);
        assert!(!agree(pairs, errors), "{what}");
    }
}

#[test]
fn what_is_kept_whole_misses_the_heaviest_and_this_does_not() {
    for then_cut in [1, 2] {
        let mut whole = Summary { counters: BTreeMap::from([(0, 10)]), rest: Rest::new(1) };
        let nine = Summary { counters: BTreeMap::from([(1, 9)]), rest: Rest::new(1) };
        (0..100).for_each(|_| whole.unite(&nine, then_cut));
        whole.check(&BTreeMap::from([(0, 10), (1, 900)]), "nine by nine");
        assert!(whole.counters.contains_key(&1));
    }
}

#[test]
fn a_cut_takes_what_has_to_go() {
    let of = |numbers: &[u64]| numbers.iter().copied().enumerate().collect::<BTreeMap<usize, u64>>();
    for (numbers, keep, left, taken) in [
        (&[5, 3, 1][..], 3, &[(0, 5), (1, 3), (2, 1)][..], 0),
        (&[5, 3, 1], 2, &[(0, 4), (1, 2)], 3),
        (&[5, 5, 5], 2, &[], 15),
        (&[5, 3, 0], 2, &[(0, 5), (1, 3)], 0),
        (&[5, 3], 0, &[], 8),
        (&[], 0, &[], 0),
    ] {
        let (mut counters, mut rest) = (of(numbers), Rest::new(keep as u32));
        cut(&mut counters, &mut rest, keep);
        assert_eq!((counters.clone(), rest.taken), (left.iter().copied().collect(), taken), "{numbers:?}");
        assert_eq!(counters.amounts().count(), left.len());
    }
}
