//! The options of rollup.create.
use super::watch::OnChange;
use pgrx::datum::Interval;
use std::collections::BTreeMap;

/// What rollup.create is told besides name and query.
pub struct Options {
    /// How often the worker runs it.
    pub every: Option<Interval>,
    /// Coarser levels: name and width.
    pub coarser: BTreeMap<String, String>,
    /// The time zone of its buckets.
    pub timezone: String,
    /// Lookup tables may be joined, as they are when a row is counted.
    pub joins: bool,
    /// The table that becomes the rollup's, where it is there.
    pub into: Option<String>,
    /// Rows that are there are counted.
    pub backfill: bool,
    /// What it does when raw rows change.
    pub on_change: OnChange,
}
