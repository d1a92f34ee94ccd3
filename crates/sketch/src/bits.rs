//! Fields of up to 24 bits in a byte string, most significant bit first.

/// Reads `width`-bit fields (1 to 24) until fewer bits than that remain.
pub struct Reader<'a> {
    bytes: &'a [u8],
    width: u32,
    held: u64,
    count: u32,
}

impl<'a> Reader<'a> {
    /// Reads from the first bit of `bytes`.
    pub fn new(bytes: &'a [u8], width: u32) -> Reader<'a> {
        Reader { bytes, width, held: 0, count: 0 }
    }
}

impl Iterator for Reader<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.count < self.width {
            if let Some((chunk, rest)) = self.bytes.split_first_chunk::<4>() {
                self.held = self.held << 32 | u64::from(u32::from_be_bytes(*chunk));
                self.count += 32;
                self.bytes = rest;
            } else {
                while self.count < self.width {
                    let (&b, rest) = self.bytes.split_first()?;
                    self.held = self.held << 8 | u64::from(b);
                    self.count += 8;
                    self.bytes = rest;
                }
            }
        }
        self.count -= self.width;
        Some((self.held >> self.count) as u32 & ((1 << self.width) - 1))
    }
}

/// Appends fields to a byte string.
pub struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl<'a> Writer<'a> {
    /// Appends to `bytes`.
    pub fn new(bytes: &'a mut Vec<u8>) -> Writer<'a> {
        Writer { bytes, held: 0, count: 0 }
    }

    /// Appends the low `width` bits (1 to 24) of `value`.
    #[inline]
    pub fn put(&mut self, value: u32, width: u32) {
        self.held = self.held << width | u64::from(value);
        self.count += width;
        if self.count >= 32 {
            self.count -= 32;
            self.bytes.extend_from_slice(&((self.held >> self.count) as u32).to_be_bytes());
        }
    }

    /// Writes what is left, padded with zero bits.
    pub fn finish(mut self) {
        while self.count > 0 {
            let n = self.count.min(8);
            self.count -= n;
            self.bytes.push(((self.held >> self.count) << (8 - n)) as u8);
        }
    }
}
