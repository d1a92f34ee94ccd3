//! The buckets of one sign.
use crate::Memory;
use crate::blocks::Run;
use crate::window::{BLOCK, Store};

/// So few values are not worth a look at all counts, time and again.
const FEW: u64 = 1 << 20;

/// Counts by index, in 32 bits each until one needs more.
#[derive(Debug)]
pub(crate) enum Half<M: Memory> {
    Narrow(Store<u32, M>),
    Wide(Store<u64, M>),
}

impl<M: Memory> Half<M> {
    pub fn empty(memory: M) -> Self {
        Half::Narrow(Store::empty(memory))
    }

    /// How many buckets have values.
    #[inline(always)]
    pub fn used(&self) -> usize {
        match self {
            Half::Narrow(store) => store.used(),
            Half::Wide(store) => store.used(),
        }
    }

    /// Adds one to a bucket that has values; false where that takes more than that.
    #[inline(always)]
    pub fn bump(&mut self, index: i32) -> bool {
        match self {
            Half::Narrow(store) => store.bump(index),
            Half::Wide(store) => store.bump(index),
        }
    }

    /// Adds `count` to a bucket. The sum of all counts is below 2^63.
    pub fn add(&mut self, index: i32, count: u64, memory: M) {
        let done = match self {
            Half::Narrow(store) => store.add(index, count, memory),
            Half::Wide(store) => store.add(index, count, memory),
        };
        if !done {
            self.widen(memory);
            self.add(index, count, memory);
        }
    }

    /// Makes room at once for so many buckets from `first` on, where none has values yet.
    pub fn reserve(&mut self, first: i32, span: usize, memory: M) {
        match self {
            Half::Narrow(store) => store.reserve(first, span, memory),
            Half::Wide(store) => store.reserve(first, span, memory),
        }
    }

    /// Adds to consecutive buckets.
    #[inline]
    pub fn add_block(&mut self, index: i32, counts: &[u64; BLOCK], memory: M) {
        let done = match self {
            Half::Narrow(store) => store.add_block(index, counts),
            Half::Wide(store) => store.add_block(index, counts),
        };
        if !done {
            for (n, count) in counts.iter().enumerate() {
                self.add(index.saturating_add(n as i32), *count, memory);
            }
        }
    }

    /// Adds as many of the blocks that `bytes` begins with as can be added at once; None where that is none.
    #[inline]
    pub fn add_run(&mut self, index: i32, bytes: &[u8], number: u64) -> Option<(Run, i32)> {
        match self {
            Half::Narrow(store) => store.add_run(index, bytes, number),
            Half::Wide(_) => None,
        }
    }

    /// After runs: goes to counts of 64 bits where one is too large for 32, and says how many values may be added without a
    /// look at each count.
    pub fn settle(&mut self, memory: M) -> u64 {
        let Half::Narrow(store) = self else { return u64::MAX };
        let room = u64::from(i32::MAX as u32).saturating_sub(u64::from(store.largest()));
        if room < FEW {
            self.widen(memory);
            return u64::MAX;
        }
        room
    }

    /// Whether more than so many buckets have values.
    #[inline(always)]
    pub fn exceeds(&mut self, most: usize) -> bool {
        match self {
            Half::Narrow(store) => store.exceeds(most),
            Half::Wide(store) => store.exceeds(most),
        }
    }

    /// Whether no bucket has values.
    pub fn is_empty(&self) -> bool {
        match self {
            Half::Narrow(store) => store.is_empty(),
            Half::Wide(store) => store.is_empty(),
        }
    }

    /// Counts in 64 bits from now on.
    #[cold]
    fn widen(&mut self, memory: M) {
        if let Half::Narrow(store) = self {
            let mut wide = Store::<u64, M>::empty(memory);
            for (index, count) in store.iter() {
                wide.add(index, count, memory);
            }
            *self = Half::Wide(wide);
        }
    }

    /// The next bucket that has values and the counts from there on; `cursor`, 0 at first, is where to look next.
    #[inline]
    pub fn next_block(&self, cursor: &mut usize) -> Option<(i32, [u64; BLOCK])> {
        match self {
            Half::Narrow(store) => store.next_block(cursor),
            Half::Wide(store) => store.next_block(cursor),
        }
    }

    /// The first and the last bucket that have values.
    pub fn ends(&self) -> Option<(i32, i32)> {
        match self {
            Half::Narrow(store) => store.ends(),
            Half::Wide(store) => store.ends(),
        }
    }

    /// Indexes and counts of the buckets that have values, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (i32, u64)> {
        let (narrow, wide) = match self {
            Half::Narrow(store) => (Some(store.iter()), None),
            Half::Wide(store) => (None, Some(store.iter())),
        };
        narrow.into_iter().flatten().chain(wide.into_iter().flatten())
    }

    /// The same values in buckets of a scale that is coarser by `by`.
    pub fn folded(&self, by: i32, memory: M) -> Self {
        let mut folded = Half::empty(memory);
        self.iter().for_each(|(index, count)| folded.add(index >> by, count, memory));
        folded
    }
}
