//! Sums of doubles that are exact, so that no order of additions changes them: a fixed-point number wide enough for every
//! double there is, of which most sums use but a window.
use crate::Memory;

/// Bits below the point: the least subnormal number is 2^-1074.
pub(crate) const POINT: i32 = 1074;
/// Numbers below 2^1024, up to 2^63 of them, and a sign: 2162 bits.
pub(crate) const LIMBS: usize = 34;
/// A number shifted this far still leaves room in the window to add many more.
const REACH: u32 = 63;

/// The number in units of 2^-1074, little-endian, in two's complement.
pub(crate) type Whole = [u64; LIMBS];

/// A sum.
///
/// Its value is `near` in units of 2^`unit`, and what `far` holds in units of 2^-1074. Invariant: what was added are fewer
/// than 2^63 doubles, or sums of that many, so that the value fits into `LIMBS`.
#[derive(Debug)]
pub(crate) struct Sum<M: Memory> {
    near: Near,
    unit: i32,
    far: Option<M::Block<u64>>,
}

/// An i128 that is aligned as its halves are, since the memory that sketches lie in may be aligned to eight bytes only.
#[derive(Debug, Clone, Copy)]
struct Near(u64, i64);

impl Near {
    #[inline(always)]
    fn of(number: i128) -> Near {
        Near(number as u64, (number >> 64) as i64)
    }

    #[inline(always)]
    fn get(self) -> i128 {
        i128::from(self.1) << 64 | i128::from(self.0)
    }
}

/// A finite number as a whole number of units of 2^exponent.
#[inline(always)]
fn parts(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i32 & 2047;
    let fraction = (bits & ((1 << 52) - 1)) as i64 | i64::from(exponent != 0) << 52;
    (if value < 0.0 { -fraction } else { fraction }, exponent.max(1) - 1 - POINT)
}

impl<M: Memory> Sum<M> {
    /// 0.
    pub fn zero() -> Self {
        // No number's exponent is in reach of this unit: the first one makes the window.
        Sum { near: Near(0, 0), unit: i32::MAX / 2, far: None }
    }

    /// Adds a number with these bits that is positive, normal and finite.
    #[inline(always)]
    pub fn add_normal(&mut self, bits: u64, memory: M) {
        let fraction = (bits & ((1 << 52) - 1) | 1 << 52) as i64;
        let exponent = (bits >> 52) as i32 - 1 - POINT;
        let shift = exponent.wrapping_sub(self.unit) as u32;
        if shift <= REACH {
            let (low, carry) = self.near.0.overflowing_add((fraction as u64) << shift);
            let (high, over) =
                self.near.1.overflowing_add((fraction >> 1 >> (REACH - shift)) + i64::from(carry));
            if !over {
                self.near = Near(low, high);
                return;
            }
        }
        self.add_apart(i128::from(fraction), exponent, memory);
    }

    /// Adds `weight` times a finite number; the weight is below 2^63.
    pub fn add_times(&mut self, value: f64, weight: u64, memory: M) {
        let (fraction, exponent) = parts(value);
        self.add_apart(i128::from(fraction) * i128::from(weight), exponent, memory);
    }

    /// Adds `number` times 2^exponent; the exponent is at least -1074.
    #[inline(never)]
    pub fn add_apart(&mut self, number: i128, exponent: i32, memory: M) {
        if number == 0 {
            return;
        }
        let shift = exponent.wrapping_sub(self.unit) as u32;
        if shift < number.unsigned_abs().leading_zeros().saturating_sub(2)
            && let Some(sum) = self.near.get().checked_add(number << shift)
        {
            self.near = Near::of(sum);
            return;
        }
        // The window goes to where the numbers are; what it held goes where all have room.
        let near = self.near.get();
        if near != 0 {
            let far = self.far.get_or_insert_with(|| memory.zeroed(LIMBS));
            add_at(far, near, self.unit);
        }
        // As far below the number as above it: the next ones may be smaller, too.
        self.unit = (exponent - REACH as i32 / 2).max(-POINT);
        let shift = (exponent - self.unit) as u32;
        if number.unsigned_abs().leading_zeros() > shift + 1 {
            self.near = Near::of(number << shift);
        } else {
            self.near = Near(0, 0);
            let far = self.far.get_or_insert_with(|| memory.zeroed(LIMBS));
            add_at(far, number, exponent);
        }
    }

    /// Adds a whole number of units.
    pub fn add_whole(&mut self, whole: &Whole, memory: M) {
        let far = self.far.get_or_insert_with(|| memory.zeroed(LIMBS));
        let mut carry = false;
        for (limb, more) in far.iter_mut().zip(whole) {
            let (sum, one) = limb.overflowing_add(*more);
            let (sum, two) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, one | two);
        }
    }

    /// Adds another sum.
    pub fn add_sum(&mut self, other: &Sum<M>, memory: M) {
        if other.near.get() != 0 {
            self.add_apart(other.near.get(), other.unit, memory);
        }
        if let Some(far) = &other.far {
            let mut whole = [0; LIMBS];
            whole.copy_from_slice(far);
            self.add_whole(&whole, memory);
        }
    }

    /// The sum in units of 2^-1074.
    pub fn whole(&self) -> Whole {
        let mut whole = [0; LIMBS];
        if let Some(far) = &self.far {
            whole.copy_from_slice(far);
        }
        if self.near.get() != 0 {
            add_at(&mut whole, self.near.get(), self.unit);
        }
        whole
    }
}

/// Adds `number` times 2^exponent to a number in units of 2^-1074.
fn add_at(limbs: &mut [u64], number: i128, exponent: i32) {
    let bit = (exponent + POINT) as usize;
    let (first, shift) = (bit / 64, bit % 64);
    let (low, high) = (number as u64, (number >> 64) as u64);
    let sign = (number >> 127) as u64;
    // 192 bits, sign and all.
    let shifted = match shift {
        0 => [low, high, sign],
        _ => [low << shift, high << shift | low >> (64 - shift), sign << shift | high >> (64 - shift)],
    };
    let mut carry = false;
    for (n, limb) in limbs.iter_mut().skip(first).enumerate() {
        let more = shifted.get(n).copied().unwrap_or(sign);
        let (sum, one) = limb.overflowing_add(more);
        let (sum, two) = sum.overflowing_add(u64::from(carry));
        (*limb, carry) = (sum, one | two);
        if n >= shifted.len() && carry as u64 == sign & 1 {
            // From here on 0 and no carry, or -1 and a carry, are added: nothing changes.
            break;
        }
    }
}

/// Whether it is below zero, and its absolute value.
pub(crate) fn magnitude(whole: &Whole) -> (bool, Whole) {
    if whole[LIMBS - 1] >> 63 == 0 { (false, *whole) } else { (true, negated(whole)) }
}

/// The number with the other sign.
pub(crate) fn negated(whole: &Whole) -> Whole {
    let mut carry = true;
    whole.map(|limb| {
        let (negative, over) = (!limb).overflowing_add(u64::from(carry));
        carry = over;
        negative
    })
}

/// How many bits a number has.
pub(crate) fn bit_length(whole: &Whole) -> usize {
    let top = whole.iter().rposition(|limb| *limb != 0);
    top.map_or(0, |top| top * 64 + 64 - whole[top].leading_zeros() as usize)
}

/// A whole number of units divided by a count from 1 on, as the nearest double; of two equally near the even one.
pub(crate) fn quotient(whole: &Whole, count: u64) -> f64 {
    let (negative, magnitude) = magnitude(whole);
    // One limb more below the point, for what the division leaves.
    let (mut digits, mut rest) = ([0u64; LIMBS + 1], 0u128);
    for at in (0..=LIMBS).rev() {
        let limb = if at == 0 { 0 } else { magnitude[at - 1] };
        if rest == 0 && limb < count {
            // Most limbs are 0.
            rest = u128::from(limb);
            continue;
        }
        rest = rest << 64 | u128::from(limb);
        digits[at] = (rest / u128::from(count)) as u64;
        rest %= u128::from(count);
    }
    let Some(top) = digits.iter().rposition(|limb| *limb != 0) else { return 0.0 };
    let length = top * 64 + 64 - digits[top].leading_zeros() as usize;
    // The last bit that a double keeps: 53 from the top, and none below 2^-1074, which is bit 64.
    let last = length.saturating_sub(53).max(64);
    let limb = |n: usize| digits.get(n).map_or(0, |limb| u128::from(*limb));
    let mut kept = ((limb(last / 64) | limb(last / 64 + 1) << 64) >> (last % 64)) as u64 & ((1 << 53) - 1);
    let (under, place) = ((last - 1) / 64, (last - 1) % 64);
    let half = digits[under] >> place & 1 == 1;
    let below =
        rest != 0 || digits[under] & ((1 << place) - 1) != 0 || digits[..under].iter().any(|limb| *limb != 0);
    kept += u64::from(half && (below || kept & 1 == 1));
    // Rounding up to the next power of two carries into the exponent, as it should.
    let bits = match last - 64 {
        0 => kept,
        exponent => ((exponent as u64) << 52) + kept,
    };
    let value = if bits >= 2047 << 52 { f64::INFINITY } else { f64::from_bits(bits) };
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Heap;

    fn of(values: &[f64]) -> Sum<Heap> {
        let mut sum = Sum::zero();
        values.iter().for_each(|value| sum.add_times(*value, 1, Heap));
        sum
    }

    fn read(values: &[f64]) -> f64 {
        quotient(&of(values).whole(), 1)
    }

    #[test]
    fn a_number_is_itself() {
        for value in
            [0.0, 1.0, 0.1, 5e-324, 1e-310, f64::MIN_POSITIVE, f64::MAX, 1e300, 123.456, 2f64.powi(-1022)]
        {
            assert_eq!((read(&[value]), read(&[-value])), (value, -value));
            assert_eq!(read(&[value, -value]), 0.0);
        }
    }

    #[test]
    fn order_does_not_matter() {
        let values = [1e300, 1.0, -1e300, 1e-300, 5e-324, -1.0, 3.5, 1e22, -1e22, f64::MAX, -f64::MAX];
        let expected = of(&values).whole();
        let mut rotated = values;
        for _ in 0..values.len() {
            rotated.rotate_left(1);
            assert_eq!(of(&rotated).whole(), expected);
            rotated.reverse();
            assert_eq!(of(&rotated).whole(), expected);
            let mut both = of(&rotated[..4]);
            both.add_sum(&of(&rotated[4..]), Heap);
            assert_eq!(both.whole(), expected);
        }
        assert_eq!(quotient(&expected, 1), 3.5);
    }

    #[test]
    fn rounded_as_a_division_of_whole_numbers_is() {
        assert_eq!(read(&[1.0, 2f64.powi(-53)]), 1.0);
        assert_eq!(read(&[1.0, 2f64.powi(-53), 5e-324]), 1.0 + f64::EPSILON);
        assert_eq!(read(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(quotient(&of(&[f64::MAX; 3]).whole(), 3), f64::MAX);
        assert_eq!(quotient(&of(&[1.0]).whole(), 3), 1.0 / 3.0);
        assert_eq!(quotient(&of(&[5e-324, 5e-324]).whole(), 4), 0.0, "half of the least, to even");
        assert_eq!(quotient(&of(&[5e-324; 3]).whole(), 4), 5e-324);
        assert_eq!(quotient(&of(&[f64::MIN_POSITIVE - 5e-324, 5e-324]).whole(), 1), f64::MIN_POSITIVE);
        for (sum, count) in [(10i64, 3u64), (-7, 11), (1 << 52, 999), (123_456_789, 1_000_003)] {
            assert_eq!(quotient(&of(&[sum as f64]).whole(), count), sum as f64 / count as f64);
        }
    }

    #[test]
    fn many_times_a_number() {
        for value in [1.5, -3.25e200, 7e-310, f64::MAX] {
            let mut times = Sum::<Heap>::zero();
            times.add_times(value, 1 << 40, Heap);
            let mut doubled = of(&[value]);
            for _ in 0..40 {
                let whole = doubled.whole();
                doubled.add_whole(&whole, Heap);
            }
            assert_eq!(times.whole(), doubled.whole());
            times.add_times(-value, 1 << 40, Heap);
            assert_eq!(times.whole(), [0; LIMBS]);
            times.add_times(value, i64::MAX as u64, Heap);
            assert_eq!(bit_length(&magnitude(&times.whole()).1) > 2150, value == f64::MAX);
        }
    }
}
