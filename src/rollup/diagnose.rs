//! Which group it was: where a run fails because the value of a generated column cannot be computed, PostgreSQL says
//! what was wrong with the value and not whose it was.
use super::catalog::{self, Definition};
use super::error::{Result, internal};
use super::levels;
use super::session::set_timezone;
use crate::pg::error::shortened;
use crate::pg::plan::called::Ours;
use crate::pg::xact::{ActingAs, Failure, in_subtransaction};
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Column, Level, Plan, Role, sql as bounds, statements};
use pgrx::prelude::*;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;

/// Class 22 of SQLSTATE, data exception, as PostgreSQL packs it.
const DATA_EXCEPTION: i32 = 2 + (2 << 6);

/// What is to be said of a failure: its message, with column and group where one of a generated column's is at fault.
/// Costs about what the run did; the next run of the rollup begins again.
pub fn explain(id: i64, failure: &Failure) -> String {
    let is_data = failure.code as i32 & 0xfff == DATA_EXCEPTION;
    let found = is_data.then(|| in_subtransaction(AssertUnwindSafe(|| find(id))).ok().flatten()).flatten();
    match found {
        Some(who) => format!("{}: {}", failure.message, shortened(&who)),
        None => failure.message.clone(),
    }
}

fn find(id: i64) -> Result<Option<String>> {
    let Some(d) = catalog::by_id(id)? else { return Ok(None) };
    let plan = d.plan()?;
    let computed: Vec<&Column> =
        plan.columns.iter().filter(|c| c.in_table() && matches!(c.role, Role::Result { .. })).collect();
    if computed.is_empty() || !d.same_cluster {
        return Ok(None);
    }
    let (_, target, owner) = d.parts()?;
    let now = catalog::current_frontier(true, d.offset)?;
    let prefix = statements::prefix(&plan);
    let new = bounds::new(&prefix, &d.state.frontier, &now);
    let rows = match &d.state.backlog {
        None => new,
        Some(b) => format!("({new} OR {})", bounds::piece(&prefix, plan.time(), b)),
    };
    let levels = levels::of(&d)?;
    let _acting = ActingAs::role(owner);
    set_timezone(&d.timezone);
    for level in std::iter::once(None).chain(levels.iter().map(Some)) {
        let own = plan.of_level(level);
        for c in computed.iter().filter(|c| own.column(&c.name).is_some()) {
            if let Some(keys) = bad_group(&d, &plan, level, &rows, c)? {
                let table = level.map_or(target, |l| l.target.as_str());
                return Ok(Some(format!("column {} of {table}, group {keys}", c.name)));
            }
        }
    }
    Ok(None)
}

/// The keys of the first group for which the column cannot be computed.
fn bad_group(
    d: &Definition,
    plan: &Plan,
    level: Option<&Level>,
    rows: &str,
    c: &Column,
) -> Result<Option<String>> {
    let (source, target, _) = d.parts()?;
    let groups = statements::would_be(plan, source, level.map_or(target, |l| &l.target), level, rows);
    let good = Cell::new(0i64);
    let values = format!("SELECT {} FROM ({groups}) g", statements::computed(c));
    let all_good = in_subtransaction(AssertUnwindSafe(|| {
        Spi::connect_mut(|client| {
            let _ours = Ours::next();
            let mut cursor = client.open_cursor_mut(values.as_str(), &[]);
            // One at a time: the one that fails is the one after those that came.
            while !cursor.fetch(1)?.is_empty() {
                good.set(good.get() + 1);
            }
            Ok::<_, pgrx::spi::Error>(())
        })
        .map_err(internal)
    }));
    if all_good.is_ok() {
        return Ok(None);
    }
    let keys: Vec<String> =
        plan.of_level(level).keys().map(|k| format!("{}, g.{}", literal(&k.name), ident(&k.name))).collect();
    let sql = format!(
        "SELECT pg_catalog.jsonb_build_object({})::pg_catalog.text FROM ({groups}) g OFFSET {} LIMIT 1",
        keys.join(", "),
        good.get()
    );
    Ok(catalog::write(&sql, &[], |row| row.get::<String>(1))?.into_iter().flatten().next())
}
