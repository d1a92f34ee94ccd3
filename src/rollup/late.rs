//! Rows that come after their bucket has expired: they are merged as any other, what they make expires in turn, and
//! they are counted, lest it be lost silently.
use super::catalog::{self, Definition, Must};
use super::error::Result;
use super::range::Range;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::ident;
use hll_rollup::{Level, Plan};
use pgrx::pg_sys;

/// Buckets of one table of a rollup that have expired.
pub struct Late {
    relation: pg_sys::Oid,
    /// The condition that a group belongs there.
    pub condition: String,
}

/// Of the rollup and its levels, those of which buckets have expired.
pub fn conditions(d: &Definition, plan: &Plan, levels: &[Level]) -> Result<Vec<Late>> {
    let swept = {
        let _acting = ActingAs::catalog();
        catalog::read_often(
            "SELECT e.relation::pg_catalog.oid, l.name, pg_catalog.timezone('UTC', e.swept)::pg_catalog.text, t.timezone FROM rollup.expired e \
             JOIN rollup.retention t ON t.relation = e.relation JOIN rollup.definition d ON d.id = $1 LEFT JOIN rollup.level l ON l.definition = d.id AND l.relation = e.relation \
             WHERE e.swept IS NOT NULL AND (e.relation = d.relation OR l.name IS NOT NULL) ORDER BY 1",
            &[d.id.into()],
            |row| Ok((row.must(1)?, row.get::<String>(2)?, row.get::<String>(3)?, row.must::<String>(4)?)),
        )?
    };
    let key = ident(&plan.time_key);
    Ok(swept
        .into_iter()
        .filter_map(|(relation, level, swept, zone)| {
            let bucket = match level {
                None => key.clone(),
                Some(name) => levels.iter().find(|l| l.name == name)?.bucket_of(&key),
            };
            // A key without time zone is read in that of the retention.
            let condition = Range::of(plan, &zone, None, swept).holds(&bucket);
            Some(Late { relation, condition })
        })
        .collect())
}

/// Adds what a run has counted.
pub fn store(late: &[Late], rows: &[i64]) -> Result<()> {
    let _acting = ActingAs::catalog();
    for (late, rows) in late.iter().zip(rows).filter(|(_, rows)| **rows > 0) {
        catalog::execute(
            "UPDATE rollup.retention SET late_ignored = late_ignored + $2 WHERE relation = $1",
            &[late.relation.into(), (*rows).into()],
        )?;
    }
    Ok(())
}
