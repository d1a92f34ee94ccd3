//! Lookup tables that are followed: groups are stored by the columns by which the query joins, and joined when they are read.
//!
//! Invariant: the raw rows of a stored group agree in all that the query joins by, so that each of them has the partners in the
//! lookup tables that the group has. Values of groups merge. So what is read is what the query over the raw rows gives,
//! whatever the lookup tables hold at that moment: where a row has no partner, where two partners have one name, and where a
//! row has several partners, too.
use crate::plan::{Column, Joins, Plan};
use crate::sql::ident;
use crate::statements::list;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A column of a lookup table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// What the query calls it.
    pub called: String,
    /// What it is called today.
    pub now: String,
    /// It is joined by.
    pub joins: bool,
}

/// What a query joins, whose rollup is stored by the columns that it joins by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    /// The FROM clause: `$1`, `$2`, … stand for the tables.
    pub from: Joins,
    /// Which of them is the source.
    pub source: usize,
    /// What the source is called in the clause.
    pub alias: String,
    /// Of each table the columns that the query names; none of the source.
    pub columns: Vec<Vec<Named>>,
    /// Columns of the rollup's table that the query joins by, and does not show.
    pub by: Vec<String>,
    /// Group keys made of columns of lookup tables, each with its place among the columns that are shown.
    pub keys: Vec<(usize, Column)>,
}

impl Followed {
    /// The FROM clause over `groups`, a query with the columns of the rollup's table, in the place of the source.
    fn over(&self, groups: &str) -> String {
        self.from.filled(|n, name| match n == self.source {
            true => format!("({groups})"),
            false => lookup(name, self.columns.get(n - 1).map_or(&[], Vec::as_slice)),
        })
    }

    /// Whether both read the same tables, join them so and show the same of them.
    pub fn is_same(&self, other: &Followed) -> bool {
        let tables = |f: &Followed| f.from.tables.iter().map(|table| table.id).collect::<Vec<_>>();
        self == other && tables(self) == tables(other)
    }
}

/// A lookup table with its columns as the query calls them.
fn lookup(table: &str, columns: &[Named]) -> String {
    let columns: Vec<String> =
        columns.iter().map(|c| format!("x.{} AS {}", ident(&c.now), ident(&c.called))).collect();
    format!("(SELECT {} FROM {table} x)", columns.join(", "))
}

impl Plan {
    /// The plan of what users see: where lookup tables are followed, their columns in the place of those by which they are
    /// joined; else the plan itself.
    pub fn seen(&self) -> Cow<'_, Plan> {
        let Some(followed) = &self.followed else { return Cow::Borrowed(self) };
        let mut plan = self.clone();
        plan.followed = None;
        plan.columns.retain(|c| !followed.by.contains(&c.name));
        for (at, key) in &followed.keys {
            let shown = plan.columns.iter().filter(|c| !c.hidden).count();
            plan.columns.insert((*at).min(shown), key.clone());
        }
        Cow::Owned(plan)
    }

    /// Groups with the kept columns of what users see, several of which may be one, of `groups` with those of the rollup's table.
    pub fn joined<'a>(&self, groups: &'a str) -> Cow<'a, str> {
        let Some(followed) = &self.followed else { return Cow::Borrowed(groups) };
        let seen = self.seen();
        let columns = list(seen.kept(), |c| {
            let name = ident(&c.name);
            match followed.keys.iter().any(|(_, key)| key == c) {
                true => format!("{} AS {name}", c.expression),
                false => format!("{}.{name}", ident(&followed.alias)),
            }
        });
        Cow::Owned(format!("SELECT {columns} FROM {}", followed.over(groups)))
    }
}
