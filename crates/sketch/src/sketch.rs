//! The sketch in memory: hashes while they are few, then one byte a register.
use crate::codec::{self, Header, Kind};
use crate::estimate::estimate;
use crate::memory::{Buffer, Heap, Memory};
use crate::{Error, Estimator, Params};
use core::fmt::Write;

/// A sketch.
pub struct Sketch<M: Memory = Heap> {
    params: Params,
    memory: M,
    state: State<M>,
}

enum State<M: Memory> {
    Empty,
    /// Ascending as signed numbers, which is the order of the stored bytes.
    Explicit(M::Words),
    Registers(M::Bytes),
    Undefined,
}

/// Register and value of a hash: the low bits choose, the first one bit of the rest counts.
#[inline]
fn place(p: &Params, hash: i64) -> (usize, u8) {
    let h = hash as u64;
    let rest = h >> p.log2m;
    let value = if rest == 0 { 0 } else { rest.trailing_zeros() as u8 + 1 };
    ((h as usize) & (p.registers() - 1), value.min(p.max_register()))
}

#[inline]
fn raise(registers: &mut [u8], p: &Params, hash: i64) {
    let (i, value) = place(p, hash);
    registers[i] = registers[i].max(value);
}

impl<M: Memory> Sketch<M> {
    /// Nothing seen.
    pub fn empty(params: Params, memory: M) -> Self {
        Sketch { params, memory, state: State::Empty }
    }

    /// Its parameters.
    pub fn params(&self) -> Params {
        self.params
    }

    /// Reads stored bytes; everything about them is checked.
    pub fn decode(bytes: &[u8], memory: M) -> Result<Self, Error> {
        let header = codec::validate(bytes)?;
        let mut sketch = Sketch::empty(header.params, memory);
        sketch.take_in(&header, &bytes[Header::LEN..], true);
        Ok(sketch)
    }

    /// The bytes to store. `max_sparse`: -1 for whatever is shorter, else up to how many filled registers the
    /// sparse form is chosen.
    pub fn encode(&self, max_sparse: i32) -> Vec<u8> {
        match &self.state {
            State::Empty => Header::write(Kind::Empty, &self.params).to_vec(),
            State::Undefined => Header::write(Kind::Undefined, &self.params).to_vec(),
            State::Explicit(words) => {
                let mut out = Header::write(Kind::Explicit, &self.params).to_vec();
                out.reserve(words.len() * 8);
                words.iter().for_each(|w| out.extend_from_slice(&w.to_be_bytes()));
                out
            }
            State::Registers(registers) => codec::write_registers(&self.params, registers, max_sparse),
        }
    }

    fn make_registers(&mut self) {
        let mut registers = self.memory.zeroed_bytes(self.params.registers());
        if let State::Explicit(words) = &self.state {
            words.iter().for_each(|&w| raise(&mut registers, &self.params, w));
        }
        self.state = State::Registers(registers);
    }

    /// Adds a hash.
    #[inline]
    pub fn add(&mut self, hash: i64) {
        if let State::Registers(registers) = &mut self.state {
            return raise(registers, &self.params, hash);
        }
        self.add_slowly(hash);
    }

    #[cold]
    fn add_slowly(&mut self, hash: i64) {
        let threshold = self.params.explicit_threshold();
        match &mut self.state {
            State::Empty if threshold > 0 => {
                let mut words = self.memory.words(4);
                words.insert(0, hash);
                self.state = State::Explicit(words);
            }
            State::Explicit(words) => match words.binary_search(&hash) {
                Ok(_) => {}
                Err(at) if words.len() < threshold => words.insert(at, hash),
                Err(_) => {
                    self.make_registers();
                    self.add(hash);
                }
            },
            State::Undefined => {}
            State::Empty | State::Registers(_) => {
                self.make_registers();
                self.add(hash);
            }
        }
    }

    /// Takes in what `other` has seen; refuses other parameters.
    pub fn union(&mut self, other: &Sketch<impl Memory>) -> Result<(), Error> {
        self.params.check_same(&other.params)?;
        match &other.state {
            State::Empty => {}
            State::Undefined => self.state = State::Undefined,
            State::Explicit(words) => self.take_hashes(words.iter().copied(), words.len()),
            State::Registers(theirs) => {
                if let Some(ours) = self.registers_for_union() {
                    ours.iter_mut().zip(theirs.iter()).for_each(|(a, &b)| *a = (*a).max(b));
                }
            }
        }
        Ok(())
    }

    /// Takes in a stored sketch without making one of it.
    pub fn union_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let header = codec::validate(bytes)?;
        self.params.check_same(&header.params)?;
        self.take_in(&header, &bytes[Header::LEN..], false);
        Ok(())
    }

    fn registers_for_union(&mut self) -> Option<&mut M::Bytes> {
        if matches!(self.state, State::Empty | State::Explicit(_)) {
            self.make_registers();
        }
        match &mut self.state {
            State::Registers(registers) => Some(registers),
            _ => None,
        }
    }

    fn take_hashes(&mut self, hashes: impl Iterator<Item = i64>, count: usize) {
        if matches!(self.state, State::Empty) {
            // As stored, even where it holds more than the threshold.
            let mut words = self.memory.words(count);
            hashes.enumerate().for_each(|(i, h)| words.insert(i, h));
            self.state = State::Explicit(words);
        } else {
            hashes.for_each(|h| self.add(h));
        }
    }

    /// `as_stored`: of two chunks with one index the last counts, as postgresql-hll reads them.
    fn take_in(&mut self, header: &Header, body: &[u8], as_stored: bool) {
        match header.kind {
            Kind::Empty => {}
            Kind::Undefined => self.state = State::Undefined,
            Kind::Explicit => self.take_hashes(codec::hashes(body), body.len() / 8),
            Kind::Sparse | Kind::Full => {
                if let Some(registers) = self.registers_for_union() {
                    codec::each_register(header, body, |i, v| {
                        registers[i] = if as_stored { v } else { registers[i].max(v) };
                    });
                }
            }
        }
    }

    /// The estimate; None where the content is undefined.
    pub fn cardinality(&self, e: Estimator) -> Result<Option<f64>, Error> {
        Ok(match &self.state {
            State::Empty => Some(0.0),
            State::Explicit(words) => Some(words.len() as f64),
            State::Registers(registers) => Some(estimate(&self.params, registers, e)?),
            State::Undefined => None,
        })
    }

    /// A person's view of the content.
    pub fn print(&self) -> String {
        match &self.state {
            State::Empty => format!("EMPTY, {}", shape(&self.params)),
            State::Undefined => format!("UNDEFINED {}", shape(&self.params)),
            State::Explicit(words) => print_explicit(&self.params, words),
            State::Registers(registers) => {
                let filled = registers.iter().filter(|&&r| r != 0).count();
                let mut out = format!("COMPRESSED, {filled} filled {}:", shape(&self.params));
                for (row, line) in registers.chunks_exact(32).enumerate() {
                    let _ = write!(out, "\n{:4}: ", row * 32);
                    for r in line {
                        let _ = write!(out, "{r:2} ");
                    }
                }
                out
            }
        }
    }

    /// The state as a partial aggregate hands it on: parameters, then hashes or registers unpacked.
    pub fn to_state_bytes(&self) -> Vec<u8> {
        let (tag, len) = match &self.state {
            State::Undefined => (0, 0),
            State::Empty => (1, 0),
            State::Explicit(words) => (2, words.len() * 8),
            State::Registers(registers) => (5, registers.len()),
        };
        let p = &self.params;
        let mut out = Vec::with_capacity(STATE_HEADER + len);
        out.extend_from_slice(&[tag, p.log2m, p.regwidth, u8::from(p.sparseon)]);
        out.extend_from_slice(&p.expthresh.to_be_bytes());
        match &self.state {
            State::Explicit(words) => words.iter().for_each(|w| out.extend_from_slice(&w.to_be_bytes())),
            State::Registers(registers) => out.extend_from_slice(registers),
            _ => {}
        }
        out
    }

    /// Reads what `to_state_bytes` wrote.
    pub fn from_state_bytes(bytes: &[u8], memory: M) -> Result<Self, Error> {
        let Some((head, body)) = bytes.split_first_chunk::<STATE_HEADER>() else {
            return Err(Error::StateTruncated);
        };
        let &[tag, log2m, regwidth, sparseon, ..] = head;
        let expthresh = codec::hashes(&head[4..]).next().unwrap_or(0);
        if log2m > 17 || !(1..=7).contains(&regwidth) || expthresh < -1 {
            return Err(Error::StateSize);
        }
        let params = Params { log2m, regwidth, expthresh, sparseon: sparseon != 0 };
        let mut sketch = Sketch::empty(params, memory);
        match tag {
            0 if body.is_empty() => sketch.state = State::Undefined,
            1 if body.is_empty() => {}
            2 if body.len() % 8 == 0 => {
                if !codec::hashes(body).zip(codec::hashes(body).skip(1)).all(|(a, b)| a < b) {
                    return Err(Error::StateSize);
                }
                sketch.take_hashes(codec::hashes(body), body.len() / 8);
            }
            5 if body.len() == params.registers() && body.iter().all(|&r| r <= params.max_register()) => {
                let mut registers = memory.zeroed_bytes(body.len());
                registers.copy_from_slice(body);
                sketch.state = State::Registers(registers);
            }
            _ => return Err(Error::StateSize),
        }
        Ok(sketch)
    }
}

const STATE_HEADER: usize = 12;

fn shape(p: &Params) -> String {
    let threshold = match p.expthresh {
        -1 => format!("-1({})", p.explicit_threshold()),
        n => n.to_string(),
    };
    format!(
        "nregs={}, nbits={}, expthresh={threshold}, sparseon={}",
        p.registers(),
        p.regwidth,
        u8::from(p.sparseon)
    )
}

/// The print of an explicit sketch, also of one whose order is wrong.
pub fn print_explicit(p: &Params, words: &[i64]) -> String {
    let mut out = format!("EXPLICIT, {} elements, {}:", words.len(), shape(p));
    for (i, w) in words.iter().enumerate() {
        let _ = write!(out, "\n{i}: {w:20} ");
    }
    out
}
