//! Type modifiers `hll(log2m, regwidth, expthresh, sparseon)` and parameters given as arguments.
use crate::hll::settings;
use crate::pg::error::{OrRaise, raise};
use crate::pg::native;
use crate::pg::v1::{Call, copied};
use crate::v1;
use hll_sketch::Params;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

v1!(hll_typmod_in, typmod_in);
v1!(hll_typmod_out, typmod_out);
v1!(hll, enforce);

/// Parameters from `given` in the order log2m, regwidth, expthresh, sparseon; the session's for the rest.
pub fn params(given: &[i64]) -> Params {
    let d = settings::defaults();
    let rest = [i64::from(d.log2m), i64::from(d.regwidth), d.expthresh, i64::from(d.sparseon)];
    let at = |n: usize| given.get(n).copied().unwrap_or(rest[n]);
    Params::new(at(0), at(1), at(2), at(3)).or_raise()
}

/// Reads an integer as C does: decimal, 0x hexadecimal, or octal after a leading 0.
fn parse(text: &str) -> Option<i64> {
    let trimmed = text.trim();
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (16, hex),
        None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        None => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let value = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

fn typmod_in(call: &mut Call) -> Datum {
    let strings = native::typmod_strings(call, 0);
    if strings.len() > 4 {
        raise(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, "invalid number of type modifiers");
    }
    let given: Option<Vec<i64>> = strings.iter().map(|s| parse(s)).collect();
    match given {
        Some(given) => Datum::from(params(&given).to_typmod()),
        None => raise(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, "typmod array must contain integers"),
    }
}

fn typmod_out(call: &mut Call) -> Datum {
    let p = Params::from_typmod(call.i32(0).unwrap_or(-1));
    native::cstring(&format!("({},{},{},{})", p.log2m, p.regwidth, p.expthresh, i32::from(p.sparseon)))
}

/// Raises unless a value of parameters `incoming` may stand where `typmod` was declared.
pub fn check(typmod: i32, incoming: &Params) {
    if typmod != -1 {
        Params::from_typmod(typmod).check_same(incoming).or_raise();
    }
}

fn enforce(call: &mut Call) -> Datum {
    let header = hll_sketch::validate(call.bytes(0).unwrap_or_default()).or_raise();
    check(call.i32(1).unwrap_or(-1), &header.params);
    copied(call, 0)
}
