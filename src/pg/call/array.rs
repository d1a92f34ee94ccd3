//! Growing arrays of plain values in a memory context: PostgreSQL sees their size, and running out of memory is an
//! ordinary error.
use crate::pg::aggcontext::Context;
use crate::pg::error::raise;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;

/// A growing array whose owner keeps the memory context. Never dropped: the context owns the memory.
pub struct Array<T: Copy> {
    data: *mut T,
    len: u32,
    capacity: u32,
}

impl<T: Copy> Array<T> {
    /// No items, no memory.
    pub const EMPTY: Array<T> = Array { data: std::ptr::null_mut(), len: 0, capacity: 0 };

    /// Appends `items`. `context` is the same in every call on one array.
    #[inline]
    pub fn extend(&mut self, context: Context, items: &[T]) {
        let needed = self.len as usize + items.len();
        if needed > self.capacity as usize {
            self.grow(context, needed);
        }
        // SAFETY: the capacity holds `needed`, and `items` is not inside this array, which is borrowed mutably.
        unsafe {
            std::ptr::copy_nonoverlapping(items.as_ptr(), self.data.add(self.len as usize), items.len())
        };
        self.len = needed as u32;
    }

    /// Makes room for `capacity` items in all.
    #[inline(never)]
    fn grow(&mut self, context: Context, capacity: usize) {
        // Blocks are powers of two, because that is what palloc hands out.
        let bytes = (capacity * size_of::<T>()).next_power_of_two().max(64);
        let Ok(capacity) = u32::try_from(bytes / size_of::<T>()) else {
            raise(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("an array of {capacity} items is too long"),
            );
        };
        // SAFETY: data is NULL or a block of this context; both calls give `bytes` or raise an error.
        self.data = unsafe {
            match self.data.is_null() {
                true => pg_sys::MemoryContextAllocHuge(context.raw(), bytes).cast(),
                false => pg_sys::repalloc_huge(self.data.cast(), bytes).cast(),
            }
        };
        self.capacity = capacity;
    }

    /// Number of items.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no items.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items.
    #[inline(always)]
    pub fn slice(&self) -> &[T] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: the first `len` items are written.
        unsafe { std::slice::from_raw_parts(self.data, self.len as usize) }
    }

    /// The items, to be changed.
    #[inline(always)]
    pub fn slice_mut(&mut self) -> &mut [T] {
        if self.data.is_null() {
            return &mut [];
        }
        // SAFETY: the first `len` items are written, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len as usize) }
    }

    /// Forgets the items from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len as u32);
    }

    /// Frees the block and forgets it.
    pub fn clear(&mut self) {
        if !self.data.is_null() {
            // SAFETY: a block of a live context, freed once.
            unsafe { pg_sys::pfree(self.data.cast()) };
        }
        *self = Array::EMPTY;
    }
}

impl Array<u8> {
    /// Appends `len` zeros.
    pub fn extend_zeroed(&mut self, context: Context, len: usize) {
        let needed = self.len as usize + len;
        if needed > self.capacity as usize {
            self.grow(context, needed);
        }
        // SAFETY: the capacity holds `needed` bytes.
        unsafe { self.data.add(self.len as usize).write_bytes(0, len) };
        self.len = needed as u32;
    }
}

/// A growing array in the memory context of the running call, which frees it.
pub struct Scratch<T: Copy> {
    array: Array<T>,
    context: Context,
}

impl<T: Copy> Default for Scratch<T> {
    fn default() -> Self {
        Scratch { array: Array::EMPTY, context: Context::current() }
    }
}

impl<T: Copy> Scratch<T> {
    /// An empty array with room for `capacity` items.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut scratch = Scratch::default();
        if capacity > 0 {
            scratch.array.grow(scratch.context, capacity);
        }
        scratch
    }

    /// Appends one item.
    #[inline]
    pub fn push(&mut self, item: T) {
        self.array.extend(self.context, &[item]);
    }

    /// Appends items.
    #[inline]
    pub fn extend(&mut self, items: &[T]) {
        self.array.extend(self.context, items);
    }
}

impl Scratch<u8> {
    /// Appends `len` bytes that `write` fills in.
    pub fn extend_with(&mut self, len: usize, write: impl FnOnce(&mut [u8])) {
        let start = self.array.len();
        self.array.extend_zeroed(self.context, len);
        write(&mut self.array.slice_mut()[start..]);
    }
}

impl<T: Copy> std::ops::Deref for Scratch<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        self.array.slice()
    }
}

impl<T: Copy> std::ops::DerefMut for Scratch<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        self.array.slice_mut()
    }
}
