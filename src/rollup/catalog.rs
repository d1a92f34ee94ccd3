//! Reading and writing the rollup catalog.
//!
//! Invariant: no statement of ours is read under a path that a caller has set. Each runs where pg_catalog alone is looked
//! through, so that a bare name or operator in it is PostgreSQL's, whatever others have put into the schemas of the
//! caller's path. Texts that a user gives, a rollup's query or the expression of a column, do not come this way: they are
//! read as their author reads them, by `query::analyse`, once, and from then on are kept with every name qualified.
use super::bounds::{Backlog, State};
use super::citus;
use super::error::{Result, fail, internal, report};
use super::plan::Plan;
use crate::pg::deparse::qualified;
use crate::pg::shape::Shape;
use crate::pg::xact::{ActingAs, Snapshot};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiHeapTupleData, SpiResult};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Runs a statement that reads, under the snapshot of the calling statement; takes no transaction id.
pub fn read<T>(
    sql: &str,
    args: &[DatumWithOid],
    f: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>> {
    qualified(|| {
        Spi::connect(|c| c.select(sql, None, args)?.map(|row| f(&row)).collect::<SpiResult<Vec<T>>>())
    })
    .map_err(internal)
}

/// As `read`, for a statement of one fixed text that runs at every tick: its plan is kept for the session, since
/// planning it takes longer than running it. PostgreSQL plans anew where what it names has changed.
pub fn read_often<T>(
    sql: &str,
    args: Vec<(PgBuiltInOids, DatumWithOid)>,
    f: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>> {
    thread_local! {
        static KEPT: RefCell<HashMap<String, Rc<OwnedPreparedStatement>>> = RefCell::default();
    }
    let (types, args): (Vec<_>, Vec<_>) = args.into_iter().map(|(t, v)| (PgOid::BuiltIn(t), v)).unzip();
    qualified(|| {
        Spi::connect(|c| {
            let kept = KEPT.with_borrow(|kept| kept.get(sql).cloned());
            let plan = match kept {
                Some(plan) => plan,
                None => {
                    let plan = Rc::new(c.prepare(sql, &types)?.keep());
                    KEPT.with_borrow_mut(|kept| kept.insert(sql.into(), plan.clone()));
                    plan
                }
            };
            c.select(&*plan, None, &args)?.map(|row| f(&row)).collect::<SpiResult<Vec<T>>>()
        })
    })
    .map_err(internal)
}

/// Whether rows came to a source by another road that some rollup has not judged, as the calling statement sees it.
pub fn has_arrivals(source: pg_sys::Oid) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM rollup.arrival a WHERE a.source = $1)";
    let found = read_often(sql, vec![(PgBuiltInOids::OIDOID, source.into())], |row| row.get::<bool>(1))?;
    Ok(found.first() == Some(&Some(true)))
}

/// Runs a statement that may write, under a fresh snapshot in READ COMMITTED.
pub fn write<T>(
    sql: &str,
    args: &[DatumWithOid],
    f: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>> {
    qualified(|| {
        Spi::connect_mut(|c| c.update(sql, None, args)?.map(|row| f(&row)).collect::<SpiResult<Vec<T>>>())
    })
    .map_err(internal)
}

/// Runs a statement for what it does.
pub fn execute(sql: &str, args: &[DatumWithOid]) -> Result<()> {
    qualified(|| Spi::connect_mut(|c| c.update(sql, None, args).map(|_| ()))).map_err(internal)
}

/// Runs a statement for what it does; returns the rows it wrote.
pub fn modify(sql: &str) -> Result<i64> {
    let rows = qualified(|| Spi::connect_mut(|c| c.update(sql, None, &[]).map(|done| done.len())))
        .map_err(internal)?;
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

/// Runs a statement of generated text, which has no arguments.
pub fn define(sql: &str) -> Result<()> {
    execute(sql, &[])
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
    /// How far it has come on the nodes of a Citus cluster, as JSON.
    nodes: Option<String>,
    /// What is added to transaction ids to give the stamps of the source.
    pub offset: i64,
    /// `seen` counts in this cluster's transaction ids.
    pub same_cluster: bool,
    /// It follows changes of raw rows.
    pub follows: bool,
    /// The tables that its query joins.
    joined: Vec<pg_sys::Oid>,
    /// Its live view.
    live: Option<pg_sys::Oid>,
    /// What the live view said when it was made, as JSON.
    shape: Option<String>,
}

impl Definition {
    /// The plan, in the names of today.
    pub fn plan(&self) -> Result<Plan> {
        match self.followed()? {
            Some((plan, _)) => Ok(plan),
            None => self.stored_plan(),
        }
    }

    /// The plan in the names of today and what its live view says, where that is not what was noted.
    pub fn followed(&self) -> Result<Option<(Plan, Shape)>> {
        let Some((shape, live)) = self.shape.as_ref().zip(self.live) else { return Ok(None) };
        super::names::followed(&self.stored_plan()?, self.source_oid, live, shape)
    }

    /// What its live view says.
    pub fn noted(&self) -> Result<Option<Shape>> {
        if let Some((_, shape)) = self.followed()? {
            return Ok(Some(shape));
        }
        self.shape.as_deref().map(|noted| serde_json::from_str(noted).map_err(internal)).transpose()
    }

    /// The plan in the names that were stored.
    pub fn stored_plan(&self) -> Result<Plan> {
        let mut plan: Plan = serde_json::from_str(&self.plan)
            .map_err(|e| internal(format!("the plan of rollup {} cannot be read: {e}", self.name)))?;
        if let Some(joins) = &mut plan.joins {
            joins.tables = self.joined.clone();
        }
        Ok(plan)
    }

    /// Source, target and owner, or which of them is gone.
    pub fn parts(&self) -> Result<(&str, &str, pg_sys::Oid)> {
        let hint = || format!("SELECT rollup.drop({}) removes the rollup.", super::sql::literal(&self.name));
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
        Ok(read(
            "SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = $1::pg_catalog.regclass",
            &[target.into()],
            |row| row.get::<String>(1),
        )?
        .pop()
        .flatten()
        .unwrap_or_default())
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

/// Owner of the rollup `d`: that of its table, by pg_class, so that it follows ALTER … OWNER, REASSIGN OWNED and the
/// names of roles; of its source, once the table was dropped; who owned them, in this cluster, once both were.
pub const OWNER: &str = "coalesce((SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = d.relation), \
  (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = d.source), \
  (SELECT r.oid FROM pg_catalog.pg_roles r, pg_catalog.pg_control_system() k WHERE r.oid = d.last_owner AND d.system_id = k.system_identifier))";

/// The start of every statement that reads definitions.
fn with_definition(rest: &str) -> String {
    format!(
        "SELECT d.id, d.name, \
  (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = d.relation), \
  d.source::pg_catalog.oid, \
  (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = d.source), \
  {OWNER}, \
  d.plan::pg_catalog.text, d.timezone, d.state = 'active', d.seen_xmax, d.seen_xip, \
  s.stamp_offset, d.backlog_from_xmax, d.backlog_from_xip, d.backlog_to_xmax, d.backlog_to_xip, \
  pg_catalog.timezone('UTC', d.backlog_cursor)::pg_catalog.text, \
  ARRAY(SELECT pg_catalog.timezone('UTC', c)::pg_catalog.text FROM pg_catalog.unnest(d.backlog_cuts) WITH ORDINALITY u (c, n) ORDER BY n), \
  d.system_id = (SELECT system_identifier FROM pg_catalog.pg_control_system()), d.on_change = 'recompute', d.nodes::pg_catalog.text, d.joined::pg_catalog.oid[], \
  d.live::pg_catalog.oid, d.shape::pg_catalog.text \
  FROM rollup.definition d LEFT JOIN rollup.source s ON s.relation = d.source {rest}"
    )
}

fn snapshot(row: &SpiHeapTupleData, at: usize) -> SpiResult<Snapshot> {
    Ok(Snapshot { xmax: row.get(at)?.unwrap_or_default(), xip: row.get(at + 1)?.unwrap_or_default() })
}

fn definition(row: &SpiHeapTupleData) -> SpiResult<Definition> {
    let backlog = match row.get::<i64>(15)? {
        None => None,
        Some(_) => Some(Backlog {
            from: snapshot(row, 13)?,
            to: snapshot(row, 15)?,
            nodes: None,
            cursor: row.get(17)?,
            cuts: row.get(18)?.unwrap_or_default(),
        }),
    };
    Ok(Definition {
        id: row.get(1)?.unwrap_or_default(),
        name: row.get(2)?.unwrap_or_default(),
        target: row.get(3)?,
        source_oid: row.get(4)?.unwrap_or(pg_sys::InvalidOid),
        source: row.get(5)?,
        owner: row.get(6)?,
        plan: row.get(7)?.unwrap_or_default(),
        timezone: row.get(8)?.unwrap_or_default(),
        active: row.get(9)?.unwrap_or_default(),
        state: State { seen: snapshot(row, 10)?, backlog, nodes: None },
        nodes: row.get(21)?,
        offset: row.get(12)?.unwrap_or_default(),
        same_cluster: row.get(19)?.unwrap_or_default(),
        follows: row.get(20)?.unwrap_or_default(),
        joined: row.get(22)?.unwrap_or_default(),
        live: row.get(23)?,
        shape: row.get(24)?,
    })
}

/// Definitions as a query gives them, with what this node makes of them.
fn understood(found: Vec<Definition>) -> Result<Vec<Definition>> {
    let base = citus::own_base()?;
    let understand = |mut d: Definition| {
        d.offset += base;
        if let Some(nodes) = d.nodes.take() {
            let nodes: citus::vector::Vector = serde_json::from_str(&nodes)
                .map_err(|e| internal(format!("the state of rollup {} cannot be read: {e}", d.name)))?;
            if let Some(backlog) = &mut d.state.backlog {
                backlog.nodes = nodes.backlog.clone();
            }
            d.state.nodes = Some(nodes);
        }
        Ok(d)
    };
    found.into_iter().map(understand).collect()
}

/// The definition with this id, if it is there.
pub fn by_id(id: i64) -> Result<Option<Definition>> {
    let _acting = ActingAs::catalog();
    let sql = with_definition("WHERE d.id = $1");
    Ok(understood(read_often(&sql, vec![(PgBuiltInOids::INT8OID, id.into())], definition)?)?.pop())
}

/// The definition with this id as it is committed now, if it is there.
pub fn by_id_now(id: i64) -> Result<Option<Definition>> {
    let _acting = ActingAs::catalog();
    Ok(understood(write(&with_definition("WHERE d.id = $1"), &[id.into()], definition)?)?.pop())
}

/// The definition with this id, locked: the one run at a time that a rollup has. None where it is gone.
pub fn lock(id: i64) -> Result<Option<Definition>> {
    let _acting = ActingAs::catalog();
    let locked = with_definition("WHERE d.id = $1 FOR UPDATE OF d");
    Ok(understood(write(&locked, &[id.into()], definition)?)?.pop())
}

/// The definition with this name, or with this name behind its schema's; an error where there is none.
pub fn by_name(name: &str) -> Result<Definition> {
    let _acting = ActingAs::catalog();
    let sql = with_definition(
        "WHERE d.name = $1 OR d.relation = (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE pg_catalog.concat(n.nspname, '.', c.relname) = $1 AND c.relkind IN ('r', 'p') LIMIT 1) ORDER BY d.name = $1",
    );
    understood(read(&sql, &[name.into()], definition)?)?.pop().ok_or_else(|| {
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
        write(&sql, &[source.into()], definition)?
    } else {
        read_often(&sql, vec![(PgBuiltInOids::OIDOID, source.into())], definition)?
    })
}

const NOW: &str = "SELECT pg_catalog.pg_snapshot_xmax(s)::pg_catalog.text::pg_catalog.int8, \
    ARRAY(SELECT x::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_snapshot_xip(s) x ORDER BY 1) \
    FROM pg_catalog.pg_current_snapshot() s";

/// The snapshot of this moment (of the transaction, in REPEATABLE READ), with the transaction's own id hidden, as
/// stamps: `offset` added to each id.
pub fn current_snapshot(fresh: bool, offset: i64) -> Result<Snapshot> {
    let one = |row: &SpiHeapTupleData| {
        Ok(Snapshot { xmax: row.get(1)?.unwrap_or_default(), xip: row.get(2)?.unwrap_or_default() })
    };
    let found = if fresh { write(NOW, &[], one)? } else { read_often(NOW, vec![], one)? };
    let now = found.into_iter().next().ok_or_else(|| internal("no snapshot"))?;
    Ok(now.hide(crate::pg::xact::own_transaction_id_if_any()).shift(offset))
}

/// The active snapshot, as `current_snapshot` gives that of a statement.
pub fn active_snapshot(offset: i64) -> Result<Snapshot> {
    let now = crate::pg::kept::read_active(NOW, |row| {
        Ok(Snapshot { xmax: row.get(1)?.unwrap_or_default(), xip: row.get(2)?.unwrap_or_default() })
    })
    .map_err(internal)?;
    let now = now.into_iter().next().ok_or_else(|| internal("no snapshot"))?;
    Ok(now.hide(crate::pg::xact::own_transaction_id_if_any()).shift(offset))
}

/// Refuses a caller who is not, and may not act as, the owner of a rollup.
pub fn check_owner_of(d: &Definition) -> Result<()> {
    check_owner(d.owner, &format!("rollup {}", d.name))
}

/// True of a caller who monitors the server.
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
