//! A stack whose values lie in one memory context, each in a chunk of its own: it goes with the context, without `drop`.
use crate::pg::memory::ContextMemory;
use hll_sketch::Stack;
use pgrx::pg_sys;

struct Node<T> {
    value: T,
    below: *mut Node<T>,
}

/// Values in a memory context, the last one on top.
pub struct ContextStack<T> {
    top: *mut Node<T>,
    memory: ContextMemory,
}

impl<T> ContextStack<T> {
    /// An empty one.
    pub fn new(memory: ContextMemory) -> ContextStack<T> {
        const { assert!(align_of::<Node<T>>() <= 8, "palloc aligns to 8 bytes") }
        ContextStack { top: std::ptr::null_mut(), memory }
    }
}

impl<T> Stack<T> for ContextStack<T> {
    fn push(&mut self, value: T) {
        let below = self.top;
        // SAFETY: the chunk is big enough, aligned, and written before it is reachable; the context outlives the stack
        // (ContextMemory).
        unsafe {
            let node = pg_sys::MemoryContextAlloc(self.memory.raw(), size_of::<Node<T>>()).cast::<Node<T>>();
            node.write(Node { value, below });
            self.top = node;
        }
    }

    fn pop(&mut self) -> Option<T> {
        if self.top.is_null() {
            return None;
        }
        // SAFETY: the node was written by `push`, and is moved out of once: it is freed here.
        unsafe {
            let Node { value, below } = self.top.read();
            pg_sys::pfree(self.top.cast());
            self.top = below;
            Some(value)
        }
    }

    fn last(&self) -> Option<&T> {
        // SAFETY: NULL, or a node that `push` wrote; nothing writes to it while the stack is borrowed.
        unsafe { self.top.as_ref().map(|node| &node.value) }
    }
}
