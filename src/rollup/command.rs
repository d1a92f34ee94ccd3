//! What is done after a command of DDL: the event trigger. Tables that came to stand below a source are watched as it is,
//! and what left with others is recorded. See `arrange` for what it does where it cannot act.
use super::arrange::{
    ids, move_hint, odd, partitions_with_rollups, sources_above, sources_of_rows, tables, try_as,
    wait_shortly, warn,
};
use super::error::{Result, fail, raise};
use crate::pg::ddl::{self, Command};
use crate::pg::v1::Call;
use crate::pg::xact::{ActingAs, current_user, in_subtransaction};
use pgrx::pg_sys;
use pgrx::prelude::*;

crate::v1!(rollup_watch_command, watch_command);

/// Called for each command that an event trigger is told of.
fn watch_command(call: &mut Call) -> pg_sys::Datum {
    watch(&ddl::command(call)).unwrap_or_else(raise);
    pg_sys::Datum::from(0)
}

/// Tables that came to stand below a source are watched as it is, and rows that a subscription brings get stamps.
fn watch(command: &Command) -> Result<()> {
    for (table, was, now) in &command.renamed {
        super::renamed::column_renamed(*table, was, now);
        super::written::renamed(*table, was, now)?;
    }
    command.made.iter().try_for_each(|table| super::recreated::made(*table))?;
    super::leaving::told(command)?;
    super::switched::told(command)?;
    let mut children = command.children.clone();
    for (parent, name) in &command.attached {
        children.extend(partitions_named(*parent, name)?);
    }
    for &table in &children {
        come(table)?;
        if super::maps::come_to_nodes(table)? {
            // Its rows are not away any more.
            super::lost::back(table)?;
        }
    }
    super::lost::left(command)?;
    for table in children {
        identify(table)?;
        let sources = sources_above(table)?;
        // Where a subscription fills it, its rows get stamps from the top on.
        let roots = match sources.is_empty() {
            true => continue,
            false if super::identity::is_subscribed(table)? => sources,
            false => vec![table],
        };
        roots.into_iter().try_for_each(attempt)?;
    }
    for subscription in &command.subscriptions {
        super::identity::sources_of(*subscription)?.into_iter().try_for_each(attempt)?;
    }
    super::called::told(command)
}

/// A table has come to stand below another: where a rollup is above, its rows are recorded, and told of from now on.
fn come(table: pg_sys::Oid) -> Result<()> {
    let above = sources_of_rows(table)?;
    for (_, time_column) in above.iter().filter(|(source, _)| *source != table).take(1) {
        if !super::maps::lacking(table)?.is_empty() {
            let done = in_subtransaction(std::panic::AssertUnwindSafe(|| {
                let _acting = ActingAs::role(current_user());
                wait_shortly();
                super::maps::complete(table, &super::source::describe(table)?.qualified(), time_column)
            }));
            if let Err(e) = done {
                warn(
                    format!(
                        "{} gets no index that tells of rows which come with stamps: {}",
                        crate::pg::deparse::shown_name(table),
                        e.message
                    ),
                    "Until it has one rollup.status names it.",
                );
            }
        }
    }
    if !above.is_empty() {
        super::leaving::unlogged(table)?;
        super::lost::back(table)?;
        super::maps::tell_anew(table)?;
        super::arrival::note_tables(&super::maps::tables(table)?)?;
    }
    if above.iter().all(|(source, _)| *source == table) {
        for (name, whole) in partitions_with_rollups(table)? {
            warn(
                format!(
                    "{} has a rollup, {name}, and is a partition of {whole} now: rows of the other partitions are not in it",
                    crate::pg::deparse::shown_name(table)
                ),
                move_hint(&name, &whole),
            );
        }
    }
    Ok(())
}

/// Gives a new partition of a rollup's table a replica identity, as who gave the command.
fn identify(table: pg_sys::Oid) -> Result<()> {
    let done = in_subtransaction(std::panic::AssertUnwindSafe(|| {
        let _acting = ActingAs::role(current_user());
        wait_shortly();
        super::identity::give_below(table)
    }));
    match done {
        Ok(()) => Ok(()),
        Err(e) if e.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED => {
            fail(e.code, e.message, "Give the command again.")
        }
        Err(e) => {
            warn(
                format!("the new partition of a rollup has no replica identity: {}", e.message),
                "Where it is published, runs of the rollup fail: ALTER TABLE … REPLICA IDENTITY FULL.",
            );
            Ok(())
        }
    }
}

/// Does what is to be done of a table and what is below it, as who gave the command, or says why it cannot be.
fn attempt(root: pg_sys::Oid) -> Result<()> {
    let mut all = odd(root)?;
    // What was switched off is switched on by who says so, or by a run, either of which records what was not seen.
    all.retain(|o| !o.off);
    if all.is_empty() {
        return Ok(());
    }
    if let Some(why) = try_as(current_user(), &all)? {
        warn(
            format!("rollups are not told of changes in {}: {why}", tables(&all)),
            "The next run of a rollup of the table puts that right, as its owner; until then rollup.status names it.",
        );
    }
    Ok(())
}

fn partitions_named(parent: pg_sys::Oid, name: &str) -> Result<Vec<pg_sys::Oid>> {
    ids(
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid WHERE c.relname = $2::pg_catalog.name AND i.inhparent = $1",
        &[parent.into(), name.into()],
    )
}
