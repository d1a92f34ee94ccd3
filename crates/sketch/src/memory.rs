//! Where a sketch's growable memory comes from.
use core::ops::DerefMut;

/// A source of memory: the heap here, a memory context inside a database.
pub trait Memory: Copy {
    /// Hashes of an explicit sketch.
    type Words: Buffer<i64>;
    /// Registers, one byte each.
    type Bytes: Buffer<u8>;
    /// No words yet, room for `capacity`.
    fn words(&self, capacity: usize) -> Self::Words;
    /// `len` zero bytes.
    fn zeroed_bytes(&self, len: usize) -> Self::Bytes;
}

/// A growable array.
pub trait Buffer<T>: DerefMut<Target = [T]> {
    /// Puts `value` at position `at` (at most the length) and moves the rest up.
    fn insert(&mut self, at: usize, value: T);
}

/// The heap of the Rust program.
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
