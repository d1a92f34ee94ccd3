//! Rows that move from a default partition to one of their own: neither gone nor come.
use super::catalog::{self, Must};
use super::error::{Result, fail, internal};
use pgrx::prelude::*;

/// Moves rows, as the owner of the tables could: triggers of users on the default partition do not see it, since a row
/// that moves has neither gone nor come. They are off for as long as this transaction has the table to itself. Foreign
/// keys on the table, which an owner cannot turn off, are asked as for any row that goes: rows that are referred to stay,
/// and with them what would be in their partition.
pub fn move_rows(
    table: pg_sys::Oid,
    name: &str,
    default: &(pg_sys::Oid, String),
    partition: &str,
    within: &str,
) -> Result<i64> {
    let (oid, default) = (default.0, default.1.as_str());
    if let Some(key) = changes_others(table, oid)? {
        return fail(
            PgSqlErrorCode::ERRCODE_RESTRICT_VIOLATION,
            format!(
                "rows of {} lie in its default partition, and foreign key {key} would change the rows that refer to them",
                name
            ),
            "Drop the foreign key, SELECT rollup.partition(…) again, and add the key again.",
        );
    }
    let triggers = catalog::write(
        "SELECT pg_catalog.quote_ident(tgname), CASE tgenabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' ELSE '' END FROM pg_catalog.pg_trigger \
         WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 8 <> 0 AND tgfoid <> 'rollup_internal.note_change()'::pg_catalog.regprocedure ORDER BY tgname",
        &[oid.into()],
        |row| Ok((row.must::<String>(1)?, row.must::<String>(2)?)),
    )?;
    for (name, _) in &triggers {
        catalog::execute(&format!("ALTER TABLE {default} DISABLE TRIGGER {name}"), &[])?;
    }
    let columns: String = catalog::one(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) FROM pg_catalog.pg_attribute \
         WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        &[oid.into()],
    )?;
    let moving = super::watch::Expiring::rows(oid);
    let moved = catalog::write(
        &format!(
            "WITH gone AS (DELETE FROM ONLY {default} WHERE {within} RETURNING {columns}), \
             come AS (INSERT INTO {partition} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM gone RETURNING 1) SELECT pg_catalog.count(*) FROM come"
        ),
        &[],
        |row| row.get::<i64>(1),
    )?;
    drop(moving);
    for (name, mode) in &triggers {
        catalog::execute(&format!("ALTER TABLE {default} ENABLE {mode}TRIGGER {name}"), &[])?;
    }
    moved.into_iter().flatten().next().ok_or_else(|| internal("no count of moved rows"))
}

/// A foreign key on the table that does more, when a row goes, than to refuse it at once.
fn changes_others(table: pg_sys::Oid, default: pg_sys::Oid) -> Result<Option<String>> {
    Ok(catalog::write(
        "SELECT pg_catalog.format('%I of %s', conname, conrelid::pg_catalog.regclass) FROM pg_catalog.pg_constraint \
         WHERE contype = 'f' AND confrelid IN ($1, $2) AND (confdeltype NOT IN ('a', 'r') OR condeferrable) ORDER BY confrelid = $2, conname LIMIT 1",
        &[table.into(), default.into()],
        |row| row.get::<String>(1),
    )?
    .into_iter()
    .flatten()
    .next())
}
