//! JSONB counters: objects such as `{"de": 12, "fr": 3}`, counted from rows and added key by key.
//!
//! `count` makes a counter from rows, `merge` adds finished counters, `state` carries a counter between the
//! processes of a parallel query. All of them share one map ([`CounterMap`](crate::pg::counter_map::CounterMap)),
//! so that every way to add gives the same answer.
mod count;
mod merge;
mod state;
