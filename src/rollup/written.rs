//! The columns of a rollup's tables, to which runs write by their names: these are the rollup's, and follow no ALTER TABLE. Who
//! renames one is told at once, and so is who runs the rollup. A view may call them otherwise.
use super::arrange::warn;
use super::catalog::{self, Definition, Must};
use super::error::{Result, fail};
use super::levels;
use crate::pg::xact::ActingAs;
use hll_rollup::Plan;
use hll_rollup::sql::{ident, literal};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The columns that a table of the plan is to have, and their types.
fn columns(plan: &Plan) -> impl Iterator<Item = (String, String)> {
    plan.columns.iter().filter(|c| c.in_table()).map(|c| (c.name.clone(), c.sql_type.clone()))
}

fn back(table: &str, from: &str, to: &str) -> String {
    format!("ALTER TABLE {table} RENAME COLUMN {} TO {};", ident(from), ident(to))
}

/// Refuses to write to tables of a rollup of which a column has another name: one of that type which is not the rollup's, and
/// which a view reads as the live view does, if any is.
pub fn check(d: &Definition) -> Result<()> {
    let plan = d.stored_plan()?;
    let levels = levels::of(d)?;
    let (mut of, mut names, mut types) = (Vec::new(), Vec::new(), Vec::new());
    for level in std::iter::once(None).chain(levels.iter().map(Some)) {
        for (name, sql_type) in columns(&plan.of_level(level)) {
            of.push(level.map(|l| l.name.clone()));
            names.push(name);
            types.push(sql_type);
        }
    }
    let lacking = {
        let _acting = ActingAs::catalog();
        catalog::read_often(
            "SELECT t.relation::pg_catalog.text, w.name, (SELECT coalesce(pg_catalog.array_agg(o.name ORDER BY o.place) FILTER (WHERE o.read), pg_catalog.array_agg(o.name ORDER BY o.place), '{}') \
              FROM (SELECT a.attname::pg_catalog.text AS name, a.attnum AS place, EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
               AND e.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.refobjid = t.relation AND e.refobjsubid = a.attnum) AS read \
               FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname::pg_catalog.text <> ALL ($2) \
               AND pg_catalog.format_type(a.atttypid, a.atttypmod) = w.type) o) \
             FROM (SELECT relation, NULL FROM rollup.definition WHERE id = $1 UNION ALL SELECT relation, name FROM rollup.level WHERE definition = $1) t (relation, level) \
             JOIN ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) w (name, type, level) ON w.level IS NOT DISTINCT FROM t.level \
             WHERE t.relation IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = t.relation AND a.attname = w.name::pg_catalog.name AND a.attnum > 0 AND NOT a.attisdropped) LIMIT 1",
            &[d.id.into(), names.into(), types.into(), of.into()],
            |row| Ok((row.must::<String>(1)?, row.must::<String>(2)?, row.must::<Vec<String>>(3)?)),
        )?
    };
    let Some((table, column, others)) = lacking.into_iter().next() else { return Ok(()) };
    fail(
        PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
        format!("table {table} of rollup {} has no column {column}, to which its runs write", d.name),
        match others.as_slice() {
            [one] => format!("If that is {one} now: {}", back(&table, one, &column)),
            [] => format!(
                "SELECT rollup.drop({}); removes the rollup, and rollup.create makes it again.",
                literal(&d.name)
            ),
            many => format!(
                "It is one of {}, and has to have its name back: ALTER TABLE {table} RENAME COLUMN … TO {};",
                many.join(", "),
                ident(&column)
            ),
        },
    )
}

/// A column of a table was renamed: said where it is one of a rollup, or a level.
pub fn renamed(table: pg_sys::Oid, was: &str, now: &str) -> Result<()> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::write_often(
            "SELECT d.name, $1::pg_catalog.oid::pg_catalog.regclass::pg_catalog.text, coalesce(v.live::pg_catalog.text, '') FROM (SELECT id, relation, live FROM rollup.definition \
             UNION ALL SELECT definition, relation, live FROM rollup.level) v (id, relation, live) JOIN rollup.definition d ON d.id = v.id WHERE v.relation = $1",
            &[table.into()],
            |row| Ok((row.must::<String>(1)?, row.must::<String>(2)?, row.must::<String>(3)?)),
        )?
    };
    for (rollup, table, view) in found {
        let Some(d) = catalog::named(&rollup)? else { continue };
        if !columns(&d.stored_plan()?).any(|(name, _)| name == was) {
            continue;
        }
        let instead = match view.as_str() {
            "" => String::new(),
            view => format!(
                " The live view may call it otherwise: ALTER VIEW {view} RENAME COLUMN {} TO {};",
                ident(was),
                ident(now)
            ),
        };
        warn(
            format!(
                "runs of rollup {rollup} write to column {was} of {table}, and fail while it is called {now}"
            ),
            format!("{}{instead}", back(&table, now, was)),
        );
    }
    Ok(())
}
