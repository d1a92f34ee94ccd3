//! The state of a sketch while values are added.

use core::fmt::Write;

use crate::codec;
use crate::estimate::estimate;
use crate::params::{MAX_EXPLICIT, decode_expthresh, encode_expthresh};
use crate::{Buffer, Error, Estimator, Heap, Memory, Params};

/// What a sketch holds.
#[derive(Clone, Debug)]
pub(crate) enum State<W, B> {
    Undefined,
    Empty,
    /// Ascending by signed value, as stored.
    Explicit(W),
    /// One byte per register.
    Registers(B),
}

/// A HyperLogLog sketch, exact while it is small.
pub struct Sketch<M: Memory = Heap> {
    params: Params,
    memory: M,
    state: State<M::Words, M::Bytes>,
}

/// Bytes of a serialized state before its payload: kind, log2m, regwidth, sparseon, threshold.
const STATE_HEADER: usize = 5;

impl<M: Memory> Sketch<M> {
    /// A sketch without values.
    pub fn empty(params: Params, memory: M) -> Self {
        Sketch { params, memory, state: State::Empty }
    }

    pub(crate) fn with_state(params: Params, memory: M, state: State<M::Words, M::Bytes>) -> Self {
        Sketch { params, memory, state }
    }

    /// The sketch's parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Reads a stored sketch after checking all of it.
    pub fn decode(bytes: &[u8], memory: M) -> Result<Self, Error> {
        codec::decode(bytes, memory)
    }

    /// The stored form; registers become SPARSE up to `max_sparse` filled ones, or for -1 while that is smaller.
    pub fn encode(&self, max_sparse: i32) -> Vec<u8> {
        codec::encode(&self.params, &self.state, max_sparse)
    }

    /// Adds a hash value.
    pub fn add(&mut self, hash: i64) {
        let params = self.params;
        match &mut self.state {
            State::Undefined => {}
            State::Registers(registers) => add_to_registers(&params, registers, hash),
            State::Empty => {
                let threshold = params.explicit_threshold();
                if threshold == 0 {
                    add_to_registers(&params, self.promote(), hash);
                } else {
                    let mut words = self.memory.words(threshold.min(4));
                    words.insert(0, hash);
                    self.state = State::Explicit(words);
                }
            }
            State::Explicit(words) => {
                let Err(at) = words.binary_search(&hash) else { return };
                if words.len() < self.params.explicit_threshold() {
                    words.insert(at, hash);
                } else {
                    add_to_registers(&params, self.promote(), hash);
                }
            }
        }
    }

    /// Turns EMPTY or EXPLICIT into registers.
    fn promote(&mut self) -> &mut [u8] {
        if !matches!(self.state, State::Registers(_)) {
            let mut registers = self.memory.zeroed_bytes(self.params.registers());
            if let State::Explicit(words) = &self.state {
                for &word in words.iter() {
                    add_to_registers(&self.params, &mut registers, word);
                }
            }
            self.state = State::Registers(registers);
        }
        match &mut self.state {
            State::Registers(registers) => registers,
            _ => unreachable!("the state was just made registers"),
        }
    }

    /// Adds all values of a sketch with the same parameters.
    pub fn union(&mut self, other: &Sketch<impl Memory>) -> Result<(), Error> {
        self.params.check_same(&other.params)?;
        match (&mut self.state, &other.state) {
            (State::Undefined, _) | (_, State::Empty) => {}
            (_, State::Undefined) => self.state = State::Undefined,
            // Taken as it is: a stored EXPLICIT may be larger than its threshold.
            (State::Empty, State::Explicit(theirs)) => {
                let mut words = self.memory.words(theirs.len());
                for (at, &word) in theirs.iter().enumerate() {
                    words.insert(at, word);
                }
                self.state = State::Explicit(words);
            }
            (_, State::Explicit(theirs)) => theirs.iter().for_each(|&word| self.add(word)),
            (_, State::Registers(theirs)) => {
                for (mine, &their) in self.promote().iter_mut().zip(theirs.iter()) {
                    *mine = (*mine).max(their);
                }
            }
        }
        Ok(())
    }

    /// Adds all values of a stored sketch with the same parameters.
    pub fn union_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let other = Sketch::decode(bytes, self.memory)?;
        self.params.check_same(&other.params)?;
        if matches!(self.state, State::Empty) {
            self.state = other.state;
            return Ok(());
        }
        self.union(&other)
    }

    /// The estimated number of distinct values; `None` when the sketch is UNDEFINED.
    pub fn cardinality(&self, estimator: Estimator) -> Result<Option<f64>, Error> {
        match &self.state {
            State::Undefined => Ok(None),
            State::Empty => Ok(Some(0.0)),
            State::Explicit(words) => Ok(Some(words.len() as f64)),
            State::Registers(registers) => estimate(&self.params, registers, estimator).map(Some),
        }
    }

    /// A description for people, in upstream's layout.
    pub fn print(&self) -> String {
        let Params { regwidth, expthresh, sparseon, .. } = self.params;
        let threshold = match expthresh {
            -1 => format!("-1({})", self.params.explicit_threshold()),
            given => given.to_string(),
        };
        let shape = format!(
            "nregs={}, nbits={regwidth}, expthresh={threshold}, sparseon={}",
            self.params.registers(),
            u8::from(sparseon)
        );
        match &self.state {
            State::Undefined => format!("UNDEFINED {shape}"),
            State::Empty => format!("EMPTY, {shape}"),
            State::Explicit(words) => {
                let mut out = format!("EXPLICIT, {} elements, {shape}:", words.len());
                for (at, word) in words.iter().enumerate() {
                    let _ = write!(out, "\n{at}: {word:20} ");
                }
                out
            }
            State::Registers(registers) => {
                let filled = registers.iter().filter(|&&register| register != 0).count();
                let mut out = format!("COMPRESSED, {filled} filled {shape}:");
                // Upstream prints whole rows only, so nothing for fewer than 32 registers.
                for (row, values) in registers.chunks_exact(32).enumerate() {
                    let _ = write!(out, "\n{:4}: ", row * 32);
                    for value in values {
                        let _ = write!(out, "{value:2} ");
                    }
                }
                out
            }
        }
    }

    /// The state as it travels between the workers of one query: quick to write and read, never stored.
    pub fn to_state_bytes(&self) -> Vec<u8> {
        let Params { log2m, regwidth, expthresh, sparseon } = self.params;
        let kind = match &self.state {
            State::Undefined => 0,
            State::Empty => 1,
            State::Explicit(_) => 2,
            State::Registers(_) => 3,
        };
        let mut out = vec![kind, log2m, regwidth, u8::from(sparseon), encode_expthresh(expthresh)];
        match &self.state {
            State::Undefined | State::Empty => {}
            State::Explicit(words) => out.extend(words.iter().flat_map(|word| word.to_le_bytes())),
            State::Registers(registers) => out.extend_from_slice(registers),
        }
        out
    }

    /// Reads what `to_state_bytes` wrote.
    pub fn from_state_bytes(bytes: &[u8], memory: M) -> Result<Self, Error> {
        let Some((&[kind, log2m, regwidth, sparseon, threshold], payload)) =
            bytes.split_first_chunk::<STATE_HEADER>()
        else {
            return Err(Error::StateTruncated);
        };
        let threshold = decode_expthresh(threshold & 63);
        let mut params = Params::new(
            log2m.into(),
            regwidth.into(),
            threshold.min(MAX_EXPLICIT as i64 / 2 + 1),
            sparseon.into(),
        )?;
        params.expthresh = threshold;
        let state = match kind {
            0 if payload.is_empty() => State::Undefined,
            1 if payload.is_empty() => State::Empty,
            2 if payload.len().is_multiple_of(8) && payload.len() / 8 <= MAX_EXPLICIT => {
                let mut words = memory.words(payload.len() / 8);
                for (at, chunk) in payload.as_chunks::<8>().0.iter().enumerate() {
                    words.insert(at, i64::from_le_bytes(*chunk));
                }
                if !words.is_sorted_by(|a, b| a < b) {
                    return Err(Error::StateInconsistent);
                }
                State::Explicit(words)
            }
            3 if payload.len() == params.registers() => {
                if payload.iter().any(|&register| register > params.max_register()) {
                    return Err(Error::StateInconsistent);
                }
                let mut registers = memory.zeroed_bytes(payload.len());
                registers.copy_from_slice(payload);
                State::Registers(registers)
            }
            3 if payload.len() < params.registers() => return Err(Error::StateTruncated),
            _ => return Err(Error::StateInconsistent),
        };
        Ok(Sketch { params, memory, state })
    }
}

fn add_to_registers(params: &Params, registers: &mut [u8], hash: i64) {
    let index = hash as u64 & (registers.len() as u64 - 1);
    let rest = hash as u64 >> params.log2m;
    // A rest of zero says nothing about its first set bit.
    if rest != 0 {
        let rank = (rest.trailing_zeros() as u8 + 1).min(params.max_register());
        let register = &mut registers[index as usize];
        *register = (*register).max(rank);
    }
}
