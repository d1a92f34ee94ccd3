//! From registers to a number of distinct elements.
use crate::codec::{self, Payload};
use crate::kernel::{self, Summary};
use crate::{Error, Heap, Params, Sketch};

/// Which formula estimates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Estimator {
    /// Ertl's improved raw estimator with a correction for few registers: no bias bump between 2 and 3
    /// elements per register, and sound for every register width.
    #[default]
    Improved,
    /// The numbers of postgresql-hll, bit for bit.
    Classic,
}

/// The estimate of a stored value, checking all of it; `None` for UNDEFINED.
pub fn cardinality_of(bytes: &[u8], estimator: Estimator) -> Result<Option<f64>, Error> {
    let (header, payload) = codec::parse(bytes)?;
    let params = header.params;
    let (last, narrow) = (params.max_register(), params.width() <= NARROW);
    match payload {
        Payload::Undefined => Ok(None),
        Payload::Empty => Ok(Some(0.0)),
        Payload::Explicit(hashes) => Ok(Some(hashes.len() as f64)),
        Payload::Full(packed) if narrow => {
            // Whole groups of eight registers, `width` bytes each, at a time on the stack.
            let mut buffer = [0; 1024];
            let step = buffer.len() / 8 * usize::from(params.width());
            let mut left = params.registers();
            let mut total = Summary::default();
            for part in packed.chunks(step) {
                let registers = &mut buffer[..left.min(1024)];
                kernel::unpack(params.width(), part, registers);
                total.include(&kernel::summarize(registers, last));
                left -= registers.len();
            }
            of_summary(&params, &total, estimator).map(Some)
        }
        Payload::Sparse(chunks) if narrow && chunks.ascending() => {
            let mut total = Summary::default();
            let mut listed = 0;
            if let Some(entries) = chunks.entries16() {
                total = kernel::summarize16(entries, last);
                listed = entries.len();
            } else {
                chunks.for_each(|_, value| {
                    total.add(value, last);
                    listed += 1;
                });
            }
            // Those that are not listed are zero.
            let zeros = (params.registers() - listed) as u64;
            total.zeros += zeros;
            total.sum += zeros << 31;
            of_summary(&params, &total, estimator).map(Some)
        }
        Payload::Full(_) | Payload::Sparse(_) => Sketch::decode(bytes, Heap)?.cardinality(estimator),
    }
}

/// The relative standard error to expect of an estimate of `n` elements from registers of these parameters.
///
/// It is the Cramer-Rao limit at a known number of elements, `sqrt(1 / (m J) - 1 / n)`, where J is the Fisher
/// information of one register under the Poisson model; the improved estimator comes within a hundredth of it.
pub fn standard_error(params: &Params, n: f64) -> f64 {
    let m = params.registers() as f64;
    if !(n > 0.0 && n.is_finite()) {
        return if n > 0.0 { f64::INFINITY } else { 0.0 };
    }
    let (x, q) = (n / m, levels(params));
    let mut information = x * x * (-x).exp();
    for value in 1..=q {
        let y = x * power(-(value as i32));
        let (kept, lost) = ((-y).exp(), -(-y).exp_m1());
        let bent = 2.0 * kept - 1.0;
        information += y * y * kept * bent * bent / lost;
    }
    let y = x * power(-(q as i32));
    information += y * y * (-2.0 * y).exp() / -(-y).exp_m1();
    (1.0 / (m * information) - 1.0 / n).max(0.0).sqrt()
}

/// Up to this width the sum of 2^-value is exact, whatever the order of its terms.
const NARROW: u8 = 5;

/// The estimate of registers in memory.
pub(crate) fn of_registers(params: &Params, registers: &[u8], estimator: Estimator) -> Result<f64, Error> {
    if params.width() <= NARROW {
        let summary = kernel::summarize(registers, params.max_register());
        return of_summary(params, &summary, estimator);
    }
    let zeros = (registers.len() - kernel::filled(registers)) as f64;
    match estimator {
        Estimator::Classic => {
            // In index order: the classic numbers depend on it.
            classic(params, registers.iter().map(|value| power(-i32::from(*value))).sum(), zeros)
        }
        Estimator::Improved => {
            let mut counts = [0u32; 128];
            registers.iter().for_each(|value| counts[usize::from(value & 127)] += 1);
            let q = levels(params);
            let inner = (1..=q).map(|value| f64::from(counts[value]) * power(-(value as i32))).sum();
            // No addition reaches the classes beyond q + 1; foreign values there count as that one.
            let lasts = f64::from(counts[q + 1..].iter().sum::<u32>());
            Ok(improved(params, zeros, inner, lasts))
        }
    }
}

fn of_summary(params: &Params, summary: &Summary, estimator: Estimator) -> Result<f64, Error> {
    // Every number here is below 2^49, so all of this is exact.
    let (zeros, lasts) = (summary.zeros as f64, summary.lasts as f64);
    let sum = summary.sum as f64 * power(-31);
    match estimator {
        Estimator::Classic => classic(params, sum, zeros),
        Estimator::Improved => {
            let inner = sum - zeros - lasts * power(-i32::from(params.max_register()));
            Ok(improved(params, zeros, inner, lasts))
        }
    }
}

/// A register follows the law of a hash of log2m + q bits and ends at q + 1.
pub(crate) fn levels(params: &Params) -> usize {
    usize::from(params.max_register() - 1).min(64 - usize::from(params.log2m))
}

/// From how many registers are 0, the sum of 2^-value over those of 1 to q, and how many are q + 1.
fn improved(params: &Params, zeros: f64, inner: f64, lasts: f64) -> f64 {
    let m = params.registers() as f64;
    let q = levels(params) as i32;
    let z = m * sigma(zeros / m) + inner + m * tau(1.0 - lasts / m) * power(-q);
    // The factor takes alpha to its value for m registers, and fades out where most are still zero.
    m * m / (2.0 * core::f64::consts::LN_2 * z) / (1.0 + 1.079 / m * (1.0 - zeros / m))
}

/// `x + sum over k >= 1 of x^(2^k) * 2^(k-1)`
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut sum, mut weight) = (x, 1.0);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum == before {
            return sum;
        }
    }
}

/// `(1 - x - sum over k >= 1 of (1 - x^(2^-k))^2 * 2^-k) / 3`
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut sum, mut weight) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum == before {
            return sum / 3.0;
        }
    }
}

/// The order of operations is postgresql-hll's: its results are reproduced to the last bit.
fn classic(params: &Params, sum: f64, zeros: f64) -> Result<f64, Error> {
    let m = params.registers() as f64;
    let alpha_mm = match params.registers() {
        ..=8 => return Err(Error::TooFewRegisters),
        16 => 0.673 * m * m,
        32 => 0.697 * m * m,
        64 => 0.709 * m * m,
        _ => (0.7213 / (1.0 + 1.079 / m)) * m * m,
    };
    let estimate = alpha_mm / sum;
    // postgresql-hll shifts an integer here, which wraps for widths 6 and 7 and makes every result NaN.
    let two_to_l = power(i32::from(params.max_register()) - 1 + i32::from(params.log2m));
    Ok(if zeros != 0.0 && estimate < 5.0 * m / 2.0 {
        m * (m / zeros).ln()
    } else if estimate <= two_to_l / 30.0 {
        estimate
    } else {
        -two_to_l * (1.0 - estimate / two_to_l).ln()
    })
}

/// A power of two, exactly.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}
