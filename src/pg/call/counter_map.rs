//! A map from text to exact numbers, all of it in one memory context: what the counter aggregates count in.
//!
//! Everything is palloc'd, so that PostgreSQL sees its size (HashAggregate spills by it) and frees it with
//! the group. Up to eight keys are found by comparing hashes in order; a larger map has an index.
use crate::pg::aggcontext::Context;
use crate::pg::array::Array;
use crate::pg::decimal::{Decimal, Number};
use crate::pg::interrupt;
use crate::pg::numeric::Num;
use pgrx::pg_sys;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Kind {
    /// A key without a value yet.
    Nothing,
    /// `word` is the mantissa of a `Decimal`.
    Small,
    /// `word` points at a numeric.
    Big,
    /// `word` points at a map.
    Child,
}

/// 24 bytes: a counter of fifty keys fits in two kilobytes.
#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    key_start: u32,
    key_length: u32,
    kind: Kind,
    scale: u8,
    word: u64,
}

/// A value of the map, as seen from outside.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A number.
    Number(Number),
    /// A counter inside the counter.
    Child(&'a CounterMap),
}

/// Why a map does not take a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refused {
    /// A number met an object under one key.
    Clash,
    /// The keys are more, or longer in all, than an object of jsonb holds.
    Full,
}

/// A map from text to exact numbers or further maps.
pub struct CounterMap {
    context: Context,
    seed: u64,
    entries: Array<Entry>,
    keys: Array<u8>,
    /// Open addressing, a power of two; holds entry + 1, or 0. Empty while the map is small.
    index: Array<u32>,
}

/// Up to this many keys there is no index.
const SMALL: usize = 8;
/// The most bytes of an object in jsonb, and the most pairs that PostgreSQL reads back (JSONB_MAX_PAIRS).
pub const MAX_OBJECT: usize = 0x0FFF_FFFF;
const MAX_PAIRS: usize = 0x3FFF_FFFF / 72;

/// Keys come from users: who knew the seed could choose keys that all collide.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());

/// Mixes eight bytes at a time by folded multiplication.
#[inline]
fn hash(key: &[u8], seed: u64) -> u32 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let fold = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        (wide as u64) ^ ((wide >> 64) as u64)
    };
    let mut h = seed ^ key.len() as u64;
    let (first, last) = match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            if key.len() > 16 {
                for chunk in key.as_chunks::<8>().0 {
                    h = fold(h ^ u64::from_le_bytes(*chunk), K).rotate_left(23);
                }
            }
            (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
        }
        _ => match (key.first_chunk::<4>(), key.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)))
            }
            _ => {
                let at = |i: usize| u64::from(key.get(i).copied().unwrap_or_default());
                (at(0) << 8 | at(1), at(2))
            }
        },
    };
    fold(fold(h ^ first, K) ^ last, K ^ seed) as u32
}

/// Whether two keys are one. Most are short: those up to 16 bytes are compared without a call.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), a.last_chunk::<8>(), b.first_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a1), Some(a2), Some(b1), Some(b2)) if a.len() <= 16 => a1 == b1 && a2 == b2,
        (None, ..) => {
            match (a.first_chunk::<4>(), a.last_chunk::<4>(), b.first_chunk::<4>(), b.last_chunk::<4>()) {
                (Some(a1), Some(a2), Some(b1), Some(b2)) => a1 == b1 && a2 == b2,
                _ => a.iter().zip(b).all(|(a, b)| a == b),
            }
        }
        _ => a == b,
    }
}

impl CounterMap {
    /// An empty map in `context`.
    pub fn new(context: Context) -> CounterMap {
        CounterMap { context, seed: *SEED, entries: Array::EMPTY, keys: Array::EMPTY, index: Array::EMPTY }
    }

    /// The context of everything in the map.
    pub fn context(&self) -> Context {
        self.context
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every key with its value, in the order of arrival.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], Value<'_>)> {
        self.entries.slice().iter().map(|e| (self.key_of(e), value_of(e)))
    }

    /// The key and the value of entry `at`.
    pub fn entry(&self, at: usize) -> (&[u8], Value<'_>) {
        let e = &self.entries.slice()[at];
        (self.key_of(e), value_of(e))
    }

    #[inline(always)]
    fn key_of(&self, e: &Entry) -> &[u8] {
        &self.keys.slice()[e.key_start as usize..][..e.key_length as usize]
    }

    /// Where `key` is, or its hash where it is missing.
    #[inline]
    fn find(&self, key: &[u8]) -> Result<usize, u32> {
        let h = hash(key, self.seed);
        let found = |e: &Entry| e.hash == h && same(self.key_of(e), key);
        let entries = self.entries.slice();
        if self.index.is_empty() {
            return entries.iter().position(found).ok_or(h);
        }
        let index = self.index.slice();
        let mask = index.len() - 1;
        let mut at = h as usize & mask;
        while index[at] != 0 {
            let i = index[at] as usize - 1;
            if found(&entries[i]) {
                return Ok(i);
            }
            at = (at + 1) & mask;
        }
        Err(h)
    }

    /// The entry of `key`, which is looked for at `guess` first.
    #[inline]
    pub fn position(&self, key: &[u8], guess: usize) -> Option<usize> {
        match self.entries.slice().get(guess) {
            Some(e) if self.key_of(e) == key => Some(guess),
            _ => self.find(key).ok(),
        }
    }

    /// The entry of `key`, which is added where it is missing.
    #[inline]
    fn obtain(&mut self, key: &[u8]) -> Result<usize, Refused> {
        match self.find(key) {
            Ok(at) => Ok(at),
            Err(hash) => self.insert(key, hash),
        }
    }

    /// As `obtain`, with a guess.
    #[inline]
    pub fn obtain_near(&mut self, key: &[u8], guess: usize) -> Result<usize, Refused> {
        match self.entries.slice().get(guess) {
            Some(e) if self.key_of(e) == key => Ok(guess),
            _ => self.obtain(key),
        }
    }

    #[cold]
    fn insert(&mut self, key: &[u8], hash: u32) -> Result<usize, Refused> {
        let at = self.entries.len();
        if at >= MAX_PAIRS || self.keys.len() + key.len() > MAX_OBJECT {
            return Err(Refused::Full);
        }
        let entry = Entry {
            hash,
            key_start: self.keys.len() as u32,
            key_length: key.len() as u32,
            kind: Kind::Nothing,
            scale: 0,
            word: 0,
        };
        self.keys.extend(self.context, key);
        self.entries.extend(self.context, &[entry]);
        if at >= SMALL {
            match (at + 1) * 4 > self.index.len() * 3 {
                true => self.rebuild_index(),
                false => self.link(at),
            }
        }
        Ok(at)
    }

    fn rebuild_index(&mut self) {
        let size = (self.entries.len() * 4 / 3 + 1).next_power_of_two();
        self.index.clear();
        let zeros = [0u32; 16];
        for _ in 0..size / zeros.len() {
            self.index.extend(self.context, &zeros);
        }
        for at in 0..self.entries.len() {
            interrupt::check_at(at + 1);
            self.link(at);
        }
    }

    fn link(&mut self, entry: usize) {
        let mut at = self.entries.slice()[entry].hash as usize;
        let index = self.index.slice_mut();
        let mask = index.len() - 1;
        at &= mask;
        while index[at] != 0 {
            at = (at + 1) & mask;
        }
        index[at] = entry as u32 + 1;
    }

    /// Adds a number to `key`.
    #[inline(always)]
    pub fn add(&mut self, key: &[u8], n: Number) -> Result<(), Refused> {
        let at = self.obtain(key)?;
        self.add_at(at, n)
    }

    /// Adds a number to entry `at`.
    #[inline(always)]
    pub fn add_at(&mut self, at: usize, n: Number) -> Result<(), Refused> {
        let e = &mut self.entries.slice_mut()[at];
        if let Number::Small(n) = n {
            let sum = match e.kind {
                Kind::Small => decimal_of(e).plus(n),
                Kind::Nothing => Some(n),
                Kind::Big => None,
                Kind::Child => return Err(Refused::Clash),
            };
            if let Some(sum) = sum {
                (e.kind, e.scale, e.word) = (Kind::Small, sum.scale, sum.mantissa as u64);
                return Ok(());
            }
        }
        self.add_slowly(at, n)
    }

    /// Adds by numeric, which has no bound that counters reach.
    #[cold]
    fn add_slowly(&mut self, at: usize, n: Number) -> Result<(), Refused> {
        let context = self.context;
        let e = &mut self.entries.slice_mut()[at];
        let sum = match value_of(e) {
            Value::Child(_) => return Err(Refused::Clash),
            Value::Number(_) if e.kind == Kind::Nothing => n,
            Value::Number(old) => old.plus(n),
        };
        let old = (e.kind == Kind::Big).then_some(e.word);
        (e.kind, e.scale, e.word) = match sum {
            Number::Small(small) => (Kind::Small, small.scale, small.mantissa as u64),
            Number::Big(num) => (Kind::Big, 0, num.copy_to(context).word()),
        };
        if let Some(old) = old {
            // SAFETY: the numeric of this entry, which no longer points at it.
            unsafe { Num::from_word(old) }.free();
        }
        Ok(())
    }

    /// The counter inside this one under `key`, made where there is none.
    pub fn child(&mut self, key: &[u8]) -> Result<&mut CounterMap, Refused> {
        let at = self.obtain(key)?;
        let context = self.context;
        let e = &mut self.entries.slice_mut()[at];
        if e.kind == Kind::Nothing {
            // SAFETY: the block has the size and, as palloc aligns to 8, the alignment of a map.
            let child = unsafe {
                let p = pg_sys::MemoryContextAlloc(context.raw(), size_of::<CounterMap>());
                p.cast::<CounterMap>().write(CounterMap::new(context));
                p
            };
            (e.kind, e.word) = (Kind::Child, child as u64);
        }
        if e.kind != Kind::Child {
            return Err(Refused::Clash);
        }
        // SAFETY: a child lives in the context of its parent, and the parent is borrowed mutably.
        Ok(unsafe { &mut *(e.word as usize as *mut CounterMap) })
    }

    /// Keeps the entries that `keep` says yes to, in their order. What the others hold is freed, save for children.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let (mut kept, mut end) = (0, 0);
        for at in 0..self.entries.len() {
            let mut e = self.entries.slice()[at];
            if !keep(at) {
                if e.kind == Kind::Big {
                    // SAFETY: the numeric of this entry, which goes.
                    unsafe { Num::from_word(e.word) }.free();
                }
                continue;
            }
            let key = e.key_start as usize..(e.key_start + e.key_length) as usize;
            e.key_start = end as u32;
            self.keys.slice_mut().copy_within(key, end);
            end += e.key_length as usize;
            self.entries.slice_mut()[kept] = e;
            kept += 1;
        }
        self.entries.truncate(kept);
        self.keys.truncate(end);
        self.index.clear();
        if kept > SMALL {
            self.rebuild_index();
        }
    }
}

#[inline(always)]
fn decimal_of(e: &Entry) -> Decimal {
    Decimal { mantissa: e.word as i64, scale: e.scale }
}

#[inline(always)]
fn value_of<'a>(e: &Entry) -> Value<'a> {
    match e.kind {
        Kind::Nothing | Kind::Small => Value::Number(Number::Small(decimal_of(e))),
        // SAFETY: the entry owns the numeric.
        Kind::Big => Value::Number(Number::Big(unsafe { Num::from_word(e.word) })),
        // SAFETY: a child lives in the context of its parent and is reached only through it.
        Kind::Child => Value::Child(unsafe { &*(e.word as usize as *const CounterMap) }),
    }
}
