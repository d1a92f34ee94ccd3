//! Making a rollup of a table that Citus keeps: what the query must be, and where its tables lie.
use super::{Place, commit, gather, place, places, whole};
use crate::pg::deparse::shown_name;
use crate::pg::query::Select;
use crate::pg::query::set_local;
use crate::rollup::catalog::{self, Definition};
use crate::rollup::error::{Result, fail};
use crate::rollup::naming;
use crate::rollup::options::Options;
use crate::rollup::state;
use crate::rollup::watch::OnChange;
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Column, Frontier, Level, Nodes, Plan, State};
use pgrx::prelude::*;

const UNSUPPORTED: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED;

/// Refuses to follow changes of rows that are made on other nodes.
pub fn refuse_options(options: &Options) -> Result<()> {
    if options.on_change == OnChange::Ignore {
        return Ok(());
    }
    fail(
        UNSUPPORTED,
        "on_change is not supported for tables that Citus keeps",
        "Leave it at 'ignore'. rollup.check finds buckets whose rows have changed, rollup.rebuild takes them in.",
    )
}

/// Refuses queries that every node would not run alike, and writes what depends on the session into them.
pub fn prepare(place: &Place, select: &mut Select) -> Result<()> {
    let source = shown_name(select.source);
    if places::own_group()? != 0 {
        return fail(
            UNSUPPORTED,
            format!("{source} is kept by Citus, and this node is not the coordinator"),
            "Create the rollup on the coordinator: it is run where it was made.",
        );
    }
    if *place == Place::Appended {
        return fail(
            UNSUPPORTED,
            format!("{source} is distributed by append"),
            "Distribute it by hash: create_distributed_table(table, column).",
        );
    }
    let joined = select.joins.iter().flat_map(|joins| &joins.tables).map(|table| pg_sys::Oid::from(table.id));
    for lookup in joined.filter(|table| *table != select.source) {
        if super::place(lookup)? != Some(Place::Reference) {
            return fail(
                UNSUPPORTED,
                format!("{}, which the query joins to {source}, is no reference table", shown_name(lookup)),
                "Every node looks its rows up by itself: SELECT create_reference_table(…) puts the table on each.",
            );
        }
    }
    if let Some(what) = &select.session_dependent {
        return fail(
            UNSUPPORTED,
            format!("{what} depends on settings of the session, which nodes of Citus do not share"),
            "Use expressions that depend on the row alone: AT TIME ZONE with a constant instead of a cast to text or to_char of a timestamptz.",
        );
    }
    commit::in_two_phases_with_tables()?;
    // Functions are made in this transaction too, which Citus does over the connections that rows would go over.
    set_local(c"citus.multi_shard_modify_mode", c"sequential");
    Ok(())
}

/// The same for a rollup that is there; nothing where its source is a table of this node alone.
pub fn prepare_again(d: &Definition, select: &mut Select) -> Result<()> {
    match place(d.source_oid)? {
        Some(place) if d.state.nodes().is_some() => prepare(&place, select),
        _ => Ok(()),
    }
}

/// The key that is this column of the source.
fn key_of<'a>(column: &str, plan: &'a Plan) -> Option<&'a Column> {
    // Quoted or not, behind the table's name or not: as the key was written.
    let either = |name: &str| [name.to_string(), ident(name)];
    let qualified = either(&plan.alias).map(|table| either(column).map(|c| format!("{table}.{c}")));
    let written: Vec<String> = either(column).into_iter().chain(qualified.into_iter().flatten()).collect();
    plan.keys().find(|k| written.contains(&k.expression))
}

/// Whether this column of the source is a key.
pub fn has_key(column: &str, plan: &Plan) -> bool {
    key_of(column, plan).is_some()
}

/// The key of the rollup that its tables are distributed by; None where they are not distributed by one.
pub fn key(place: &Place, plan: &Plan, source: &str) -> Result<Option<String>> {
    let Place::Distributed(column) = place else { return Ok(None) };
    match key_of(column, plan) {
        Some(key) => Ok(Some(key.name.clone())),
        None => fail(
            UNSUPPORTED,
            format!("no group key is {column}, the column that {source} is distributed by"),
            format!(
                "Group by it too: every node makes the groups of its own rows. Groups without it are a level of the same rollup: coarser => {}.",
                literal(&whole::example(plan))
            ),
        ),
    }
}

/// Refuses a table that is there and lies elsewhere than its source.
pub fn check_adopted(place: &Place, key: Option<&str>, source: &str, target: &str) -> Result<()> {
    let [of_source, of_target] = [source, target].map(|table| {
        catalog::read(
            "SELECT p.colocationid::pg_catalog.int4 FROM pg_catalog.pg_dist_partition p WHERE p.logicalrelid = $1::pg_catalog.regclass",
            &[table.into()],
            |row| row.get::<i32>(1),
        )
    });
    let there = super::place(naming::relation(target)?)?;
    let beside = of_source?.first() == of_target?.first();
    let (fits, call) = match (place, key) {
        (Place::Distributed(_), Some(key)) => (
            beside && there == Some(Place::Distributed(key.into())),
            format!(
                "create_distributed_table({}, {}, colocate_with => {})",
                literal(target),
                literal(key),
                literal(source)
            ),
        ),
        (Place::Single, _) => (
            beside && there == Some(Place::Single),
            format!(
                "create_distributed_table({}, NULL, colocate_with => {})",
                literal(target),
                literal(source)
            ),
        ),
        _ => (there.is_none(), format!("undistribute_table({})", literal(target))),
    };
    if fits {
        return Ok(());
    }
    fail(
        UNSUPPORTED,
        format!("table {target} does not lie where the rows of {source} are"),
        format!("SELECT {call}; every node makes the groups of its own rows."),
    )
}

/// Puts an empty table of a rollup where the rows of its source lie.
pub fn distribute(place: &Place, key: Option<&str>, source: &str, target: &str) -> Result<()> {
    let (source, table) = (literal(source), literal(target));
    let call = match (place, key) {
        (Place::Distributed(_), Some(key)) => {
            format!(
                "pg_catalog.create_distributed_table({table}, {}, colocate_with => {source})",
                literal(key)
            )
        }
        // In a schema that is distributed as a whole the table is in its place already.
        (Place::Single, _) => match super::place(naming::relation(target)?)? {
            Some(Place::Single) => return Ok(()),
            _ => format!("pg_catalog.create_distributed_table({table}, NULL, colocate_with => {source})"),
        },
        _ => return Ok(()),
    };
    catalog::execute(&format!("SELECT {call}"), &[])
}

/// Writes what a new rollup has merged: nothing on any node, or every row that is there. The table is locked then.
pub fn begin(id: i64, offset: i64, everything: bool) -> Result<()> {
    let nodes = if everything { gather::everything(offset)? } else { Nodes::new() };
    state::store(id, &State::at(Frontier::Cluster(nodes)), 0)
}

/// Puts the empty table of a level where the rollup lies, unless it has no key for that.
pub fn distribute_level(d: &Definition, plan: &Plan, source: &str, level: &Level) -> Result<()> {
    if d.state.nodes().is_none() {
        return Ok(());
    }
    if plan.joins.is_some() {
        // Each table of a rollup is merged by a statement of its own: a lookup table might change between two.
        return fail(
            UNSUPPORTED,
            format!(
                "rollup {} joins lookup tables, and its tables could come to disagree about them",
                d.name
            ),
            "Group the rollup's table when it is read, or make another rollup with the longer buckets.",
        );
    }
    match place(d.source_oid)? {
        Some(at) => {
            let key = key(&at, plan, source)?;
            match whole::is_here(&at, key.as_deref(), level) {
                true => Ok(()),
                false => distribute(&at, key.as_deref(), source, &level.target),
            }
        }
        None => Ok(()),
    }
}
