//! jsonb as PostgreSQL stores it (src/include/utils/jsonb.h): reading objects in place.
//!
//! An object is a header word (number of pairs and flags), an entry word for each key and then for each value, the
//! bytes of the keys, and the values, numbers and inner objects padded to four bytes. An entry word holds a type and
//! the length of what it stands for, or, every 32nd, where it ends. Keys ascend by length, then by bytes.
use std::cmp::Ordering;

const COUNT: u32 = 0x0FFF_FFFF;
const SCALAR: u32 = 0x1000_0000;
pub(super) const OBJECT: u32 = 0x2000_0000;
pub(super) const ARRAY: u32 = 0x4000_0000;

const LENGTH: u32 = 0x0FFF_FFFF;
const TYPE: u32 = 0x7000_0000;
pub(super) const STRING: u32 = 0;
pub(super) const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
pub(super) const CONTAINER: u32 = 0x5000_0000;
pub(super) const IS_END: u32 = 0x8000_0000;

/// An array, as messages call one.
pub(super) const AN_ARRAY: &str = "an array";

/// A value of an object.
#[derive(Clone, Copy)]
pub enum Item<'a> {
    /// A numeric with its length word, six bytes at least.
    Number(&'a [u8]),
    /// An inner object.
    Object(Object<'a>),
    /// An array: what bounded counters have under one key.
    Array(Array<'a>),
    /// What no counter holds, by name.
    Other(&'static str),
}

/// An object in a document: its head, as many entries as that says, and what they stand for. Its parts are found where they
/// are asked for, so that an item stays small: a merge moves one for each key.
#[derive(Clone, Copy)]
pub struct Object<'a>(&'a [u8]);

/// An array as it stands, head and all.
#[derive(Clone, Copy)]
pub struct Array<'a>(&'a [u8]);

/// Two numbers, each as in [`Item::Number`], and a third, which may be missing.
pub type Few<'a> = ([&'a [u8]; 2], Option<&'a [u8]>);

/// A document: an object, or the name of what it is instead.
pub fn document(payload: &[u8]) -> Result<Object<'_>, &'static str> {
    container(payload)
}

fn container(bytes: &[u8]) -> Result<Object<'_>, &'static str> {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return Err("damaged") };
    let head = u32::from_ne_bytes(*head);
    if head & OBJECT == 0 {
        return Err(if head & SCALAR == 0 { AN_ARRAY } else { "a scalar" });
    }
    if rest.len() < (head & COUNT) as usize * 8 { Err("damaged") } else { Ok(Object(bytes)) }
}

impl<'a> Array<'a> {
    /// Its numbers, where it holds nothing but two or three.
    pub fn numbers(self) -> Option<Few<'a>> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        let count = (u32::from_ne_bytes(*head) & COUNT) as usize;
        if !(2..=3).contains(&count) {
            return None;
        }
        let (entries, data) = rest.split_at_checked(count * 4)?;
        let (mut found, mut start) = ([None; 3], 0usize);
        for (place, entry) in found.iter_mut().zip(entries.as_chunks().0) {
            let end = end_of(entry, start);
            let number = data.get(start.next_multiple_of(4)..end).filter(|number| number.len() >= 6)?;
            *place = (u32::from_ne_bytes(*entry) & TYPE == NUMERIC).then_some(number);
            place.as_ref()?;
            start = end;
        }
        Some(([found[0]?, found[1]?], found[2]))
    }
}

impl<'a> Object<'a> {
    /// An object of no pairs.
    pub const EMPTY: Object<'static> = Object(&OBJECT.to_ne_bytes());

    /// The entries of the keys, then as many of the values, and the bytes that they stand for.
    fn parts(self) -> (&'a [[u8; 4]], &'a [u8]) {
        let (entries, data) = self.0[4..].split_at(self.len() * 8);
        (entries.as_chunks().0, data)
    }

    /// Number of pairs.
    pub fn len(self) -> usize {
        let head = self.0.first_chunk().map_or(0, |head| u32::from_ne_bytes(*head));
        (head & COUNT) as usize
    }

    /// Bytes of the shortest key, the first; None where there is none.
    pub fn shortest_key(self) -> Option<usize> {
        let (entries, _) = self.parts();
        entries.first().map(|first| end_of(first, 0))
    }

    /// Keys and values, ascending by key.
    pub fn pairs(self) -> Pairs<'a> {
        let (entries, data) = self.parts();
        let (keys, values) = entries.split_at(entries.len() / 2);
        // The values begin where the last key ends.
        let value_end = keys.iter().fold(0, |end, entry| end_of(entry, end));
        Pairs { data, keys: keys.iter(), key_end: 0, values: values.iter(), value_end }
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
        let bytes = self.data.get(start.next_multiple_of(4)..self.value_end);
        let item = match (u32::from_ne_bytes(*value) & TYPE, bytes) {
            (NUMERIC, Some(number)) if number.len() >= 6 => Item::Number(number),
            (kind, bytes) => no_number(kind, bytes),
        };
        Some((key, item))
    }
}

/// What a value is that is no number. By itself, because nearly all are numbers.
#[inline(never)]
fn no_number(kind: u32, bytes: Option<&[u8]>) -> Item<'_> {
    match (kind, bytes) {
        (CONTAINER, Some(bytes)) => match container(bytes) {
            Ok(object) => Item::Object(object),
            Err(AN_ARRAY) => Item::Array(Array(bytes)),
            Err(what) => Item::Other(what),
        },
        (NUMERIC | CONTAINER, _) => Item::Other("damaged"),
        (STRING, _) => Item::Other("a string"),
        (FALSE | TRUE, _) => Item::Other("a boolean"),
        (NULL, _) => Item::Other("null"),
        _ => Item::Other("an unexpected value"),
    }
}

/// The order of keys.
#[inline]
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}
