//! The definitions of rollups, as the catalog keeps them.
pub use super::ask::{
    Must, define, execute, execute_often, maybe, maybe_now, modify, one, one_now, read, read_often, write,
    write_often,
};
use super::citus;
use super::error::{Result, fail, internal, report};
use super::state;
use crate::pg::deparse::{joined_tables, qualified_name, shown_name};
use crate::pg::lock::{Mode, pass, relation};
use crate::pg::node;
use crate::pg::security;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::literal;
use hll_rollup::{Frontier, Plan, Snapshot, State};
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

/// Whether rows came to a source in another way that some rollup has not judged, as the calling statement sees it.
pub fn has_arrivals(source: pg_sys::Oid) -> Result<bool> {
    let found = read_often(ARRIVALS, &[source.into()], |row| row.get::<bool>(1))?;
    Ok(found.first() == Some(&Some(true)))
}

/// The same, as committed now.
pub fn has_arrivals_now(source: pg_sys::Oid) -> Result<bool> {
    let found = write_often(ARRIVALS, &[source.into()], |row| row.get::<bool>(1))?;
    Ok(found.first() == Some(&Some(true)))
}

const ARRIVALS: &str = "SELECT EXISTS (SELECT FROM rollup.arrival a WHERE a.source = $1)";

/// Whether the extension is in this database: the library may be loaded where it is not, or is about to go.
pub fn is_there() -> Result<bool> {
    let sql = "SELECT pg_catalog.count(*) = 3 FROM pg_catalog.pg_class c WHERE c.oid IN \
        (pg_catalog.to_regclass('rollup.source'), pg_catalog.to_regclass('rollup.definition'), pg_catalog.to_regclass('rollup.lost'))";
    Ok(read(sql, &[], |row| row.get::<bool>(1))?.first() == Some(&Some(true)))
}

/// One row of `rollup.definition`.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The rollup's table, qualified and quoted; None once it was dropped.
    pub target: Option<String>,
    /// The same by its oid.
    target_oid: Option<pg_sys::Oid>,
    /// The source.
    pub source_oid: pg_sys::Oid,
    /// The source, qualified and quoted; None once it was dropped.
    pub source: Option<String>,
    /// The owner: that of the rollup's table, or of the source once the table was dropped; None where both were.
    pub owner: Option<pg_sys::Oid>,
    /// The plan, as JSON.
    plan: String,
    /// Time zone of each run.
    pub timezone: String,
    /// It is not paused.
    pub active: bool,
    /// Up to where rows are rolled up.
    pub state: State,
    /// What is added to transaction ids to give the stamps of the source.
    pub offset: i64,
    /// `seen` counts in this cluster's transaction ids.
    pub same_cluster: bool,
    /// It follows changes of raw rows.
    pub follows: bool,
    /// The tables that its query joins.
    joined: Vec<pg_sys::Oid>,
    /// Its live view.
    pub(super) live: Option<pg_sys::Oid>,
    /// What the live view said when it was made, as JSON.
    pub(super) shape: Option<String>,
    /// Its last attempt failed.
    pub failing: bool,
    /// It tells when it has changed.
    pub notifies: bool,
    /// It minds changes of raw rows on this server, and some may have gone unseen: a command has said so.
    pub(super) unsure: bool,
    /// What it called when it was made, as JSON; None: made before that was recorded.
    pub(super) routines: Option<String>,
}

impl Definition {
    /// The plan in the names that were stored.
    pub fn stored_plan(&self) -> Result<Plan> {
        let mut plan: Plan = serde_json::from_str(&self.plan)
            .map_err(|e| internal(format!("the plan of rollup {} cannot be read: {e}", self.name)))?;
        if let Some(joins) = &mut plan.joins {
            joins.tables = joined_tables(&self.joined);
        }
        if let Some(followed) = &mut plan.followed {
            followed.from.tables = joined_tables(&self.joined);
        }
        plan.check().map_err(|e| internal(format!("the plan of rollup {}: {e}", self.name)))?;
        Ok(plan)
    }

    /// Source, target and owner, or which of them is gone.
    pub fn parts(&self) -> Result<(&str, &str, pg_sys::Oid)> {
        let hint = || format!("SELECT rollup.drop({}) removes the rollup.", literal(&self.name));
        let gone = |what: &str| {
            report(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{what} of rollup {} is gone", self.name),
                hint(),
            )
        };
        Ok((
            self.source.as_deref().ok_or_else(|| gone("the source"))?,
            self.target.as_deref().ok_or_else(|| gone("the table"))?,
            self.owner.ok_or_else(|| gone("the owner"))?,
        ))
    }

    /// The schema of the rollup's table.
    pub fn schema(&self) -> Result<String> {
        let (_, target, _) = self.parts()?;
        one(
            "SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = $1::pg_catalog.regclass",
            &[target.into()],
        )
    }

    /// Stores a plan that has changed, with the query that says the same.
    pub fn store_plan(&self, plan: &Plan, query: &str) -> Result<()> {
        let plan = serde_json::to_string(plan).map_err(internal)?;
        let _acting = ActingAs::catalog();
        execute(
            "UPDATE rollup.definition SET plan = $2::pg_catalog.jsonb, query = $3 WHERE id = $1",
            &[self.id.into(), plan.into(), query.into()],
        )
    }

    /// Refuses a snapshot that was taken in another cluster.
    pub fn check_cluster(&self) -> Result<()> {
        if self.same_cluster {
            return Ok(());
        }
        fail(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "rollup {} was restored from another cluster, whose transaction ids say nothing here",
                self.name
            ),
            "Its next run puts that right.",
        )
    }
}

/// The start of every statement that reads definitions. What PostgreSQL's own catalog says of the tables is not asked here:
/// its caches answer in a hundredth of the time.
fn with_definition(rest: &str) -> String {
    format!(
        "SELECT d.id, d.name, d.relation::pg_catalog.oid, d.source::pg_catalog.oid, d.last_owner, d.system_id, \
         d.plan::pg_catalog.text, d.timezone, d.state = 'active', s.stamp_offset, d.on_change = 'recompute', \
         d.joined::pg_catalog.oid[], d.live::pg_catalog.oid, d.shape::pg_catalog.text, a.failures > 0, d.notify, d.routines::pg_catalog.text, NOT d.whole AND d.on_change <> 'ignore' AND d.nodes IS NULL, {} \
         FROM rollup.definition d LEFT JOIN rollup.source s ON s.relation = d.source LEFT JOIN rollup.attempt a ON a.id = d.id {rest}",
        state::COLUMNS
    )
}

/// Owner of a rollup: that of its table, by pg_class, so that it follows ALTER … OWNER, REASSIGN OWNED and the names of roles;
/// of its source, once the table was dropped; who owned them, in this cluster, once both were: `last_owner` and `system_id`, in
/// the columns from `at` on. And whether the rollup is of this cluster.
pub fn owner(
    row: &SpiHeapTupleData,
    tables: [Option<pg_sys::Oid>; 2],
    at: usize,
) -> SpiResult<(Option<pg_sys::Oid>, bool)> {
    let same_cluster = row.must::<i64>(at + 1)? == security::system_identifier();
    let owner = tables.into_iter().flatten().find_map(security::owner_of);
    let last = row.get::<pg_sys::Oid>(at)?.filter(|role| same_cluster && security::is_role(*role));
    Ok((owner.or(last), same_cluster))
}

/// A definition, and the columns that its state is in.
fn definition(row: &SpiHeapTupleData) -> SpiResult<(Definition, state::Columns)> {
    let (relation, source) = (row.get::<pg_sys::Oid>(3)?, row.get::<pg_sys::Oid>(4)?);
    let (owner, same_cluster) = owner(row, [relation, source], 5)?;
    let found = Definition {
        id: row.must(1)?,
        name: row.must(2)?,
        target: relation.and_then(qualified_name),
        target_oid: relation,
        source_oid: source.unwrap_or(pg_sys::InvalidOid),
        source: source.and_then(qualified_name),
        owner,
        plan: row.must(7)?,
        timezone: row.must(8)?,
        active: row.must(9)?,
        state: State::default(),
        // The source is not registered any more.
        offset: row.get(10)?.unwrap_or(0),
        same_cluster,
        follows: row.must(11)?,
        // A query without joins.
        joined: row.get(12)?.unwrap_or_default(),
        live: row.get(13)?,
        shape: row.get(14)?,
        failing: row.get(15)? == Some(true),
        notifies: row.must(16)?,
        routines: row.get(17)?,
        unsure: row.must(18)?,
    };
    Ok((found, state::read(row, 19)?))
}

/// Definitions as a query gives them, with what this node makes of them.
fn understood(found: Vec<(Definition, state::Columns)>) -> Result<Vec<Definition>> {
    let base = citus::own_base()?;
    let understand = |(mut d, columns): (Definition, state::Columns)| {
        d.offset += base;
        d.state = state::understood(&d.name, columns)?;
        Ok(d)
    };
    found.into_iter().map(understand).collect()
}

/// The definition with this id, if it is there.
pub fn by_id(id: i64) -> Result<Option<Definition>> {
    let _acting = ActingAs::catalog();
    let sql = with_definition("WHERE d.id = $1");
    Ok(understood(read_often(&sql, &[id.into()], definition)?)?.pop())
}

/// The definition with this id as it is committed now, if it is there.
pub fn by_id_now(id: i64) -> Result<Option<Definition>> {
    let _acting = ActingAs::catalog();
    Ok(understood(write(&with_definition("WHERE d.id = $1"), &[id.into()], definition)?)?.pop())
}

/// The definition with this id, locked: the one run at a time that a rollup has. None where it is gone.
///
/// Its names are those that its tables have under a lock, which they keep until the transaction ends: a table that another
/// session gives one of these names meanwhile is not taken for the rollup's.
pub fn lock(id: i64) -> Result<Option<Definition>> {
    let _acting = ActingAs::catalog();
    if node::citus_loaded() {
        pass_tables(id)?;
    }
    let locked = with_definition("WHERE d.id = $1 FOR UPDATE OF d");
    let Some(mut d) = understood(write_often(&locked, &[id.into()], definition)?)?.pop() else {
        return Ok(None);
    };
    let levels = write_often(
        "SELECT l.relation::pg_catalog.oid FROM rollup.level l WHERE l.definition = $1 ORDER BY l.width, l.name",
        &[id.into()],
        |row| row.get::<pg_sys::Oid>(1),
    )?;
    let there = |oid: &pg_sys::Oid| *oid != pg_sys::InvalidOid && relation(*oid, Mode::Read);
    let target = d.target_oid.filter(there);
    levels.iter().flatten().for_each(|level| _ = there(level));
    let source = Some(d.source_oid).filter(there);
    (d.target, d.source) = (target.and_then(qualified_name), source.and_then(qualified_name));
    d.owner = [target, source].into_iter().flatten().find_map(security::owner_of).or(d.owner);
    Ok(Some(d))
}

/// Waits for who has a table of a rollup to itself, before the row is locked: Citus makes tables anew so, in transactions
/// that write to the row of the rollup at their end.
fn pass_tables(id: i64) -> Result<()> {
    let tables = write_often(
        "SELECT d.source::pg_catalog.oid FROM rollup.definition d WHERE d.id = $1 UNION ALL SELECT d.relation::pg_catalog.oid FROM rollup.definition d WHERE d.id = $1 \
         UNION ALL SELECT l.relation::pg_catalog.oid FROM rollup.level l WHERE l.definition = $1",
        &[id.into()],
        |row| row.get::<pg_sys::Oid>(1),
    )?;
    tables.into_iter().flatten().for_each(pass);
    Ok(())
}

/// The definition with this name, or with this name behind its schema's, if it is there.
pub fn named(name: &str) -> Result<Option<Definition>> {
    let _acting = ActingAs::catalog();
    let sql = with_definition(
        "WHERE d.name = $1 OR d.plan OPERATOR(pg_catalog.->>) 'whole' = $1 OR d.relation = (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE pg_catalog.concat(n.nspname, '.', c.relname) = $1 AND c.relkind IN ('r', 'p') LIMIT 1) \
         OR d.shown = (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE pg_catalog.concat(n.nspname, '.', c.relname) = $1 AND c.relkind = 'v' LIMIT 1) ORDER BY d.name = $1",
    );
    Ok(understood(read(&sql, &[name.into()], definition)?)?.pop())
}

/// The same; an error where there is none.
pub fn by_name(name: &str) -> Result<Definition> {
    named(name)?.ok_or_else(|| {
        report(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("rollup {name} does not exist"),
            "TABLE rollup.status lists the rollups of this database.",
        )
    })
}

/// All definitions of a source, oldest first. `fresh`: as committed now, which takes a transaction id; else as
/// the calling statement sees them.
pub fn of_source(source: pg_sys::Oid, fresh: bool) -> Result<Vec<Definition>> {
    let _acting = ActingAs::catalog();
    let sql = with_definition("WHERE d.source = $1 ORDER BY d.id");
    understood(if fresh {
        write_often(&sql, &[source.into()], definition)?
    } else {
        read_often(&sql, &[source.into()], definition)?
    })
}

/// The definitions of a source that is an argument of the function `call`; an error where it has none.
pub fn of_named_source(source: pg_sys::Oid, call: &str) -> Result<Vec<Definition>> {
    let definitions = of_source(source, false)?;
    if !definitions.is_empty() {
        return Ok(definitions);
    }
    let rollup = {
        let _acting = ActingAs::catalog();
        read_often(
            "SELECT d.source::pg_catalog.oid FROM rollup.definition d WHERE $1 IN (d.relation, d.live, d.shown) OR EXISTS \
             (SELECT FROM rollup.level l WHERE l.definition = d.id AND $1 IN (l.relation, l.live, l.shown))",
            &[source.into()],
            |row| row.get::<pg_sys::Oid>(1),
        )?
    };
    let (name, what, hint) =
        (shown_name(source), "has no rollup", "SELECT rollup.create(name, query) defines one.");
    match rollup.into_iter().flatten().next().map(shown_name) {
        None => fail(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("{name} {what}"), hint),
        Some(of) => fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("{name} {what}, but is of a rollup of {of}"),
            format!("The function takes the source: SELECT {call}({});", literal(&of)),
        ),
    }
}

const NOW: &str = "SELECT pg_catalog.pg_snapshot_xmax(s)::pg_catalog.text::pg_catalog.int8, \
    ARRAY(SELECT x::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_snapshot_xip(s) x ORDER BY 1) \
    FROM pg_catalog.pg_current_snapshot() s";

fn snapshot(row: &SpiHeapTupleData) -> SpiResult<Snapshot> {
    Ok(Snapshot { xmax: row.must(1)?, xip: row.must(2)? })
}

/// What has finished on this server in the one snapshot that was found, the transaction's own id hidden, as stamps:
/// `offset` added to each id.
fn frontier(found: Vec<Snapshot>, offset: i64) -> Result<Frontier> {
    let now = found.into_iter().next().ok_or_else(|| internal("no snapshot"))?;
    Ok(Frontier::Server(now.hide(crate::pg::xact::own_transaction_id_if_any()).shift(offset)))
}

/// What has finished on this server at this moment, or in REPEATABLE READ when the transaction began.
pub fn current_frontier(fresh: bool, offset: i64) -> Result<Frontier> {
    frontier(if fresh { write_often(NOW, &[], snapshot)? } else { read_often(NOW, &[], snapshot)? }, offset)
}

/// The same in the active snapshot.
pub fn active_frontier(offset: i64) -> Result<Frontier> {
    frontier(crate::pg::kept::read_active(NOW, snapshot).map_err(internal)?, offset)
}

/// Refuses a caller who is not, and may not act as, the owner of a rollup.
pub fn check_owner_of(d: &Definition) -> Result<()> {
    check_owner(d.owner, &format!("rollup {}", d.name))
}

/// Whether it is a caller who monitors the server.
pub fn is_monitor() -> Result<bool> {
    let sql = "SELECT pg_catalog.pg_has_role('pg_monitor', 'USAGE')";
    Ok(read(sql, &[], |row| row.get::<bool>(1))?.first().copied().flatten() == Some(true))
}

/// Refuses a caller who is not, and may not act as, the role `owner`; without an owner, all but superusers.
pub fn check_owner(owner: Option<pg_sys::Oid>, what: &str) -> Result<()> {
    if crate::pg::xact::may_act_as(owner) {
        return Ok(());
    }
    let hint = match owner {
        Some(role) => format!("It belongs to role {}.", crate::pg::xact::role_name(role)),
        None => "The role that owned it is gone: a superuser may act in its place.".to_string(),
    };
    fail(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of {what}"), hint)
}
