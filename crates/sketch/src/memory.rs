//! Where a sketch's growable memory comes from.
use core::ops::DerefMut;

/// A source of buffers: the Rust heap in tests, a PostgreSQL memory context in aggregates.
pub trait Memory: Copy {
    /// A growable list of hashes.
    type Words: Buffer<i64>;
    /// The registers, one byte each.
    type Bytes: Buffer<u8>;
    /// An empty list with room for `capacity` hashes.
    fn words(&self, capacity: usize) -> Self::Words;
    /// `len` bytes, all zero.
    fn zeroed_bytes(&self, len: usize) -> Self::Bytes;
}

/// A growable slice.
pub trait Buffer<T>: DerefMut<Target = [T]> {
    /// Inserts `value` before position `at`, which is at most the length.
    fn insert(&mut self, at: usize, value: T);
}

/// The Rust heap.
#[derive(Clone, Copy, Default, Debug)]
pub struct Heap;

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

impl<T> Buffer<T> for Vec<T> {
    fn insert(&mut self, at: usize, value: T) {
        Vec::insert(self, at, value);
    }
}
