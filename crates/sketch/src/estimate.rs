//! How many distinct values a set of registers has seen.

use crate::{Error, Params};

/// Which formula turns registers into a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Estimator {
    /// Ertl's improved estimator with a correction for few registers.
    Improved,
    /// postgresql-hll's own, to the last bit, except where that is not a number for lack of a wide enough shift.
    Classic,
}

/// Estimates from one byte per register.
pub(crate) fn estimate(params: &Params, registers: &[u8], estimator: Estimator) -> Result<f64, Error> {
    match estimator {
        Estimator::Improved => Ok(improved(params, &histogram(registers))),
        Estimator::Classic => classic(params, registers),
    }
}

/// How many registers hold each value. Four tables keep equal neighbours from waiting on each other.
fn histogram(registers: &[u8]) -> [u32; 128] {
    let mut tables = [[0u32; 128]; 4];
    let mut groups = registers.chunks_exact(4);
    for group in &mut groups {
        for (table, &register) in tables.iter_mut().zip(group) {
            table[usize::from(register & 127)] += 1;
        }
    }
    for &register in groups.remainder() {
        tables[0][usize::from(register & 127)] += 1;
    }
    core::array::from_fn(|value| tables.iter().map(|table| table[value]).sum())
}

/// 2^-exponent, exact for every register value.
fn inverse_power(exponent: usize) -> f64 {
    f64::from_bits((1023 - exponent as u64) << 52)
}

fn improved(params: &Params, counts: &[u32; 128]) -> f64 {
    let m = params.registers() as f64;
    let zero_share = f64::from(counts[0]) / m;
    if zero_share == 1.0 {
        return 0.0;
    }
    // The last class below saturation; more bits than the hash has can never be seen.
    let q = (usize::from(params.max_register()) - 1).min(64 - usize::from(params.log2m));
    // Values above saturation come only from foreign writers and count as saturated.
    let saturated: u32 = counts[q + 1..].iter().sum();
    let mut z = m * tau(1.0 - f64::from(saturated) / m) * inverse_power(q);
    for k in (1..=q).rev() {
        z += f64::from(counts[k]) * inverse_power(k);
    }
    z += m * sigma(zero_share);
    m * m / (2.0 * core::f64::consts::LN_2 * z) / (1.0 + 1.079 / m * (1.0 - zero_share))
}

/// The contribution of registers still at zero.
fn sigma(mut x: f64) -> f64 {
    let (mut sum, mut weight) = (x, 0.5);
    loop {
        x *= x;
        weight *= 2.0;
        let next = sum + x * weight;
        if next == sum {
            return sum;
        }
        sum = next;
    }
}

/// The contribution of saturated registers.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut sum, mut weight) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        weight *= 0.5;
        let next = sum - (1.0 - x) * (1.0 - x) * weight;
        if next == sum {
            return sum / 3.0;
        }
        sum = next;
    }
}

/// The order of operations is upstream's: tests compare all digits.
fn classic(params: &Params, registers: &[u8]) -> Result<f64, Error> {
    let m = params.registers() as f64;
    let alpha = match params.registers() {
        0..=8 => return Err(Error::TooFewRegisters),
        16 => 0.673,
        32 => 0.697,
        64 => 0.709,
        _ => 0.7213 / (1.0 + 1.079 / m),
    };
    let (mut sum, mut zeros) = (0.0, 0u32);
    for &register in registers {
        sum += inverse_power(usize::from(register));
        zeros += u32::from(register == 0);
    }
    let raw = alpha * m * m / sum;
    let range = f64::powi(2.0, (1 << params.regwidth) - 2 + i32::from(params.log2m));
    Ok(if zeros != 0 && raw < 5.0 * m / 2.0 {
        m * (m / f64::from(zeros)).ln()
    } else if raw <= range / 30.0 {
        raw
    } else {
        -range * (1.0 - raw / range).ln()
    })
}
