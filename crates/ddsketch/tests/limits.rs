//! Limits of buckets against whole numbers of as many digits as it takes: no logarithm, no root, no rounding.
use hll_ddsketch::{MAX_SCALE, MIN_SCALE, index_of, lower_limit};

/// A natural number, little-endian.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Natural(Vec<u64>);

impl Natural {
    fn squared(&self) -> Natural {
        let mut product = vec![0u64; 2 * self.0.len()];
        for (i, a) in self.0.iter().enumerate() {
            let mut carry = 0u128;
            for (j, b) in self.0.iter().enumerate() {
                let sum = u128::from(*a) * u128::from(*b) + u128::from(product[i + j]) + carry;
                product[i + j] = sum as u64;
                carry = sum >> 64;
            }
            product[i + self.0.len()] = carry as u64;
        }
        while product.last() == Some(&0) {
            product.pop();
        }
        Natural(product)
    }

    /// Its comparison with 2^power: the number of bits decides, but where it is the power itself.
    fn is_above_power(&self, power: usize) -> bool {
        let top = self.0.len() - 1;
        let bits = top * 64 + 64 - self.0[top].leading_zeros() as usize;
        let ones: u32 = self.0.iter().map(|limb| limb.count_ones()).sum();
        bits > power + 1 || bits == power + 1 && ones > 1
    }
}

/// Whether the double 1.f with these fraction bits is above 2^(j / 1024).
fn is_above(fraction: u64, j: usize) -> bool {
    let mut power = Natural(vec![fraction | 1 << 52]);
    (0..10).for_each(|_| power = power.squared());
    power.is_above_power(52 * 1024 + j)
}

#[test]
fn every_limit_is_the_double_at_or_next_below() {
    for j in 0..1024 {
        let limit = lower_limit(j as i32, MAX_SCALE).to_bits() & ((1 << 52) - 1);
        assert!(!is_above(limit, j), "limit {j} is too high");
        assert!(is_above(limit + 1, j), "limit {j} is too low");
    }
}

#[test]
fn a_limit_is_in_the_bucket_below_it_and_the_next_double_is_not() {
    for scale in MIN_SCALE..=MAX_SCALE {
        for index in (-1 << scale.max(0))..=(1 << scale.max(0)) {
            let limit = lower_limit(index, scale);
            let next = f64::from_bits(limit.to_bits() + 1);
            assert_eq!((index_of(limit, scale), index_of(next, scale)), (index - 1, index), "scale {scale}");
        }
    }
}
