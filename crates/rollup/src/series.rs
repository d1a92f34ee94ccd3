//! The query of a series: stored and raw groups of one level, cut at both ends, with its gaps filled.
//!
//! Parameters, all timestamptz: `$1` the first bucket of the rollup's own that belongs to the series, `$2` and `$3` the first
//! bucket of the level that lies inside it whole and the end of the last one, `$4` the end of the series, `$5` an array of
//! the beginnings of all buckets of the level. Times of a rollup without time zone are read as if they were UTC.
use crate::bucket::Kind;
use crate::level::Level;
use crate::live::united;
use crate::plan::{Column, Plan};
use crate::sql::ident;
use crate::statements::coarser;

/// What stands in buckets without rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Nothing: there is no such bucket.
    None,
    /// NULL.
    Null,
    /// 0 in counts and sums, else NULL.
    Zero,
    /// What the last bucket before has.
    Last,
    /// What lies on the line between the buckets before and after: of numbers; else NULL.
    Linear,
}

impl Fill {
    /// By its name.
    pub fn of(name: &str) -> Option<Fill> {
        Some(match name {
            "none" => Fill::None,
            "null" => Fill::Null,
            "zero" => Fill::Zero,
            "last" => Fill::Last,
            "linear" => Fill::Linear,
            _ => return None,
        })
    }
}

/// What a series is read from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The plan of the rollup.
    pub plan: &'a Plan,
    /// The type of its time key.
    pub kind: Kind,
    /// The live view of the level, or of the rollup itself, qualified and quoted.
    pub view: &'a str,
    /// The level, and a query of the rollup's own groups with the kept columns, by which both ends are cut; None where
    /// the buckets of `view` are read whole.
    pub ends: Option<(&'a Level, &'a str)>,
}

impl Source<'_> {
    fn key(&self) -> String {
        ident(&self.plan.time_key)
    }

    /// A parameter as a time of the time key.
    fn moment(&self, parameter: &str) -> String {
        match self.kind {
            Kind::Zoned => parameter.into(),
            Kind::Local | Kind::Date => format!("({parameter} AT TIME ZONE 'UTC')"),
        }
    }

    fn between(&self, from: &str, to: &str) -> String {
        let key = self.key();
        format!("{key} >= {} AND {key} < {}", self.moment(from), self.moment(to))
    }

    /// The buckets that have rows.
    fn groups(&self, columns: &str) -> String {
        let whole =
            |from, to| format!("SELECT {columns} FROM {} WHERE {}", self.view, self.between(from, to));
        let Some((level, own)) = self.ends else { return whole("$1", "$4") };
        let ends = format!(
            "(SELECT * FROM ({own}) p WHERE {} OR {}) f",
            self.between("$1", "$2"),
            self.between("$3", "$4")
        );
        let ends = united(self.plan, &coarser(self.plan, level, &ends));
        format!("{} UNION ALL SELECT {columns} FROM ({ends}) e", whole("$2", "$3"))
    }

    /// The query of the series, whose columns are `names`, all of them visible ones of the plan.
    pub fn query(&self, names: &[String], fill: Fill) -> String {
        let columns = quoted(names.iter());
        let others: Vec<&String> =
            names.iter().filter(|n| self.is_key(n) && **n != self.plan.time_key).collect();
        let order = quoted(std::iter::once(&self.plan.time_key).chain(others.iter().copied()));
        let groups = self.groups(&columns);
        if fill == Fill::None {
            return format!("SELECT {columns} FROM ({groups}) s ORDER BY {order}");
        }
        let by = match others.is_empty() {
            true => String::new(),
            false => format!("PARTITION BY {} ", quoted(others.iter().copied())),
        };
        let gap = apart(names, GAP);
        let filled: Vec<String> = names.iter().map(|name| self.filled(name, fill, &gap)).collect();
        if others.is_empty() {
            return self.of_one(names, fill, &columns, &groups, &filled);
        }
        format!(
            "WITH s AS MATERIALIZED ({groups}), g AS (SELECT {columns}, false AS {gap} FROM s UNION ALL SELECT {}, true FROM ({}) m) \
             SELECT {} FROM g WINDOW w AS ({by}ORDER BY {}) ORDER BY {order}",
            names.iter().map(|name| self.in_gap(name, fill)).collect::<Vec<_>>().join(", "),
            self.gaps(&others),
            filled.join(", "),
            self.key()
        )
    }

    /// The query of a rollup without other keys, which has one series: its groups beside the buckets that there are.
    fn of_one(&self, names: &[String], fill: Fill, columns: &str, groups: &str, filled: &[String]) -> String {
        let there = apart(names, "there");
        let mut given: Vec<String> = names.iter().map(|name| self.in_one(name, fill, &there)).collect();
        given.push(format!("s.{there} IS NULL AS {}", apart(names, GAP)));
        format!(
            "SELECT {} FROM (SELECT {} FROM ({}) b FULL JOIN (SELECT {columns}, true AS {there} FROM ({groups}) q) s ON s.{key} OPERATOR(pg_catalog.=) b.{key}) g \
             WINDOW w AS (ORDER BY {key}) ORDER BY {key}",
            filled.join(", "),
            given.join(", "),
            self.grid(),
            key = self.key()
        )
    }

    /// The beginnings of all buckets, as times of the time key.
    fn grid(&self) -> String {
        let at = match self.kind {
            Kind::Date => format!("{}::pg_catalog.date", self.moment("b.\"the time\"")),
            _ => self.moment("b.\"the time\""),
        };
        format!("SELECT {at} AS {} FROM pg_catalog.unnest($5) b (\"the time\")", self.key())
    }

    /// The keys of buckets that no group has, for each series, which has a group at least.
    fn gaps(&self, others: &[&String]) -> String {
        let (key, grid, others) = (self.key(), self.grid(), quoted(others.iter().copied()));
        format!(
            "SELECT {others}, {key} FROM (SELECT DISTINCT {others} FROM s) k CROSS JOIN ({grid}) b EXCEPT SELECT {others}, {key} FROM s"
        )
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.plan.column(name)
    }

    fn is_key(&self, name: &str) -> bool {
        self.column(name).is_some_and(Column::is_key)
    }

    /// A column of the one series of a rollup without other keys: of its group, or of the bucket that has none.
    fn in_one(&self, name: &str, fill: Fill, there: &str) -> String {
        let plain = ident(name);
        match self.column(name) {
            Some(c) if c.is_key() => format!("coalesce(s.{plain}, b.{plain}) AS {plain}"),
            Some(c) if fill == Fill::Zero && is_total(c) => {
                format!("CASE WHEN s.{there} THEN s.{plain} ELSE {} END AS {plain}", self.in_gap(name, fill))
            }
            _ => format!("s.{plain}"),
        }
    }

    /// A column of a bucket without rows.
    fn in_gap(&self, name: &str, fill: Fill) -> String {
        match self.column(name) {
            Some(c) if c.is_key() => ident(name),
            Some(c) if fill == Fill::Zero && is_total(c) => format!("0::{}", c.sql_type),
            Some(c) => format!("NULL::{}", c.sql_type),
            None => "NULL".into(),
        }
    }

    /// A column of the series.
    fn filled(&self, name: &str, fill: Fill, gap: &str) -> String {
        let plain = ident(name);
        let key = self.key();
        match (fill, self.column(name)) {
            (Fill::Last, Some(c)) if !c.is_key() => {
                format!("CASE WHEN {gap} THEN rollup.locf({plain}) OVER w ELSE {plain} END AS {plain}")
            }
            (Fill::Linear, Some(c)) if is_number(&c.sql_type) && !c.is_key() => {
                let at = match self.kind {
                    Kind::Date => format!("{key}::pg_catalog.timestamp"),
                    _ => key,
                };
                format!(
                    "CASE WHEN {gap} THEN (rollup_internal.interpolate({plain}::pg_catalog.float8, {at}, {plain}) OVER w)::{} ELSE {plain} END AS {plain}",
                    c.sql_type
                )
            }
            _ => plain,
        }
    }
}

/// The column that tells buckets without rows.
const GAP: &str = "a gap";

/// A name that no column has, quoted.
fn apart(names: &[String], name: &str) -> String {
    let mut name = name.to_string();
    while names.contains(&name) {
        name.push('_');
    }
    ident(&name)
}

fn quoted<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| ident(name)).collect::<Vec<_>>().join(", ")
}

fn is_number(sql_type: &str) -> bool {
    let name = sql_type.trim_start_matches("pg_catalog.");
    let plain = ["smallint", "integer", "bigint", "real", "double precision", "numeric"];
    plain.contains(&name)
        || name.starts_with("numeric(")
        || ["int2", "int4", "int8", "float4", "float8"].contains(&name)
}

/// A count or a sum: nothing is 0 of it.
fn is_total(c: &Column) -> bool {
    is_number(&c.sql_type) && c.merge().is_some_and(|m| m.unite.contains("pg_catalog.sum("))
}
