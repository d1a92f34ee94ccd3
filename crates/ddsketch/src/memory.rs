//! Where the growable memory of a sketch comes from.
use core::fmt::Debug;
use core::ops::DerefMut;

/// Plain values of which all bytes zero is one, aligned to at most eight bytes. Implemented for what sketches keep.
pub trait Cell: Copy + Default + Debug + PartialEq + 'static {}

impl Cell for u32 {}
impl Cell for u64 {}
impl Cell for (i32, u32) {}
impl Cell for (i32, u64) {}

/// A source of blocks: the Rust heap in tests, a PostgreSQL memory context in aggregates.
pub trait Memory: Copy + Debug {
    /// A slice of a fixed length, freed when it is dropped.
    type Block<T: Cell>: DerefMut<Target = [T]> + Debug;
    /// `len` values, all zero.
    fn zeroed<T: Cell>(&self, len: usize) -> Self::Block<T>;
}

/// The Rust heap.
#[derive(Clone, Copy, Default, Debug)]
pub struct Heap;

impl Memory for Heap {
    type Block<T: Cell> = Vec<T>;

    fn zeroed<T: Cell>(&self, len: usize) -> Vec<T> {
        vec![T::default(); len]
    }
}
