//! Live views: made, and recreated where their columns change. Which view is the one of a table is kept in the catalog,
//! by oid: it is told from others of the name, and followed when it is renamed. What its owner has set, options and
//! grants, and who that is, holds for the one that takes its place; so do comments (see `comments`).
use super::catalog::{self, Must};
use super::error::{Result, fail, internal};
use super::follow;
use super::live_sql;
use super::naming::{STORED, refuse_existing};
use crate::pg::xact::ActingAs;
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Level, Plan};
use pgrx::prelude::*;

/// What the rollup reads, and its table, qualified and quoted.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The source.
    pub source: &'a str,
    /// The rollup's table.
    pub target: &'a str,
    /// What the live view was called that it takes the place of.
    pub view: Option<&'a str>,
    /// The same of the view that joins the lookup tables which are followed.
    pub shown: Option<&'a str>,
}

/// The views on a table of a rollup, by their columns in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What is stored, with the rows that are not.
    Live,
    /// What is stored, joined to the lookup tables that are followed, under the name of the rollup.
    Shown,
}

impl Kind {
    fn column(self) -> &'static str {
        match self {
            Kind::Live => "live",
            Kind::Shown => "shown",
        }
    }
}

fn level_name(level: Option<&Level>) -> Option<String> {
    level.map(|l| l.name.clone())
}

/// True of `c`, a view that reads table `t`: of one that has come to have the oid of another it is not.
const READS: &str = "c.relkind = 'v' AND EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend p ON p.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
  AND p.objid = r.oid AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.refobjid = t WHERE r.ev_class = c.oid)";

/// The live view of a rollup or a level, qualified and quoted; None where it was dropped.
pub fn of(id: i64, level: Option<&Level>) -> Result<Option<String>> {
    known(id, level, Kind::Live)
}

/// The view of this kind, as `of`.
fn known(id: i64, level: Option<&Level>, kind: Kind) -> Result<Option<String>> {
    let column = kind.column();
    let _acting = ActingAs::catalog();
    let of = match level {
        None => "rollup.definition k WHERE k.id = $1 AND $2::pg_catalog.text IS NULL",
        Some(_) => "rollup.level k WHERE k.definition = $1 AND k.name = $2",
    };
    let found = catalog::write_often(
        &format!("SELECT k.relation::pg_catalog.oid, k.{column}::pg_catalog.oid FROM {of}"),
        &[id.into(), level_name(level).into()],
        |row| Ok((row.get::<pg_sys::Oid>(1)?, row.get::<pg_sys::Oid>(2)?)),
    )?;
    match found.first() {
        Some(&(Some(relation), live)) => on(relation, live),
        _ => Ok(None),
    }
}

/// The same by its id, as it is recorded.
pub fn live_of(id: i64, level: Option<&Level>) -> Result<Option<pg_sys::Oid>> {
    let _acting = ActingAs::catalog();
    let found = match level {
        None => catalog::read_often(
            "SELECT k.live::pg_catalog.oid FROM rollup.definition k WHERE k.id = $1",
            &[id.into()],
            |row| row.get::<pg_sys::Oid>(1),
        )?,
        Some(level) => catalog::read_often(
            "SELECT k.live::pg_catalog.oid FROM rollup.level k WHERE k.definition = $1 AND k.name = $2",
            &[id.into(), level.name.as_str().into()],
            |row| row.get::<pg_sys::Oid>(1),
        )?,
    };
    Ok(found.into_iter().flatten().next())
}

/// The live view on a table of a rollup, of which `live` is what is known. Citus drops views of a table that it
/// recreates, and makes them again: where the one that is known has gone, it is the view that stands next to the table, belongs
/// to the same role, has the name that it was given, and reads both the table and the state of rollups.
pub fn on(relation: pg_sys::Oid, live: Option<pg_sys::Oid>) -> Result<Option<String>> {
    let found = catalog::write_often(
        &format!(
            "WITH k AS MATERIALIZED (SELECT $1::pg_catalog.oid AS t, $2::pg_catalog.oid AS live) \
             SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM (SELECT k.t, k.live AS view, 1 AS place FROM k UNION ALL \
               SELECT k.t, c.oid, 2 FROM k JOIN pg_catalog.pg_class b ON b.oid = k.t JOIN pg_catalog.pg_class c ON c.relnamespace = b.relnamespace AND c.relowner = b.relowner \
                 AND c.relname = (SELECT pg_catalog.concat(pg_catalog.left(b.relname::pg_catalog.text, pg_catalog.max(l)), '_live')::pg_catalog.name \
                   FROM pg_catalog.generate_series(1, 63) l WHERE pg_catalog.octet_length(pg_catalog.left(b.relname::pg_catalog.text, l)) <= 58) \
               WHERE EXISTS (SELECT FROM (SELECT 'rollup.definition'::pg_catalog.regclass::pg_catalog.oid AS t) s WHERE {READS})) v \
             JOIN pg_catalog.pg_class c ON c.oid = v.view JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {READS} ORDER BY v.place LIMIT 1"
        ),
        &[relation.into(), live.into()],
        |row| row.get::<String>(1),
    )?;
    Ok(found.into_iter().flatten().next())
}

/// The view that a table of a rollup is to get: that of its name, as far as it fits. Nothing else may have the name. A table
/// that is not called as its rollup says so at the end of its name.
fn beside(table: &str, followed: bool, kind: Kind) -> Result<String> {
    let found = catalog::read(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = $1::pg_catalog.regclass",
        &[table.into()],
        |row| Ok((row.must::<String>(1)?, row.must::<String>(2)?)),
    )?;
    let (schema, name) =
        found.into_iter().next().ok_or_else(|| internal(format!("table {table} is gone")))?;
    let name = if followed { name.strip_suffix(STORED).unwrap_or(&name) } else { &name };
    let name = match kind {
        Kind::Live => {
            let mut end = name.len().min(63 - "_live".len());
            while !name.is_char_boundary(end) {
                end -= 1;
            }
            format!("{}_live", &name[..end])
        }
        Kind::Shown => name.to_string(),
    };
    let view = format!("{}.{}", ident(&schema), ident(&name));
    refuse_existing(&view)?;
    Ok(view)
}

/// Makes the live view of a rollup or a level, or makes it what the plan says, and where lookup tables are followed the view
/// that joins them; returns the live view's name.
pub fn make(nodes: bool, plan: &Plan, names: Names, level: Option<&Level>, id: i64) -> Result<String> {
    let plan = &follow::of_today(id, plan)?;
    let _here = super::citus::whole::made_here(level.filter(|_| nodes))?;
    let table = level.map_or(names.target, |l| &l.target);
    let followed = plan.followed.is_some();
    let view = make_one(
        id,
        level,
        Kind::Live,
        names.view,
        || beside(table, followed, Kind::Live),
        |view| live_sql::live_view(nodes, plan, view, names.source, names.target, level, id),
    )?;
    if followed {
        let is_new = names.shown.is_none() && known(id, level, Kind::Shown)?.is_none();
        let shown = make_one(
            id,
            level,
            Kind::Shown,
            names.shown,
            || beside(table, true, Kind::Shown),
            |view| live_sql::shown_view(plan, view, table),
        )?;
        if is_new {
            let text = format!(
                "{table} joined to the lookup tables as they are; {view} adds the rows not yet rolled up"
            );
            catalog::execute(&format!("COMMENT ON VIEW {shown} IS {}", literal(&text)), &[])?;
        }
        follow::rest_on_unique(plan, &shown)?;
    }
    if level.is_none() {
        super::trust::note(id, plan, names.source, names.target)?;
    }
    if level.is_none() && !nodes {
        super::names::note(id, plan)?;
    }
    Ok(view)
}

/// Makes a view, or makes it what `sql` says; returns its name. `was`: what it was called that was dropped; `new`: what it is
/// called that never was.
fn make_one(
    id: i64,
    level: Option<&Level>,
    kind: Kind,
    was: Option<&str>,
    new: impl FnOnce() -> Result<String>,
    sql: impl FnOnce(&str) -> String,
) -> Result<String> {
    let there = known(id, level, kind)?;
    let options = there.as_deref().map_or(Ok(Vec::new()), options)?;
    let view = match there.or(was.map(str::to_string)) {
        Some(view) => view,
        None => new()?,
    };
    catalog::define(&sql(&view))?;
    set_options(&view, &options)?;
    refuse_temporary(&view)?;
    let _acting = ActingAs::catalog();
    let column = kind.column();
    let (table, row) = match level {
        None => ("definition", "id = $1 AND $3::pg_catalog.text IS NULL"),
        Some(_) => ("level", "definition = $1 AND name = $3"),
    };
    catalog::execute(
        &format!(
            "UPDATE rollup.{table} SET {column} = $2::pg_catalog.regclass WHERE {row} AND {column} IS DISTINCT FROM $2::pg_catalog.regclass"
        ),
        &[id.into(), view.clone().into(), level_name(level).into()],
    )?;
    Ok(view)
}

/// What is set for a view, as `name = 'value'`: CREATE OR REPLACE VIEW forgets it.
fn options(view: &str) -> Result<Vec<String>> {
    let found = catalog::read(
        "SELECT pg_catalog.format('%I = %L', o.option_name, o.option_value) FROM pg_catalog.pg_class c, pg_catalog.pg_options_to_table(c.reloptions) o \
         WHERE c.oid = $1::pg_catalog.regclass",
        &[view.into()],
        |row| row.get::<String>(1),
    )?;
    Ok(found.into_iter().flatten().collect())
}

fn set_options(view: &str, options: &[String]) -> Result<()> {
    if options.is_empty() {
        return Ok(());
    }
    catalog::define(&format!("ALTER VIEW {view} SET ({})", options.join(", ")))
}

/// Refuses a view that goes with the session, or of which a part does: a type or a function in pg_temp.
fn refuse_temporary(view: &str) -> Result<()> {
    let found = catalog::write(
        "SELECT pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0) FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d \
         ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid LEFT JOIN pg_catalog.pg_class c ON d.refclassid = c.tableoid AND c.oid = d.refobjid \
         LEFT JOIN pg_catalog.pg_proc p ON d.refclassid = p.tableoid AND p.oid = d.refobjid LEFT JOIN pg_catalog.pg_type t ON d.refclassid = t.tableoid AND t.oid = d.refobjid \
         LEFT JOIN pg_catalog.pg_operator o ON d.refclassid = o.tableoid AND o.oid = d.refobjid LEFT JOIN pg_catalog.pg_collation k ON d.refclassid = k.tableoid AND k.oid = d.refobjid \
         WHERE r.ev_class = $1::pg_catalog.regclass AND coalesce(c.relnamespace, p.pronamespace, t.typnamespace, o.oprnamespace, k.collnamespace) = pg_catalog.pg_my_temp_schema() LIMIT 1",
        &[view.into()],
        |row| row.get::<String>(1),
    )?;
    match found.into_iter().flatten().next() {
        None => Ok(()),
        Some(what) => fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{what} is temporary"),
            "The worker cannot see it, and it goes with the session: use what stays.",
        ),
    }
}

/// A view that was dropped, to be recreated.
struct Dropped {
    /// Its name, qualified and quoted.
    name: String,
    owner: String,
    options: Vec<String>,
    grants: Grants,
    /// What was said of it.
    comment: Option<String>,
}

/// The views on a table of a rollup that were dropped, to be recreated.
pub struct Kept {
    level: Option<String>,
    live: Option<Dropped>,
    shown: Option<Dropped>,
}

/// What is granted on a table or view to others than its owner.
pub struct Grants(Vec<Grant>);

/// What somebody may do.
struct Grant {
    privilege: String,
    /// Of a grant on one.
    column: Option<String>,
    /// Quoted.
    grantee: String,
    may_grant: bool,
}

impl Grant {
    fn on(&self, view: &str) -> String {
        let column = self.column.as_ref().map_or(String::new(), |c| format!(" ({})", ident(c)));
        format!("{}{column} ON {view}", self.privilege)
    }
}

/// Drops the views of a rollup or a level, as far as they are there; whatever stands on them speaks up.
pub fn drop(id: i64, level: Option<&Level>) -> Result<Option<Kept>> {
    let (live, shown) = (drop_one(id, level, Kind::Live)?, drop_one(id, level, Kind::Shown)?);
    let some = live.is_some() || shown.is_some();
    Ok(some.then(|| Kept { level: level_name(level), live, shown }))
}

fn drop_one(id: i64, level: Option<&Level>, kind: Kind) -> Result<Option<Dropped>> {
    let Some(name) = known(id, level, kind)? else { return Ok(None) };
    let (options, grants) = (options(&name)?, grants(&name)?);
    let (owner, comment) = catalog::read(
        "SELECT pg_catalog.format('%I', r.rolname), pg_catalog.obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE c.oid = $1::pg_catalog.regclass",
        &[name.as_str().into()],
        |row| Ok((row.must::<String>(1)?, row.get::<String>(2)?)),
    )?
    .into_iter()
    .next()
    .ok_or_else(|| internal(format!("view {name} is gone")))?;
    catalog::define(&format!("DROP VIEW {name}"))?;
    Ok(Some(Dropped { name, owner, options, grants, comment }))
}

/// What is granted on a table or view, qualified and quoted, to others than its owner.
pub fn grants(relation: &str) -> Result<Grants> {
    let all = catalog::write(
        "SELECT g.attname::pg_catalog.text, a.privilege_type, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.format('%I', r.rolname) END, a.is_grantable \
         FROM (SELECT c.oid, NULL::pg_catalog.name AS attname, c.relacl AS acl FROM pg_catalog.pg_class c UNION ALL \
               SELECT t.attrelid, t.attname, t.attacl FROM pg_catalog.pg_attribute t WHERE t.attnum > 0 AND NOT t.attisdropped) g \
         JOIN pg_catalog.pg_class c USING (oid), LATERAL pg_catalog.aclexplode(g.acl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee \
         WHERE g.oid = $1::pg_catalog.regclass AND a.grantee <> c.relowner AND (a.grantee = 0 OR r.oid IS NOT NULL)",
        &[relation.into()],
        |row| {
            Ok(Grant {
                column: row.get(1)?,
                privilege: row.must(2)?,
                grantee: row.must(3)?,
                may_grant: row.get(4)? == Some(true),
            })
        },
    )?;
    Ok(Grants(all))
}

impl Grants {
    /// Grants the same on what has taken the place, and nothing else: what default privileges have granted is taken back.
    /// Grants on columns that are gone have gone with them.
    pub fn restore(&self, relation: &str, plan: &Plan) -> Result<()> {
        for new in grants(relation)?.0 {
            catalog::define(&format!("REVOKE {} FROM {}", new.on(relation), new.grantee))?;
        }
        let there = |c: &Option<String>| match c {
            None => true,
            Some(name) => plan.column(name).is_some_and(|c| !c.hidden),
        };
        for old in self.0.iter().filter(|g| there(&g.column)) {
            let option = if old.may_grant { " WITH GRANT OPTION" } else { "" };
            catalog::define(&format!("GRANT {} TO {}{option}", old.on(relation), old.grantee))?;
        }
        Ok(())
    }
}

impl Kept {
    /// Whether they were those of this level, or of the rollup itself.
    pub fn is_of(&self, level: Option<&Level>) -> bool {
        self.level == level_name(level)
    }

    /// What the views were called.
    pub fn names<'a>(&'a self, source: &'a str, target: &'a str) -> Names<'a> {
        let name = |view: &'a Option<Dropped>| view.as_ref().map(|view| view.name.as_str());
        Names { source, target, view: name(&self.live), shown: name(&self.shown) }
    }

    /// Gives the views that took their place to whom they belonged, for those to read who might, and nobody else.
    pub fn restore(&self, plan: &Plan) -> Result<()> {
        let seen = &*plan.seen();
        for Dropped { name, owner, options, grants, .. } in self.live.iter().chain(&self.shown) {
            set_options(name, options)?;
            grants.restore(name, seen)?;
            catalog::define(&format!("ALTER VIEW {name} OWNER TO {owner}"))?;
        }
        // What is said of live views, and of columns, is kept elsewhere.
        match self.shown.as_ref().map(|shown| (&shown.name, &shown.comment)) {
            Some((name, Some(comment))) => {
                catalog::execute(&format!("COMMENT ON VIEW {name} IS {}", literal(comment)), &[])
            }
            _ => Ok(()),
        }
    }
}
