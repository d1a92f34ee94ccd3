//! JSONB counters: objects such as `{"de": 12, "fr": 3}`, counted from rows and added key by key.
//!
//! `count` makes a counter from rows and `merge` adds finished counters, both of any number in a
//! [`State`](state::State) or, for two, straight from their sorted keys; `bound` keeps a state small, `codec` is its form
//! outside of memory; `rest` is what bounded counters have where they are stored; `layout` and `writer` read and write what jsonb stores; `read` answers questions about a counter.
mod batch;
mod bound;
mod codec;
mod count;
mod error;
mod layout;
mod merge;
mod read;
mod rest;
mod state;
mod writer;

/// Called once when the library is loaded.
pub fn init() {
    batch::init();
}
