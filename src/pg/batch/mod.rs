//! Grouping a page of a table at a time: a plan node in the place of an aggregation and the scan below it.
//!
//! PostgreSQL's executor takes one row at a time through every node and every expression. Here the scan stays PostgreSQL's
//! own: it decides which pages are read and which of their rows are visible, with all that this means, snapshots and
//! predicate locks, partitions left out, parallel workers, the privileges of the statement. But where it gives the first
//! row of a page (`page`), all rows of that page are taken. Their columns are laid out next to each other (`walk`),
//! conditions leave some of them (`condition`), expressions are computed a column at a time (`program`), groups found in
//! one table (`groups`) and their states changed directly (`states`, and the kernels that features hand over).
//!
//! Invariant: the executor is the definition of what is right. What is not known here is an expression that the
//! executor evaluates on the row (`Ground`), an aggregate whose transition function is called as it would call it
//! (`called`), or a query that is left to it (`offer`). Conditions are looked at in the executor's order, each for the
//! rows alone that passed those before it, so that what a security barrier hides reaches no function.
mod called;
mod calls;
pub mod column;
mod compile;
mod condition;
mod emit;
mod explain;
mod expressions;
mod groups;
mod known;
mod node;
mod offer;
mod page;
mod plan;
mod program;
mod recognise;
mod run;
mod states;
mod taken;
mod walk;

pub use column::{Column, ROWS, Rows};
pub use known::{Function, Hash, Kernel, is_ours, know};
pub use offer::{Asked, Wanted, install, offer};
pub use plan::PLAIN_NAME as NODE;
pub use states::States;
