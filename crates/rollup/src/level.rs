//! Levels: the same groups in longer buckets, or of fewer keys, or both.
use crate::bucket::{Bucket, level_of};
use crate::plan::{Plan, Role};
use crate::template::fill;
use std::borrow::Cow;

/// A level of a rollup: a table with the same columns in longer buckets of time, or without some of the keys.
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
    /// The keys that it has besides the time; None: all.
    pub keys: Option<Vec<String>>,
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

    /// Whether it has a key of the rollup, which is not that of time.
    pub fn has_key(&self, key: &str) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.iter().any(|own| own == key))
    }

    /// Whether each group of `finer` lies inside one of its own: in time, and by keys.
    fn is_made_of(&self, finer: &Level) -> bool {
        let keys = match &self.keys {
            None => finer.keys.is_none(),
            Some(keys) => keys.iter().all(|key| finer.has_key(key)),
        };
        keys && (finer.bucket == self.bucket || finer.bucket.nests_in(self.bucket, self.utc))
    }

    /// Of `levels`, finest first, which one the level at `at` is merged from: the one of the longest buckets and then the fewest
    /// keys whose groups lie inside its own. None: the rollup's own table.
    pub fn finer(levels: &[Level], at: usize) -> Option<usize> {
        let level = &levels[at];
        levels[..at].iter().rposition(|finer| level.is_made_of(finer))
    }
}

impl Plan {
    /// The plan of a table of the rollup: without the keys that a level drops, and what is computed from them. Of the plan of a
    /// level it is that plan itself.
    pub fn of_level(&self, level: Option<&Level>) -> Cow<'_, Plan> {
        self.with_keys(level.and_then(|level| level.keys.as_deref()))
    }

    /// The same where a level has these keys besides the time; None: all of the rollup's.
    pub fn with_keys(&self, keys: Option<&[String]>) -> Cow<'_, Plan> {
        let Some(keys) = keys else { return Cow::Borrowed(self) };
        let mut plan = self.clone();
        plan.columns.retain(|c| !c.is_key() || c.name == self.time_key || keys.contains(&c.name));
        loop {
            let there: Vec<String> = plan.columns.iter().map(|c| c.name.clone()).collect();
            plan.columns.retain(|c| match &c.role {
                Role::Result { of, .. } => of.iter().all(|part| there.contains(part)),
                _ => true,
            });
            if plan.columns.len() == there.len() {
                return Cow::Owned(plan);
            }
        }
    }
}
