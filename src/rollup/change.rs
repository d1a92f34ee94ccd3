//! Buckets whose raw rows have changed: which they are, and how they are computed again.
//!
//! A change is recorded by minute with the stamp of the transaction that made it, and so is followed by exactly one run
//! of each rollup, as a new row is. That run reads the rows after it has read the records: a change that it sees and
//! whose record it does not is followed once more by the next. What is computed again is what the merge rules need not
//! know: rows merged so far, as they are now.
use super::ask;
use super::catalog::{self, Definition};
use super::changes::{Changes, Notes, touched};
use super::error::Result;
use super::session::set_timezone;
use super::{holes, levels, lost, notify, watch};
use crate::pg::xact::ActingAs;
use hll_rollup::sql::ident;
use hll_rollup::{Frontier, Level, Plan, sql as bounds, statements};

/// Whether a change waits for a run of the rollup.
pub fn wait(d: &Definition, now: &Frontier) -> Result<bool> {
    if !d.follows {
        return Ok(false);
    }
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        &format!(
            "SELECT EXISTS (SELECT FROM rollup.change n WHERE n.source = $1 AND {})",
            bounds::new("n.", &d.state.frontier, now)
        ),
        &[d.source_oid.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first().copied().flatten() == Some(true))
}

/// Computes the buckets again in which rows have changed between `seen` and the state of `d`, which is locked and has
/// been stored; returns the groups written.
pub fn follow(d: &Definition, plan: &Plan, seen: &Frontier) -> Result<i64> {
    if !d.follows {
        return Ok(0);
    }
    let (source, target, owner) = d.parts()?;
    let changes = Changes::of(d, plan, &d.timezone, seen, &d.state.frontier, Notes::Changes)?;
    let levels = levels::of(d)?;
    let leaving = lost::leaving_now(d.source_oid)?;
    let mut written = 0;
    {
        let _acting = ActingAs::role(owner);
        set_timezone(&d.timezone);
        if let Some(touched) = touched(&changes)? {
            let key = ident(&plan.time_key);
            let condition = touched.condition(&key);
            notify::changed(d, &key, target, &condition)?;
            catalog::execute(&format!("DELETE FROM {target} WHERE {condition}"), &[])?;
            let groups = statements::recomputed_where(plan, source, &d.state, &touched.rows, |key| {
                touched.condition(key)
            });
            written = ask::inserted(&statements::insert(plan, target, &groups))?;
            notify::changed(d, &key, target, &condition)?;
            for level in &levels {
                let condition = touched.level_condition(&changes, level)?;
                catalog::execute(&format!("DELETE FROM {} WHERE {}", level.target, condition(&key)), &[])?;
                let fine = format!("(SELECT * FROM {target} WHERE {}) f", condition(&level.bucket_of(&key)));
                let own = plan.of_level(Some(level));
                catalog::execute(
                    &statements::insert(&own, &level.target, &statements::coarser(plan, level, &fine)),
                    &[],
                )?;
            }
        }
    }
    lost::check_stayed(d, &leaving)?;
    refuse(d, &changes, &levels)?;
    watch::forget(d.source_oid, false)?;
    Ok(written)
}

/// Remembers, for `rollup.status`, changes in buckets that cannot be computed again.
fn refuse(d: &Definition, c: &Changes, levels: &[Level]) -> Result<()> {
    let _acting = ActingAs::catalog();
    set_timezone(&d.timezone);
    let fine = ("lo.k".to_string(), c.source.clone());
    for (key, relation) in
        std::iter::once(fine).chain(levels.iter().map(|l| (l.bucket_of("lo.k"), c.target.clone())))
    {
        catalog::execute(
            &format!(
                "UPDATE rollup.definition d SET refused_changes = coalesce(d.refused_changes, '{{}}') + r.refused FROM (SELECT pg_catalog.range_agg(\
                 pg_catalog.tstzrange(n.since, least(n.until, greatest(n.since + interval '1 minute', e.below)), '[]')) AS refused \
                 FROM {} n, rollup.expired e, LATERAL {} lo WHERE e.relation = {relation} AND n.since IS NOT NULL AND {} AND {key} < {}) r \
                 WHERE d.id = {} AND r.refused IS NOT NULL",
                c.records(),
                c.bucket_of("n.since"),
                c.notes(),
                c.floor(&relation),
                d.id
            ),
            &[],
        )?;
    }
    holes::refuse(d, c)
}
