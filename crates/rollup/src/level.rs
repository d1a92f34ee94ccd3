//! Levels: the same groups in longer buckets.
use crate::bucket::{Bucket, level_of};
use crate::template::fill;

/// A level of a rollup: a table with the same columns, in longer buckets of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// Its table, qualified and quoted.
    pub target: String,
    /// Its buckets.
    pub bucket: Bucket,
    /// Its bucket of `$1`, a time key of the rollup.
    pub expression: String,
    /// The rollup's time zone is UTC.
    pub utc: bool,
}

impl Level {
    /// The level's bucket of a time key.
    pub fn bucket_of(&self, key: &str) -> String {
        fill(&self.expression, |n| (n == 1).then(|| key.to_string()))
    }

    /// The level's bucket of the expression of a time key.
    pub fn bucket_of_expression(&self, key: &str) -> String {
        level_of(&self.expression, key).unwrap_or_else(|| self.bucket_of(&format!("({key})")))
    }

    /// Of `levels`, finest first, which one the level at `at` is merged from: the longest whose buckets lie inside its own.
    /// None: the rollup's own table.
    pub fn finer(levels: &[Level], at: usize) -> Option<usize> {
        let level = &levels[at];
        levels[..at].iter().rposition(|finer| finer.bucket.nests_in(level.bucket, level.utc))
    }
}
