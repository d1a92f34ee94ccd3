//! Which group a row belongs to: one table with open addressing.
use super::column::{Column, Kind, ROWS};
use crate::pg::aggcontext::Context;
use crate::pg::array::Array;
use crate::pg::v1::new_varlena;
use pgrx::pg_sys;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// Keys come from users: who knew the seed could choose keys that all collide.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());

/// The groups found so far. Their keys and the table lie in one memory context.
pub struct Groups {
    context: Context,
    kinds: Vec<Kind>,
    count: usize,
    /// The keys of one group after those of another.
    words: Array<u64>,
    nulls: Array<bool>,
    hashes: Array<u64>,
    /// Group + 1, or 0; a power of two.
    index: Array<u32>,
    /// Of the rows of a page.
    hashed: Vec<u64>,
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = bytes.len() as u64 ^ *SEED;
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), K).rotate_left(23);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(hash ^ u64::from_le_bytes(last), K)
}

impl Groups {
    /// No groups, by keys of these kinds.
    pub fn new(context: Context, kinds: Vec<Kind>) -> Groups {
        Groups {
            context,
            kinds,
            count: 0,
            words: Array::EMPTY,
            nulls: Array::EMPTY,
            hashes: Array::EMPTY,
            index: Array::EMPTY,
            hashed: Vec::new(),
        }
    }

    /// Forgets everything: the memory context was reset.
    pub fn forget(&mut self) {
        self.count = 0;
        self.words = Array::EMPTY;
        self.nulls = Array::EMPTY;
        self.hashes = Array::EMPTY;
        self.index = Array::EMPTY;
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Key `n` of a group.
    pub fn key(&self, group: usize, n: usize) -> (u64, bool) {
        let at = group * self.kinds.len() + n;
        (self.words.slice()[at], self.nulls.slice()[at])
    }

    /// The one group that there is without keys.
    pub fn whole(&mut self) {
        if self.count == 0 {
            self.count = 1;
        }
    }

    /// The groups of the rows, new ones among them.
    pub fn find(&mut self, rows: &[u16], keys: &[usize], columns: &[Column], groups: &mut Vec<u32>) {
        groups.clear();
        if keys.is_empty() {
            groups.resize(rows.len(), 0);
            return;
        }
        self.hash(rows, keys, columns);
        if self.index.is_empty() {
            self.resize(1024);
        }
        // One key that is a word, or two, without NULL: what most are.
        let plain = keys.iter().all(|&k| columns[k].kind == Kind::Word && !columns[k].has_nulls);
        match (plain, keys) {
            (true, [a]) => self.by_words(rows, keys, columns, [&columns[*a].values], groups),
            (true, [a, b]) => {
                self.by_words(rows, keys, columns, [&columns[*a].values, &columns[*b].values], groups)
            }
            _ => {
                let mut last = u32::MAX;
                for (n, &row) in rows.iter().enumerate() {
                    let (row, hash) = (usize::from(row), self.hashed[n]);
                    if last == u32::MAX
                        || self.hashes.slice()[last as usize] != hash
                        || !self.same(last, row, keys, columns)
                    {
                        last = self.search(hash, row, keys, columns);
                    }
                    groups.push(last);
                }
            }
        }
    }

    /// The groups of rows whose keys are words, none of them NULL.
    #[inline(always)]
    fn by_words<const N: usize>(
        &mut self,
        rows: &[u16],
        keys: &[usize],
        columns: &[Column],
        values: [&[u64; ROWS]; N],
        groups: &mut Vec<u32>,
    ) {
        let is = |words: &[u64], nulls: &[bool], group: usize, row: usize| {
            let at = group * N;
            (0..N).all(|n| words[at + n] == values[n][row]) && !nulls[at..at + N].contains(&true)
        };
        let mut last = usize::MAX;
        for (n, &row) in rows.iter().enumerate() {
            let row = usize::from(row);
            let (words, nulls, index) = (self.words.slice(), self.nulls.slice(), self.index.slice());
            if last == usize::MAX || !is(words, nulls, last, row) {
                let mask = index.len() - 1;
                let mut at = self.hashed[n] as usize & mask;
                last = loop {
                    match index[at] as usize {
                        0 => break self.search(self.hashed[n], row, keys, columns) as usize,
                        found if is(words, nulls, found - 1, row) => break found - 1,
                        _ => at = (at + 1) & mask,
                    }
                };
            }
            groups.push(last as u32);
        }
    }

    /// A hash for each row, key by key.
    fn hash(&mut self, rows: &[u16], keys: &[usize], columns: &[Column]) {
        const K: u64 = 0xD6E8_FEB8_6659_FD93;
        self.hashed.clear();
        self.hashed.resize(rows.len(), *SEED);
        for &key in keys {
            let column = &columns[key];
            macro_rules! each {
                ($value:expr) => {
                    for (hash, &row) in self.hashed.iter_mut().zip(rows) {
                        *hash = fold(*hash ^ $value(usize::from(row)), K).rotate_left(17);
                    }
                };
            }
            match column.kind {
                Kind::Word if !column.has_nulls => each!(|row: usize| column.values[row]),
                Kind::Word => each!(|row: usize| column.word(row).unwrap_or(1 << 63)),
                kind => each!(|row: usize| match column.word(row) {
                    // SAFETY: the column holds values of this kind.
                    Some(word) => hash_bytes(unsafe { Column::behind(kind, word) }),
                    None => 1 << 63,
                }),
            }
        }
    }

    /// Whether a row has the keys of a group.
    fn same(&self, group: u32, row: usize, keys: &[usize], columns: &[Column]) -> bool {
        keys.iter().enumerate().all(|(n, &key)| {
            let (word, null) = self.key(group as usize, n);
            match (columns[key].word(row), columns[key].kind) {
                (None, _) => null,
                (Some(_), _) if null => false,
                (Some(own), Kind::Word) => own == word,
                // SAFETY: both are values of this kind: the column's, and the copy that the group has.
                (Some(own), kind) => unsafe { Column::behind(kind, own) == Column::behind(kind, word) },
            }
        })
    }

    /// The group of a row, made where there is none.
    #[inline(never)]
    fn search(&mut self, hash: u64, row: usize, keys: &[usize], columns: &[Column]) -> u32 {
        let mut at = hash as usize & (self.index.len() - 1);
        loop {
            match self.index.slice()[at] {
                0 => break,
                found
                    if self.hashes.slice()[found as usize - 1] == hash
                        && self.same(found - 1, row, keys, columns) =>
                {
                    return found - 1;
                }
                _ => at = (at + 1) & (self.index.len() - 1),
            }
        }
        let group = self.count as u32;
        for &key in keys {
            let column = &columns[key];
            let (word, null) = match column.word(row) {
                None => (0, true),
                // SAFETY: the column holds values of this kind.
                Some(word) => (unsafe { self.kept(column.kind, word) }, false),
            };
            self.words.extend(self.context, &[word]);
            self.nulls.extend(self.context, &[null]);
        }
        self.hashes.extend(self.context, &[hash]);
        self.count += 1;
        self.index.slice_mut()[at] = group + 1;
        if self.count * 2 > self.index.len() {
            self.resize(self.index.len() * 2);
        }
        group
    }

    /// A value that lasts as long as the groups.
    ///
    /// # Safety
    /// `word` is a value of this kind.
    unsafe fn kept(&self, kind: Kind, word: u64) -> u64 {
        if kind == Kind::Word {
            return word;
        }
        // SAFETY: the caller vouches for the value; the copy is made in the context of the groups.
        unsafe {
            let bytes = Column::behind(kind, word);
            let before = pg_sys::MemoryContextSwitchTo(self.context.raw());
            let copy = match kind {
                Kind::Fixed(_) => {
                    let copy = pg_sys::palloc(bytes.len()).cast::<u8>();
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
                    copy as u64
                }
                _ => new_varlena(bytes).value() as u64,
            };
            pg_sys::MemoryContextSwitchTo(before);
            copy
        }
    }

    fn resize(&mut self, size: usize) {
        self.index.clear();
        let zeros = [0u32; 64];
        for _ in 0..size / zeros.len() {
            self.index.extend(self.context, &zeros);
        }
        let (index, hashes) = (self.index.slice_mut(), self.hashes.slice());
        for (group, hash) in hashes.iter().enumerate() {
            let mut at = *hash as usize & (size - 1);
            while index[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            index[at] = group as u32 + 1;
        }
    }
}
