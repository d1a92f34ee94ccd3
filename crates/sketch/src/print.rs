//! The text of `hll_print`, which is postgresql-hll's to the character.
use crate::Params;
use core::fmt::Write;

const ROW: usize = 32;

pub(crate) fn undefined(params: &Params) -> String {
    format!("UNDEFINED {}", shape(params))
}

pub(crate) fn empty(params: &Params) -> String {
    format!("EMPTY, {}", shape(params))
}

pub(crate) fn explicit(params: &Params, count: usize, hashes: impl Iterator<Item = i64>) -> String {
    let mut text = format!("EXPLICIT, {count} elements, {}:", shape(params));
    for (position, hash) in hashes.enumerate() {
        let _ = write!(text, "\n{position}: {hash:20} ");
    }
    text
}

/// Rows are whole: a sketch of fewer than 32 registers shows none, as in postgresql-hll.
pub(crate) fn registers(params: &Params, registers: &[u8], filled: usize) -> String {
    let mut text = format!("COMPRESSED, {filled} filled {}:", shape(params));
    for (row, values) in registers.chunks_exact(ROW).enumerate() {
        let _ = write!(text, "\n{:4}: ", row * ROW);
        for value in values {
            let _ = write!(text, "{value:2} ");
        }
    }
    text
}

fn shape(params: &Params) -> String {
    let threshold = match params.expthresh {
        -1 => format!("-1({})", params.explicit_threshold()),
        given => given.to_string(),
    };
    let (registers, width, sparse) = (params.registers(), params.width(), u8::from(params.sparseon));
    format!("nregs={registers}, nbits={width}, expthresh={threshold}, sparseon={sparse}")
}
