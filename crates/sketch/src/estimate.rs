//! How many distinct values a set of registers has seen.
use crate::{Error, Params};

/// Which estimator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Estimator {
    /// Ertl's improved raw estimator (arXiv:1702.01284, algorithm 6) with a term for finite register counts.
    Improved,
    /// Flajolet's with linear counting, as postgresql-hll computes it, in the same order of operations.
    Classic,
}

/// Estimates from registers of one byte each.
pub fn estimate(p: &Params, registers: &[u8], e: Estimator) -> Result<f64, Error> {
    match e {
        Estimator::Improved => Ok(improved(p, registers)),
        Estimator::Classic => classic(p, registers),
    }
}

fn improved(p: &Params, registers: &[u8]) -> f64 {
    let m = registers.len() as f64;
    // Registers see p + q bits of a hash: the cap of the register, or what the hash has left.
    let q = (usize::from(p.max_register()) - 1).min(64 - usize::from(p.log2m));
    let mut counts = [0u32; 129];
    for &r in registers {
        counts[usize::from(r).min(q + 1)] += 1;
    }
    let c0 = f64::from(counts[0]);
    if c0 == m {
        return 0.0;
    }
    let mut z = m * tau(1.0 - f64::from(counts[q + 1]) / m);
    for k in (1..=q).rev() {
        z = 0.5 * (z + f64::from(counts[k]));
    }
    z += m * sigma(c0 / m);
    // All registers full: z is 0 and the answer infinite.
    m * m / (2.0 * core::f64::consts::LN_2 * z) / (1.0 + 1.079 / m * (1.0 - c0 / m))
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

fn classic(p: &Params, registers: &[u8]) -> Result<f64, Error> {
    let m = registers.len() as f64;
    let alpha = match registers.len() {
        0..=8 => return Err(Error::FewRegisters),
        16 => 0.673,
        32 => 0.697,
        64 => 0.709,
        _ => 0.7213 / (1.0 + 1.079 / m),
    };
    let mut sum = 0.0;
    let mut zeros = 0u32;
    for &r in registers {
        sum += 1.0 / 2f64.powi(i32::from(r));
        zeros += u32::from(r == 0);
    }
    let e = alpha * m * m / sum;
    // 2^L, true also where a 64-bit shift would wrap (register widths 6 and 7).
    let two_to_l = 2f64.powi(i32::from(p.max_register()) - 1 + i32::from(p.log2m));
    Ok(if zeros != 0 && e < 5.0 * m / 2.0 {
        m * (m / f64::from(zeros)).ln()
    } else if e <= two_to_l / 30.0 {
        e
    } else {
        -two_to_l * (1.0 - e / two_to_l).ln()
    })
}
