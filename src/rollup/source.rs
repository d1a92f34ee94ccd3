//! The source of a rollup: its stamp column, the index on it, its row in the catalog.
use super::catalog::{self, Definition, Must};
use super::error::{Result, fail, internal};
use crate::pg::xact;
use hll_rollup::Plan;
use hll_rollup::sql::{STAMP, ident, literal};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// A table that is rolled up.
pub struct Source {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Its owner.
    pub owner: pg_sys::Oid,
}

impl Source {
    /// Its name, qualified and quoted.
    pub fn qualified(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.table))
    }
}

/// What there is to know of a table.
pub fn describe(relation: pg_sys::Oid) -> Result<Source> {
    catalog::read(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relowner FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
        &[relation.into()],
        |row| {
            Ok(Source {
                schema: row.must(1)?,
                table: row.must(2)?,
                owner: row.must(3)?,
            })
        },
    )?
    .into_iter()
    .next()
    .ok_or_else(|| internal("the source is gone"))
}

/// What a stamp column says that the extension has left.
pub const LEFT: &str = "left by extension hll, which was dropped; rollup.create recreates it";

/// The stamp of rows that were there before the column: an id lower than that of every transaction that writes rows, and
/// higher than what those give who write into the column.
const BEFORE: i64 = 1;

/// The stamp column, which rewrites nothing. Returns whether it was added now.
pub fn add_stamp(source: &Source) -> Result<bool> {
    let existing = {
        // With this search_path the default reads rollup.stamp(), whatever the caller's is.
        let _acting = xact::ActingAs::catalog();
        catalog::read(
            "SELECT a.atttypid = 'pg_catalog.int8'::pg_catalog.regtype AND a.attnotnull AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~ '^(rollup\\.stamp\\(\\)|\\(rollup\\.stamp\\(\\) \\+ ''[0-9]+''::bigint\\))$', \
             a.atttypid = 'pg_catalog.int8'::pg_catalog.regtype AND NOT a.attnotnull AND d.oid IS NULL AND pg_catalog.col_description(a.attrelid, a.attnum) = $3 \
             FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
             WHERE a.attrelid = $1::pg_catalog.regclass AND a.attname = $2::pg_catalog.name AND NOT a.attisdropped",
            &[source.qualified().into(), STAMP.into(), LEFT.into()],
            |row| Ok((row.get::<bool>(1)? == Some(true), row.get::<bool>(2)? == Some(true))),
        )?
    };
    match existing.first() {
        Some((true, _)) => Ok(false),
        Some((_, false)) => fail(
            PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
            format!(
                "table {} has a column {STAMP} that is not bigint NOT NULL DEFAULT rollup.stamp()",
                source.qualified()
            ),
            "Rename it: the name is taken by the rollup engine.",
        ),
        left => {
            lock_exclusively(source)?;
            if left.is_some() {
                // Its stamps say nothing any more, and rows that came since have none.
                catalog::execute(&format!("ALTER TABLE {} DROP COLUMN {STAMP}", source.qualified()), &[])?;
            }
            catalog::execute(
                &format!(
                    "ALTER TABLE {} ADD COLUMN {STAMP} bigint NOT NULL DEFAULT {BEFORE}",
                    source.qualified()
                ),
                &[],
            )?;
            catalog::execute(
                &format!(
                    "ALTER TABLE {} ALTER COLUMN {STAMP} SET DEFAULT rollup.stamp()",
                    source.qualified()
                ),
                &[],
            )?;
            Ok(true)
        }
    }
}

/// Takes the lock that adding a column needs, in short attempts: whoever comes after a waiting exclusive lock
/// waits too, so it must not wait behind a long transaction.
pub fn lock_exclusively(source: &Source) -> Result<()> {
    let table = source.qualified();
    let busy = format!("table {table} is in use: its lock was not free for 30 seconds");
    let body = format!(
        "DECLARE
           before text := pg_catalog.current_setting('lock_timeout');
           deadline timestamptz := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) interval '30 seconds';
         BEGIN
           LOOP
             BEGIN
               PERFORM pg_catalog.set_config('lock_timeout', '100ms', true);
               LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
               PERFORM pg_catalog.set_config('lock_timeout', before, true);
               RETURN;
             EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
               IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) deadline THEN
                 RAISE EXCEPTION USING ERRCODE = '55P03', MESSAGE = {},
                   HINT = 'SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start shows the long transactions; call again when they have ended.';
               END IF;
             END;
             PERFORM pg_catalog.pg_sleep(0.1);
           END LOOP;
         END",
        literal(&busy)
    );
    catalog::execute(&format!("DO {}", literal(&body)), &[])
}

/// The source's row in the catalog, locked. Expiry holds it in share mode: none is under way while the rollup comes into
/// being. It is written, and not locked alone, so that who drops the last rollup of the source in a transaction that
/// keeps one snapshot is told of this one, which that does not show.
pub fn register(relation: pg_sys::Oid, plan: &Plan) -> Result<()> {
    let _acting = xact::ActingAs::catalog();
    loop {
        catalog::execute(
            "INSERT INTO rollup.source (relation, time_column) VALUES ($1, $2::pg_catalog.name) ON CONFLICT DO NOTHING",
            &[relation.into(), plan.time_column.clone().into()],
        )?;
        let locked = catalog::write(
            "UPDATE rollup.source SET relation = relation WHERE relation = $1 RETURNING true",
            &[relation.into()],
            |row| row.get::<bool>(1),
        )?;
        // Else it has gone meanwhile, with the last rollup that it had.
        if !locked.is_empty() {
            return Ok(());
        }
    }
}

/// Waits, `now` having been read, for whoever moves rows from one partition to another that is new. A statement that
/// was planned before that one came, and reads after, would see the rows in neither.
pub fn settle_partitions(d: &Definition) -> Result<()> {
    let (source, _, owner) = d.parts()?;
    let _acting = xact::ActingAs::role(owner);
    catalog::execute(&format!("LOCK TABLE {source} IN ACCESS SHARE MODE"), &[])?;
    xact::accept_invalidations();
    Ok(())
}
