//! A sketch in memory: adding, uniting, and the passage from a list of hashes to registers.
use crate::codec::{self, HEADER, Header, Payload};
use crate::{Buffer, Error, Estimator, Heap, Kind, Memory, Params, estimate, kernel, print};
use core::fmt;

/// A HyperLogLog sketch.
///
/// It keeps its hashes, sorted, until their number would pass [`Params::explicit_threshold`]; from then
/// on it keeps one byte per register.
pub struct Sketch<M: Memory = Heap> {
    pub(crate) params: Params,
    pub(crate) memory: M,
    pub(crate) state: State<M>,
}

pub(crate) enum State<M: Memory> {
    Undefined,
    Empty,
    /// Strictly ascending as signed numbers, which is also the stored order.
    Explicit(M::Words),
    Registers(M::Bytes),
}

/// A list so many times as long as another is searched for each of its hashes; a shorter one is walked along with it.
const STEPS: usize = 8;

impl<M: Memory> Sketch<M> {
    /// A sketch of nothing.
    pub fn empty(params: Params, memory: M) -> Self {
        Sketch { params, memory, state: State::Empty }
    }

    /// A sketch of unknown contents.
    pub fn undefined(params: Params, memory: M) -> Self {
        Sketch { params, memory, state: State::Undefined }
    }

    /// The parameters.
    pub fn params(&self) -> Params {
        self.params
    }

    /// The form in memory; never Sparse or Full.
    pub fn kind(&self) -> Kind {
        match self.state {
            State::Undefined => Kind::Undefined,
            State::Empty => Kind::Empty,
            State::Explicit(_) => Kind::Explicit,
            State::Registers(_) => Kind::Registers,
        }
    }

    /// Reads a stored value, checking all of it.
    pub fn decode(bytes: &[u8], memory: M) -> Result<Self, Error> {
        let (Header { params, .. }, payload) = codec::parse(bytes)?;
        let mut sketch = Sketch::empty(params, memory);
        sketch.absorb(payload);
        Ok(sketch)
    }

    /// The stored form. Registers are stored SPARSE if at most `max_sparse` are filled, or for -1 if that
    /// is shorter than FULL.
    pub fn encode(&self, max_sparse: i32) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(max_sparse, &mut out);
        out
    }

    /// Appends the stored form, for callers that put something of their own before it.
    pub fn encode_into(&self, max_sparse: i32, out: &mut Vec<u8>) {
        match &self.state {
            State::Undefined => codec::put_header(&self.params, Kind::Undefined, out),
            State::Empty => codec::put_header(&self.params, Kind::Empty, out),
            State::Explicit(hashes) => codec::put_explicit(&self.params, hashes, out),
            State::Registers(registers) => codec::put_registers(&self.params, registers, max_sparse, out),
        }
    }

    /// Adds one element by its hash.
    #[inline(always)]
    pub fn add(&mut self, hash: i64) {
        if !self.add_to_registers(hash) {
            self.add_to_list(hash);
        }
    }

    /// Adds one element by its hash if the sketch has come to registers; else leaves it as it is and returns false.
    #[inline(always)]
    pub fn add_to_registers(&mut self, hash: i64) -> bool {
        match &mut self.state {
            State::Registers(registers) => {
                add_register(&self.params, registers, hash);
                true
            }
            _ => false,
        }
    }

    #[inline(never)]
    fn add_to_list(&mut self, hash: i64) {
        let params = self.params;
        let threshold = params.explicit_threshold();
        if let State::Empty = self.state {
            if threshold == 0 {
                add_register(&params, self.as_registers(), hash);
                return;
            }
            self.state = State::Explicit(self.memory.words(4.min(threshold)));
        }
        if let State::Explicit(hashes) = &mut self.state {
            let Err(at) = hashes.binary_search(&hash) else { return };
            if hashes.len() < threshold {
                hashes.insert(at, hash);
            } else {
                add_register(&params, self.as_registers(), hash);
            }
        }
    }

    /// Its hashes, of a sketch that keeps them.
    pub(crate) fn list(&self) -> &[i64] {
        match &self.state {
            State::Explicit(hashes) => hashes,
            _ => &[],
        }
    }

    /// Adds elements by their hashes, which ascend; some may come twice.
    pub(crate) fn add_ascending(&mut self, hashes: &[i64]) {
        let threshold = self.params.explicit_threshold();
        let State::Explicit(own) = &mut self.state else {
            return hashes.iter().for_each(|hash| self.add(*hash));
        };
        let (mut at, mut last, mut new) = (0, None, 0);
        for hash in hashes {
            at += own[at..].iter().take_while(|held| *held < hash).count();
            new += usize::from(own.get(at) != Some(hash) && last != Some(hash));
            last = Some(hash);
        }
        if new > 0 && own.len() + new > threshold {
            self.as_registers();
            return hashes.iter().for_each(|hash| self.add(*hash));
        }
        // From the end, so that what moves up is not written over.
        let (mut left, mut more) = (own.len(), hashes.len());
        (0..new).for_each(|_| own.insert(own.len(), 0));
        let mut to = own.len();
        while more > 0 && to > left {
            let hash = hashes[more - 1];
            if left > 0 && own[left - 1] > hash {
                (to, left) = (to - 1, left - 1);
                own[to] = own[left];
                continue;
            }
            more -= 1;
            let held = left > 0 && own[left - 1] == hash;
            if !held && (more == 0 || hashes[more - 1] != hash) {
                to -= 1;
                own[to] = hash;
            }
        }
    }

    /// Adds all that `other` holds.
    pub fn union(&mut self, other: &Sketch<impl Memory>) -> Result<(), Error> {
        self.params.check_same(&other.params)?;
        match &other.state {
            State::Undefined => self.state = State::Undefined,
            State::Empty => {}
            State::Explicit(hashes) => self.unite_list(hashes.len(), hashes.iter().copied()),
            State::Registers(registers) => {
                if !matches!(self.state, State::Undefined) {
                    kernel::raise(self.as_registers(), registers);
                }
            }
        }
        Ok(())
    }

    /// Adds all that a stored value holds, without building a sketch of it. On error nothing changes.
    pub fn union_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (header, payload) = codec::parse(bytes)?;
        self.params.check_same(&header.params)?;
        self.absorb(payload);
        Ok(())
    }

    fn absorb(&mut self, payload: Payload<'_>) {
        if let State::Undefined = self.state {
            return;
        }
        match payload {
            Payload::Undefined => self.state = State::Undefined,
            Payload::Empty => {}
            Payload::Explicit(hashes) => self.unite_list(hashes.len(), hashes.iter()),
            // Into fresh registers, nothing is to be compared.
            Payload::Sparse(chunks) if matches!(self.state, State::Empty) => {
                chunks.store(self.as_registers())
            }
            Payload::Sparse(chunks) => chunks.raise(self.as_registers()),
            Payload::Full(packed) => {
                kernel::raise_packed(self.params.width(), packed, self.as_registers());
            }
        }
    }

    /// Adds ascending hashes.
    fn unite_list(&mut self, count: usize, hashes: impl Iterator<Item = i64>) {
        match &mut self.state {
            // Taken over as it is: a stored list may be longer than the threshold, and stays so.
            State::Empty => {
                let mut own = self.memory.words(count);
                for (at, hash) in hashes.enumerate() {
                    own.insert(at, hash);
                }
                self.state = State::Explicit(own);
            }
            State::Explicit(own) if own.len() > count * STEPS => hashes.for_each(|hash| self.add(hash)),
            // Both ascend: what is there already is passed over in step.
            State::Explicit(_) => {
                let mut at = 0;
                hashes.for_each(|hash| {
                    if let State::Explicit(own) = &self.state {
                        at += own[at..].iter().take_while(|&&held| held < hash).count();
                        if own.get(at) == Some(&hash) {
                            at += 1;
                            return;
                        }
                    }
                    self.add(hash);
                });
            }
            State::Registers(registers) => {
                hashes.for_each(|hash| add_register(&self.params, registers, hash));
            }
            State::Undefined => {}
        }
    }

    /// Turns whatever is held into registers, unless it is them already.
    pub(crate) fn as_registers(&mut self) -> &mut [u8] {
        if !matches!(self.state, State::Registers(_)) {
            let mut registers = self.memory.zeroed_bytes(self.params.registers());
            if let State::Explicit(hashes) = &self.state {
                hashes.iter().for_each(|hash| add_register(&self.params, &mut registers, *hash));
            }
            self.state = State::Registers(registers);
        }
        match &mut self.state {
            State::Registers(registers) => registers,
            _ => unreachable!("set just above"),
        }
    }

    /// The sketch that the same elements would have made with fewer registers, so that sketches of different
    /// `log2m` can be united. Everything else keeps its value; an automatic threshold becomes the smaller one.
    ///
    /// A register is found by the low bits of a hash. With fewer of these, the others come to the front of what
    /// its value is counted in: where one of them is set, the first such is the new value, else they add to it.
    pub fn folded<N: Memory>(&self, log2m: u8, memory: N) -> Result<Sketch<N>, Error> {
        if log2m > self.params.log2m {
            return Err(Error::FoldUp { from: self.params.log2m, to: log2m });
        }
        let mut folded = Sketch::empty(Params { log2m, ..self.params }, memory);
        match &self.state {
            State::Undefined => folded.state = State::Undefined,
            State::Empty => {}
            State::Explicit(hashes) => hashes.iter().for_each(|hash| folded.add(*hash)),
            State::Registers(registers) => {
                let spare = u32::from(self.params.log2m - log2m);
                let largest = self.params.max_register();
                let own = folded.as_registers();
                kernel::each_filled(registers, |index, value| {
                    let front = index >> log2m;
                    let rank = match front {
                        0 => value.saturating_add(spare as u8),
                        front => front.trailing_zeros() as u8 + 1,
                    };
                    let register = &mut own[index & ((1 << log2m) - 1)];
                    *register = (*register).max(rank.min(largest));
                });
            }
        }
        Ok(folded)
    }

    /// How many hashes it holds, or how many of its registers are not zero.
    pub fn filled(&self) -> usize {
        match &self.state {
            State::Undefined | State::Empty => 0,
            State::Explicit(hashes) => hashes.len(),
            State::Registers(registers) => kernel::filled(registers),
        }
    }

    /// The estimated number of distinct elements; `None` for an undefined sketch.
    pub fn cardinality(&self, estimator: Estimator) -> Result<Option<f64>, Error> {
        match &self.state {
            State::Undefined => Ok(None),
            State::Empty => Ok(Some(0.0)),
            State::Explicit(hashes) => Ok(Some(hashes.len() as f64)),
            State::Registers(registers) => {
                estimate::of_registers(&self.params, registers, estimator).map(Some)
            }
        }
    }

    /// A description for people: the parameters and every hash or register.
    pub fn print(&self) -> String {
        match &self.state {
            State::Undefined => print::undefined(&self.params),
            State::Empty => print::empty(&self.params),
            State::Explicit(hashes) => print::explicit(&self.params, hashes.len(), hashes.iter().copied()),
            State::Registers(registers) => {
                print::registers(&self.params, registers, kernel::filled(registers))
            }
        }
    }

    /// The length of the longest form this sketch can be stored in: a hint for reserving memory.
    pub fn max_encoded_len(&self) -> usize {
        let body = match &self.state {
            State::Undefined | State::Empty => 0,
            State::Explicit(hashes) => hashes.len() * 8,
            State::Registers(_) => self.params.registers() * self.params.chunk_bits() / 8 + 1,
        };
        HEADER + body
    }
}

impl<M: Memory> fmt::Debug for Sketch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print())
    }
}

/// The register that a hash belongs to, and the value it gives it: the low bits choose the register, the
/// position of the lowest one in the rest is the value.
///
/// A hash with no one in the rest has the value 0, which leaves its register alone, as in postgresql-hll.
#[inline(always)]
pub(crate) fn rank(params: &Params, hash: i64) -> (usize, u8) {
    let hash = hash as u64;
    let rest = hash >> params.log2m;
    let rank = if rest == 0 { 0 } else { rest.trailing_zeros() as u8 + 1 };
    (hash as usize & (params.registers() - 1), rank.min(params.max_register()))
}

/// Raises the register that a hash belongs to.
#[inline(always)]
fn add_register(params: &Params, registers: &mut [u8], hash: i64) {
    // There is a power of two of them.
    let mask = registers.len() - 1;
    let register = &mut registers[hash as usize & mask];
    // Most hashes raise nothing once a sketch has seen some; that much is known before their value is.
    if (hash as u64 >> params.log2m).trailing_zeros() >= u32::from(*register) {
        *register = (*register).max(rank(params, hash).1);
    }
}
