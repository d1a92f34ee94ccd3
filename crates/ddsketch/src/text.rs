//! The text form, which says everything that the bytes say:
//! `scale=5 count=4 sum=-1 min=-5 max=3 zero=1 negative=74:1 positive=-1:1,50:1`.
//!
//! What is not known is `?`. A sum that is a double is written as one, any other as a whole number and a power of two, in
//! hexadecimal, `0x1f.p-3` being 31/8; count is what the others add up to.
use crate::exact::{LIMBS, POINT, Whole, bit_length, magnitude, negated, quotient};
use crate::{DdSketch, Error, Memory};
use core::fmt;
use core::str::FromStr;

impl<M: Memory> fmt::Display for DdSketch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scale={} count={}", self.scale, self.count)?;
        if self.count == 0 {
            return Ok(());
        }
        let whole = self.sum.whole();
        match quotient(&whole, 1) {
            _ if self.unknown.sum => f.write_str(" sum=?")?,
            rounded if is_exactly(&whole, rounded) => write!(f, " sum={}", Shortest(rounded))?,
            _ => write_whole(&whole, f)?,
        }
        for (name, value) in [("min", self.min()), ("max", self.max())] {
            match value {
                Some(value) => write!(f, " {name}={}", Shortest(value))?,
                None => write!(f, " {name}=?")?,
            }
        }
        if self.zero > 0 {
            write!(f, " zero={}", self.zero)?;
        }
        for (name, half) in [("negative", &self.negative), ("positive", &self.positive)] {
            for (n, (index, count)) in half.iter().enumerate() {
                if n == 0 {
                    write!(f, " {name}={index}:{count}")?;
                } else {
                    write!(f, ",{index}:{count}")?;
                }
            }
        }
        Ok(())
    }
}

/// A double in as few digits as read back as it.
struct Shortest(f64);

impl fmt::Display for Shortest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_infinite() => f.write_str(if value > 0.0 { "Infinity" } else { "-Infinity" }),
            value if value == 0.0 || (1e-5..1e17).contains(&value.abs()) => write!(f, "{value}"),
            value => write!(f, "{value:e}"),
        }
    }
}

fn is_exactly(whole: &Whole, value: f64) -> bool {
    let mut sum = crate::exact::Sum::<crate::Heap>::zero();
    if value.is_finite() {
        sum.add_times(value, 1, crate::Heap);
    }
    value.is_finite() && sum.whole() == *whole
}

fn write_whole(whole: &Whole, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (negative, magnitude) = magnitude(whole);
    let low = (0..LIMBS * 64).find(|bit| magnitude[bit / 64] >> (bit % 64) & 1 == 1).unwrap_or(0);
    f.write_str(if negative { " sum=-0x" } else { " sum=0x" })?;
    let digits = (bit_length(&magnitude) - low).div_ceil(4);
    for digit in (0..digits).rev() {
        let bit = |n: usize| {
            let at = low + digit * 4 + n;
            magnitude.get(at / 64).map_or(0, |limb| limb >> (at % 64) & 1) << n
        };
        write!(f, "{:x}", bit(0) | bit(1) | bit(2) | bit(3))?;
    }
    write!(f, ".p{}", low as i32 - POINT)
}

fn read_whole(text: &str) -> Option<Whole> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (digits, exponent) = text.strip_prefix("0x")?.split_once(".p")?;
    let low = exponent.parse::<i32>().ok()?.checked_add(POINT)?;
    let low = usize::try_from(low).ok()?;
    let mut whole = [0; LIMBS];
    for (n, digit) in digits.bytes().rev().enumerate() {
        let value = u64::from((digit as char).to_digit(16)?);
        for bit in (0..4).filter(|bit| value >> bit & 1 == 1) {
            let at = low.checked_add(n * 4 + bit)?;
            // The highest bit is that of the sign.
            *whole.get_mut(at / 64).filter(|_| at + 1 < LIMBS * 64)? |= 1 << (at % 64);
        }
    }
    Some(if negative { negated(&whole) } else { whole })
}

fn number<T: FromStr>(text: &str, what: &'static str) -> Result<T, Error> {
    // Rust reads a plus sign; what was written has none.
    text.parse().ok().filter(|_| !text.starts_with('+')).ok_or(Error::Text(what))
}

fn double(text: &str) -> Result<f64, Error> {
    let value: f64 = number(text, "min, max and sum are numbers, or ? where they are not known")?;
    if value.is_nan() {
        return Err(Error::Text("NaN is no value"));
    }
    Ok(value + 0.0)
}

/// What a text says of all values together.
#[derive(Default)]
struct Facts<'a> {
    sum: Option<&'a str>,
    min: Option<&'a str>,
    max: Option<&'a str>,
}

impl<M: Memory> DdSketch<M> {
    /// Reads the text form, checking all of it.
    pub fn parse(text: &str, memory: M) -> Result<Self, Error> {
        let mut words = text.split_ascii_whitespace().map(|word| word.split_once('='));
        let mut sketch = match words.next() {
            Some(Some(("scale", scale))) => {
                DdSketch::new(number(scale, "the scale is a whole number")?, memory)
                    .map_err(|_| Error::Text("the scale is from -4 to 10"))?
            }
            _ => return Err(Error::Text("it begins with scale=")),
        };
        let scale = sketch.scale;
        let (mut count, mut facts) = (None, Facts::default());
        let mut seen = Vec::new();
        for word in words {
            let (name, value) = word.ok_or(Error::Text("it is made of words such as count=3"))?;
            if seen.contains(&name) {
                return Err(Error::Text("a word comes twice"));
            }
            seen.push(name);
            match name {
                "count" => count = Some(number::<u64>(value, "the count is a whole number")?),
                "sum" => facts.sum = Some(value),
                "min" => facts.min = Some(value),
                "max" => facts.max = Some(value),
                "zero" => {
                    sketch.zero = number(value, "zeros are a whole number")?;
                    sketch.grow(sketch.zero)?;
                }
                "negative" | "positive" => sketch.parse_half(value, scale, name == "negative")?,
                _ => {
                    return Err(Error::Text(
                        "the words are scale, count, sum, min, max, zero, negative, positive",
                    ));
                }
            }
        }
        if count.is_some_and(|count| count != sketch.count) {
            return Err(Error::Text("the count is not that of the buckets"));
        }
        sketch.with_words(facts)
    }

    /// With sum, min and max as they are written.
    fn with_words(self, Facts { sum, min, max }: Facts) -> Result<Self, Error> {
        if self.count == 0 {
            return if [sum, min, max].iter().any(Option::is_some) {
                Err(Error::Text("nothing is known of no values"))
            } else {
                Ok(self)
            };
        }
        let known = |word: Option<&str>| word.filter(|word| *word != "?").map(double).transpose();
        let whole = match sum {
            Some(word) if word.contains("0x") => Some(
                read_whole(word).ok_or(Error::Text("the sum is a number, or a whole one as in 0x1f.p-3"))?,
            ),
            _ => None,
        };
        let sum = if whole.is_some() { Some(0.0) } else { known(sum)? };
        if sum.is_some_and(f64::is_infinite) {
            return Err(Error::Text("the sum of the finite values is finite"));
        }
        let memory = self.memory;
        let sketch = self.with_facts(sum, known(min)?, known(max)?);
        let mut sketch = sketch.map_err(|_| Error::Text("min or max is where no values are"))?;
        if let Some(whole) = whole {
            let most = 1024 + POINT as usize + (64 - sketch.count.leading_zeros()) as usize;
            if bit_length(&magnitude(&whole).1) > most {
                return Err(Error::Text("the sum is larger than so many values have"));
            }
            sketch.sum.add_whole(&whole, memory);
        }
        Ok(sketch)
    }

    fn parse_half(&mut self, text: &str, scale: i32, is_negative: bool) -> Result<(), Error> {
        const BUCKET: &str = "a bucket is an index and a count, as in 31:1";
        let mut last = None;
        for bucket in text.split(',') {
            let (index, count) = bucket.split_once(':').ok_or(Error::Text(BUCKET))?;
            let (index, count): (i32, u64) = (number(index, BUCKET)?, number(count, BUCKET)?);
            let (lowest, highest) = crate::mapping::index_range(scale);
            if !(lowest..=highest).contains(&index) || count == 0 || last.is_some_and(|last| last >= index) {
                return Err(Error::Text(
                    "buckets come in order, each one that there is, with a count above 0",
                ));
            }
            last = Some(index);
            self.add_outside(is_negative, i64::from(index), scale, count)?;
        }
        Ok(())
    }
}
