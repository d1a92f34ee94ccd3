//! Tables that Citus recreates: what the catalog says of the old one holds for the new one.
//!
//! `alter_distributed_table`, `undistribute_table` and what calls them copy a table with every row, stamps too, drop it
//! and give its name to the copy, in one transaction. `citus_add_local_table_to_metadata`, also by a foreign key to a
//! reference table, makes the table a shard by renaming it and puts a new one before it. Both leave the rollups of the
//! table with the id of something else.
//!
//! Invariant: a definition follows a table only to what Citus itself has just put in its place: in the same
//! transaction, in the same schema, and told by what Citus calls it. The copy bears the old name and that name's hash, a
//! shard its number, which this session has just drawn. Never by a name alone: a table that a user drops and makes
//! again, or renames to keep it, is another. What has expired of the rollup stays, since nothing is computed again; rows
//! keep their stamps, so none is merged twice.
use super::catalog::{self, Must};
use super::error::Result;
use crate::pg::ddl::owner_before;
use crate::pg::node;
use crate::pg::xact::{ActingAs, in_subtransaction, is_own_transaction};
use pgrx::pg_sys;

/// The tables of which the catalog of rollups speaks.
const KNOWN: &str = "known (oid) AS MATERIALIZED (SELECT relation::pg_catalog.oid FROM rollup.source UNION SELECT relation FROM rollup.definition \
    UNION SELECT t FROM rollup.definition, pg_catalog.unnest(joined) t UNION SELECT relation FROM rollup.level UNION SELECT relation FROM rollup.retention \
    UNION SELECT relation FROM rollup.expired UNION SELECT relation FROM rollup.partitioning \
    UNION SELECT relation FROM rollup.lost WHERE relation IS NOT NULL)";

/// Two tables, old and new, and the transaction that last changed what the system's catalog says of the one that
/// must have been made or renamed just now.
type Pair = (pg_sys::Oid, pg_sys::Oid, pg_sys::TransactionId);

fn pairs(sql: &str, args: &[pgrx::datum::DatumWithOid]) -> Result<Vec<Pair>> {
    let found = catalog::write(sql, args, |row| {
        Ok((row.must::<pg_sys::Oid>(1)?, row.must::<pg_sys::Oid>(2)?, row.must::<i64>(3)?))
    })?;
    let pair = |(old, new, xid): (_, _, i64)| Some((old, new, u32::try_from(xid).ok()?.into()));
    Ok(found.into_iter().filter_map(pair).filter(|(.., xid)| is_own_transaction(*xid)).collect())
}

/// Called where tables are dropped, by the event trigger of that, before what is said of them is forgotten: of those
/// of which Citus has made a copy it is said of the copy.
pub fn dropped() -> Result<()> {
    if !node::citus_loaded() {
        return Ok(());
    }
    let _acting = ActingAs::catalog();
    let gone = catalog::write(
        &format!(
            "WITH {KNOWN} SELECT o.oid, o.schema_name, o.object_name FROM (SELECT objid AS oid, schema_name, object_name FROM pg_catalog.pg_event_trigger_dropped_objects() \
             WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objsubid = 0 AND object_type = 'table' OFFSET 0) o JOIN known ON known.oid = o.oid"
        ),
        &[],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, [row.must::<String>(2)?, row.must::<String>(3)?])),
    )?;
    for (old, [schema, name]) in gone {
        // A copy has the same owner already.
        let Some(owner) = owner_before(old) else { continue };
        let copies = pairs(
            "SELECT $1::pg_catalog.oid, c.oid, c.xmin::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $2::pg_catalog.name AND c.relowner = $4 AND c.relkind IN ('r', 'p') \
             AND pg_catalog.starts_with(c.relname::pg_catalog.text, pg_catalog.left($3, 30)) AND c.relname::pg_catalog.text ~ pg_catalog.concat('_', \
               (pg_catalog.hashtext($3 COLLATE \"C\")::pg_catalog.int8 + 4294967296) % 4294967296, '$')",
            &[old.into(), schema.into(), name.into(), owner.into()],
        )?;
        for (old, new, _) in copies {
            follow(old, new)?;
        }
    }
    Ok(())
}

/// Called where a table is made, by the event trigger of that: where it stands before a shard that was a table of its
/// name, what was said of that is said of it.
pub fn made(table: pg_sys::Oid) -> Result<()> {
    if !node::citus_loaded() {
        return Ok(());
    }
    let _acting = ActingAs::catalog();
    let shards = pairs(
        &format!(
            "WITH {KNOWN} SELECT o.oid, t.oid, o.xmin::pg_catalog.text::pg_catalog.int8 FROM known JOIN pg_catalog.pg_class o ON o.oid = known.oid \
             JOIN pg_catalog.pg_class t ON o.relnamespace = t.relnamespace AND o.relkind = t.relkind AND o.oid <> t.oid \
             AND pg_catalog.starts_with(o.relname::pg_catalog.text, pg_catalog.left(t.relname::pg_catalog.text, 30)) AND o.relname::pg_catalog.text ~ '_[0-9]+$' \
             WHERE t.oid = $1"
        ),
        &[table.into()],
    )?;
    for (old, new, _) in shards {
        // Citus drew the number of the shard in this session, right before.
        let named_by_it = in_subtransaction(std::panic::AssertUnwindSafe(|| {
            catalog::write(
                "SELECT c.relname::pg_catalog.text ~ pg_catalog.concat('_', pg_catalog.currval('pg_catalog.pg_dist_shardid_seq'), '$') FROM pg_catalog.pg_class c WHERE c.oid = $1",
                &[old.into()],
                |row| row.get::<bool>(1),
            )
        }));
        if named_by_it.is_ok_and(|found| found.first() == Some(&Some(true))) {
            follow(old, new)?;
            super::beside::follow(old, new)?;
        }
    }
    Ok(())
}

/// What is said of `old` is said of `new`.
fn follow(old: pg_sys::Oid, new: pg_sys::Oid) -> Result<()> {
    // Definitions refer to rows of sources.
    for statement in [
        "INSERT INTO rollup.source SELECT (pg_catalog.jsonb_populate_record(s, pg_catalog.jsonb_build_object('relation', $2::pg_catalog.oid))).* FROM rollup.source s WHERE s.relation = $1 ON CONFLICT DO NOTHING",
        "UPDATE rollup.definition SET source = $2 WHERE source = $1",
        "DELETE FROM rollup.source WHERE relation = $1 AND relation <> $2",
        "UPDATE rollup.definition SET relation = $2 WHERE relation = $1",
        "UPDATE rollup.definition SET joined = pg_catalog.array_replace(joined, $1::pg_catalog.regclass, $2::pg_catalog.regclass) WHERE $1 = ANY (joined)",
        "UPDATE rollup.level SET relation = $2 WHERE relation = $1",
        "UPDATE rollup.retention SET relation = $2 WHERE relation = $1",
        "UPDATE rollup.expired SET relation = $2 WHERE relation = $1",
        "UPDATE rollup.partitioning SET relation = $2 WHERE relation = $1",
        "UPDATE rollup.change SET source = $2 WHERE source = $1",
        "UPDATE rollup.lost SET relation = $2 WHERE relation = $1",
    ] {
        catalog::execute(statement, &[old.into(), new.into()])?;
    }
    Ok(())
}
