//! A sketch that grows, hash by hash, among many others.
//!
//! Where rows of many groups come by turns, each addition finds its group's list gone from the processor's caches, and
//! a search in a sorted list misses them several times; so does what moves up for a new hash. A longer list is kept as a
//! table with open addressing, in which a hash is found or added at one place, and sorted when it is read.
use crate::{Buffer, Error, Memory, Params, Sketch};

/// Up to so many hashes a list is a few cache lines, and kept sorted.
const SHORT: usize = 16;

/// Places of the first table.
const PLACES: usize = 64;

/// A sketch that is added to.
pub struct Growing<M: Memory> {
    sketch: Sketch<M>,
    /// Of a sketch with a list: all its hashes, some of which the list still lacks. 0 is no hash here.
    table: Option<M::Words>,
    /// How many they are.
    count: usize,
}

/// Where a hash is looked for first. Hashes may be numbers that somebody has chosen.
#[inline(always)]
fn place(hash: i64, places: usize) -> usize {
    (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) as u64 >> 40) as usize & (places - 1)
}

/// Adds a hash that is not 0, unless it is there; false where it is. There is a place that is free.
#[inline(always)]
fn put(table: &mut [i64], hash: i64) -> bool {
    let mut at = place(hash, table.len());
    while table[at] != 0 {
        if table[at] == hash {
            return false;
        }
        at = (at + 1) & (table.len() - 1);
    }
    table[at] = hash;
    true
}

impl<M: Memory> Growing<M> {
    /// A sketch that is to grow.
    pub fn new(sketch: Sketch<M>) -> Self {
        Growing { sketch, table: None, count: 0 }
    }

    /// Adds one element by its hash if the sketch has come to registers; else leaves it as it is and returns false.
    #[inline(always)]
    pub fn add_to_registers(&mut self, hash: i64) -> bool {
        self.sketch.add_to_registers(hash)
    }

    /// Adds one element by its hash.
    #[inline(always)]
    pub fn add(&mut self, hash: i64) {
        if !self.sketch.add_to_registers(hash) {
            self.add_to_list(hash);
        }
    }

    #[inline(never)]
    fn add_to_list(&mut self, hash: i64) {
        if self.table.is_none() && self.sketch.filled() < SHORT || hash == 0 {
            self.settle();
            return self.sketch.add(hash);
        }
        if self.table.is_none() {
            self.spread(PLACES);
        }
        let Some(table) = &mut self.table else { return };
        if !put(table, hash) {
            return;
        }
        self.count += 1;
        let places = table.len();
        if self.count > self.sketch.params().explicit_threshold() {
            self.settle();
        } else if self.count * 4 > places * 3 {
            self.spread(places * 4);
        }
    }

    /// Makes a table of so many places, or more, of what is held.
    fn spread(&mut self, places: usize) {
        let held = self.sketch.list().len() + self.count;
        let places = places.max((held * 2).next_power_of_two());
        let mut table = self.sketch.memory.words(places);
        (0..places).for_each(|at| table.insert(at, 0));
        let old = self.table.iter().flat_map(|old| old.iter());
        // 0 stays in the list alone.
        let hashes = old.chain(self.sketch.list()).filter(|hash| **hash != 0);
        self.count = hashes.filter(|hash| put(&mut table, **hash)).count();
        self.table = Some(table);
    }

    /// Brings into the sketch what it lacks, and frees the table.
    fn settle(&mut self) {
        let Some(mut table) = self.table.take() else { return };
        let mut kept = 0;
        for at in 0..table.len() {
            let hash = table[at];
            if hash != 0 {
                table[kept] = hash;
                kept += 1;
            }
        }
        let hashes = &mut table[..kept];
        hashes.sort_unstable();
        self.sketch.add_ascending(hashes);
        self.count = 0;
    }

    /// The parameters.
    pub fn params(&self) -> Params {
        self.sketch.params()
    }

    /// The sketch of all that was added.
    pub fn sketch(&mut self) -> &mut Sketch<M> {
        self.settle();
        &mut self.sketch
    }

    /// Adds all that `other` holds.
    pub fn union(&mut self, other: &Growing<impl Memory>) -> Result<(), Error> {
        let own = self.sketch();
        own.union(&other.sketch)?;
        let more = other.table.iter().flat_map(|table| table.iter());
        more.filter(|hash| **hash != 0).for_each(|hash| own.add(*hash));
        Ok(())
    }
}
