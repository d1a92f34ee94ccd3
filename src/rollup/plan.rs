//! The plan of a rollup: what the analysed SELECT became, as a typed document kept in `rollup.definition`.
use crate::pg::query::Joins;
use hll_rollup::{Bucket, sql::Time};
use serde::{Deserialize, Serialize};

/// How values of one column become one. `$1` is the column, `$2` the same of another row; `$3` and `$4` are the
/// companion's, where there is one. In `unite`, `$1` is the column and `$2` the companion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// Two values, neither NULL, as one.
    pub combine: String,
    /// Many values as one.
    pub unite: String,
    /// A column that says which of two values stays.
    pub companion: Option<String>,
    /// The value is never NULL.
    pub never_null: bool,
}

/// What a column is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Role {
    /// A group key.
    Key,
    /// An aggregate that is merged.
    Value(Merge),
    /// Computed from other columns: `$1`, `$2`, … in `template` are those.
    Result {
        /// The expression.
        template: String,
        /// The columns it takes.
        of: Vec<String>,
        /// A generated column of the table; else a column of the live view alone.
        stored: bool,
    },
}

/// One column of the rollup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, qualified.
    pub sql_type: String,
    /// Its collation, where it is not the type's own.
    pub collation: Option<String>,
    /// Its expression over the source, as the query has it.
    pub written: String,
    /// What is run for a key or a value.
    pub expression: String,
    /// A part of some result, not asked for by itself.
    pub hidden: bool,
    /// What it is.
    pub role: Role,
}

impl Column {
    /// How it merges, where it does.
    pub fn merge(&self) -> Option<&Merge> {
        match &self.role {
            Role::Value(m) => Some(m),
            _ => None,
        }
    }

    /// It is a group key.
    pub fn is_key(&self) -> bool {
        self.role == Role::Key
    }

    /// It is written by a run.
    pub fn is_kept(&self) -> bool {
        !matches!(self.role, Role::Result { .. })
    }

    /// It is a column of the table, not of the live view alone.
    pub fn in_table(&self) -> bool {
        !matches!(self.role, Role::Result { stored: false, .. })
    }
}

/// A rollup as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Columns in the order of the select list; hidden ones last.
    pub columns: Vec<Column>,
    /// The FROM clause, where the query joins lookup tables.
    pub joins: Option<Joins>,
    /// The name of the source inside the query.
    pub alias: String,
    /// WHERE of the SELECT.
    pub filter: Option<String>,
    /// The date or time column of the source.
    pub time_column: String,
    /// That column is a timestamptz.
    pub time_zoned: bool,
    /// The rollup's own time column.
    pub time_key: String,
    /// What is known of the buckets of the time key.
    pub bucket: Bucket,
    /// The time key is made of nothing but the time column, by functions of PostgreSQL's own whose buckets are known.
    #[serde(default)]
    pub plain_key: bool,
    /// Changes of raw rows are followed, in buckets of this time zone.
    #[serde(default)]
    pub follows: Option<String>,
    /// No group key can be NULL.
    pub keys_never_null: bool,
    /// The column that counts the rows of each group, where there is one.
    #[serde(default)]
    pub rows: Option<String>,
}

impl Plan {
    /// The group keys.
    pub fn keys(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| c.is_key())
    }

    /// The mergeable columns.
    pub fn values(&self) -> impl Iterator<Item = (&Column, &Merge)> {
        self.columns.iter().filter_map(|c| c.merge().map(|m| (c, m)))
    }

    /// Keys and mergeable columns: what a run writes.
    pub fn kept(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| c.is_kept())
    }

    /// The time column of the source.
    pub fn time(&self) -> Time<'_> {
        Time { column: &self.time_column, zoned: self.time_zoned }
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}
