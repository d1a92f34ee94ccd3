//! Where a rollup is not what rollup.create is asked for once more: each difference with both values.
use super::catalog::{self, Definition, Must};
use super::citus;
use super::definition;
use super::error::Result;
use super::follow;
use super::levels::Shape;
use super::naming;
use super::options::{Joining, Options};
use super::renamed;
use crate::pg::deparse::shown_name;
use crate::pg::query::Select;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::ident;
use hll_rollup::{Column, Followed, Plan, Role, from_clause, statements};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

/// What takes a difference away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A column of the catalog.
    Setting,
    /// Columns that come and go.
    Columns,
    /// A level that comes or goes.
    Level,
    /// Another rollup in its place: it counts other rows, or counts them otherwise.
    Anew,
}

/// One difference.
#[derive(Debug, Clone)]
pub struct Difference {
    what: String,
    is: String,
    asked: String,
    /// What takes it away.
    pub how: How,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, not {}", self.what, self.is, self.asked)
    }
}

/// For people.
pub fn told(all: &[Difference]) -> String {
    all.iter().map(Difference::to_string).collect::<Vec<_>>().join("; ")
}

/// What was found.
#[derive(Default)]
pub struct Asked {
    /// All differences.
    pub all: Vec<Difference>,
    /// Levels that are not asked for, or have other buckets or keys.
    pub drop_levels: Vec<String>,
    /// Levels that are not there, or have other buckets or keys, and what they are to be.
    pub add_levels: Vec<(String, Shape)>,
}

impl Asked {
    fn add(&mut self, how: How, what: &str, is: impl Into<String>, asked: impl Into<String>) {
        self.all.push(Difference { what: what.into(), is: is.into(), asked: asked.into(), how });
    }
}

/// Where a rollup, which has all its parts, is not what the query and the options say. Levels count where COARSER names some;
/// where the table came from, INTO_TABLE, does not, nor does BACKFILL: both say how it is made.
pub fn of(d: &Definition, select: Select, options: &Options) -> Result<Asked> {
    let mut found = Asked::default();
    if select.source == d.source_oid {
        of_query(d, select, options, &mut found)?;
    } else {
        found.add(How::Anew, "the source", shown_name(d.source_oid), shown_name(select.source));
    }
    if !d.timezone.eq_ignore_ascii_case(&options.timezone) {
        found.add(How::Anew, "timezone", d.timezone.as_str(), options.timezone.as_str());
    }
    of_options(d, options, &mut found)?;
    if options.names_levels {
        of_levels(d, options, &mut found)?;
    }
    Ok(found)
}

fn of_query(d: &Definition, mut select: Select, options: &Options, found: &mut Asked) -> Result<()> {
    let old = d.plan()?;
    let (source, _, _) = d.parts()?;
    // Names were read as the caller reads them; all that follows is done as the owner, whose expressions it plans.
    let _acting = d.owner.map(ActingAs::role);
    citus::create::prepare_again(d, &mut select)?;
    let (select, followed) = match options.joins {
        Joining::Follow => follow::split(select, &options.timezone)?,
        _ => (select, None),
    };
    let from = from_clause(select.joins.as_ref(), source, &select.alias);
    let mut new = definition::plan(&select, &from, &options.timezone)?;
    if select.joins != old.joins || followed.is_some() != old.followed.is_some() {
        let shown = |followed: &Option<Followed>, from: String| match followed {
            Some(followed) => format!("{}, followed", one_line(&followed.from.text())),
            None => from,
        };
        let (is, asked) = (shown(&old.followed, old.from_clause(source)), shown(&followed, from));
        return {
            found.add(How::Anew, "FROM", is, asked);
            Ok(())
        };
    }
    of_followed(&old, followed.as_ref(), found);
    renamed::agree(d, &old, &mut new, source)?;
    if new.filter != old.filter {
        let text = |filter: &Option<String>| filter.clone().unwrap_or_else(|| "true".into());
        found.add(How::Anew, "WHERE", text(&old.filter), text(&new.filter));
    }
    let keys = |plan: &Plan| {
        let all: Vec<String> = plan.keys().map(|c| format!("{} AS {}", c.written, ident(&c.name))).collect();
        all.join(", ")
    };
    let says = |plan: &Plan| {
        let key =
            |c: &Column| (c.name.clone(), c.expression.clone(), c.sql_type.clone(), c.collation.clone());
        plan.keys().map(key).collect::<std::collections::BTreeSet<_>>()
    };
    if says(&old) != says(&new) || old.time_key != new.time_key {
        found.add(How::Anew, "GROUP BY", keys(&old), keys(&new));
    }
    of_values(&old, &new, found);
    Ok(())
}

/// Columns that are no keys.
fn of_values(old: &Plan, new: &Plan, found: &mut Asked) {
    let values = |plan: &Plan| -> Vec<Column> {
        plan.columns.iter().filter(|c| !c.hidden && !c.is_key()).cloned().collect()
    };
    let (there, asked) = (values(old), values(new));
    for c in &there {
        match asked.iter().find(|a| a.name == c.name) {
            None => found.add(How::Columns, &format!("column {}", c.name), c.written.as_str(), "there"),
            Some(a) if !same(old, c, new, a) => {
                found.add(
                    How::Columns,
                    &format!("column {}", c.name),
                    c.written.as_str(),
                    a.written.as_str(),
                );
            }
            Some(_) => {}
        }
    }
    for a in asked.iter().filter(|a| !there.iter().any(|c| c.name == a.name)) {
        found.add(How::Columns, &format!("column {}", a.name), "not there", a.written.as_str());
    }
}

/// Where lookup tables are joined otherwise, or others are.
fn of_followed(old: &Plan, asked: Option<&Followed>, found: &mut Asked) {
    let Some((was, now)) = old.followed.as_ref().zip(asked).filter(|(was, now)| !was.is_same(now)) else {
        return;
    };
    let told = |followed: &Followed| {
        let keys = followed.keys.iter().map(|(_, key)| format!("{} AS {}", key.written, ident(&key.name)));
        format!("{} by {}", one_line(&followed.from.text()), keys.collect::<Vec<_>>().join(", "))
    };
    found.add(How::Anew, "what is joined", told(was), told(now));
}

/// A text for a message.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn same(old: &Plan, c: &Column, new: &Plan, a: &Column) -> bool {
    (&c.sql_type, &c.collation) == (&a.sql_type, &a.collation)
        && c.in_table() == a.in_table()
        && expression(old, c) == expression(new, a)
}

/// What a column is computed by, whatever its parts are called.
pub fn expression(plan: &Plan, c: &Column) -> String {
    match &c.role {
        Role::Result { template, of, .. } => statements::result(c, template, of, |name| {
            plan.column(name).map_or_else(String::new, |part| expression(plan, part))
        }),
        _ => c.expression.clone(),
    }
}

fn of_options(d: &Definition, options: &Options, found: &mut Asked) -> Result<()> {
    let _acting = ActingAs::catalog();
    let args: &[DatumWithOid] = &[d.id.into(), options.every.into()];
    let stored = catalog::write(
        "SELECT coalesce(d.every::pg_catalog.text, 'NULL'), coalesce($2::pg_catalog.text, 'NULL'), d.every IS DISTINCT FROM $2, d.on_change, d.notify \
         FROM rollup.definition d WHERE d.id = $1",
        args,
        |row| {
            let every = (row.must::<String>(1)?, row.must::<String>(2)?, row.must::<bool>(3)?);
            Ok((every, row.must::<String>(4)?, row.must::<bool>(5)?))
        },
    )?;
    for ((is, asked, differ), on_change, notify) in stored {
        if differ {
            found.add(How::Setting, "every", is, asked);
        }
        if notify != options.notify {
            found.add(How::Setting, "notify", notify.to_string(), options.notify.to_string());
        }
        if on_change != options.on_change.text() {
            found.add(How::Anew, "on_change", on_change, options.on_change.text());
        }
    }
    Ok(())
}

fn of_levels(d: &Definition, options: &Options, found: &mut Asked) -> Result<()> {
    let mut wanted = Vec::new();
    for (name, shape) in &options.coarser {
        match level(d, name, shape)? {
            None => {
                found.add(How::Level, &format!("level {name}"), "not there", shape.to_string());
                found.add_levels.push((name.clone(), shape.clone()));
            }
            Some(Level { name: stored, is }) => {
                if let Some(is) = is {
                    found.add(How::Level, &format!("level {name}"), is, shape.to_string());
                    found.drop_levels.push(stored.clone());
                    found.add_levels.push((name.clone(), shape.clone()));
                }
                wanted.push(stored);
            }
        }
    }
    let _acting = ActingAs::catalog();
    let others = catalog::write(
        "SELECT l.name, l.width::pg_catalog.text, l.keys FROM rollup.level l WHERE l.definition = $1 AND l.name <> ALL ($2) ORDER BY l.width, l.name",
        &[d.id.into(), wanted.into()],
        |row| Ok((row.must::<String>(1)?, Shape { width: row.must(2)?, keys: row.get(3)? })),
    )?;
    for (name, shape) in others {
        found.add(How::Level, &format!("level {name}"), shape.to_string(), "there");
        found.drop_levels.push(name);
    }
    Ok(())
}

/// A level that is there.
pub struct Level {
    /// Its name in the catalog.
    pub name: String,
    /// What it is, where that is not what was asked for.
    pub is: Option<String>,
}

/// The level of a rollup that has this name, compared with what it is to be.
pub fn level(d: &Definition, name: &str, shape: &Shape) -> Result<Option<Level>> {
    let (schema, table) = naming::split(name, &d.schema()?)?;
    let keys = shape.kept(&d.plan()?);
    let _acting = ActingAs::catalog();
    let found = catalog::write(
        "SELECT l.name, l.width::pg_catalog.text, l.keys, l.width <> $3::pg_catalog.interval OR l.keys IS DISTINCT FROM $4 FROM rollup.level l \
         WHERE l.definition = $1 AND coalesce(l.shown, l.relation) = pg_catalog.to_regclass($2)",
        &[
            d.id.into(),
            format!("{}.{}", ident(&schema), ident(&table)).into(),
            shape.width.as_str().into(),
            keys.into(),
        ],
        |row| {
            let is = Shape { width: row.must(2)?, keys: row.get(3)? };
            Ok(Level { name: row.must(1)?, is: row.must::<bool>(4)?.then(|| is.to_string()) })
        },
    )?;
    Ok(found.into_iter().next())
}

/// The table of a level or rollup that publications send, as `publication p`.
pub fn published(tables: &[pg_sys::Oid]) -> Result<Option<String>> {
    let _acting = ActingAs::catalog();
    catalog::maybe_now(
        "SELECT pg_catalog.format('%s by publication %I', r.prrelid::pg_catalog.regclass, p.pubname) FROM pg_catalog.pg_publication_rel r \
         JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = ANY ($1) ORDER BY 1 LIMIT 1",
        &[tables.to_vec().into()],
    )
}
