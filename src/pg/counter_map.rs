//! The state of the counter aggregates: a map from text to exact numbers, all of it in one memory context.
//!
//! Everything is palloc'd, so that PostgreSQL sees its size (HashAggregate spills by it) and frees it with
//! the group. Up to eight keys are found by comparing hashes in order; a larger map has an index.
use super::aggcontext::Context;
use super::numeric::Num;
use super::v1::Call;
use pgrx::pg_sys;

/// A growing array of plain values in a memory context. Never dropped: the context owns the memory.
struct Array<T: Copy> {
    data: *mut T,
    len: usize,
    capacity: usize,
}

impl<T: Copy> Array<T> {
    const EMPTY: Array<T> = Array { data: std::ptr::null_mut(), len: 0, capacity: 0 };

    /// Appends `items`, growing by doubling from `first` items on.
    fn extend(&mut self, context: Context, items: &[T], first: usize) {
        let needed = self.len + items.len();
        if needed > self.capacity {
            let capacity = needed.max(self.capacity * 2).max(first);
            let bytes = capacity * size_of::<T>();
            // SAFETY: data is NULL or a block of this context; both calls give `bytes` or raise an error.
            self.data = unsafe {
                match self.data.is_null() {
                    true => pg_sys::MemoryContextAllocHuge(context.raw(), bytes).cast(),
                    false => pg_sys::repalloc_huge(self.data.cast(), bytes).cast(),
                }
            };
            self.capacity = capacity;
        }
        // SAFETY: the capacity holds `needed`, and `items` is not inside this array.
        unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), self.data.add(self.len), items.len()) };
        self.len = needed;
    }

    #[inline(always)]
    fn slice(&self) -> &[T] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: the first `len` items are written.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    #[inline(always)]
    fn slice_mut(&mut self) -> &mut [T] {
        if self.data.is_null() {
            return &mut [];
        }
        // SAFETY: the first `len` items are written, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }

    /// Frees the block and forgets it.
    fn clear(&mut self) {
        if !self.data.is_null() {
            // SAFETY: a block of a live context, freed once.
            unsafe { pg_sys::pfree(self.data.cast()) };
        }
        *self = Array::EMPTY;
    }
}

/// What an entry holds. Two words stand for the i128, which palloc would not align.
#[derive(Clone, Copy)]
enum Held {
    Nothing,
    Whole([u64; 2]),
    Number(Num),
    Child(*mut CounterMap),
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    key_length: u32,
    key_start: usize,
    held: Held,
}

/// A value of the map, as seen from outside.
pub enum Value<'a> {
    /// A whole number without decimals.
    Whole(i128),
    /// Any other number.
    Number(Num),
    /// A counter inside the counter.
    Child(&'a CounterMap),
}

/// A number met an object under one key.
pub struct Clash;

/// A map from text to exact numbers or further maps.
pub struct CounterMap {
    context: Context,
    entries: Array<Entry>,
    keys: Array<u8>,
    /// Open addressing, a power of two; holds entry + 1, or 0. Empty while the map is small.
    index: Array<u32>,
}

/// Up to this many keys there is no index.
const SMALL: usize = 8;

/// Mixes eight bytes at a time by folded multiplication.
#[inline]
fn hash(key: &[u8]) -> u32 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let fold = |a: u64| {
        let wide = (a as u128) * (K as u128);
        (wide as u64) ^ ((wide >> 64) as u64)
    };
    let mut h = fold(key.len() as u64 ^ K);
    let mut chunks = key.chunks_exact(8);
    for c in &mut chunks {
        h = fold(h.rotate_left(23) ^ u64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]));
    }
    let mut last = 0u64;
    for &b in chunks.remainder() {
        last = last << 8 | b as u64;
    }
    fold(h.rotate_left(23) ^ last) as u32
}

impl CounterMap {
    /// A new empty map in `context`.
    pub fn create(context: Context) -> &'static mut CounterMap {
        let empty = CounterMap { context, entries: Array::EMPTY, keys: Array::EMPTY, index: Array::EMPTY };
        // SAFETY: the block has the size and, as palloc aligns to 8, the alignment of the map.
        unsafe {
            let p = pg_sys::MemoryContextAlloc(context.raw(), size_of::<CounterMap>()).cast::<CounterMap>();
            p.write(empty);
            &mut *p
        }
    }

    /// The state in argument `n`, declared `internal` in SQL and made only by `datum`; None where it is NULL.
    #[inline(always)]
    pub fn state<'a>(call: &Call, n: usize) -> Option<&'a mut CounterMap> {
        // SAFETY: PostgreSQL passes on only what these aggregates' functions returned; the two states of a
        // combine function are distinct, and each lives through the call.
        call.arg(n).map(|d| unsafe { &mut *d.cast_mut_ptr::<CounterMap>() })
    }

    /// This map as an `internal` datum.
    #[inline(always)]
    pub fn datum(&mut self) -> pg_sys::Datum {
        pg_sys::Datum::from(self as *mut CounterMap)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.len == 0
    }

    /// Every key with its value, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Value<'_>)> {
        self.entries.slice().iter().filter_map(|e| {
            let value = match e.held {
                Held::Nothing => return None,
                Held::Whole(words) => Value::Whole(join(words)),
                Held::Number(n) => Value::Number(n),
                // SAFETY: a child lives in the context of its parent and is reached only through it.
                Held::Child(c) => Value::Child(unsafe { &*c }),
            };
            Some((self.key_of(e), value))
        })
    }

    #[inline(always)]
    fn key_of(&self, e: &Entry) -> &[u8] {
        &self.keys.slice()[e.key_start..e.key_start + e.key_length as usize]
    }

    /// The position of `key`, which is added where it is missing.
    #[inline]
    fn position(&mut self, key: &[u8]) -> usize {
        let h = hash(key);
        let found = |e: &Entry| e.hash == h && self.key_of(e) == key;
        if self.index.len == 0 {
            if let Some(i) = self.entries.slice().iter().position(found) {
                return i;
            }
        } else {
            let (index, entries) = (self.index.slice(), self.entries.slice());
            let mask = index.len() - 1;
            let mut at = h as usize & mask;
            while index[at] != 0 {
                let i = index[at] as usize - 1;
                if found(&entries[i]) {
                    return i;
                }
                at = (at + 1) & mask;
            }
        }
        self.insert(key, h)
    }

    #[cold]
    fn insert(&mut self, key: &[u8], hash: u32) -> usize {
        let at = self.entries.len;
        let entry =
            Entry { hash, key_length: key.len() as u32, key_start: self.keys.len, held: Held::Nothing };
        self.keys.extend(self.context, key, 32);
        self.entries.extend(self.context, &[entry], 2);
        if at >= SMALL {
            match (at + 1) * 4 > self.index.len * 3 {
                true => self.rebuild_index(),
                false => self.link(at),
            }
        }
        at
    }

    fn rebuild_index(&mut self) {
        let size = (self.entries.len * 2).next_power_of_two();
        if size > 1 << 31 {
            pgrx::error!("too many keys in one counter");
        }
        self.index.clear();
        let zeros = [0u32; 16];
        for _ in 0..size / zeros.len() {
            self.index.extend(self.context, &zeros, size);
        }
        for at in 0..self.entries.len {
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

    #[inline(always)]
    fn held(&mut self, at: usize) -> &mut Held {
        &mut self.entries.slice_mut()[at].held
    }

    /// Adds a whole number to `key`.
    #[inline]
    pub fn add_whole(&mut self, key: &[u8], n: i128) -> Result<(), Clash> {
        let at = self.position(key);
        let held = self.held(at);
        let sum = match *held {
            Held::Nothing => Some(n),
            Held::Whole(words) => join(words).checked_add(n),
            Held::Number(_) => None,
            Held::Child(_) => return Err(Clash),
        };
        match sum {
            Some(n) => *held = Held::Whole(split(n)),
            None => self.add_slowly(at, Num::from_i128(n)),
        }
        Ok(())
    }

    /// Adds any number to `key`.
    pub fn add_number(&mut self, key: &[u8], n: Num) -> Result<(), Clash> {
        if let Some(whole) = n.whole() {
            return self.add_whole(key, whole);
        }
        let at = self.position(key);
        match *self.held(at) {
            Held::Child(_) => return Err(Clash),
            Held::Nothing => *self.held(at) = Held::Number(n.copy_to(self.context)),
            _ => self.add_slowly(at, n),
        }
        Ok(())
    }

    /// Adds by numeric, which has no bound that counters reach. The entry holds a number.
    #[cold]
    fn add_slowly(&mut self, at: usize, n: Num) {
        let context = self.context;
        let held = self.held(at);
        *held = match *held {
            Held::Whole(words) => Held::Number(Num::from_i128(join(words)).plus(n).copy_to(context)),
            Held::Number(old) => {
                let sum = old.plus(n).copy_to(context);
                old.free();
                Held::Number(sum)
            }
            other => other,
        };
    }

    /// The counter inside this one under `key`, made where there is none.
    pub fn child(&mut self, key: &[u8]) -> Result<&mut CounterMap, Clash> {
        let at = self.position(key);
        let context = self.context;
        let held = self.held(at);
        let child = match *held {
            Held::Child(c) => c,
            Held::Nothing => {
                let c: *mut CounterMap = CounterMap::create(context);
                *held = Held::Child(c);
                c
            }
            _ => return Err(Clash),
        };
        // SAFETY: a child lives in the context of its parent, and the parent is borrowed mutably.
        Ok(unsafe { &mut *child })
    }
}

#[inline(always)]
fn split(n: i128) -> [u64; 2] {
    [n as u64, (n >> 64) as u64]
}

#[inline(always)]
fn join(words: [u64; 2]) -> i128 {
    (words[1] as i128) << 64 | words[0] as i128
}
