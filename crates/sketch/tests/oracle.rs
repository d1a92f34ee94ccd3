//! Another implementation, fed the same hashes, must see about the same number of values.

use std::hash::{BuildHasherDefault, Hasher};

use hll_sketch::{Estimator, Heap, Params, Sketch, murmur3};
use hyperloglogplus::{HyperLogLog, HyperLogLogPlus};

/// Returns the one word it was given.
#[derive(Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only words are hashed");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[test]
fn agrees_with_hyperloglogplus() {
    for log2m in [10u8, 11, 14] {
        let m = 1i64 << log2m;
        let params = Params::new(log2m.into(), 6, 0, 1).unwrap();
        let mut ours = Sketch::empty(params, Heap);
        let mut theirs: HyperLogLogPlus<u64, _> =
            HyperLogLogPlus::new(log2m, BuildHasherDefault::<PassThrough>::default()).unwrap();
        let mut added = 0;
        // Before about m values theirs keeps hashes of 25 bits, which no registers can match.
        for twelfth in [12, 18, 24, 36, 60, 120, 240, 600] {
            let target = m * twelfth / 12;
            for value in added..target {
                let hash = murmur3::hash_i64(value, 42);
                ours.add(hash);
                // They take index and rank from the other end of the word.
                theirs.insert(&(hash as u64).reverse_bits());
            }
            added = target;
            let (a, b) = (ours.cardinality(Estimator::Improved).unwrap().unwrap(), theirs.count());
            let apart = (a / b - 1.0).abs();
            println!("log2m {log2m}, n {added}: ours {a:.1}, theirs {b:.1}, apart {:.3} %", apart * 100.0);
            let allowed = if added > 10 * m { 0.0025 } else { 0.03 };
            assert!(apart < allowed, "log2m {log2m}, n {added}: {a} and {b}");
        }
    }
}
