//! Triggers that an owner switches off, and on again: ALTER TABLE … DISABLE TRIGGER USER, as bulk loads and migrations do.
//!
//! Invariant: of what was changed while a trigger was off nobody was told, so that when it is on again a rollup that follows
//! changes takes all of its source as changed. Who switches it on waits for those who write; the record bears the stamp of that
//! transaction, or of the run that did it, and so is followed after all of those changes are seen.
//!
//! What is off is shown by `rollup.status`, and a run switches it on (see `mend`): off for a day, a rollup would be wrong for as long.
use super::arrange::{self, Odd, odd, sources_around, tables, try_as, warn};
use super::catalog::{self, Must};
use super::error::Result;
use super::{leaving, lost, maps};
use crate::pg::ddl::{Command, Switch};
use crate::pg::deparse::shown_name;
use crate::pg::trigger::{self, Micros};
use crate::pg::xact::{ActingAs, current_user, own_transaction_id};
use hll_rollup::sql::literal;
use pgrx::pg_sys;

/// Called after a command, which may have switched triggers.
pub fn told(command: &Command) -> Result<()> {
    if arrange::puts_right() {
        return Ok(());
    }
    for (table, switch) in command.switched.iter().filter(|(_, switch)| concerns(switch)) {
        for source in sources_around(*table)? {
            match switch.on {
                true => on(source, switch)?,
                false => off(source)?,
            }
        }
    }
    Ok(())
}

fn concerns(switch: &Switch) -> bool {
    switch.trigger.as_ref().is_none_or(|name| name.starts_with(arrange::PREFIX))
}

/// The rollups of a source that mind changes: those that follow, and those that allow none.
fn minding(source: pg_sys::Oid, on_change: &str, unless_whole: bool) -> Result<Vec<String>> {
    let _acting = ActingAs::catalog();
    catalog::write(
        "SELECT d.name FROM rollup.definition d WHERE d.source = $1 AND d.on_change = $2 AND NOT (d.whole AND $3) ORDER BY d.name",
        &[source.into(), on_change.into(), unless_whole.into()],
        |row| row.must::<String>(1),
    )
}

fn off(source: pg_sys::Oid) -> Result<()> {
    let all = odd(source)?;
    if !all.iter().any(|o| o.lacks) {
        return Ok(());
    }
    leaving::unseen(source)?;
    let [follow, refuse] = [minding(source, "recompute", false)?, minding(source, "error", false)?];
    let off: Vec<Odd> = all.into_iter().filter(|o| o.off).collect();
    if off.is_empty() || follow.is_empty() && refuse.is_empty() {
        return Ok(());
    }
    let then = match follow.first() {
        Some(_) => "then all that has not expired is computed again by the next run".to_string(),
        None => rebuild_hint(&refuse),
    };
    warn(
        format!(
            "{} is not told of changes in {}: triggers of rollups are switched off there",
            called(follow.into_iter().chain(refuse)),
            tables(&off)
        ),
        format!(
            "{} switches them on, as the next run does; {then}. Until then rollup.status names them.",
            enable(&off)
        ),
    );
    Ok(())
}

/// What switches triggers on again, of a few tables.
fn enable(all: &[Odd]) -> String {
    let mut names: Vec<&str> = all.iter().map(|o| o.table.as_str()).collect();
    names.dedup();
    let each = names.iter().take(3).map(|table| format!("ALTER TABLE {table} ENABLE TRIGGER USER;"));
    each.collect::<Vec<_>>().join(" ")
}

fn called(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match names.as_slice() {
        [one] => format!("rollup {one}"),
        many => format!("each of rollups {}", many.join(", ")),
    }
}

fn rebuild_hint(names: &[String]) -> String {
    let calls: Vec<String> = names.iter().map(|n| format!("rollup.rebuild({})", literal(n))).collect();
    format!("SELECT {} takes in what was changed", calls.join(", "))
}

/// A trigger was switched on, which may have been off.
fn on(source: pg_sys::Oid, switch: &Switch) -> Result<()> {
    // ENABLE TRIGGER has it fire for some only: not for what replication applies. Of others than the command names, and of those
    // that are not there, nothing is done: a restore has made some, and makes the rest next.
    let mut all = odd(source)?;
    all.retain(|o| {
        o.lacks && o.made && !o.off && switch.trigger.as_ref().is_none_or(|name| *name == o.trigger)
    });
    if !all.is_empty()
        && let Some(why) = try_as(current_user(), &all)?
    {
        leaving::unseen(source)?;
        warn(
            format!("rollups are not told of all changes in {}: {why}", tables(&all)),
            "The next run of a rollup of the table puts that right; until then rollup.status names it.",
        );
    }
    record(source, true)?;
    let refuse = minding(source, "error", true)?;
    if !refuse.is_empty() {
        warn(
            format!(
                "what was changed in {} while triggers were switched off is not in {}",
                shown_name(source),
                called(refuse.clone().into_iter())
            ),
            format!("{}.", rebuild_hint(&refuse)),
        );
    }
    Ok(())
}

/// Puts all triggers of a source right, for a rollup that is new there: what was switched off, too.
pub fn arrange(source: pg_sys::Oid) -> Result<()> {
    let all = odd(source)?;
    arrange::put_right(&all)?;
    match all.iter().any(|o| o.off) {
        true => record(source, true),
        false => Ok(()),
    }
}

/// Records, for rollups that follow changes, that any row of a source may have changed; `unless_whole`: where nothing has said
/// that one may have changed unseen, none has.
pub fn record(source: pg_sys::Oid, unless_whole: bool) -> Result<()> {
    let followed = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT d.plan->>'time_column', s.stamp_offset, pg_catalog.bool_or(d.adopted) FROM rollup.definition d JOIN rollup.source s ON s.relation = d.source \
             WHERE d.source = $1 AND d.on_change = 'recompute' AND d.nodes IS NULL GROUP BY 1, 2 HAVING NOT ($2 AND pg_catalog.bool_and(d.whole))",
            &[source.into(), unless_whole.into()],
            |row| Ok((row.must::<String>(1)?, row.must::<i64>(2)?, row.get::<bool>(3)? == Some(true))),
        )?
    };
    for (column, offset, adopted) in followed {
        for times in times(source, &column, adopted)? {
            let moment = |end: fn((Micros, Micros)) -> Micros| trigger::timestamptz(times.map(end));
            let _acting = ActingAs::catalog();
            catalog::execute(
                "INSERT INTO rollup.change (source, time_column, rollup_stamp, since, until) VALUES ($1, $2::pg_catalog.name, $3, $4, $5)",
                &[
                    source.into(),
                    column.as_str().into(),
                    (own_transaction_id() + offset).into(),
                    moment(|(least, _)| least),
                    moment(|(_, greatest)| greatest),
                ],
            )?;
        }
    }
    Ok(())
}

/// All times: rows may have been deleted that nobody knows of. A table that a rollup was given may say more than raw rows ever
/// did, so that there only those times count in which there are rows now.
fn times(source: pg_sys::Oid, column: &str, adopted: bool) -> Result<Vec<Option<(Micros, Micros)>>> {
    if !adopted {
        return Ok(vec![Some((i64::MIN, i64::MAX)), None]);
    }
    Ok(maps::tables(source)?.into_iter().flat_map(|table| lost::times_of(table, column)).collect())
}
