//! The plan of a rollup: what its query has become, a typed document that `rollup.definition` stores.
//!
//! Expressions in it are SQL texts with qualified names. Nothing here looks into them.
use crate::bucket::{Bucket, Kind};
use crate::followed::Followed;
use crate::sql::{Time, ident};
use crate::template::fill;
use serde::{Deserialize, Serialize};

/// A FROM clause of several tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Joins {
    /// `$1`, `$2`, … stand for the tables.
    from: String,
    /// The tables. They are not a part of the document: whoever reads it says what they are called today.
    #[serde(skip)]
    pub tables: Vec<Joined>,
}

/// A table of a FROM clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its object id.
    pub id: u32,
    /// Its name, qualified and quoted.
    pub name: String,
}

impl Joins {
    /// The clause `from`, in which `$1`, `$2`, … stand for `tables`.
    pub fn new(from: String, tables: Vec<Joined>) -> Joins {
        Joins { from, tables }
    }

    /// The clause, with the names of the tables.
    pub fn text(&self) -> String {
        self.filled(|_, name| name.to_string())
    }

    /// The clause, with what `table` makes of the number of a table, from 1, and its name.
    pub fn filled(&self, table: impl Fn(usize, &str) -> String) -> String {
        fill(&self.from, |n| n.checked_sub(1).and_then(|at| self.tables.get(at)).map(|of| table(n, &of.name)))
    }

    /// Whether both are the same clause, whatever the tables are.
    pub fn same_clause(&self, other: &Joins) -> bool {
        self.from == other.from
    }
}

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
    /// The lookup tables that are joined when the rollup is read, in the place of those that are joined when rows are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<Followed>,
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
    /// The level that was asked for, by its name, where the rollup is there to make it of: other names are of no use to users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<String>,
}

/// A plan that does not hold together: a name that no column of it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a plan has no column {}", self.0)
    }
}

impl std::error::Error for Missing {}

impl Plan {
    /// Whether every column that the plan names is one of its columns. Each plan is asked when it is made or read; the other
    /// functions rely on it.
    pub fn check(&self) -> Result<(), Missing> {
        let mut named = vec![&self.time_key];
        named.extend(&self.rows);
        for c in &self.columns {
            match &c.role {
                Role::Key => {}
                Role::Value(m) => named.extend(&m.companion),
                Role::Result { of, .. } => named.extend(of),
            }
        }
        match named.into_iter().find(|name| self.column(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(Missing(name.clone())),
        }
    }

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
    /// The column that is the time key.
    pub fn key_column(&self) -> &Column {
        self.column(&self.time_key).expect("the plan was checked")
    }

    /// The bucket of a raw row: the expression of the time key.
    pub fn bucket_of_row(&self) -> String {
        format!("({})", self.key_column().expression)
    }

    /// The kind of the time key; None where it is of none that is known.
    pub fn key_kind(&self) -> Option<Kind> {
        Kind::of(&self.key_column().sql_type)
    }

    /// The FROM clause over `source`, qualified and quoted.
    pub fn from_clause(&self, source: &str) -> String {
        from_clause(self.joins.as_ref(), source, &self.alias)
    }

    /// The condition of the query, behind others; empty where it has none.
    pub fn and_filter(&self) -> String {
        self.filter.as_ref().map_or(String::new(), |f| format!(" AND ({f})"))
    }
}

/// The FROM clause of a query over `source`, qualified and quoted.
pub fn from_clause(joins: Option<&Joins>, source: &str, alias: &str) -> String {
    match joins {
        Some(joins) => joins.text(),
        None => format!("{source} AS {}", ident(alias)),
    }
}
