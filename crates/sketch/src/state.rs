//! A sketch in transit between the processes of one parallel aggregate.
//!
//! Little-endian and never stored: kind, log2m, regwidth, sparseon, threshold in 8 bytes, then the hashes
//! in 8 bytes each or the registers in one. Registers are not packed: workers share memory, so the copy
//! is cheaper than the packing.
use crate::sketch::State;
use crate::{Buffer, Error, Kind, MAX_EXPLICIT, Memory, Params, Sketch};

const HEADER: usize = 12;

impl<M: Memory> Sketch<M> {
    /// The sketch as bytes for another process of the same query.
    pub fn to_state_bytes(&self) -> Vec<u8> {
        let Params { log2m, regwidth, expthresh, sparseon } = self.params;
        let mut out = vec![self.kind() as u8, log2m, regwidth, u8::from(sparseon)];
        out.extend(expthresh.to_le_bytes());
        match &self.state {
            State::Undefined | State::Empty => {}
            State::Explicit(hashes) => out.extend(hashes.iter().flat_map(|hash| hash.to_le_bytes())),
            State::Registers(registers) => out.extend_from_slice(registers),
        }
        out
    }

    /// Reads what [`Sketch::to_state_bytes`] wrote, checking all of it.
    pub fn from_state_bytes(bytes: &[u8], memory: M) -> Result<Self, Error> {
        let (head, body) = bytes.split_first_chunk::<HEADER>().ok_or(Error::StateTruncated)?;
        let [kind, log2m, regwidth, sparseon, threshold @ ..] = *head;
        let expthresh = i64::from_le_bytes(threshold);
        let params = Params { log2m, regwidth, expthresh, sparseon: sparseon != 0 };
        params.check_stored(false)?;
        // What the header of a stored value cannot say is not a sketch.
        if sparseon > 1 || expthresh < -1 || expthresh > 0 && !(expthresh as u64).is_power_of_two() {
            return Err(Error::StateSize);
        }
        let state = match kind {
            kind if kind == Kind::Undefined as u8 => State::Undefined,
            kind if kind == Kind::Empty as u8 => State::Empty,
            kind if kind == Kind::Explicit as u8 => {
                let (words, rest) = body.as_chunks::<8>();
                if words.len() > MAX_EXPLICIT {
                    return Err(Error::StateTooLarge);
                }
                if !rest.is_empty() {
                    return Err(Error::StateSize);
                }
                let mut hashes = memory.words(words.len());
                for (at, word) in words.iter().enumerate() {
                    let hash = i64::from_le_bytes(*word);
                    if hashes.last().is_some_and(|last| *last >= hash) {
                        return Err(Error::StateSize);
                    }
                    hashes.insert(at, hash);
                }
                State::Explicit(hashes)
            }
            kind if kind == Kind::Registers as u8 => {
                if body.len() < params.registers() {
                    return Err(Error::StateTruncated);
                }
                let largest = params.max_register();
                if body.len() > params.registers() || body.iter().any(|value| *value > largest) {
                    return Err(Error::StateSize);
                }
                let mut registers = memory.zeroed_bytes(body.len());
                registers.copy_from_slice(body);
                State::Registers(registers)
            }
            _ => return Err(Error::StateSize),
        };
        if matches!(state, State::Undefined | State::Empty) && !body.is_empty() {
            return Err(Error::StateSize);
        }
        Ok(Sketch { params, memory, state })
    }
}
