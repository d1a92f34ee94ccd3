//! A sketch that grows, hash by hash, among many others.
//!
//! Where rows of many groups come by turns, each addition finds its group's list gone from the processor's caches, and
//! a search in a sorted list misses them several times. Hashes are put aside, one after the other, and sorted in together.
use crate::{Buffer, Error, Memory, Params, Sketch};

/// Up to so many hashes a list is a few cache lines, and sorted at once.
const SHORT: usize = 32;

/// So many are put aside.
const ASIDE: usize = 32;

/// A sketch, and hashes that are still to be added to it.
pub struct Growing<M: Memory> {
    sketch: Sketch<M>,
    /// Of a sketch with a list alone.
    aside: Option<M::Words>,
}

impl<M: Memory> Growing<M> {
    /// A sketch that is to grow.
    pub fn new(sketch: Sketch<M>) -> Self {
        Growing { sketch, aside: None }
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
        let aside = match &mut self.aside {
            None if self.sketch.filled() < SHORT => return self.sketch.add(hash),
            None => self.aside.insert(self.sketch.memory.words(ASIDE)),
            Some(aside) => aside,
        };
        let at = aside.len();
        aside.insert(at, hash);
        if at + 1 == ASIDE {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        aside.sort_unstable();
        self.sketch.add_ascending(aside);
        if self.sketch.is_list() {
            aside.truncate(0);
        } else {
            self.aside = None;
        }
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
        other.aside.iter().flat_map(|aside| aside.iter()).for_each(|hash| own.add(*hash));
        Ok(())
    }
}
