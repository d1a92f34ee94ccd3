//! Memory for sketches that outlive a call: buffers that lie in one PostgreSQL memory context.
//!
//! A sketch kept between rows must be charged to `work_mem` and vanish with its group, so its buffers are
//! palloc'd. Resetting the context frees them without running `drop`, which is why they own nothing else.
use crate::pg::aggcontext::Context;
use hll_ddsketch::Cell;
use hll_sketch::{Buffer, Memory};
use pgrx::pg_sys;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Buffers are made in this memory context.
#[derive(Clone, Copy, Debug)]
pub struct ContextMemory {
    context: pg_sys::MemoryContext,
}

impl ContextMemory {
    /// # Safety
    /// `context` must outlive every buffer made through this value.
    pub unsafe fn new(context: pg_sys::MemoryContext) -> ContextMemory {
        ContextMemory { context }
    }

    /// The context of the running call, freed by the executor when the call's row is done.
    pub fn current() -> ContextMemory {
        // SAFETY: a backend always has a current context, and what a call makes in it dies with it.
        unsafe { ContextMemory { context: pg_sys::CurrentMemoryContext } }
    }

    /// That of an aggregate's states: what lies in a state goes with it.
    pub fn of(context: Context) -> ContextMemory {
        ContextMemory { context: context.raw() }
    }

    /// The raw context, for the other files of the fence.
    pub fn raw(self) -> pg_sys::MemoryContext {
        self.context
    }
}

/// A growing array of plain values in a memory context.
#[derive(Debug)]
pub struct ContextVec<T: Copy> {
    data: NonNull<T>,
    len: usize,
    capacity: usize,
    context: pg_sys::MemoryContext,
    owns: PhantomData<T>,
}

impl<T: Copy> ContextVec<T> {
    fn empty(context: pg_sys::MemoryContext, capacity: usize) -> ContextVec<T> {
        let mut v = ContextVec { data: NonNull::dangling(), len: 0, capacity: 0, context, owns: PhantomData };
        if capacity > 0 {
            v.resize(capacity);
        }
        v
    }

    fn zeroed(context: pg_sys::MemoryContext, len: usize) -> ContextVec<u8> {
        if len == 0 {
            return ContextVec::empty(context, 0);
        }
        // SAFETY: the context is live (ContextMemory::new); an allocation never returns NULL, it raises.
        let data =
            unsafe { NonNull::new_unchecked(pg_sys::MemoryContextAllocZero(context, len).cast::<u8>()) };
        ContextVec { data, len, capacity: len, context, owns: PhantomData }
    }

    fn resize(&mut self, capacity: usize) {
        let bytes = capacity * size_of::<T>();
        // SAFETY: the context is live; the old chunk came from it; neither call returns NULL.
        unsafe {
            let p = if self.capacity == 0 {
                pg_sys::MemoryContextAlloc(self.context, bytes)
            } else {
                pg_sys::repalloc(self.data.as_ptr().cast(), bytes)
            };
            self.data = NonNull::new_unchecked(p.cast());
        }
        self.capacity = capacity;
    }
}

impl<T: Copy> Drop for ContextVec<T> {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: the chunk came from this context, which outlives the buffer.
            unsafe { pg_sys::pfree(self.data.as_ptr().cast()) };
        }
    }
}

impl<T: Copy> Deref for ContextVec<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were written; palloc aligns to 8 bytes, dangling is aligned for len 0.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for ContextVec<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl<T: Copy> Buffer<T> for ContextVec<T> {
    fn insert(&mut self, at: usize, value: T) {
        assert!(at <= self.len, "insert at {at} of {}", self.len);
        if self.len == self.capacity {
            // What a chunk leaves behind is lost where all groups grow at once: fewer, longer steps while small.
            let factor = if self.capacity < 256 { 4 } else { 2 };
            self.resize((self.capacity * factor).max(4));
        }
        // SAFETY: at <= len < capacity, so both ranges lie in the chunk.
        unsafe {
            let p = self.data.as_ptr().add(at);
            std::ptr::copy(p, p.add(1), self.len - at);
            p.write(value);
        }
        self.len += 1;
    }
}

impl Memory for ContextMemory {
    type Words = ContextVec<i64>;
    type Bytes = ContextVec<u8>;

    fn words(&self, capacity: usize) -> ContextVec<i64> {
        ContextVec::empty(self.context, capacity)
    }

    fn zeroed_bytes(&self, len: usize) -> ContextVec<u8> {
        ContextVec::<u8>::zeroed(self.context, len)
    }
}

/// So many plain values in a memory context.
#[derive(Debug)]
pub struct ContextBlock<T: Copy> {
    data: NonNull<T>,
    len: u32,
    owns: PhantomData<T>,
}

impl<T: Copy> Drop for ContextBlock<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the chunk came from a context that outlives the block (ContextMemory), and is freed once.
            unsafe { pg_sys::pfree(self.data.as_ptr().cast()) };
        }
    }
}

impl<T: Copy> Deref for ContextBlock<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were zeroed; palloc aligns to 8 bytes, dangling is aligned for len 0.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len as usize) }
    }
}

impl<T: Copy> DerefMut for ContextBlock<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len as usize) }
    }
}

impl hll_ddsketch::Memory for ContextMemory {
    type Block<T: Cell> = ContextBlock<T>;

    fn zeroed<T: Cell>(&self, len: usize) -> ContextBlock<T> {
        const { assert!(align_of::<T>() <= 8, "palloc aligns to 8 bytes") }
        if len == 0 {
            return ContextBlock { data: NonNull::dangling(), len: 0, owns: PhantomData };
        }
        // SAFETY: the context is live; an allocation never returns NULL, it raises, and so it does where there are more
        // than 1 GB, for which 32 bits are enough. All bytes zero is a value of every Cell.
        let data = unsafe {
            NonNull::new_unchecked(pg_sys::MemoryContextAllocZero(self.context, len * size_of::<T>()).cast())
        };
        ContextBlock { data, len: len as u32, owns: PhantomData }
    }
}
