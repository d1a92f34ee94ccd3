//! The triggers of sources and of what lies below them: which there are to be, who makes them, and where one is missing.
//!
//! Invariant: a command fails or waits because of nobody's tables but its own. `rollup.create` and `rollup.drop` arrange
//! their source, as its owner. The event trigger looks at the objects of the command that fired it, and at what lies
//! above and below these, acts as who gave the command, waits for locks shortly, and where it cannot act says so and lets
//! the command be. What is missing is no state that is kept but what the catalogs say: `rollup.status` shows it, and the next
//! run of a rollup of the source makes it as the source's owner, as it switches on what was switched off (see `switched`).
use super::catalog::{self, Must};
use super::error::{Result, fail, report};
use crate::pg::query::set_local;
use crate::pg::xact::{ActingAs, current_user, in_subtransaction};
use hll_rollup::sql::literal;
use pgrx::datum::DatumWithOid;
use pgrx::{pg_sys, prelude::*};
use std::cell::Cell;

/// Sorts behind what users call theirs: a trigger that fires later could change the row once more.
pub(super) const ROWS: &str = "zz_rollup_change";
pub(super) const TABLE: &str = "zz_rollup_truncate";
pub(super) const STAMPS: &str = "zz_rollup_stamp";
/// Keeps the stamp of a row that is changed: rewritten, it would have the row counted once more. On a condition, so that it also
/// hears of a trigger before it which writes what the statement does not name, and costs other changes no call.
pub(super) const KEPT: &str = "zz_rollup_kept";

/// What the names of all of them begin with.
pub const PREFIX: &str = "zz_rollup_";

/// A trigger that is not as it is to be.
pub struct Odd {
    /// The table, qualified and quoted.
    pub table: String,
    pub trigger: String,
    /// It is not there, or does not fire for all who change rows.
    pub lacks: bool,
    /// It was switched off.
    pub off: bool,
    /// It is there.
    pub made: bool,
    /// What puts it right.
    pub commands: Vec<String>,
}

impl Odd {
    /// What is amiss, for who reads `rollup.status`.
    pub fn told(&self) -> String {
        let how = if self.off { "switched off" } else { "missing" };
        format!("{} on {} is {how}", self.trigger, self.table)
    }
}

/// Whether a trigger is missing, or is switched off, on a table or below it.
pub fn lacks(root: pg_sys::Oid) -> Result<bool> {
    Ok(odd(root)?.iter().any(|o| o.lacks))
}

/// What is not as it is to be of a table and everything below it, whatever sources lie above. Row triggers come to
/// partitions from above by themselves.
pub fn odd(root: pg_sys::Oid) -> Result<Vec<Odd>> {
    let _acting = ActingAs::catalog();
    catalog::write_often(
        "WITH RECURSIVE up (relation) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation), \
         d AS MATERIALIZED (SELECT up.relation, d.on_change <> 'ignore' AS minds, d.nodes IS NULL AS holds FROM up JOIN rollup.definition d ON d.source = up.relation), \
         below (oid, parted, minds, given, holds, held) AS (SELECT c.oid, c.relispartition, coalesce((SELECT bool_or(d.minds) FROM d), false), \
         c.relispartition AND coalesce((SELECT bool_or(d.minds) FROM d WHERE d.relation <> c.oid), false), coalesce((SELECT bool_or(d.holds) FROM d), false), \
         c.relispartition AND coalesce((SELECT bool_or(d.holds) FROM d WHERE d.relation <> c.oid), false) FROM pg_catalog.pg_class c WHERE c.oid = $1 UNION \
         SELECT i.inhrelid, p.relkind = 'p', b.minds OR EXISTS (SELECT FROM rollup.definition n WHERE n.source = i.inhrelid AND n.on_change <> 'ignore'), p.relkind = 'p' AND b.minds, \
         b.holds OR EXISTS (SELECT FROM rollup.definition n WHERE n.source = i.inhrelid AND n.nodes IS NULL), p.relkind = 'p' AND b.holds \
         FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.oid JOIN pg_catalog.pg_class p ON p.oid = i.inhparent), \
         t AS (SELECT oid, bool_or(parted) AS parted, bool_or(minds) AS minds, bool_or(given) AS given, bool_or(holds) AS holds, bool_or(held) AS held FROM below GROUP BY oid), \
         a (above, applies) AS (SELECT s.above, EXISTS (SELECT FROM d) AND (s.above OR EXISTS (SELECT FROM pg_catalog.pg_subscription_rel r JOIN t ON t.oid = r.srrelid)) \
         FROM (SELECT EXISTS (SELECT FROM d JOIN pg_catalog.pg_trigger g ON g.tgrelid = d.relation AND g.tgname = $4::pg_catalog.name WHERE d.relation <> $1)) s (above)) \
         SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), k.name, k.wanted AND (g.oid IS NULL OR g.tgenabled <> k.mode::\"char\"), k.wanted AND g.tgenabled = 'D', g.oid IS NOT NULL, x.commands \
         FROM t CROSS JOIN a JOIN pg_catalog.pg_class c ON c.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL (VALUES \
         ($2, t.minds, t.given, 'UPDATE OR DELETE', 'ROW', 'A', 'rollup_internal.note_change'), ($3, t.minds, false, 'TRUNCATE', 'STATEMENT', 'A', 'rollup_internal.note_change'), \
         ($4, a.applies, t.parted AND (t.oid <> $1 OR a.above), 'INSERT OR UPDATE', 'ROW', 'R', 'rollup.own_stamp'), \
         ($5, t.holds, t.held, 'UPDATE', 'ROW WHEN (OLD.rollup_stamp IS DISTINCT FROM NEW.rollup_stamp)', 'A', 'rollup.own_stamp')) k (name, wanted, given, verb, event, mode, what) \
         LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid AND g.tgname = k.name::pg_catalog.name AND g.tgfoid = pg_catalog.to_regprocedure(k.what || '()'), \
         LATERAL (VALUES (pg_catalog.format('ALTER TABLE %I.%I ENABLE %s TRIGGER %I', n.nspname, c.relname, CASE k.mode WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, k.name))) e (enable), \
         LATERAL (SELECT CASE WHEN k.wanted AND g.oid IS NULL AND NOT k.given THEN ARRAY[pg_catalog.format('CREATE TRIGGER %I BEFORE %s ON %I.%I FOR EACH %s EXECUTE FUNCTION %s()', \
         k.name, k.verb, n.nspname, c.relname, k.event, k.what), e.enable] \
         WHEN k.wanted AND g.tgenabled <> k.mode::\"char\" THEN ARRAY[e.enable] \
         WHEN NOT k.wanted AND g.oid IS NOT NULL AND g.tgparentid = 0 THEN ARRAY[pg_catalog.format('DROP TRIGGER %I ON %I.%I', k.name, n.nspname, c.relname)] END) x (commands) \
         WHERE c.relkind = ANY (CASE WHEN pg_catalog.starts_with(k.event, 'ROW') THEN '{r,p}' ELSE '{r}' END::\"char\"[]) AND x.commands IS NOT NULL ORDER BY t.oid, k.name",
        &[root.into(), ROWS.into(), TABLE.into(), STAMPS.into(), KEPT.into()],
        |row| {
            Ok(Odd {
                table: row.must(1)?,
                trigger: row.must(2)?,
                lacks: row.get(3)? == Some(true),
                off: row.get(4)? == Some(true),
                made: row.get(5)? == Some(true),
                commands: row.must(6)?,
            })
        },
    )
}

thread_local! {
    static PUTTING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the command at hand is one by which triggers are put right here.
pub fn puts_right() -> bool {
    PUTTING.get()
}

/// Says so while it lives, errors included.
struct Putting {
    outer: bool,
}

impl Drop for Putting {
    fn drop(&mut self) {
        PUTTING.set(self.outer);
    }
}

/// Puts what is not as it is to be on a source and below it right: triggers that a rollup wants are made and switched on, others
/// taken away: those on changes, and where a subscription brings rows one that gives these stamps of this server. The source
/// is locked, except for those below it that come later.
pub fn put_right(all: &[Odd]) -> Result<()> {
    let _putting = Putting { outer: PUTTING.replace(true) };
    all.iter().flat_map(|o| &o.commands).try_for_each(|command| catalog::execute(command, &[]))
}

/// The same for a source that has lost a rollup, of what it wants no more: a table below it of which the caller may not take a trigger away keeps
/// it, where it does nothing.
pub fn release(source: pg_sys::Oid) -> Result<()> {
    let mut all = odd(source)?;
    all.retain(|o| !o.off);
    let done = in_subtransaction(std::panic::AssertUnwindSafe(|| put_right(&all)));
    if done.is_ok() {
        return Ok(());
    }
    for one in all {
        if let Some(why) = try_as(current_user(), std::slice::from_ref(&one))? {
            warn(
                format!("trigger {} stays on {}: {why}", one.trigger, one.table),
                "Without a rollup that wants it it does nothing; the table's owner may drop it.",
            );
        }
    }
    Ok(())
}

/// Takes all triggers of rollups away that a table itself has been given.
pub fn strip(table: pg_sys::Oid) -> Result<()> {
    let drops = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT pg_catalog.format('DROP TRIGGER %I ON %I.%I', g.tgname, n.nspname, c.relname) FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE g.tgrelid = $1 AND g.tgparentid = 0 AND g.tgname = ANY ($2::pg_catalog.name[]) \
             AND g.tgfoid IN (pg_catalog.to_regprocedure('rollup_internal.note_change()'), pg_catalog.to_regprocedure('rollup.own_stamp()'))",
            &[table.into(), [ROWS, TABLE, STAMPS, KEPT].map(String::from).to_vec().into()],
            |row| row.get::<String>(1),
        )?
    };
    drops.into_iter().flatten().try_for_each(|command| catalog::execute(&command, &[]))
}

/// Waits for locks shortly: who comes later waits, too.
pub fn wait_shortly() {
    set_local(c"lock_timeout", c"50ms");
}

/// The same as `role`, of which nothing stays where it fails; says why it did.
pub fn try_as(role: pg_sys::Oid, all: &[Odd]) -> Result<Option<String>> {
    let done = in_subtransaction(std::panic::AssertUnwindSafe(|| {
        let _acting = ActingAs::role(role);
        wait_shortly();
        put_right(all)
    }));
    match done {
        Ok(()) => Ok(None),
        // Whoever waits for the command may end it.
        Err(e) if e.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED => {
            fail(e.code, e.message, "Give the command again.")
        }
        Err(e) => Ok(Some(e.message)),
    }
}

pub fn tables(all: &[Odd]) -> String {
    let mut names: Vec<&str> = all.iter().map(|o| o.table.as_str()).collect();
    names.dedup();
    match names.len() {
        0..=3 => names.join(", "),
        n => format!("{} and {} more", names[..3].join(", "), n - 3),
    }
}

pub fn warn(message: String, hint: impl Into<String>) {
    report(PgSqlErrorCode::ERRCODE_WARNING, message, hint).report(PgLogLevel::WARNING);
}

pub fn move_hint(name: &str, whole: &str) -> String {
    let (name, whole) = (literal(name), literal(whole));
    format!("SELECT rollup.move({name}, {whole}); has it count all of them.")
}

/// The rollups of a table that is a partition, each with the table of which it is a part, all the way up.
pub fn partitions_with_rollups(table: pg_sys::Oid) -> Result<Vec<(String, String)>> {
    let _acting = ActingAs::catalog();
    catalog::write_often(
        "SELECT d.name, (SELECT a.relid::pg_catalog.text FROM pg_catalog.pg_partition_ancestors($1) WITH ORDINALITY a (relid, n) ORDER BY n DESC LIMIT 1) \
         FROM rollup.definition d JOIN pg_catalog.pg_class c ON c.oid = d.source WHERE d.source = $1 AND c.relispartition ORDER BY d.id",
        &[table.into()],
        |row| Ok(row.get::<String>(1)?.zip(row.get::<String>(2)?)),
    )
    .map(|found| found.into_iter().flatten().collect())
}

/// The sources among a table and what lies above it whose rows tell of themselves, with the time column of one of the
/// rollups.
pub fn sources_of_rows(table: pg_sys::Oid) -> Result<Vec<(pg_sys::Oid, String)>> {
    let _acting = ActingAs::catalog();
    catalog::write_often(
        "WITH RECURSIVE up (relation) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation) \
         SELECT s.relation::pg_catalog.oid, s.time_column::pg_catalog.text FROM up JOIN rollup.source s ON s.relation = up.relation \
         WHERE EXISTS (SELECT FROM rollup.definition d WHERE d.source = s.relation AND d.nodes IS NULL)",
        &[table.into()],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, row.must::<String>(2)?)),
    )
}

pub fn ids(sql: &str, args: &[DatumWithOid]) -> Result<Vec<pg_sys::Oid>> {
    let _acting = ActingAs::catalog();
    Ok(catalog::write(sql, args, |row| row.get::<pg_sys::Oid>(1))?.into_iter().flatten().collect())
}

/// The sources among a table and what lies above it.
pub fn sources_above(table: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    ids(
        "WITH RECURSIVE up (relation) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation) \
         SELECT s.relation::pg_catalog.oid FROM up JOIN rollup.source s ON s.relation = up.relation",
        &[table.into()],
    )
}

/// The sources among a table, what lies above it and what lies below.
pub fn sources_around(table: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    ids(
        "WITH RECURSIVE up (relation) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation), \
         down (relation) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN down ON i.inhparent = down.relation) \
         SELECT s.relation::pg_catalog.oid FROM (SELECT relation FROM up UNION SELECT relation FROM down) t JOIN rollup.source s ON s.relation = t.relation ORDER BY 1",
        &[table.into()],
    )
}

/// A trigger may be missing on the source or below it.
pub fn is_watched(source: pg_sys::Oid) -> Result<bool> {
    let _acting = ActingAs::catalog();
    let found = catalog::read_often(
        "SELECT EXISTS (SELECT FROM rollup.definition WHERE source = $1 AND on_change <> 'ignore') OR EXISTS (SELECT FROM pg_catalog.pg_subscription_rel) \
         OR EXISTS (SELECT FROM rollup.definition WHERE source = $1 AND nodes IS NULL) AND EXISTS (\
         WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT FROM t WHERE (SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid = t.oid) IN ('r', 'p') \
         AND (SELECT g.tgenabled FROM pg_catalog.pg_trigger g WHERE g.tgrelid = t.oid AND g.tgname = $2::pg_catalog.name) IS DISTINCT FROM 'A')",
        &[source.into(), KEPT.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first() == Some(&Some(true)))
}

/// Triggers of users that fire after the one which keeps stamps, and seem to write them.
pub(super) fn too_late(source: pg_sys::Oid) -> Result<Vec<String>> {
    let _acting = ActingAs::catalog();
    catalog::read_often(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT pg_catalog.format('%I on %I.%I fires after the triggers of rollups, and where it writes rollup_stamp rows are counted again: ALTER TRIGGER %1$I ON %2$I.%3$I RENAME TO …, \
         a name before %4$s', g.tgname, n.nspname, c.relname, $2) FROM t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid JOIN pg_catalog.pg_class c ON c.oid = t.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid \
         WHERE g.tgtype & 19 = 19 AND g.tgenabled <> 'D' AND g.tgparentid = 0 AND g.tgname::pg_catalog.text > $2 COLLATE \"C\" \
         AND pg_catalog.strpos(p.prosrc, 'rollup_stamp') > 0 AND p.oid <> pg_catalog.to_regprocedure('rollup.own_stamp()') ORDER BY c.oid, g.tgname",
        &[source.into(), KEPT.into()],
        |row| row.must(1),
    )
}
