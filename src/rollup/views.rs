//! Live views: made, and recreated where their columns change. Which view is the one of a table is kept in the catalog,
//! by oid: it is told from others of the name, and followed when it is renamed. What its owner has set, options and
//! grants, and who that is, holds for the one that takes its place; so do comments (see `comments`).
use super::catalog::{self, Definition, Must};
use super::error::{Result, fail, internal};
use super::live_sql;
use super::naming::refuse_existing;
use crate::pg::deparse::shown_name;
use crate::pg::plan::called::is_superuser;
use crate::pg::xact::ActingAs;
use crate::pg::{lock, security, shape, watched};
use hll_rollup::sql::ident;
use hll_rollup::{Level, Plan};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

/// What the rollup reads, and its table, qualified and quoted.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The source.
    pub source: &'a str,
    /// The rollup's table.
    pub target: &'a str,
    /// What the view was called that it takes the place of.
    pub view: Option<&'a str>,
}

fn level_name(level: Option<&Level>) -> Option<String> {
    level.map(|l| l.name.clone())
}

/// True of `c`, a view that reads table `t`: of one that has come to have the oid of another it is not.
const READS: &str = "c.relkind = 'v' AND EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend p ON p.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
  AND p.objid = r.oid AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.refobjid = t WHERE r.ev_class = c.oid)";

/// The live view of a rollup or a level, qualified and quoted; None where it was dropped.
pub fn of(id: i64, level: Option<&Level>) -> Result<Option<String>> {
    let _acting = ActingAs::catalog();
    let of = match level {
        None => "rollup.definition k WHERE k.id = $1 AND $2::pg_catalog.text IS NULL",
        Some(_) => "rollup.level k WHERE k.definition = $1 AND k.name = $2",
    };
    let found = catalog::write_often(
        &format!("SELECT k.relation::pg_catalog.oid, k.live::pg_catalog.oid FROM {of}"),
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

/// The view that a table of a rollup is to get: that of its name, as far as it fits. Nothing else may have the name.
fn beside(table: &str) -> Result<String> {
    let found = catalog::read(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = $1::pg_catalog.regclass",
        &[table.into()],
        |row| Ok((row.must::<String>(1)?, row.must::<String>(2)?)),
    )?;
    let (schema, name) =
        found.into_iter().next().ok_or_else(|| internal(format!("table {table} is gone")))?;
    let mut end = name.len().min(63 - "_live".len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let view = format!("{}.{}", ident(&schema), ident(&format!("{}_live", &name[..end])));
    refuse_existing(&view)?;
    Ok(view)
}

/// Makes the live view of a rollup or a level, or makes it what the plan says; returns its name.
pub fn make(nodes: bool, plan: &Plan, names: Names, level: Option<&Level>, id: i64) -> Result<String> {
    let there = of(id, level)?;
    let options = there.as_deref().map_or(Ok(Vec::new()), options)?;
    let view = match there.or(names.view.map(str::to_string)) {
        Some(view) => view,
        None => beside(level.map_or(names.target, |l| &l.target))?,
    };
    catalog::define(&live_sql::live_view(nodes, plan, &view, names.source, names.target, level, id))?;
    set_options(&view, &options)?;
    refuse_temporary(&view)?;
    let _acting = ActingAs::catalog();
    let store = match level {
        None => {
            "UPDATE rollup.definition SET live = $2::pg_catalog.regclass WHERE id = $1 AND $3::pg_catalog.text IS NULL AND live IS DISTINCT FROM $2::pg_catalog.regclass"
        }
        Some(_) => {
            "UPDATE rollup.level SET live = $2::pg_catalog.regclass WHERE definition = $1 AND name = $3 AND live IS DISTINCT FROM $2::pg_catalog.regclass"
        }
    };
    catalog::execute(store, &[id.into(), view.clone().into(), level_name(level).into()])?;
    if level.is_none() {
        super::trust::note(id, plan, names.source, names.target)?;
    }
    if level.is_none() && !nodes {
        super::names::note(id, plan)?;
    }
    Ok(view)
}

/// Whether a live view says what it was made to say, as it is said in the names of today; an error where it belongs to another
/// role than the rollup.
pub fn is_as_made(d: &Definition, plan: &Plan, view: pg_sys::Oid, level: Option<&Level>) -> Result<bool> {
    thread_local! {
        static MADE: RefCell<HashMap<(pg_sys::Oid, i64), u64>> = RefCell::default();
    }
    let (source, target, owner) = d.parts()?;
    // Once the lock is had the view stays as it is, and word of its changes has come.
    if !lock::relation(view, lock::Mode::Read) {
        return Ok(false);
    }
    if let Some(of) = security::owner_of(view).filter(|of| *of != owner && !is_superuser(*of)) {
        super::strangers::not_run(&format!("view {}", shown_name(view)), of.to_u32(), owner)
    }
    let epoch = watched::epoch();
    if MADE.with_borrow(|made| made.get(&(view, d.id)) == Some(&epoch)) {
        return Ok(true);
    }
    let text = live_sql::live_view(d.state.nodes().is_some(), plan, "v", source, target, level, d.id);
    let text = text.split_once(" AS ").map_or(text.as_str(), |(_, select)| select);
    let made = {
        let _acting = ActingAs::role(owner);
        shape::deparsed(text)
    };
    let is: String = catalog::one("SELECT pg_catalog.pg_get_viewdef($1)", &[view.into()])?;
    let same = is.trim_end_matches(';') == made.trim_end_matches(';');
    if same {
        watched::watch(view);
        MADE.with_borrow_mut(|made| _ = made.insert((view, d.id), epoch));
    }
    Ok(same)
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

/// A live view that was dropped, to be recreated.
pub struct Kept {
    level: Option<String>,
    /// Its name, qualified and quoted.
    pub name: String,
    owner: String,
    options: Vec<String>,
    grants: Grants,
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

/// Drops the live view of a rollup or a level, if it is there; whatever stands on it speaks up.
pub fn drop(id: i64, level: Option<&Level>) -> Result<Option<Kept>> {
    let Some(name) = of(id, level)? else { return Ok(None) };
    let (options, grants) = (options(&name)?, grants(&name)?);
    let owner = catalog::one(
        "SELECT pg_catalog.format('%I', r.rolname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE c.oid = $1::pg_catalog.regclass",
        &[name.as_str().into()],
    )?;
    catalog::define(&format!("DROP VIEW {name}"))?;
    Ok(Some(Kept { level: level_name(level), name, owner, options, grants }))
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
    /// Whether it was that of this level, or of the rollup itself.
    pub fn is_of(&self, level: Option<&Level>) -> bool {
        self.level == level_name(level)
    }

    /// Gives the view that took its place to whom it belonged, for those to read who might, and nobody else.
    pub fn restore(&self, plan: &Plan) -> Result<()> {
        let view = &self.name;
        set_options(view, &self.options)?;
        self.grants.restore(view, plan)?;
        catalog::define(&format!("ALTER VIEW {view} OWNER TO {}", self.owner))
    }
}
