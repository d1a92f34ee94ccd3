//! Tables that go by hand, by whichever command: their rows of the catalog go with them, or say so.
//!
//! Invariant: an oid of a table that was dropped stays nowhere where something is run, made or removed by it, so that a
//! table which comes to have that oid inherits nothing. Where another transaction holds such a row it is left, and found
//! to be of no table later; nobody's DROP waits for us, or fails. A definition stays until rollup.drop, without the oid, and knows who owned its table:
//! while it counts in this cluster, whose roles they are. A table that Citus recreates under another oid is
//! followed before (see `recreated`).
use super::catalog::{self, Must};
use super::error::Result;
use crate::pg::ddl::owner_before;
use crate::pg::query::set_local;
use crate::pg::trigger::{self, Cascade};
use crate::pg::v1::Call;
use crate::pg::xact::{ActingAs, in_subtransaction};
use hll_rollup::sql::{STAMP, literal};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::panic::AssertUnwindSafe;

crate::v1!(rollup_forget_dropped, forget_dropped);
crate::v1!(rollup_leave_tables, leave_tables);

/// Runs `body` so that it fails for nobody but whoever cancels the command.
fn quietly(what: &str, body: impl FnOnce() -> Result<()>) {
    let Err(e) = in_subtransaction(AssertUnwindSafe(body)) else { return };
    let cancelled = [PgSqlErrorCode::ERRCODE_QUERY_CANCELED, PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN];
    if cancelled.contains(&e.code) {
        super::error::report(e.code, e.message.clone(), "").report(PgLogLevel::ERROR);
    }
    log!("rollup: {what}: {}", e.message);
}

fn forget_dropped(call: &mut Call) -> pg_sys::Datum {
    if trigger::is_event(call) {
        // Citus' own command may fail rather than lose rollups.
        super::recreated::dropped().unwrap_or_else(super::error::raise);
        quietly("rows of dropped tables stay in the catalog", forget);
        quietly("what dropped tables took along is not noted", lose);
    }
    call.null()
}

/// Records what left a source with tables that were dropped.
fn lose() -> Result<()> {
    let _acting = ActingAs::catalog();
    let gone = catalog::read(
        "SELECT objid FROM pg_catalog.pg_event_trigger_dropped_objects() WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objsubid = 0",
        &[],
        |row| row.get::<pg_sys::Oid>(1),
    )?;
    let gone: Vec<pg_sys::Oid> = gone.into_iter().flatten().collect();
    super::lost::dropped(&gone)
}

fn forget() -> Result<()> {
    let _acting = ActingAs::catalog();
    set_local(c"lock_timeout", c"100ms");
    tell_leaving()?;
    let dropped = known_dropped()?;
    if dropped.is_empty() {
        return Ok(());
    }
    forget_in_definitions(&dropped)?;
    for (table, view) in
        [("definition", "live"), ("definition", "shown"), ("level", "live"), ("level", "shown")]
    {
        catalog::execute(
            &format!(
                "UPDATE rollup.{table} SET {view} = NULL WHERE ctid = ANY (ARRAY(SELECT ctid FROM rollup.{table} WHERE {view} = ANY ($1) FOR UPDATE SKIP LOCKED))"
            ),
            &[dropped.clone().into()],
        )?;
    }
    for (table, column) in [
        ("level", "relation"),
        ("retention", "relation"),
        ("archiving", "partition"),
        ("archiving", "relation"),
        ("expired", "relation"),
        ("partitioning", "relation"),
        ("change", "source"),
        ("departure", "source"),
        ("arrival", "source"),
        ("arrival", "relation"),
    ] {
        catalog::execute(
            &format!(
                "DELETE FROM rollup.{table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM rollup.{table} WHERE {column} = ANY ($1) FOR UPDATE SKIP LOCKED))"
            ),
            &[dropped.clone().into()],
        )?;
    }
    catalog::execute(
        "DELETE FROM rollup.source WHERE relation IN (SELECT s.relation FROM rollup.source s WHERE s.relation = ANY ($1) \
         AND NOT EXISTS (SELECT FROM rollup.definition d WHERE d.source = s.relation) FOR UPDATE SKIP LOCKED)",
        &[dropped.into()],
    )
}

/// Tells `leaving` which tables were dropped, and which of the extension's triggers.
fn tell_leaving() -> Result<()> {
    let left = catalog::read(
        "SELECT objid, CASE WHEN object_type = 'trigger' AND pg_catalog.starts_with(address_names[3], 'zz_rollup') THEN address_names END, \
         classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objsubid = 0 AND object_type = 'table' FROM pg_catalog.pg_event_trigger_dropped_objects() \
         WHERE object_type IN ('trigger', 'table')",
        &[],
        |row| Ok((row.get::<pg_sys::Oid>(1)?, row.get::<Vec<String>>(2)?, row.get::<bool>(3)? == Some(true))),
    )?;
    let tables: Vec<pg_sys::Oid> =
        left.iter().filter(|(_, _, table)| *table).filter_map(|(id, _, _)| *id).collect();
    let triggers: Vec<(String, String)> = (left.into_iter().filter_map(|(_, names, _)| names))
        .filter_map(|names| names.first().cloned().zip(names.get(1).cloned()))
        .collect();
    super::leaving::dropped(&tables)?;
    super::leaving::untold(&triggers)
}

/// The dropped tables that the catalog of rollups names.
fn known_dropped() -> Result<Vec<pg_sys::Oid>> {
    catalog::read(
        "WITH o AS MATERIALIZED (SELECT objid FROM pg_catalog.pg_event_trigger_dropped_objects() WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objsubid = 0) \
         SELECT objid FROM o WHERE EXISTS (SELECT FROM rollup.source WHERE relation = objid) OR EXISTS (SELECT FROM rollup.definition WHERE relation = objid OR source = objid OR live = objid OR shown = objid) \
         OR EXISTS (SELECT FROM rollup.level WHERE relation = objid OR live = objid OR shown = objid) OR EXISTS (SELECT FROM rollup.retention WHERE relation = objid) OR EXISTS (SELECT FROM rollup.archiving a WHERE a.partition = objid OR a.relation = objid) \
         OR EXISTS (SELECT FROM rollup.expired WHERE relation = objid) OR EXISTS (SELECT FROM rollup.partitioning WHERE relation = objid) \
         OR EXISTS (SELECT FROM rollup.change WHERE source = objid) OR EXISTS (SELECT FROM rollup.departure WHERE source = objid) OR EXISTS (SELECT FROM rollup.arrival WHERE source = objid OR relation = objid)",
        &[],
        |row| row.must::<pg_sys::Oid>(1),
    )
}

/// Definitions name dropped tables no longer, and know who owned them.
fn forget_in_definitions(dropped: &[pg_sys::Oid]) -> Result<()> {
    let (tables, owners): (Vec<pg_sys::Oid>, Vec<pg_sys::Oid>) =
        dropped.iter().filter_map(|table| Some((*table, owner_before(*table)?))).unzip();
    catalog::execute(
        "WITH free AS MATERIALIZED (SELECT id FROM rollup.definition WHERE relation = ANY ($1) OR source = ANY ($1) FOR UPDATE SKIP LOCKED), \
         was AS MATERIALIZED (SELECT * FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) w (oid, owner)) \
         UPDATE rollup.definition d SET last_owner = coalesce((SELECT w.owner FROM was w WHERE w.oid = d.relation), \
           (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = d.relation), d.last_owner, (SELECT w.owner FROM was w WHERE w.oid = d.source)), \
         relation = CASE WHEN d.relation = ANY ($1) THEN NULL ELSE d.relation END, source = CASE WHEN d.source = ANY ($1) THEN NULL ELSE d.source END \
         FROM free WHERE d.id = free.id",
        &[dropped.to_vec().into(), tables.into(), owners.into()],
    )
}

/// The event trigger before a command: where the extension goes by CASCADE, and with it the default of the stamps, tables
/// take rows without.
fn leave_tables(call: &mut Call) -> pg_sys::Datum {
    if let Some(cascade) = trigger::cascade(call) {
        quietly("stamp columns stay NOT NULL", || leave(&cascade));
    }
    call.null()
}

fn leave(cascade: &Cascade) -> Result<()> {
    let (extensions, schemas, roles) = match cascade {
        Cascade::Extensions(names) => (names.clone(), Vec::new(), Vec::new()),
        Cascade::Schemas(names) => (Vec::new(), names.clone(), Vec::new()),
        Cascade::Owned(roles) => (Vec::new(), Vec::new(), roles.clone()),
    };
    // The trigger fires before PostgreSQL asks whether the caller may drop them, and tables are locked below.
    let may = catalog::one_now::<bool>(
        "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = ANY ($1::pg_catalog.name[]) AND NOT pg_catalog.pg_has_role(e.extowner, 'USAGE')) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY ($2::pg_catalog.name[]) AND NOT pg_catalog.pg_has_role(n.nspowner, 'USAGE')) \
         AND NOT EXISTS (SELECT FROM pg_catalog.unnest($3) r WHERE NOT pg_catalog.pg_has_role(r, 'USAGE'))",
        &[extensions.clone().into(), schemas.clone().into(), roles.clone().into()],
    )?;
    if !may {
        return Ok(());
    }
    let _acting = ActingAs::catalog();
    // What goes with what, as CASCADE finds it: a member of an extension takes that along.
    let goes = catalog::write(
        "WITH RECURSIVE gone (class, id) AS ( \
           (SELECT 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid, oid FROM pg_catalog.pg_extension WHERE extname = ANY ($1::pg_catalog.name[]) UNION \
            SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid, oid FROM pg_catalog.pg_namespace WHERE nspname = ANY ($2::pg_catalog.name[]) UNION \
            SELECT s.classid, s.objid FROM pg_catalog.pg_shdepend s WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = ANY ($3) \
              AND s.deptype = 'o' AND s.dbid = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database())) \
           UNION SELECT n.class, n.id FROM gone g, LATERAL ( \
             SELECT d.classid AS class, d.objid AS id FROM pg_catalog.pg_depend d WHERE d.refclassid = g.class AND d.refobjid = g.id UNION ALL \
             SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d WHERE d.classid = g.class AND d.objid = g.id AND d.deptype = 'e') n) \
         SELECT true FROM gone g JOIN pg_catalog.pg_extension e ON e.oid = g.id AND g.class = 'pg_catalog.pg_extension'::pg_catalog.regclass WHERE e.extname = 'hll' LIMIT 1",
        &[extensions.into(), schemas.into(), roles.into()],
        |row| row.get::<bool>(1),
    )?;
    if goes.is_empty() {
        return Ok(());
    }
    // Wherever the default is, in copies made with LIKE, too. The command takes the same lock to remove it.
    let tables = catalog::write(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum JOIN pg_catalog.pg_class c ON c.oid = f.adrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
         AND d.refobjid = 'rollup.stamp()'::pg_catalog.regprocedure AND a.attname = $1::pg_catalog.name AND a.attnotnull ORDER BY a.attinhcount > 0, c.oid",
        &[STAMP.into()],
        |row| row.get::<String>(1),
    )?;
    for table in tables.into_iter().flatten() {
        quietly(&table, || {
            catalog::execute(&format!("ALTER TABLE {table} ALTER COLUMN {STAMP} DROP NOT NULL"), &[])?;
            catalog::execute(
                &format!("COMMENT ON COLUMN {table}.{STAMP} IS {}", literal(super::source::LEFT)),
                &[],
            )
        });
    }
    Ok(())
}
