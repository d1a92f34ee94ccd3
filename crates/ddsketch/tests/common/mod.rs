//! Random values, the same ones every time, and sketches of them.
use hll_ddsketch::{DdSketch, Heap};

/// A source of numbers that look random, the same ones every time.
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A number from 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normally distributed, by twelve uniform ones: no library's logarithm has a say in it.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// A value of some shape: whole, close to others, far out, odd.
    pub fn value(&mut self) -> f64 {
        match self.below(10) {
            0 => self.below(20) as f64,
            1 => -(self.below(50) as f64) / 8.0,
            2 => f64::from_bits(self.next() & !(1 << 63)),
            3 => f64::from_bits(self.next()),
            4 => [
                0.0,
                -0.0,
                5e-324,
                f64::MIN_POSITIVE,
                f64::MAX,
                f64::MIN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                1.0,
                1e-310,
            ][self.below(10)],
            _ => self.normal().exp2() * 100.0,
        }
    }

    /// So many values at most, and no NaN.
    pub fn values(&mut self, most: usize) -> Vec<f64> {
        let len = self.below(most + 1);
        (0..len).map(|_| self.value()).filter(|v| !v.is_nan()).collect()
    }
}

/// The sketch of values.
pub fn of(scale: i32, values: &[f64]) -> DdSketch {
    let mut sketch = DdSketch::new(scale, Heap).unwrap();
    values.iter().for_each(|value| sketch.add(*value).unwrap());
    sketch
}
