//! Comments on what a rollup makes: of what a table is, from which expression a column comes. What a user writes in their
//! place, or takes away, stays so.
use super::catalog::{self, Definition};
use super::error::Result;
use super::views;
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Column, Level, Plan, Role};
use std::collections::HashMap;

/// What a comment is on: the table (or the view), and its column, if it is one's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct On {
    view: bool,
    column: Option<String>,
}

/// In the comments on tables and views of ours, whatever what they name was called when they were made.
const MARK: &str = " not yet rolled up";

/// The comments that belong to a table of a rollup, its view and the columns of both; `shape` says what a level is.
fn texts(plan: &Plan, source: &str, target: &str, view: &str, shape: Option<&str>) -> Vec<(On, String)> {
    let per = shape.map_or(String::new(), |shape| format!(" per {shape}"));
    let mut all = vec![
        (On { view: false, column: None }, format!("rollup of {source}{per}; {view} adds the rows{MARK}")),
        (
            On { view: true, column: None },
            format!(
                "{target} and the rows of {source}{MARK}: what the query over {source} itself gives{per}"
            ),
        ),
    ];
    let of_table = plan.columns.iter().filter(|c| c.in_table()).map(|c| (false, c));
    let seen = plan.seen();
    let of_view = seen.columns.iter().filter(|c| !c.hidden).map(|c| (true, c));
    all.extend(
        of_table
            .chain(of_view)
            .map(|(view, c)| (On { view, column: Some(c.name.clone()) }, text_of(plan, c))),
    );
    all
}

/// What a column is made of.
fn text_of(plan: &Plan, c: &Column) -> String {
    let users: Vec<&str> = plan
        .columns
        .iter()
        .filter(|r| match &r.role {
            Role::Result { of, .. } => of.contains(&c.name),
            Role::Value(m) => m.companion.as_ref() == Some(&c.name),
            Role::Key => false,
        })
        .map(|r| r.name.as_str())
        .collect();
    match &c.role {
        _ if c.hidden => format!("{}: a part of {}", c.written, users.join(", ")),
        Role::Result { of, .. } => format!("{}, from {}", c.written, of.join(", ")),
        _ => c.written.clone(),
    }
}

fn say(on: &On, target: &str, view: &str, text: Option<&str>) -> Result<()> {
    let what = match (&on.column, on.view) {
        (None, false) => format!("TABLE {target}"),
        (None, true) => format!("VIEW {view}"),
        (Some(c), false) => format!("COLUMN {target}.{}", ident(c)),
        (Some(c), true) => format!("COLUMN {view}.{}", ident(c)),
    };
    catalog::execute(&format!("COMMENT ON {what} IS {}", text.map_or("NULL".into(), literal)), &[])
}

/// Comments on a new table of the rollup, its view and its columns.
pub fn write(plan: &Plan, source: &str, target: &str, view: &str, shape: Option<&str>) -> Result<()> {
    texts(plan, source, target, view, shape)
        .iter()
        .try_for_each(|(on, text)| say(on, target, view, Some(text)))
}

/// The comments that are there before a rollup changes.
pub struct Said {
    /// What is said of each, where it is not ours.
    others: HashMap<On, Option<String>>,
}

impl Said {
    /// Of a table that becomes that of a rollup; of none that is not there yet.
    pub fn of_others(target: &str) -> Result<Said> {
        let mut others = comments_of(false, target)?;
        others.retain(|_, text| text.is_some());
        Ok(Said { others })
    }

    /// Of a table of the rollup, its view, and their columns.
    pub fn before(
        d: &Definition,
        plan: &Plan,
        source: &str,
        target: &str,
        level: Option<&Level>,
        shape: Option<&str>,
    ) -> Result<Said> {
        let view = views::of(d.id, level)?;
        let plan = &*plan.of_level(level);
        let mut now = comments_of(false, target)?;
        if let Some(view) = &view {
            now.extend(comments_of(true, view)?);
        }
        for (on, text) in texts(plan, source, target, view.as_deref().unwrap_or_default(), shape) {
            let ours = |now: &str| now == text || on.column.is_none() && now.contains(MARK);
            if now.get(&on).is_some_and(|now| now.as_deref().is_some_and(ours)) {
                now.remove(&on);
            }
        }
        Ok(Said { others: now })
    }

    /// Comments on what has come, and on what has changed where nobody has said something else of it.
    pub fn again(
        &self,
        plan: &Plan,
        source: &str,
        target: &str,
        view: &str,
        shape: Option<&str>,
    ) -> Result<()> {
        for (on, text) in texts(plan, source, target, view, shape) {
            let text = match self.others.get(&on) {
                Some(other) => other.clone(),
                None => Some(text),
            };
            say(&on, target, view, text.as_deref())?;
        }
        Ok(())
    }
}

fn comments_of(view: bool, relation: &str) -> Result<HashMap<On, Option<String>>> {
    let found = catalog::read(
        "SELECT NULL, pg_catalog.obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1) UNION ALL \
         SELECT a.attname::pg_catalog.text, pg_catalog.col_description(a.attrelid, a.attnum) FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped",
        &[relation.into()],
        |row| Ok((On { view, column: row.get::<String>(1)? }, row.get::<String>(2)?)),
    )?;
    Ok(found.into_iter().collect())
}
