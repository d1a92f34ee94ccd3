//! Counts by index, in the smaller of two forms: a window of cells while most of them are used, a list in order where few are.
use crate::blocks::{Run, add_run};
use crate::{Cell, Memory};

/// A count of one bucket.
pub(crate) trait Count: Cell {
    /// An index with its count.
    type Entry: Cell;
    /// The count, if it is not too large.
    fn of(count: u64) -> Option<Self>;
    fn get(self) -> u64;
    fn entry(index: i32, count: Self) -> Self::Entry;
    fn parts(entry: Self::Entry) -> (i32, Self);
    /// Adds to several counts and says how many of them were 0 before. None where one would become too large, and nothing
    /// has changed.
    fn add_all(cells: &mut [Self; BLOCK], counts: &[u64; BLOCK]) -> Option<u32>;
}

impl Count for u32 {
    type Entry = (i32, u32);

    #[inline(always)]
    fn of(count: u64) -> Option<u32> {
        // The highest bit stays free, for what adds to several at once to see that one has become too large.
        i32::try_from(count).ok().map(|count| count as u32)
    }

    #[inline(always)]
    fn get(self) -> u64 {
        u64::from(self)
    }

    fn entry(index: i32, count: u32) -> (i32, u32) {
        (index, count)
    }

    fn parts(entry: (i32, u32)) -> (i32, u32) {
        entry
    }

    // Without a branch for each, so that it becomes instructions for several at once.
    #[inline(always)]
    fn add_all(cells: &mut [u32; BLOCK], counts: &[u64; BLOCK]) -> Option<u32> {
        let (mut sums, mut fresh, mut all) = ([0; BLOCK], 0, 0);
        for n in 0..BLOCK {
            let sum = u64::from(cells[n]) + counts[n];
            fresh += u32::from((cells[n] == 0) & (counts[n] != 0));
            all |= sum;
            sums[n] = sum as u32;
        }
        (all <= i32::MAX as u64).then(|| {
            *cells = sums;
            fresh
        })
    }
}

impl Count for u64 {
    type Entry = (i32, u64);

    fn of(count: u64) -> Option<u64> {
        Some(count)
    }

    fn get(self) -> u64 {
        self
    }

    fn entry(index: i32, count: u64) -> (i32, u64) {
        (index, count)
    }

    fn parts(entry: (i32, u64)) -> (i32, u64) {
        entry
    }

    fn add_all(cells: &mut [u64; BLOCK], counts: &[u64; BLOCK]) -> Option<u32> {
        let mut fresh = 0;
        for (cell, count) in cells.iter_mut().zip(counts) {
            fresh += u32::from((*cell == 0) & (*count != 0));
            *cell += count;
        }
        Some(fresh)
    }
}

/// Buckets of one coded block.
pub(crate) const BLOCK: usize = 8;
/// A window has no fewer cells.
const FEWEST: usize = 16;
/// A list grows four times at once, as far as this: what a block leaves behind is lost where all groups grow at once.
const SMALL: usize = 64;

/// A list becomes a window where that is no larger.
fn is_dense(span: usize, used: usize) -> bool {
    span <= 4 * used + 32
}

/// A window becomes a list where that is far smaller. So few buckets come to lie so far apart by an outlier, and it takes
/// many more to fill the space between: a store does not go back and forth.
fn is_sparse(span: usize, used: usize) -> bool {
    span > 16 * used + 512
}

#[derive(Debug)]
enum Form<C: Count, M: Memory> {
    /// Ascending; the first `used` are entries.
    List(M::Block<C::Entry>),
    /// The count of index `first` and those after it.
    Window { first: i32, cells: M::Block<C> },
}

/// Counts by index. Entries and used cells are not 0.
#[derive(Debug)]
pub(crate) struct Store<C: Count, M: Memory> {
    /// How many there are, if `counted`, as always in a list.
    used: u32,
    counted: bool,
    form: Form<C, M>,
}

impl<C: Count, M: Memory> Store<C, M> {
    pub fn empty(memory: M) -> Self {
        Store { used: 0, counted: true, form: Form::List(memory.zeroed(0)) }
    }

    /// How many indexes have a count.
    #[inline(always)]
    pub fn used(&self) -> usize {
        match &self.form {
            Form::Window { cells, .. } if !self.counted => {
                cells.iter().filter(|cell| cell.get() != 0).count()
            }
            _ => self.used as usize,
        }
    }

    /// Whether more than so many indexes have a count.
    #[inline(always)]
    pub fn exceeds(&mut self, most: usize) -> bool {
        if !self.counted {
            if matches!(&self.form, Form::Window { cells, .. } if cells.len() <= most) {
                return false;
            }
            self.count();
        }
        self.used as usize > most
    }

    /// Whether no index has a count. A run that was added has one.
    pub fn is_empty(&self) -> bool {
        self.counted && self.used == 0
    }

    /// Knows again how many indexes have a count.
    #[cold]
    fn count(&mut self) {
        self.used = self.used() as u32;
        self.counted = true;
    }

    /// Adds to a count that is there, in a window. False where it is not, or would become too large.
    #[inline(always)]
    pub fn bump(&mut self, index: i32) -> bool {
        if let Form::Window { first, cells } = &mut self.form
            && let Some(cell) = cells.get_mut(index.wrapping_sub(*first) as u32 as usize)
            && cell.get() != 0
            && let Some(sum) = C::of(cell.get() + 1)
        {
            *cell = sum;
            return true;
        }
        false
    }

    /// Adds to a count. False where it would become too large, and nothing has changed.
    pub fn add(&mut self, index: i32, count: u64, memory: M) -> bool {
        if count == 0 {
            return true;
        }
        match &mut self.form {
            Form::Window { first, cells } => {
                if let Some(cell) = cells.get_mut(index.wrapping_sub(*first) as u32 as usize) {
                    let Some(sum) = C::of(cell.get() + count) else { return false };
                    self.used += u32::from(cell.get() == 0);
                    *cell = sum;
                    return true;
                }
                self.widen(index, memory);
                self.add(index, count, memory)
            }
            Form::List(entries) => {
                let used = self.used as usize;
                match entries[..used].binary_search_by_key(&index, |entry| C::parts(*entry).0) {
                    Ok(at) => {
                        let Some(sum) = C::of(C::parts(entries[at]).1.get() + count) else { return false };
                        entries[at] = C::entry(index, sum);
                        true
                    }
                    Err(at) => {
                        let Some(count) = C::of(count) else { return false };
                        self.insert(at, index, count, memory);
                        true
                    }
                }
            }
        }
    }

    /// Makes room at once for so many indexes from `first` on, where nothing is counted yet.
    pub fn reserve(&mut self, first: i32, span: usize, memory: M) {
        if self.is_empty() {
            self.form = Form::Window { first, cells: memory.zeroed(span.next_power_of_two().max(FEWEST)) };
        }
    }

    /// Adds to the counts of consecutive indexes; false where it would have to be done one by one.
    #[inline]
    pub fn add_block(&mut self, index: i32, counts: &[u64; BLOCK]) -> bool {
        let Form::Window { first, cells } = &mut self.form else { return false };
        let at = index.wrapping_sub(*first) as u32 as usize;
        let Some(cells) = cells.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<BLOCK>()) else {
            return false;
        };
        let Some(fresh) = C::add_all(cells, counts) else { return false };
        self.used += fresh;
        true
    }

    /// The next index that has a count and the counts from there on; `cursor`, 0 at first, is where to look next.
    #[inline]
    pub fn next_block(&self, cursor: &mut usize) -> Option<(i32, [u64; BLOCK])> {
        let mut counts = [0; BLOCK];
        match &self.form {
            Form::List(entries) => {
                let rest = entries[..self.used as usize].get(*cursor..)?;
                let first = C::parts(*rest.first()?).0;
                for entry in rest {
                    let (index, count) = C::parts(*entry);
                    let Some(place) = counts.get_mut(index.abs_diff(first) as usize) else { break };
                    *place = count.get();
                    *cursor += 1;
                }
                Some((first, counts))
            }
            Form::Window { first, cells } => {
                let rest = cells.get(*cursor..)?;
                let at = rest.iter().position(|cell| cell.get() != 0)?;
                counts.iter_mut().zip(&rest[at..]).for_each(|(count, cell)| *count = cell.get());
                let index = first + (*cursor + at) as i32;
                *cursor += at + BLOCK;
                Some((index, counts))
            }
        }
    }

    /// The first and the last index that have a count.
    pub fn ends(&self) -> Option<(i32, i32)> {
        let used = self.used as usize;
        match &self.form {
            Form::List(_) if used == 0 => None,
            Form::List(entries) => Some((C::parts(entries[0]).0, C::parts(entries[used - 1]).0)),
            Form::Window { first, cells } => {
                let is_used = |cell: &C| cell.get() != 0;
                let (low, high) = (cells.iter().position(is_used)?, cells.iter().rposition(is_used)?);
                Some((first + low as i32, first + high as i32))
            }
        }
    }

    /// Indexes and counts, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (i32, u64)> {
        let (entries, cells, first) = match &self.form {
            Form::List(entries) => (&entries[..self.used as usize], &[][..], 0),
            Form::Window { first, cells } => (&[][..], &cells[..], *first),
        };
        let listed = entries.iter().map(|entry| {
            let (index, count) = C::parts(*entry);
            (index, count.get())
        });
        let windowed = cells.iter().enumerate().filter(|(_, cell)| cell.get() != 0);
        listed.chain(windowed.map(move |(n, cell)| (first + n as i32, cell.get())))
    }

    /// Puts an entry into a list that has none of its index.
    #[inline(never)]
    fn insert(&mut self, at: usize, index: i32, count: C, memory: M) {
        let used = self.used as usize;
        let (low, high) = self.ends().map_or((index, index), |(low, high)| (low.min(index), high.max(index)));
        let span = high.abs_diff(low) as usize + 1;
        self.used += 1;
        let Form::List(entries) = &mut self.form else { return };
        if is_dense(span, used + 1) {
            let len = span.next_power_of_two().max(FEWEST);
            let first = low - ((len - span) / 2) as i32;
            let mut cells = memory.zeroed::<C>(len);
            for entry in &entries[..used] {
                let (index, count) = C::parts(*entry);
                cells[index.abs_diff(first) as usize] = count;
            }
            cells[index.abs_diff(first) as usize] = count;
            self.form = Form::Window { first, cells };
            return;
        }
        if used == entries.len() {
            let mut more = memory.zeroed::<C::Entry>((used * if used < SMALL { 4 } else { 2 }).max(4));
            more[..used].copy_from_slice(entries);
            *entries = more;
        }
        entries.copy_within(at..used, at + 1);
        entries[at] = C::entry(index, count);
    }

    /// Makes a window have a cell for `index`, or makes a list of it.
    #[cold]
    #[inline(never)]
    fn widen(&mut self, index: i32, memory: M) {
        let (low, high) = self.ends().unwrap_or((index, index));
        let (all_low, all_high) = (low.min(index), high.max(index));
        let span = all_high.abs_diff(all_low) as usize + 1;
        if !self.counted {
            self.count();
        }
        let used = self.used as usize;
        if is_sparse(span, used) {
            let mut entries = memory.zeroed::<C::Entry>((used + 1).next_power_of_two());
            for (n, (index, count)) in self.iter().enumerate() {
                entries[n] = C::entry(index, C::of(count).unwrap_or_default());
            }
            self.form = Form::List(entries);
            return;
        }
        let Form::Window { first, cells } = &mut self.form else { return };
        let held = high.abs_diff(low) as usize + 1;
        let from = low.abs_diff(*first) as usize;
        let len = match cells.len() {
            len if span <= len => len,
            len => span.next_power_of_two().max((4 * len).min(4 * SMALL)),
        };
        let fresh = all_low - ((len - span) / 2) as i32;
        let to = low.abs_diff(fresh) as usize;
        if len == cells.len() {
            cells.copy_within(from..from + held, to);
            cells[..to].fill(C::default());
            cells[to + held..].fill(C::default());
        } else {
            let mut wider = memory.zeroed::<C>(len);
            wider[to..to + held].copy_from_slice(&cells[from..from + held]);
            *cells = wider;
        }
        *first = fresh;
    }
}

impl<M: Memory> Store<u32, M> {
    /// Adds as many of the blocks that `bytes` begins with as can be added at once, the first at `index` or after it; None where
    /// that is none. The second part of the result is the index after the last of them.
    #[inline(always)]
    pub fn add_run(&mut self, index: i32, bytes: &[u8], number: u64) -> Option<(Run, i32)> {
        let Form::Window { first, cells } = &mut self.form else { return None };
        let at = index.wrapping_sub(*first) as u32 as usize;
        let run = add_run(cells, at, bytes, number);
        if run.blocks == 0 {
            return None;
        }
        self.counted = false;
        let end = *first + run.end as i32;
        Some((run, end))
    }

    /// What no count is above. After a run it may be too large for a store of such counts, and can still be read.
    pub fn largest(&self) -> u32 {
        match &self.form {
            Form::Window { cells, .. } => cells.iter().fold(0, |all, cell| all | cell),
            Form::List(entries) => entries.iter().fold(0, |all, (_, count)| all | count),
        }
    }
}
