//! JSONB counters: objects such as `{"de": 12, "fr": 3}`, counted from rows and added key by key.
//!
//! `count` makes a counter from rows and `merge` adds finished counters, both of any number in a
//! [`CounterMap`](crate::pg::counter_map::CounterMap) or, for two, straight from their sorted keys; `state` carries a
//! counter between the processes of a parallel query; `layout` reads and writes what jsonb stores.
mod count;
mod layout;
mod merge;
mod state;
