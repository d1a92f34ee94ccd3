//! The live view of a rollup that lies on several nodes.
//!
//! State, rollup and raw rows cannot be read under one snapshot there: each node takes its own. So the view first
//! takes a lock in share mode that a run holds, from its first write until every node has committed, and then the
//! state: what the rollup holds is what that says, for as long as the reader's transaction lasts.
use crate::pg::lock;
use crate::pg::xact::{ActingAs, keeps_one_snapshot};
use crate::rollup::catalog;
use crate::rollup::error::{Result, fail};
use hll_rollup::sql::{STAMP, ident};
use hll_rollup::{Joins, Level, Plan, live, unmerged};
use pgrx::PgSqlErrorCode;
use pgrx::datum::TimestampWithTimeZone;

/// The view over `target`. That it names a table of this node alone keeps the look at the state here, whatever Citus
/// sends to other nodes; on another node there is no state, which is an error. The rows of `target` are merged with those of `source` that it lacks.
pub fn live(plan: &Plan, view: &str, source: &str, target: &str, level: Option<&Level>, id: i64) -> String {
    let mut joined = plan.clone();
    let alias = ident(&plan.alias);
    let from = plan.from_clause(source);
    joined.joins = Some(Joins::new(format!("{from}, \"rollup rest\" AS \"the rest\""), Vec::new()));
    let time = format!("{alias}.{}", ident(&plan.time_column));
    let before = if plan.time_zoned {
        "\"the rest\".\"the end\""
    } else {
        "(\"the rest\".\"the end\" AT TIME ZONE 'UTC')"
    };
    let bounds = format!(
        "{alias}.{STAMP} OPERATOR(pg_catalog.>=) \"the rest\".\"the first\" AND {alias}.{STAMP} OPERATOR(pg_catalog.<=) \"the rest\".\"the last\" \
         AND (\"the rest\".\"the end\" IS NULL OR {time} OPERATOR(pg_catalog.<) {before} OR {time} IS NULL)"
    );
    format!(
        "CREATE OR REPLACE VIEW {view} AS WITH \"rollup rest\" (\"the first\", \"the last\", \"the end\") AS MATERIALIZED (SELECT r.first, r.last, r.before FROM (VALUES ({id}::pg_catalog.int8)) v (id) LEFT JOIN rollup.definition d ON d.id OPERATOR(pg_catalog.=) v.id CROSS JOIN LATERAL rollup_internal.rest(v.id) r) {}",
        live::live_query(plan, target, &live::groups(&joined, source, &bounds, level))
    )
}

/// Stamps from one to another, of rows before a moment where there is one.
type Rest = (i64, i64, Option<TimestampWithTimeZone>);

/// The stamps of rows that the rollup has not merged, as ranges, with runs locked out until the transaction ends.
pub fn rest(id: i64) -> Result<Vec<Rest>> {
    if keeps_one_snapshot() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "the live view of a distributed rollup is read in READ COMMITTED transactions only",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED: nodes of Citus have no snapshot in common.",
        );
    }
    lock::share_state(id);
    let found = catalog::by_id_now(id)?.map(|d| d.state).filter(|state| state.nodes().is_some());
    let Some(state) = found else {
        return fail(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("this node does not know the state of rollup {id}"),
            "Read the view on the node where the rollup was made, the coordinator.",
        );
    };
    let mut found: Vec<Rest> =
        unmerged(&state.frontier).ranges().iter().map(|(a, z)| (*a, *z, None)).collect();
    if let Some(backlog) = &state.backlog {
        let _acting = ActingAs::catalog();
        let cursor = catalog::write(
            "SELECT backlog_cursor FROM rollup.definition WHERE id = $1",
            &[id.into()],
            |row| row.get::<TimestampWithTimeZone>(1),
        )?;
        let cursor = cursor.into_iter().flatten().next();
        found.extend(backlog.stamps().ranges().iter().map(|(a, z)| (*a, *z, cursor)));
    }
    Ok(found)
}
