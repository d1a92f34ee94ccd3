//! Replica identities, and what publications want of the tables of rollups.
//!
//! Invariant: every table in which the engine changes or removes rows of its own tells them apart where it is
//! published, by its primary key, by another key, or by whole rows. Else PostgreSQL would refuse the change: a
//! publication FOR ALL TABLES, or a shard that Citus moves by logical replication, would stop the rollup. What a user
//! has set stays. The tables of the catalog are seen to where they are made.
use super::catalog;
use super::error::{Result, report};
use crate::pg::xact::ActingAs;
use hll_rollup::sql::STAMP;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Gives a table of a rollup, and every partition of it, a replica identity where it has none. Whole rows are written to
/// the log then, sketches too, where the log is written for logical decoding.
pub fn give(table: &str) -> Result<()> {
    let commands = catalog::write(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.regclass::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid), \
         x AS (SELECT i.indrelid, c.relname, i.indexrelid, i.indisprimary FROM pg_catalog.pg_index i JOIN t ON t.oid = i.indrelid JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
           WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS ( \
             SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]) AND NOT a.attnotnull)) \
         SELECT pg_catalog.format('ALTER TABLE %I.%I REPLICA IDENTITY %s', n.nspname, c.relname, coalesce( \
           (SELECT pg_catalog.format('USING INDEX %I', x.relname) FROM x WHERE x.indrelid = c.oid ORDER BY x.indexrelid LIMIT 1), 'FULL')) \
         FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relreplident = 'd' AND NOT EXISTS (SELECT FROM x WHERE x.indrelid = c.oid AND x.indisprimary) ORDER BY c.oid",
        &[table.into()],
        |row| row.get::<String>(1),
    )?;
    commands.into_iter().flatten().try_for_each(|command| catalog::execute(&command, &[]))
}

/// The same for a table that has come to stand below one of a rollup; nothing of any other.
pub fn give_below(table: pg_sys::Oid) -> Result<()> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "WITH RECURSIVE up (relation) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation) \
             SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = $1 AND EXISTS (SELECT FROM up JOIN rollup.definition d ON d.relation = up.relation UNION ALL SELECT FROM up JOIN rollup.level l ON l.relation = up.relation)",
            &[table.into()],
            |row| row.get::<String>(1),
        )?
    };
    found.into_iter().flatten().try_for_each(|table| give(&table))
}

/// Says which publications send the column of stamps that a table has just been given: their subscribers lack it, and
/// stop at the next row.
pub fn tell_publishers(source: pg_sys::Oid, name: &str) -> Result<()> {
    let found = catalog::write(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT pg_catalog.string_agg(DISTINCT p.pubname, ', ' ORDER BY p.pubname) FROM pg_catalog.pg_publication p, \
         LATERAL (SELECT pt.schemaname, pt.tablename, pt.attnames FROM pg_catalog.pg_publication_tables pt WHERE pt.pubname = p.pubname) s \
         JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename JOIN t ON t.oid = c.oid \
         WHERE $2::pg_catalog.name = ANY (s.attnames)",
        &[source.into(), STAMP.into()],
        |row| row.get::<String>(1),
    )?;
    for publications in found.into_iter().flatten() {
        report(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{name} is published by {publications}: subscribers need its new column {STAMP}, and stop without it"),
            format!("On each subscriber: ALTER TABLE {name} ADD COLUMN {STAMP} bigint. Or publish the table with a list of its other columns."),
        )
        .report(PgLogLevel::WARNING);
    }
    Ok(())
}

/// Whether a subscription fills a table or a part of it.
pub fn is_subscribed(table: pg_sys::Oid) -> Result<bool> {
    let _acting = ActingAs::catalog();
    let found = catalog::write(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription_rel) AND EXISTS (SELECT FROM pg_catalog.pg_subscription_rel r JOIN t ON t.oid = r.srrelid)",
        &[table.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first() == Some(&Some(true)))
}

/// The sources of which a subscription fills a part.
pub fn sources_of(subscription: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let _acting = ActingAs::catalog();
    let found = catalog::write(
        "WITH RECURSIVE up (relation) AS (SELECT r.srrelid FROM pg_catalog.pg_subscription_rel r WHERE r.srsubid = $1 UNION \
         SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation) \
         SELECT s.relation::pg_catalog.oid FROM up JOIN rollup.source s ON s.relation = up.relation ORDER BY 1",
        &[subscription.into()],
        |row| row.get::<pg_sys::Oid>(1),
    )?;
    Ok(found.into_iter().flatten().collect())
}
