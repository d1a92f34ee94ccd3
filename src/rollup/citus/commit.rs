//! The door that whoever changes rows on another node goes through, together with a state that says so here.
//!
//! Invariant: what the engine changes on other nodes and what it writes into its own catalog are committed in two
//! phases. The merge of rows and how far it has come, the removal of rows and the moment up to which they have gone,
//! buckets computed again and their definition are one transaction only by that. Citus does so by itself where a
//! statement is sent to several shards or placements. A statement of one task (a table of one shard, a tenant's schema,
//! a query of one value of the distribution column) is committed on its node *before* the transaction here, and at once,
//! statement by statement, where no block is open, as in a background worker: after a crash between the two the next run
//! would merge the same rows again. So two phases are asked for before the first change, whatever the table.
//!
//! It rests on Citus doing, in a transaction for which they were asked for, what it does by itself for several shards:
//! PREPARE TRANSACTION on each node that has changed, a record of that in `pg_dist_transaction`, committed with what was
//! written here, and COMMIT PREPARED, after a crash by its maintenance.
use super::{Place, place};
use crate::pg::node;
use crate::pg::query::set_local;
use crate::pg::xact::ActingAs;
use crate::rollup::catalog;
use crate::rollup::error::{Result, fail};
use crate::rollup::naming;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// The reference table whose change makes a transaction one of two phases.
const TABLE: &str = "rollup.two_phases";

static BY_TABLE: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Called once when the library is loaded.
pub fn init() {
    GucRegistry::define_bool_guc(
        c"rollup.two_phase_table",
        c"Asks Citus for commits in two phases by a write to a reference table instead of a call of its library.",
        c"That is done without this setting where the library of Citus does not offer the call. Runs then follow each other.",
        &BY_TABLE,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// Has what this transaction changes on other nodes committed in two phases with what it changes here. To be called
/// before the first change; an error where it cannot be had.
pub fn in_two_phases() -> Result<()> {
    if !node::citus_loaded() || !BY_TABLE.get() && node::in_two_phases() {
        return Ok(());
    }
    let _acting = ActingAs::catalog();
    // A change of a table that lies on more than one node is committed in two phases, and all else with it.
    make_table()?;
    catalog::execute(&format!("DELETE FROM {TABLE} WHERE placed OPERATOR(pg_catalog.=) 0"), &[])
}

/// The same before tables are made on other nodes. Citus puts reference tables on nodes that lack them first, by other
/// transactions, and refuses to once one of them has changed here: so that is done before the change.
pub fn in_two_phases_with_tables() -> Result<()> {
    if !node::citus_loaded() || !BY_TABLE.get() && node::in_two_phases() {
        return Ok(());
    }
    {
        let _acting = ActingAs::catalog();
        make_table()?;
        let lacking: i64 = catalog::one(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_dist_node n WHERE n.isactive AND n.noderole OPERATOR(pg_catalog.=) 'primary' \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_dist_shard s JOIN pg_catalog.pg_dist_placement p ON p.shardid OPERATOR(pg_catalog.=) s.shardid \
             WHERE s.logicalrelid OPERATOR(pg_catalog.=) $1::pg_catalog.regclass AND p.groupid OPERATOR(pg_catalog.=) n.groupid)",
            &[TABLE.into()],
        )?;
        if lacking > 0 {
            catalog::execute("SELECT pg_catalog.replicate_reference_tables('block_writes')", &[])?;
        }
    }
    in_two_phases()
}

/// Makes the reference table, where it is not one yet, which a dump does not keep; an error where it lies on one node.
fn make_table() -> Result<()> {
    let there = catalog::read("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[TABLE.into()], |row| {
        row.get::<bool>(1)
    })?;
    if there.first().copied().flatten() != Some(true) {
        catalog::execute(&format!("CREATE TABLE {TABLE} (placed pg_catalog.int4 PRIMARY KEY)"), &[])?;
    }
    if place(naming::relation(TABLE)?)? != Some(Place::Reference) {
        set_local(c"citus.multi_shard_modify_mode", c"sequential");
        catalog::execute(&format!("SELECT pg_catalog.create_reference_table('{TABLE}')"), &[])?;
    }
    let placements: i64 = catalog::one(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_dist_shard s JOIN pg_catalog.pg_dist_placement p ON p.shardid = s.shardid \
         WHERE s.logicalrelid = $1::pg_catalog.regclass",
        &[TABLE.into()],
    )?;
    if placements > 1 {
        return Ok(());
    }
    fail(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "changes on another node could be counted twice after a crash: {TABLE} lies on one node only"
        ),
        "The library of Citus offers no commit in two phases by itself. SELECT citus_set_coordinator_host(…), then SELECT replicate_reference_tables(): the table lies on two nodes then, and a change of it is committed so.",
    )
}
