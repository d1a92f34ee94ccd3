//! What a partition of a table that lies on several nodes takes along when it is dropped or detached: see `lost`. Its rows are
//! elsewhere, so it is its bounds that are recorded, and the nodes are asked no more than whether there is a row, and how many
//! are not merged, which an index of each shard tells.
//!
//! The command goes on over the connections that ask: one for each node, else it would wait for locks of its own transaction.
use crate::pg::leaving;
use crate::pg::trigger::Micros;
use crate::pg::xact::ActingAs;
use crate::rollup::catalog::{self, Definition, Must};
use crate::rollup::error::Result;
use crate::rollup::place::Cluster;
use crate::rollup::removal::name_now;
use hll_rollup::{Plan, sql as bounds};
use pgrx::pg_sys;

/// What a partition takes along.
pub struct Taken {
    /// From when to when its rows may be.
    pub times: (Micros, Micros),
    /// There may be some without time.
    pub some_without: bool,
    /// How many were not merged.
    pub unmerged: i64,
}

/// Of a partition that leaves `parent`; None where it has no rows. Of one that is not about to be `gone`, but detached, it is
/// not asked whether it has rows.
pub fn taken_along(
    d: &Definition,
    plan: &Plan,
    (partition, parent): (pg_sys::Oid, pg_sys::Oid),
    gone: bool,
) -> Result<Option<Taken>> {
    let unmerged = match gone {
        // While ALTER TABLE is at work Citus answers no query of tables of its own: it gives no row.
        false => 0,
        true => match unmerged(d, plan, partition)? {
            Some(unmerged) => unmerged,
            None => return Ok(None),
        },
    };
    Ok(Some(match span(partition, parent, plan)? {
        Some(times) => Taken { times, some_without: false, unmerged },
        None => Taken { times: (i64::MIN, i64::MAX), some_without: true, unmerged },
    }))
}

/// How many rows of a partition were not merged; None where it has none.
fn unmerged(d: &Definition, plan: &Plan, partition: pg_sys::Oid) -> Result<Option<i64>> {
    let (.., owner) = d.parts()?;
    let name = name_now(partition)?;
    let _acting = ActingAs::role(owner);
    Cluster.one_connection();
    let any = format!("SELECT true FROM {name} LIMIT 1");
    if catalog::write(&any, &[], |row| row.get::<bool>(1))?.is_empty() {
        return Ok(None);
    }
    let left = bounds::unmerged_rows("", plan.time(), &d.state);
    catalog::one_now(&format!("SELECT pg_catalog.count(*) FROM {name} WHERE {left}"), &[]).map(Some)
}

/// From when to when rows of a partition may be, by its bounds; None where these are of another column than the time.
fn span(partition: pg_sys::Oid, parent: pg_sys::Oid, plan: &Plan) -> Result<Option<(Micros, Micros)>> {
    let Some(bound) = leaving::bounds(partition) else { return Ok(None) };
    let _acting = ActingAs::catalog();
    // The text is of this session, and read by it.
    let moment = |end: &str| {
        let value = format!("pg_catalog.substring($3, ' {end} \\(''([^'']*)''\\)')");
        let moment = match plan.time_zoned {
            true => format!("{value}::pg_catalog.timestamptz"),
            false => format!("({value}::pg_catalog.timestamp AT TIME ZONE 'UTC')"),
        };
        format!(
            "(pg_catalog.date_part('epoch', {moment})::pg_catalog.numeric * 1000000)::pg_catalog.int8 - 946684800000000"
        )
    };
    let found = catalog::write(
        &format!(
            "SELECT CASE WHEN $3 ~ 'FROM \\(MINVALUE\\)' THEN -9223372036854775808 ELSE {} END, CASE WHEN $3 ~ 'TO \\(MAXVALUE\\)' THEN 9223372036854775807 ELSE {} - 1 END \
             FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] \
             WHERE p.partrelid = $1 AND p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = $2::pg_catalog.name AND $3 <> 'DEFAULT'",
            moment("FROM"),
            moment("TO")
        ),
        &[parent.into(), plan.time_column.as_str().into(), bound.into()],
        |row| Ok((row.must::<i64>(1)?, row.must::<i64>(2)?)),
    )?;
    Ok(found.into_iter().next())
}
