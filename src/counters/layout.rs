//! jsonb as PostgreSQL stores it (src/include/utils/jsonb.h): reading objects in place, and writing them.
//!
//! An object is a header word (number of pairs and flags), an entry word for each key and then for each value, the
//! bytes of the keys, and the values, numbers and inner objects padded to four bytes. An entry word holds a type and
//! the length of what it stands for, or, every 32nd, where it ends. Keys ascend by length, then by bytes.
use std::cmp::Ordering;

const COUNT: u32 = 0x0FFF_FFFF;
const SCALAR: u32 = 0x1000_0000;
const OBJECT: u32 = 0x2000_0000;

const LENGTH: u32 = 0x0FFF_FFFF;
const TYPE: u32 = 0x7000_0000;
const STRING: u32 = 0;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;
const IS_END: u32 = 0x8000_0000;
/// Every so many entries one says where it ends instead of how long it is.
const STRIDE: usize = 32;

/// A value of an object.
#[derive(Clone, Copy)]
pub enum Item<'a> {
    /// A numeric with its length word.
    Number(&'a [u8]),
    /// An inner object.
    Object(Object<'a>),
    /// What no counter holds, by name.
    Other(&'static str),
}

/// An object in a document.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    entries: &'a [[u8; 4]],
    data: &'a [u8],
}

/// A document: an object, or the name of what it is instead.
pub fn document(payload: &[u8]) -> Result<Object<'_>, &'static str> {
    container(payload)
}

fn container(bytes: &[u8]) -> Result<Object<'_>, &'static str> {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return Err("damaged") };
    let head = u32::from_ne_bytes(*head);
    if head & OBJECT == 0 {
        return Err(if head & SCALAR == 0 { "an array" } else { "a scalar" });
    }
    let words = (head & COUNT) as usize * 2;
    match rest.split_at_checked(words * 4) {
        Some((entries, data)) => Ok(Object { entries: entries.as_chunks().0, data }),
        None => Err("damaged"),
    }
}

impl<'a> Object<'a> {
    /// An object of no pairs.
    pub const EMPTY: Object<'static> = Object { entries: &[], data: &[] };

    /// Keys and values, ascending by key.
    pub fn pairs(self) -> Pairs<'a> {
        let (keys, values) = self.entries.split_at(self.entries.len() / 2);
        let mut pairs =
            Pairs { data: self.data, keys: keys.iter(), key_end: 0, values: values.iter(), value_end: 0 };
        // The values begin where the last key ends.
        pairs.value_end = keys.iter().fold(0, |end, entry| end_of(entry, end));
        pairs
    }
}

#[inline(always)]
fn end_of(entry: &[u8; 4], start: usize) -> usize {
    let entry = u32::from_ne_bytes(*entry);
    let length = (entry & LENGTH) as usize;
    if entry & IS_END == 0 { start + length } else { length }
}

/// A walk over the pairs of an object.
#[derive(Clone)]
pub struct Pairs<'a> {
    data: &'a [u8],
    keys: std::slice::Iter<'a, [u8; 4]>,
    key_end: usize,
    values: std::slice::Iter<'a, [u8; 4]>,
    value_end: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = (self.keys.next()?, self.values.next()?);
        let key_start = self.key_end;
        self.key_end = end_of(key, key_start);
        let key = self.data.get(key_start..self.key_end).unwrap_or_default();
        let start = self.value_end;
        self.value_end = end_of(value, start);
        let bytes = |start: usize| self.data.get(start..self.value_end);
        let item = match u32::from_ne_bytes(*value) & TYPE {
            NUMERIC => bytes(start.next_multiple_of(4)).map_or(Item::Other("damaged"), Item::Number),
            CONTAINER => match bytes(start.next_multiple_of(4)).map(container) {
                Some(Ok(object)) => Item::Object(object),
                Some(Err(what)) => Item::Other(what),
                None => Item::Other("damaged"),
            },
            STRING => Item::Other("a string"),
            FALSE | TRUE => Item::Other("a boolean"),
            NULL => Item::Other("null"),
            _ => Item::Other("an unexpected value"),
        };
        Some((key, item))
    }
}

/// The order of keys.
#[inline]
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A document larger than jsonb can be.
#[derive(Debug)]
pub struct TooLarge;

/// Pairs of one object on their way into a document.
#[derive(Default)]
pub struct Writer<'a> {
    pairs: Vec<(&'a [u8], u32, std::ops::Range<usize>)>,
    values: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Adds a pair whose value is a numeric, which `write` appends with its length word.
    #[inline]
    pub fn number(&mut self, key: &'a [u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.values.len();
        write(&mut self.values);
        self.pairs.push((key, NUMERIC, start..self.values.len()));
    }

    /// Adds a pair whose value is an object.
    pub fn object(&mut self, key: &'a [u8], inner: Writer<'_>) -> Result<(), TooLarge> {
        let start = self.values.len();
        self.values.extend(inner.finish()?);
        self.pairs.push((key, CONTAINER, start..self.values.len()));
        Ok(())
    }

    /// Puts the pairs into the order of keys; for pairs that were not added in it.
    pub fn sort(&mut self) {
        self.pairs.sort_unstable_by(|a, b| order(a.0, b.0));
    }

    /// The document, or the inner object as it stands in one: both begin at a multiple of four.
    pub fn finish(&self) -> Result<Vec<u8>, TooLarge> {
        let count = self.pairs.len();
        let keys: usize = self.pairs.iter().map(|(key, ..)| key.len()).sum();
        let head = 4 + 8 * count;
        // Each value may be padded by up to three bytes.
        let most = head + keys + self.values.len() + 3 * count;
        if most > LENGTH as usize {
            return Err(TooLarge);
        }
        let mut out = Vec::with_capacity(most);
        out.extend((OBJECT | count as u32).to_ne_bytes());
        out.resize(head, 0);
        let mut total = 0;
        let mut note = |out: &mut Vec<u8>, entry: usize, kind: u32| {
            // What was appended since the last entry, padding included, belongs to this one.
            let length = out.len() - head - total;
            total += length;
            let word = if entry.is_multiple_of(STRIDE) {
                kind | IS_END | total as u32
            } else {
                kind | length as u32
            };
            out[4 + 4 * entry..][..4].copy_from_slice(&word.to_ne_bytes());
        };
        for (i, (key, ..)) in self.pairs.iter().enumerate() {
            out.extend_from_slice(key);
            note(&mut out, i, STRING);
        }
        for (i, (_, kind, range)) in self.pairs.iter().enumerate() {
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend_from_slice(&self.values[range.clone()]);
            note(&mut out, count + i, *kind);
        }
        Ok(out)
    }
}

/// Appends a whole number as a numeric: length word, sign and weight, digits of base 10,000
/// without the zeros at the end (src/backend/utils/adt/numeric.c, the short form).
pub fn write_whole(value: i128, out: &mut Vec<u8>) {
    // An i128 is below 10^40.
    let mut digits = [0u16; 10];
    let (mut rest, mut first) = (value.unsigned_abs(), digits.len());
    if let Ok(mut small) = u64::try_from(rest) {
        while small != 0 {
            first -= 1;
            digits[first] = (small % 10_000) as u16;
            small /= 10_000;
        }
    } else {
        while rest != 0 {
            first -= 1;
            digits[first] = (rest % 10_000) as u16;
            rest /= 10_000;
        }
    }
    let all = &digits[first..];
    let weight = all.len().saturating_sub(1) as u16;
    let stored = all.len() - all.iter().rev().take_while(|digit| **digit == 0).count();
    let size = 6 + 2 * stored;
    out.extend(((size as u32) << 2).to_ne_bytes());
    let sign = if value < 0 { 0x2000 } else { 0 };
    out.extend((0x8000 | sign | weight).to_ne_bytes());
    for digit in &all[..stored] {
        out.extend(digit.to_ne_bytes());
    }
}
