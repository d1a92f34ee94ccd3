//! Writing objects as jsonb stores them; [`layout`](super::layout) describes the form.
use super::error::too_large;
use super::layout::{ARRAY, CONTAINER, IS_END, NUMERIC, OBJECT, STRING};
use crate::pg::array::Scratch;
use crate::pg::counter_map::{CounterMap, MAX_OBJECT, Value};
use crate::pg::decimal::{MAX_BYTES, Number};
use crate::pg::interrupt;
use crate::pg::v1::new_varlena_with;
use pgrx::pg_sys::Datum;

/// Every so many entries one says where it ends instead of how long it is.
const STRIDE: usize = 32;

#[derive(Clone, Copy)]
struct Pair<'a> {
    key: &'a [u8],
    kind: u32,
    /// Where the value ends in the values.
    end: u32,
}

/// Makes the length a multiple of four.
fn pad(values: &mut Scratch<u8>) {
    const PADDING: [u8; 3] = [0; 3];
    let length = values.len();
    values.extend(&PADDING[..length.next_multiple_of(4) - length]);
}

#[inline]
fn append(values: &mut Scratch<u8>, number: Number) {
    match number {
        Number::Small(small) => {
            let mut bytes = [0; MAX_BYTES];
            let length = small.write(&mut bytes);
            values.extend(&bytes[..length]);
        }
        Number::Big(num) => values.extend(num.bytes()),
    }
}

/// Pairs of one object, added in the order of keys.
pub struct Writer<'a> {
    pairs: Scratch<Pair<'a>>,
    keys: usize,
    /// The values as they will stand, each at a multiple of four.
    values: Scratch<u8>,
}

impl<'a> Writer<'a> {
    /// An object of about so many pairs.
    pub fn new(pairs: usize) -> Writer<'a> {
        Writer { pairs: Scratch::with_capacity(pairs), keys: 0, values: Scratch::with_capacity(pairs * 12) }
    }

    fn align(&mut self) {
        pad(&mut self.values);
    }

    fn pair(&mut self, key: &'a [u8], kind: u32) {
        self.keys += key.len();
        // Checked here and not at the end alone, so that no more is written than a document holds.
        if 4 + 8 * (self.pairs.len() + 1) + self.keys + self.values.len() + 3 > MAX_OBJECT {
            too_large();
        }
        self.pairs.push(Pair { key, kind, end: self.values.len() as u32 });
    }

    /// Adds a number.
    #[inline]
    pub fn number(&mut self, key: &'a [u8], number: Number) {
        self.align();
        append(&mut self.values, number);
        self.pair(key, NUMERIC);
    }

    /// Adds a number as it stands in another document.
    #[inline]
    pub fn copy(&mut self, key: &'a [u8], number: &[u8]) {
        self.align();
        self.values.extend(number);
        self.pair(key, NUMERIC);
    }

    /// Adds an object.
    pub fn object(&mut self, key: &'a [u8], inner: &Writer<'_>) {
        self.align();
        let start = self.values.len();
        self.values.extend_with(inner.size(), |bytes| inner.write(bytes));
        debug_assert_eq!(self.values.len(), start + inner.size());
        self.pair(key, CONTAINER);
    }

    /// Adds an array of numbers, fewer than entries that say how long they are.
    pub fn numbers(&mut self, key: &'a [u8], numbers: &[Number]) {
        self.align();
        let (mut words, mut values) = (Scratch::<u8>::default(), Scratch::<u8>::default());
        words.extend(&(ARRAY | numbers.len() as u32).to_ne_bytes());
        for (n, number) in numbers.iter().enumerate() {
            let start = values.len();
            // What pads a value belongs to it.
            pad(&mut values);
            append(&mut values, *number);
            let word = match n {
                0 => IS_END | values.len() as u32,
                _ => (values.len() - start) as u32,
            };
            words.extend(&(NUMERIC | word).to_ne_bytes());
        }
        self.values.extend(&words);
        self.values.extend(&values);
        self.pair(key, CONTAINER);
    }

    /// Adds what a map holds.
    pub fn value(&mut self, key: &'a [u8], value: Value<'a>) {
        match value {
            Value::Number(n) => self.number(key, n),
            Value::Child(child) => self.object(key, &written(child)),
        }
    }

    fn head(&self) -> usize {
        4 + 8 * self.pairs.len()
    }

    fn size(&self) -> usize {
        match self.pairs.len() {
            0 => 4,
            _ => (self.head() + self.keys).next_multiple_of(4) + self.values.len(),
        }
    }

    /// Fills `out`, as long as `size` says: the document, or the inner object as it stands in one.
    fn write(&self, out: &mut [u8]) {
        let (head, count) = (self.head(), self.pairs.len());
        let (entries, data) = out.split_at_mut(head);
        let (first, entries) = entries.split_at_mut(4);
        first.copy_from_slice(&(OBJECT | count as u32).to_ne_bytes());
        let (keys, values) = entries.split_at_mut(4 * count);
        // The last entry ended at `end`.
        let mut end = 0;
        let mut note = |entry: &mut [u8; 4], number: usize, kind: u32, new: usize| {
            let word = match number.is_multiple_of(STRIDE) {
                true => kind | IS_END | new as u32,
                false => kind | (new - end) as u32,
            };
            *entry = word.to_ne_bytes();
            end = new;
        };
        let mut at = 0;
        for (i, (pair, entry)) in self.pairs.iter().zip(keys.as_chunks_mut().0).enumerate() {
            interrupt::check_at(i + 1);
            data[at..at + pair.key.len()].copy_from_slice(pair.key);
            at += pair.key.len();
            note(entry, i, STRING, at);
        }
        let start = at.next_multiple_of(4);
        for (i, (pair, entry)) in self.pairs.iter().zip(values.as_chunks_mut().0).enumerate() {
            // What pads a value belongs to it.
            note(entry, count + i, pair.kind, start + pair.end as usize);
        }
        if count > 0 {
            data[at..start].fill(0);
            data[start..].copy_from_slice(&self.values);
        }
    }

    /// The document as a jsonb datum.
    pub fn datum(&self) -> Datum {
        new_varlena_with(self.size(), |bytes| self.write(bytes))
    }
}

/// The pairs of a map in the order of keys.
pub fn written(map: &CounterMap) -> Writer<'_> {
    written_with(map, |out, key, value| out.value(key, value))
}

/// The same, each pair written by `write`.
pub fn written_with<'a>(
    map: &'a CounterMap,
    write: impl Fn(&mut Writer<'a>, &'a [u8], Value<'a>),
) -> Writer<'a> {
    let mut out = Writer::new(map.len());
    for at in sorted(map).iter() {
        let (key, value) = map.entry(at.entry as usize);
        write(&mut out, key, value);
    }
    out
}

/// jsonb's order, shorter keys first, decided by the first eight bytes as one number where that will do.
#[derive(Clone, Copy)]
struct Sorted {
    length: u32,
    entry: u32,
    prefix: u64,
}

fn sorted(map: &CounterMap) -> Scratch<Sorted> {
    let mut order = Scratch::with_capacity(map.len());
    for (entry, (key, _)) in map.iter().enumerate() {
        let mut prefix = [0; 8];
        let length = key.len().min(8);
        prefix[..length].copy_from_slice(&key[..length]);
        let prefix = u64::from_be_bytes(prefix);
        order.push(Sorted { length: key.len() as u32, entry: entry as u32, prefix });
    }
    let mut compared = 0usize;
    order.sort_unstable_by(|a, b| {
        compared += 1;
        interrupt::check_at(compared);
        let quick = (a.length, a.prefix).cmp(&(b.length, b.prefix));
        quick.then_with(|| match a.length > 8 {
            true => map.entry(a.entry as usize).0.cmp(map.entry(b.entry as usize).0),
            false => std::cmp::Ordering::Equal,
        })
    });
    order
}
