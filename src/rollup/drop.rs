//! rollup.drop: what a rollup made goes, in the caller's transaction.
use super::catalog::{self, Definition};
use super::error::Result;
use super::views;
use super::{source, watch};
use crate::pg::deparse::qualified_name;
use crate::pg::{lock, xact};
use pgrx::pg_sys;

/// Removes a rollup: its levels, its view, its table unless the data is kept, and with the last one of a source
/// the two functions next to it.
pub fn drop(d: &Definition, keep_data: bool) -> Result<()> {
    let relations = {
        let _acting = xact::ActingAs::catalog();
        catalog::write(
            "WITH l AS (DELETE FROM rollup.level WHERE definition = $1 RETURNING relation, live, shown), \
             d AS (DELETE FROM rollup.definition WHERE id = $1 RETURNING relation, live, shown, adopted), \
             a AS (DELETE FROM rollup.attempt WHERE id = $1), o AS (DELETE FROM rollup.lost WHERE definition = $1) \
             SELECT relation::pg_catalog.oid, live::pg_catalog.oid, shown::pg_catalog.oid, false FROM l UNION ALL SELECT relation::pg_catalog.oid, live::pg_catalog.oid, shown::pg_catalog.oid, adopted FROM d",
            &[d.id.into()],
            |row| {
                let relation = row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::InvalidOid);
                Ok((relation, [row.get(2)?, row.get(3)?], row.get::<bool>(4)? == Some(true)))
            },
        )?
    };
    for (relation, views, adopted) in relations {
        drop_table(relation, views, keep_data || adopted)?;
    }
    // The triggers of the source are its owner's, who need not be that of the rollup.
    let _acting = match &d.source {
        Some(_) => Some(xact::ActingAs::role(source::describe(d.source_oid)?.owner)),
        None => None,
    };
    if d.source.is_some() {
        super::arrange::release(d.source_oid)?;
    }
    watch::forget(d.source_oid, false)?;
    forget_source(d.source_oid, d.source.is_some())
}

/// Drops a table of a rollup and the view that joins lookup tables to it, unless its data is kept, and its live view: those that
/// were made for it, whatever they are called by now.
pub fn drop_table(relation: pg_sys::Oid, views: [Option<pg_sys::Oid>; 2], keep_data: bool) -> Result<()> {
    let [live, shown] = views;
    // Under the lock: another session may be giving its name to a table of its own.
    let lock_view = |view: Option<pg_sys::Oid>| {
        view.iter().for_each(|view| _ = lock::relation(*view, lock::Mode::All));
    };
    lock_view(live);
    if let Some(view) = views::on(relation, live)? {
        catalog::execute(&format!("DROP VIEW {view}"), &[])?;
    }
    if !keep_data {
        lock_view(shown);
        if let Some(view) = shown.map(|shown| views::on(relation, Some(shown))).transpose()?.flatten() {
            catalog::execute(&format!("DROP VIEW {view}"), &[])?;
        }
        lock::take_partitions(relation);
        if lock::relation(relation, lock::Mode::All)
            && let Some(table) = qualified_name(relation)
        {
            catalog::execute(&format!("DROP TABLE {table}"), &[])?;
        }
    }
    let _acting = xact::ActingAs::catalog();
    for table in ["retention", "expired", "partitioning"] {
        catalog::execute(&format!("DELETE FROM rollup.{table} WHERE relation = $1"), &[relation.into()])?;
    }
    Ok(())
}

/// Forgets a source that has no rollup any more, and drops the functions next to it. Its row is locked before it is asked
/// whether it has one, as `register` locks it before it makes one: of two who come and go at once one waits for the other.
pub fn forget_source(relation: pg_sys::Oid, there: bool) -> Result<()> {
    {
        let _acting = xact::ActingAs::catalog();
        catalog::execute("SELECT FROM rollup.source WHERE relation = $1 FOR UPDATE", &[relation.into()])?;
    }
    if !catalog::of_source(relation, true)?.is_empty() {
        return Ok(());
    }
    if there {
        super::beside::drop(relation)?;
    }
    let _acting = xact::ActingAs::catalog();
    catalog::execute("DELETE FROM rollup.source WHERE relation = $1", &[relation.into()])
}
