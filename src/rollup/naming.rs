//! What rollups, levels, their tables and live views are called.
use super::ask::{self, Must};
use super::error::{Result, fail};
use crate::pg::{security, xact};
use hll_rollup::sql::{ident, literal};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// How a rollup or level is called: with its schema where that is not the usual one, or another schema's rollup has
/// the name.
pub fn name_in_catalog(schema: &str, table: &str, usual: &str) -> Result<String> {
    let _acting = xact::ActingAs::catalog();
    let taken =
        ask::read("SELECT EXISTS (SELECT FROM rollup.definition WHERE name = $1)", &[table.into()], |row| {
            row.get::<bool>(1)
        })?;
    if schema == usual && taken.first().copied().flatten() != Some(true) {
        return Ok(table.to_string());
    }
    let name = format!("{schema}.{table}");
    refuse_named(&name)?;
    Ok(name)
}

/// Refuses a name that another rollup has in the catalog: its table has been moved or renamed since, was dropped, or is called
/// like a schema and a table.
fn refuse_named(name: &str) -> Result<()> {
    let found = ask::read(
        "SELECT coalesce(d.relation, d.source)::pg_catalog.text, d.relation IS NULL, pg_catalog.pg_get_userbyid(coalesce(c.relowner, d.last_owner, 0))::pg_catalog.text \
         FROM rollup.definition d LEFT JOIN pg_catalog.pg_class c ON c.oid = coalesce(d.relation, d.source) WHERE d.name = $1",
        &[name.into()],
        |row| Ok((row.get::<String>(1)?, row.get::<bool>(2)? == Some(true), row.must::<String>(3)?)),
    )?;
    let Some((relation, gone, owner)) = found.into_iter().next() else { return Ok(()) };
    let what = match relation {
        Some(table) if !gone => format!("that of table {table}"),
        _ => "whose table was dropped".to_string(),
    };
    fail(
        PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
        format!("name {name} is taken by another rollup, {what}, which belongs to role {owner}"),
        format!(
            "Choose another name for this one; or have role {owner}, or a superuser, let go of that one, whose name stays with it: SELECT rollup.drop({});",
            literal(name)
        ),
    )
}

/// Schema and table of a rollup's name, read as SQL reads it; the source's schema where it names none.
pub fn split(name: &str, default_schema: &str) -> Result<(String, String)> {
    let parts: Vec<String> = ask::one("SELECT pg_catalog.parse_ident($1)", &[name.into()])?;
    let (schema, table) = match parts.as_slice() {
        [t] => (default_schema.to_string(), t.clone()),
        [s, t] => (s.clone(), t.clone()),
        _ => {
            return fail(
                PgSqlErrorCode::ERRCODE_INVALID_NAME,
                format!("{name} is no name for a table"),
                "Write name or schema.name.",
            );
        }
    };
    if ["pg_temp", "pg_toast_temp"].iter().any(|temporary| schema.starts_with(temporary)) {
        return fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("table {name} would be temporary"),
            "The worker cannot see it, and it goes with the session: name a schema that stays.",
        );
    }
    // NAMEDATALEN is 64; the view's name must fit, and be told from another's.
    if table.len() + "_live".len() > 63 {
        return fail(
            PgSqlErrorCode::ERRCODE_NAME_TOO_LONG,
            format!(
                "name {table} has {} bytes, at most 58 leave room for the name of its view, {table}_live",
                table.len()
            ),
            "Choose a shorter one.",
        );
    }
    Ok((schema, table))
}

/// What stands behind the name of a rollup whose table is not called like it, and the end of the name of that table.
pub const STORED: &str = "_keys";

/// The table and the live view of a new rollup or level, qualified and quoted; neither may be there. Where lookup tables are
/// followed, the name itself is that of a view.
pub fn refuse_taken(schema: &str, table: &str, followed: bool) -> Result<(String, String)> {
    let name = |end: &str| format!("{}.{}", ident(schema), ident(&format!("{table}{end}")));
    let (own, view) = (name(""), name("_live"));
    for relation in [&own, &view] {
        refuse_existing(relation)?;
    }
    if !followed {
        return Ok((own, view));
    }
    let stored = name(STORED);
    refuse_existing(&stored)?;
    Ok((stored, view))
}

/// Refuses a name that something has.
pub fn refuse_existing(relation: &str) -> Result<()> {
    let there =
        ask::maybe::<pg_sys::Oid>("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[relation.into()])?;
    let Some(oid) = there else { return Ok(()) };
    let others = security::owner_of(oid).filter(|owner| !xact::may_act_as(Some(*owner)));
    fail(
        PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
        format!("relation {relation} already exists"),
        match others {
            None => {
                "Choose another name, or drop it first; a rollup is dropped by rollup.drop(name).".to_string()
            }
            Some(owner) => format!(
                "It belongs to role {}. Choose another name, or have that role drop it, or the owner of the schema.",
                xact::role_name(owner)
            ),
        },
    )
}

/// A table that is named, qualified and quoted.
pub fn relation(table: &str) -> Result<pg_sys::Oid> {
    ask::one("SELECT $1::pg_catalog.regclass::pg_catalog.oid", &[table.into()])
}
