//! The compact form of a counter aggregate's state: what the type stores and sends, the same on every machine.
//!
//! A version byte; `max_keys + 1`, or 0 where there is none, and then the floor (f64) where there is one; a map. Where bounded
//! counters were added, which have no floor, the version is 2, and `max_keys` and two values follow it: what was taken, and what
//! came without a key; a map. A map is
//! its number of keys, and for each key its length, its bytes, a tag and the value: the tags 0 to 16 a mantissa with that many
//! decimals, 32 a length and the text of a numeric, 33 a map. Of a bounded state each key but `*` ends with how far
//! it may be behind (f64). Lengths and counts are variable-length integers, seven bits a byte, lowest first; mantissas too,
//! after moving the sign to the lowest bit; f64 little-endian.
use super::bound::{Bound, REST};
use super::error::{MAX_DEPTH, NUMBER, OBJECT, refused, too_deep, unequal_bounds};
use super::rest::Rest;
use super::state::State;
use crate::pg::aggcontext::Context;
use crate::pg::array::Array;
use crate::pg::counter_map::{CounterMap, Value};
use crate::pg::decimal::{Decimal, MAX_SCALE, Number};
use crate::pg::interrupt;
use crate::pg::native;
use crate::pg::numeric::Num;
use std::ffi::CString;

const VERSION: u8 = 1;
const WITH_REST: u8 = 2;
const TEXT: u8 = 32;
const CHILD: u8 = 33;

/// What is not the compact form of a state.
#[derive(Debug)]
pub struct Damaged;

struct Out<'a> {
    bytes: &'a mut Array<u8>,
    context: Context,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(self.context, bytes);
    }

    fn varint(&mut self, mut n: u64) {
        let mut bytes = [0; 10];
        let mut length = 0;
        loop {
            bytes[length] = n as u8 & 0x7F | if n > 0x7F { 0x80 } else { 0 };
            length += 1;
            n >>= 7;
            if n == 0 {
                return self.put(&bytes[..length]);
            }
        }
    }

    fn number(&mut self, n: Number) {
        match n {
            Number::Small(n) => {
                self.put(&[n.scale]);
                self.varint((n.mantissa << 1 ^ n.mantissa >> 63) as u64);
            }
            Number::Big(n) => {
                let text = n.text().as_bytes();
                self.put(&[TEXT]);
                self.varint(text.len() as u64);
                self.put(text);
            }
        }
    }

    fn map(&mut self, map: &CounterMap, bound: Option<&Bound>) {
        self.varint(map.len() as u64);
        for (i, (key, value)) in map.iter().enumerate() {
            interrupt::check_at(i + 1);
            self.varint(key.len() as u64);
            self.put(key);
            match value {
                Value::Number(n) => self.number(n),
                Value::Child(child) => {
                    self.put(&[CHILD]);
                    self.map(child, None);
                }
            }
            if let Some(bound) = bound.filter(|_| key != REST) {
                self.put(&bound.behind(i).to_le_bytes());
            }
        }
    }
}

/// Appends the compact form of `state` to `bytes`, which grows in `context`.
pub fn encode(state: &State, bytes: &mut Array<u8>, context: Context) {
    let mut out = Out { bytes, context };
    if let Some(rest) = state.rest {
        out.put(&[WITH_REST]);
        out.varint(u64::from(rest.max_keys));
        [rest.taken, rest.unknown].into_iter().for_each(|n| out.number(n));
        return out.map(&state.map, None);
    }
    out.put(&[VERSION]);
    match &state.bound {
        None => out.varint(0),
        Some(bound) => {
            out.varint(u64::from(bound.max_keys()) + 1);
            out.put(&bound.floor().to_le_bytes());
        }
    }
    out.map(&state.map, state.bound.as_ref());
}

/// A compact state, read as far as its map.
pub struct Flat<'a> {
    bound: Option<(u32, f64)>,
    rest: Option<Rest>,
    map: Input<'a>,
}

impl<'a> Flat<'a> {
    /// Reads what precedes the map.
    pub fn open(bytes: &'a [u8]) -> Result<Flat<'a>, Damaged> {
        let mut rest = Input(bytes);
        match rest.byte()? {
            VERSION => {}
            WITH_REST => {
                let max_keys = u32::try_from(rest.varint()?).map_err(|_| Damaged)?;
                let [taken, unknown] = [rest.tagged()?, rest.tagged()?];
                if taken.is_negative() || unknown.is_negative() {
                    return Err(Damaged);
                }
                return Ok(Flat { bound: None, rest: Some(Rest { taken, max_keys, unknown }), map: rest });
            }
            _ => return Err(Damaged),
        }
        let bound = match rest.varint()?.checked_sub(1) {
            None => None,
            Some(max_keys) => Some((u32::try_from(max_keys).map_err(|_| Damaged)?, rest.float()?)),
        };
        Ok(Flat { bound, rest: None, map: rest })
    }

    /// The bound on the keys.
    pub fn max_keys(&self) -> Option<u32> {
        self.bound.map(|(max_keys, _)| max_keys)
    }

    /// Adds everything to `state`.
    pub fn add_to(mut self, state: &mut State) -> Result<(), Damaged> {
        match (&mut state.bound, self.bound) {
            (None, None) => {
                self.map.map(&mut state.map, &mut Vec::new())?;
                self.rest.into_iter().for_each(|rest| state.join_rest(rest));
                state.cut_if_large();
            }
            (Some(bound), Some((max_keys, floor))) if bound.max_keys() == max_keys => {
                let mut joining = bound.join(&mut state.map, floor);
                for _ in 0..self.map.varint()? {
                    let key = self.map.key()?;
                    let tag = self.map.byte()?;
                    let n = self.map.number(tag)?;
                    let behind = if key == REST { 0.0 } else { self.map.float()? };
                    let added = joining.add(key, n, behind);
                    added.unwrap_or_else(|why| refused(why, &[key], NUMBER));
                }
                joining.finish();
            }
            (ours, theirs) => {
                unequal_bounds(ours.as_ref().map(|b| b.max_keys()), theirs.map(|(max_keys, _)| max_keys))
            }
        }
        if self.map.0.is_empty() { Ok(()) } else { Err(Damaged) }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        self.0.split_off_first().copied().ok_or(Damaged)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Damaged> {
        let length = usize::try_from(length).map_err(|_| Damaged)?;
        self.0.split_off(..length).ok_or(Damaged)
    }

    fn varint(&mut self) -> Result<u64, Damaged> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(Damaged);
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(Damaged)
    }

    /// No state holds a float that is negative or not a number.
    fn float(&mut self) -> Result<f64, Damaged> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Damaged)?;
        self.0 = rest;
        let n = f64::from_le_bytes(*bytes);
        if n.is_finite() && n >= 0.0 { Ok(n) } else { Err(Damaged) }
    }

    fn key(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.varint()?;
        let key = self.take(length)?;
        if native::is_text(key) { Ok(key) } else { Err(Damaged) }
    }

    fn tagged(&mut self) -> Result<Number, Damaged> {
        let tag = self.byte()?;
        self.number(tag)
    }

    fn number(&mut self, tag: u8) -> Result<Number, Damaged> {
        match tag {
            0..=MAX_SCALE => {
                let n = self.varint()?;
                let mantissa = (n >> 1) as i64 ^ -((n & 1) as i64);
                Ok(Number::Small(Decimal { mantissa, scale: tag }))
            }
            TEXT => {
                let length = self.varint()?;
                let text = CString::new(self.take(length)?).map_err(|_| Damaged)?;
                Number::read(&Num::parse(&text).bytes()[4..]).ok_or(Damaged)
            }
            _ => Err(Damaged),
        }
    }

    fn map(&mut self, map: &mut CounterMap, path: &mut Vec<&'a [u8]>) -> Result<(), Damaged> {
        if path.len() >= MAX_DEPTH {
            too_deep(path);
        }
        let mut at = 0;
        for i in 0..self.varint()? {
            interrupt::check_at(i as usize + 1);
            let key = self.key()?;
            path.push(key);
            match self.byte()? {
                CHILD => match map.child(key) {
                    Ok(child) => self.map(child, path)?,
                    Err(why) => refused(why, path, OBJECT),
                },
                tag => {
                    let n = self.number(tag)?;
                    let added = map.obtain_near(key, at).and_then(|found| {
                        at = found + 1;
                        map.add_at(found, n)
                    });
                    added.unwrap_or_else(|why| refused(why, path, NUMBER));
                }
            }
            path.pop();
        }
        Ok(())
    }
}
