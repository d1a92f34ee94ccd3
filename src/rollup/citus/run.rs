//! A run over a source whose rows are written on several nodes: a statement for each table of the rollup that every
//! node runs on its own rows, between two frontiers of all nodes.
use super::moment::OfNodes;
use super::{commit, gather, narrow, whole};
use crate::pg::query::set_local;
use crate::pg::xact::{ActingAs, Moment, keeps_one_snapshot, own_transaction_id_if_any, undone_unless};
use crate::rollup::catalog::{self, Definition, Must};
use crate::rollup::error::{Result, fail, internal, report};
use crate::rollup::late::{self, Late};
use crate::rollup::place::{Cluster, Look, Place};
use crate::rollup::waiting::{self, New};
use crate::rollup::{levels, long, notify, session};
use hll_rollup::{Candidate, Frontier, Nodes, Plan, Refused, Stamps, advance, sql as bounds, statements};
use pgrx::prelude::*;

impl Place for Cluster {
    /// Whether one row is not merged that can be seen. Asks no node for more.
    fn is_due(&self, d: &Definition) -> Result<bool> {
        match waiting::any_on_nodes(d)? {
            New::Came => return Ok(true),
            New::Nothing => return Ok(false),
            New::Locked | New::Unknown => {}
        }
        let (source, _, owner) = d.parts()?;
        let unmerged = bounds::unmerged_rows("", d.plan()?.time(), &d.state);
        let _acting = ActingAs::role(owner);
        session::prefer_the_index();
        let rows = format!("SELECT true FROM {source} WHERE {unmerged} LIMIT 1");
        Ok(!catalog::read(&rows, &[], |row| row.get::<bool>(1))?.is_empty())
    }

    fn look(&self, d: &Definition) -> Result<Look> {
        if keeps_one_snapshot() {
            return fail(
                PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
                format!("rollup {} of a distributed table runs in a READ COMMITTED transaction only", d.name),
                "SET TRANSACTION ISOLATION LEVEL READ COMMITTED.",
            );
        }
        d.check_cluster()?;
        let (_, now, candidate) = ask(d)?;
        Ok(Look { plan: d.plan()?, now: Frontier::Cluster(now), candidate, rows: 0 })
    }

    fn merge(
        &self,
        d: &Definition,
        plan: &Plan,
        stamps: Option<&Stamps>,
        bounds: &str,
    ) -> Result<(i64, i64)> {
        if stamps.is_some_and(Stamps::is_empty) {
            return Ok((0, 0));
        }
        let found = match stamps {
            Some(stamps) => narrow::rows(d, plan, stamps)?,
            None => None,
        };
        let Some(found) = found else { return merge_all(d, plan, bounds, None, false) };
        let rows = match found.count() {
            0 => return Ok((0, 0)),
            rows if plan.filter.is_none() && plan.joins.is_none() => Some(rows),
            _ => None,
        };
        let bounds = format!("{bounds}{}", found.of_keys());
        let times = found.of_times();
        if !times.is_empty() {
            commit::in_two_phases()?;
            let merged = undone_unless(|| {
                let merged = merge_all(d, plan, &format!("{bounds}{times}"), rows, true)?;
                Ok(found.unchanged()?.then_some(merged))
            })?;
            if let Some(merged) = merged {
                return Ok(merged);
            }
        }
        merge_all(d, plan, &bounds, None, true)
    }

    fn follow(&self, _: &Definition, _: &Plan, _: &Frontier) -> Result<()> {
        Ok(())
    }

    fn tidy(&self, _: &Definition) -> Result<()> {
        Ok(())
    }

    /// As they would be if no node had anything at work.
    fn explain(&self, d: &Definition) -> Result<String> {
        let plan = d.plan()?;
        let (before, now, _) = ask(d)?;
        let [before, now] = [before.clone(), now].map(Frontier::Cluster);
        let mut rows = bounds::new(&statements::prefix(&plan), &before, &now);
        if let Some(b) = &d.state.backlog {
            rows = format!("({rows} OR {})", bounds::piece(&statements::prefix(&plan), plan.time(), b));
        }
        let (source, target, _) = d.parts()?;
        let mut statements = vec![statements::merge_directly(&plan, source, target, None, &rows)];
        let (beside, here) = whole::parted(target, levels::of(d)?)?;
        for level in &beside {
            statements.push(statements::merge_directly(&plan, source, &level.target, Some(level), &rows));
        }
        statements.extend(whole::explain(&plan, source, &here, &rows));
        Ok(statements.join(";\n"))
    }
}

impl Cluster {
    /// Whether a run has nothing to do: no row waits, and each node is where the run before has left it, so that there is nothing
    /// to refuse or to wait for either. What the caller's transaction has changed it may see alone, so then it is not asked.
    pub fn is_idle(&self, d: &Definition) -> Result<bool> {
        let Some(before) = d.state.nodes().filter(|_| d.state.backlog.is_none() && d.same_cluster) else {
            return Ok(false);
        };
        if keeps_one_snapshot() || own_transaction_id_if_any().is_some() {
            return Ok(false);
        }
        let at = OfNodes::now(Moment::now())?;
        if !at.as_expected(before, d.offset) {
            return Ok(false);
        }
        if at.had_nothing(d.id, &d.state) {
            return Ok(true);
        }
        let idle = !self.is_due(d)?;
        if idle {
            at.has_nothing(d.id, &d.state);
        }
        Ok(idle)
    }
}

/// How far the rollup has come on each node, how far that is after the next run, and what may become safe then.
fn ask(d: &Definition) -> Result<(&Nodes, Nodes, Option<Candidate>)> {
    let before = d.state.nodes().ok_or_else(|| internal("a rollup of one server is run on nodes"))?;
    let answers = gather::all(before, d.offset)?;
    let (now, candidate) =
        advance(before, d.state.candidate.as_ref(), &answers).map_err(|why| refused(d, why))?;
    Ok((before, now, candidate))
}

fn refused(d: &Definition, why: Refused) -> pg_sys::panic::ErrorReport {
    let (what, hint) = match why {
        Refused::Backwards(group, before, now) => (
            format!("transaction ids of group {group} went back from {before} to {now}"),
            "A node was set back to an earlier state, which Citus does not allow for. Drop the rollup and create it again.",
        ),
        Refused::Other(group) => (
            format!("the server of group {group} is another one than at the last run"),
            "Its transaction ids say nothing of the rows that are there. Drop the rollup and create it again.",
        ),
    };
    report(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("rollup {} cannot go on: {what}", d.name),
        hint,
    )
}

/// Merges the rows that satisfy `bounds`, which are so many where that is known, and `few` where that is; returns (raw rows, groups).
fn merge_all(d: &Definition, plan: &Plan, bounds: &str, known: Option<i64>, few: bool) -> Result<(i64, i64)> {
    let (source, target, owner) = d.parts()?;
    let levels = levels::of(d)?;
    let late = late::conditions(d, plan, &levels)?;
    let (beside, here) = whole::parted(target, levels)?;
    let _acting = ActingAs::role(owner);
    session::set_timezone(&d.timezone);
    if few {
        // To open more connections, which have to read the catalog of all partitions first, takes longer than the work.
        set_local(c"citus.max_adaptive_executor_pool_size", c"1");
    }
    let rows = match known {
        Some(rows) => rows,
        None => catalog::one_now(&statements::count_new(plan, source, bounds), &[])?,
    };
    if rows == 0 {
        return Ok((0, 0));
    }
    let from = format!(
        "(SELECT {} AS k FROM {} WHERE {bounds}{}) g",
        plan.bucket_of_row(),
        plan.from_clause(source),
        plan.and_filter()
    );
    notify::changed(d, "g.k", &from, "true")?;
    let long = leave_long_out(d, plan, source, bounds)?;
    commit::in_two_phases()?;
    crate::pg::lock::take_state(d.id);
    count_late(d, plan, &late, bounds)?;
    session::prefer_hashing();
    prefer_hashing("off")?;
    let groups = catalog::modify(&statements::merge_directly(plan, source, target, None, bounds))?;
    for level in &beside {
        catalog::modify(&statements::merge_directly(plan, source, &level.target, Some(level), bounds))?;
    }
    whole::merge(plan, source, &here, bounds)?;
    prefer_hashing("DEFAULT")?;
    Ok((rows - long, groups))
}

/// Counts rows of groups whose keys are too long for the index, which the statements of the run leave out.
fn leave_long_out(d: &Definition, plan: &Plan, source: &str, bounds: &str) -> Result<i64> {
    let Some(count) = long::count(plan, source, bounds) else { return Ok(0) };
    let found = catalog::write(&count, &[], |row| Ok((row.must::<i64>(1)?, row.must::<Vec<i32>>(2)?)))?;
    let left = found.first().and_then(|(rows, bytes)| long::counted(plan, *rows, bytes));
    left.as_ref().map_or(Ok(()), |left| long::store(d, left))?;
    Ok(left.map_or(0, |left| left.rows))
}

/// Counts rows that come after their bucket has expired.
fn count_late(d: &Definition, plan: &Plan, late: &[Late], bounds: &str) -> Result<()> {
    if late.is_empty() {
        return Ok(());
    }
    let (source, ..) = d.parts()?;
    let conditions: Vec<&str> = late.iter().map(|l| l.condition.as_str()).collect();
    let count = statements::count_late(plan, source, bounds, &conditions);
    late::store(late, &catalog::one_now::<Vec<i64>>(&count, &[])?)
}

/// What `session::prefer_hashing` sets for the planner here, for those of the nodes. Citus hands settings on that are made
/// in a block.
fn prefer_hashing(sort: &str) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        &format!(
            "DO 'BEGIN SET LOCAL citus.propagate_set_commands = ''local''; SET LOCAL enable_sort TO {sort}; END'"
        ),
        &[],
    )
}
