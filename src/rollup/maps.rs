//! The zone map with the stamp on every leaf of a source: runs find new rows by it, and it alone tells of rows that come
//! with stamps of others (see `arrival`). A leaf without one is named in `rollup.status`.
use super::catalog::{self, Must};
use super::citus;
use super::error::{Result, report};
use super::source::{self, Source};
use crate::pg::node;
use crate::pg::xact::{ActingAs, current_user, in_subtransaction};
use crate::pg::zonemap::{self, arrival};
use hll_rollup::Plan;
use hll_rollup::sql::{STAMP, ident};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Tables at and below one that are stored as heaps and have no such index: their id, their qualified name, whether they
/// are partitions.
pub fn lacking(root: pg_sys::Oid) -> Result<Vec<(pg_sys::Oid, String, bool)>> {
    let _acting = ActingAs::catalog();
    catalog::write_often(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relispartition FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_am h ON h.oid = c.relam \
         WHERE c.relkind = 'r' AND h.amname = 'heap' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
         JOIN pg_catalog.pg_am m ON m.oid = x.relam JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::pg_catalog.int2[]) \
         WHERE i.indrelid = c.oid AND i.indisready AND m.amname = $2::pg_catalog.name AND a.attname = $3::pg_catalog.name) ORDER BY c.oid",
        &[root.into(), zonemap::NAME.into(), STAMP.into()],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, row.must::<String>(2)?, row.get::<bool>(3)? == Some(true))),
    )
}

/// Makes the map by which expiry finds old rows, on each table at and below one that Citus keeps and that can have it.
pub fn for_expiry(root: pg_sys::Oid, time_column: &str) -> Result<()> {
    let tables = catalog::write(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_am h ON h.oid = c.relam \
         WHERE c.relkind = 'r' AND h.amname = 'heap' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
         JOIN pg_catalog.pg_am m ON m.oid = x.relam WHERE i.indrelid = c.oid AND m.amname = $2::pg_catalog.name) ORDER BY c.oid",
        &[root.into(), zonemap::NAME.into()],
        |row| row.must::<String>(1),
    )?;
    let map =
        |table: &String| format!("CREATE INDEX ON {table} USING {} ({})", zonemap::NAME, ident(time_column));
    tables.iter().try_for_each(|table| catalog::execute(&map(table), &[]))
}

/// The same for a table that has come to stand below a source that Citus keeps, as who gave the command: without it rows
/// take longer to expire, no more. Returns whether there is such a source.
pub fn come_to_nodes(table: pg_sys::Oid) -> Result<bool> {
    if !node::citus_loaded() {
        return Ok(false);
    }
    let above = {
        let _acting = ActingAs::catalog();
        catalog::write_often(
            "WITH RECURSIVE up (relation) AS (SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = $1 UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation) \
             SELECT s.time_column::pg_catalog.text FROM up JOIN rollup.source s ON s.relation = up.relation \
             WHERE EXISTS (SELECT FROM rollup.definition d WHERE d.source = s.relation AND d.nodes IS NOT NULL) LIMIT 1",
            &[table.into()],
            |row| row.must::<String>(1),
        )?
    };
    for time_column in &above {
        let made = in_subtransaction(std::panic::AssertUnwindSafe(|| {
            let _acting = ActingAs::role(current_user());
            for_expiry(table, time_column)
        }));
        if let Err(e) = made {
            if e.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED {
                return super::error::fail(e.code, e.message, "Give the command again.");
            }
            debug1!("rollup: a partition gets no map for expiry: {}", e.message);
        }
    }
    Ok(!above.is_empty())
}

/// Where nobody is told of rows that bring stamps, for `rollup.status`: tables at and below one that have no such index, and
/// those that can have none.
pub fn untold(root: pg_sys::Oid) -> Result<Vec<String>> {
    let missing = lacking(root)?;
    let mut all: Vec<String> =
        missing.iter().map(|(_, table, _)| format!("the index on {table} is missing")).collect();
    let _acting = ActingAs::catalog();
    let others = catalog::write_often(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT pg_catalog.format('%I.%I, %s', n.nspname, c.relname, CASE c.relkind WHEN 'f' THEN 'a foreign table' ELSE 'which is stored as ' || h.amname END) \
         FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am h ON h.oid = c.relam \
         WHERE c.relkind = 'f' OR c.relkind = 'r' AND h.amname <> 'heap' ORDER BY c.oid",
        &[root.into()],
        |row| row.must::<String>(1),
    )?;
    all.extend(others.iter().map(|table| format!("nobody is told of rows that bring stamps to {table}")));
    Ok(all)
}

/// Every table at and below one.
pub fn tables(root: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let _acting = ActingAs::catalog();
    Ok(catalog::write_often(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) SELECT oid FROM t",
        &[root.into()],
        |row| row.get::<pg_sys::Oid>(1),
    )?
    .into_iter()
    .flatten()
    .collect())
}

/// Makes the index where it is missing, on a source and below it; insertions look up again whom they tell.
pub fn complete(root: pg_sys::Oid, table: &str, time_column: &str) -> Result<()> {
    let columns = format!("{}, {STAMP}", ident(time_column));
    let create = |table: &str| {
        catalog::execute(&format!("CREATE INDEX ON {table} USING {} ({columns})", zonemap::NAME), &[])
    };
    let all = lacking(root)?;
    let parted = catalog::write(
        "SELECT c.relkind = 'p' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = x.relam \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::pg_catalog.int2[]) \
         WHERE i.indrelid = c.oid AND m.amname = $2::pg_catalog.name AND a.attname = $3::pg_catalog.name) FROM pg_catalog.pg_class c WHERE c.oid = $1",
        &[root.into(), zonemap::NAME.into(), STAMP.into()],
        |row| row.get::<bool>(1),
    )?;
    if parted.first() == Some(&Some(true)) && !node::citus_loaded() {
        // One on the parent: partitions that come have it. With Citus some may be stored by columns.
        create(table)?;
    }
    for (id, name, _) in if all.is_empty() { all } else { lacking(root)? } {
        if id == root {
            create(&name)?;
            continue;
        }
        // A table below may be another's.
        let done = in_subtransaction(std::panic::AssertUnwindSafe(|| create(&name)));
        if let Err(e) = done {
            if e.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED {
                return super::error::fail(e.code, e.message, "Give the command again.");
            }
            report(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("{name} has no index that tells of rows which come with a {STAMP}: {}", e.message),
                format!("CREATE INDEX ON {name} USING {} ({columns});", zonemap::NAME),
            )
            .report(PgLogLevel::WARNING);
        }
    }
    tell_anew(root)
}

/// The index that runs find new rows by, and that tells of rows which come in another way: on every leaf that does not have it.
///
/// It must never leave a row out, and costs every insertion: `crate::pg::zonemap` says how it does both, and why BRIN
/// would not do. In a cluster the rows are in shards, whose zones no run closes, and stamps of different nodes lie far
/// apart: there the stamp has a B-tree, and the map, which VACUUM closes, is for expiry.
pub fn add_index(relation: pg_sys::Oid, source: &Source, plan: &Plan) -> Result<()> {
    if citus::place(relation)?.is_none() {
        return complete(relation, &source.qualified(), &plan.time_column);
    }
    let there = catalog::read(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid \
         AND a.attnum = ANY (i.indkey::pg_catalog.int2[]) WHERE i.indrelid = $1 AND a.attname = $2::pg_catalog.name)",
        &[relation.into(), STAMP.into()],
        |row| row.get::<bool>(1),
    )?;
    if there.first().copied().flatten() == Some(true) {
        return Ok(());
    }
    catalog::execute(&format!("CREATE INDEX ON {} ({STAMP})", source.qualified()), &[])?;
    for_expiry(relation, &plan.time_column)
}

/// Has insertions into a table, and what is below it, look up again whom they tell of rows that come.
pub fn tell_anew(root: pg_sys::Oid) -> Result<()> {
    tables(root)?.into_iter().for_each(arrival::forget);
    Ok(())
}

/// For a table that has its column from a rollup before: whoever inserts now tells nobody of what it brings, and is
/// waited for.
pub fn settle(root: pg_sys::Oid, source: &Source) -> Result<()> {
    let _acting = ActingAs::catalog();
    let there = catalog::read(
        "SELECT EXISTS (SELECT FROM rollup.source WHERE relation = $1)",
        &[root.into()],
        |row| row.get::<bool>(1),
    )?;
    drop(_acting);
    match there.first() {
        Some(Some(true)) => Ok(()),
        _ => source::lock_exclusively(source),
    }
}
