//! Where a sketch keeps its data: the heap, or memory the host manages.

use core::ops::DerefMut;

/// A growable array, as far as a sketch needs one.
pub trait Buffer<T>: DerefMut<Target = [T]> {
    /// Inserts `value` before position `at` (at most the length), growing the buffer by one.
    fn insert(&mut self, at: usize, value: T);
}

/// A source of buffers; cheap to copy, so that a sketch can carry it.
pub trait Memory: Copy {
    /// Holds the elements of an EXPLICIT sketch.
    type Words: Buffer<i64>;
    /// Holds one byte per register.
    type Bytes: Buffer<u8>;

    /// An empty buffer with room for `capacity` words.
    fn words(&self, capacity: usize) -> Self::Words;

    /// A buffer of `len` zero bytes.
    fn zeroed_bytes(&self, len: usize) -> Self::Bytes;
}

/// The global allocator.
#[derive(Clone, Copy, Default, Debug)]
pub struct Heap;

impl<T> Buffer<T> for Vec<T> {
    fn insert(&mut self, at: usize, value: T) {
        Vec::insert(self, at, value);
    }
}

impl Memory for Heap {
    type Words = Vec<i64>;
    type Bytes = Vec<u8>;

    fn words(&self, capacity: usize) -> Vec<i64> {
        Vec::with_capacity(capacity)
    }

    fn zeroed_bytes(&self, len: usize) -> Vec<u8> {
        vec![0; len]
    }
}
