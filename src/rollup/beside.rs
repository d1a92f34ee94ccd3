//! `rollup_<source>()` and `expire_<source>()`, next to a source, for users who would rather call a function than name a table.
//!
//! Invariant: one is made where nobody else's function would answer to the call, and none is dropped that was not made
//! here. Ours are told by what the catalogs say and never by their name: the body is bound to the source and to the
//! function of the extension that it calls, so that it follows when either is renamed, and the function depends on the
//! extension as ALTER FUNCTION … DEPENDS ON EXTENSION writes down, which a dump keeps and CREATE OR REPLACE by somebody
//! else takes away. Such a function goes by itself with the extension, and with its source by CASCADE.
use super::catalog::{self, Must};
use super::error::{Result, report};
use super::source::{Source, describe};
use crate::pg::query::set_local;
use crate::pg::{node, xact};
use hll_rollup::sql::{ident, literal};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The first part of a function's name, the function of ours that it calls, and what it does.
const KINDS: [(&str, &str, &str); 2] = [
    ("rollup", "run", "Rolls up now; returns the raw rows merged"),
    ("expire", "expire", "Removes old rows now; returns how many"),
];

/// A function that was made here for a source.
struct Ours {
    /// With its schema and (), quoted.
    name: String,
    /// The role that acts for the source's owner may drop it.
    may_drop: bool,
}

/// The functions that were made here for a source.
fn ours(source: pg_sys::Oid, verb: &str) -> Result<Vec<Ours>> {
    let _acting = xact::ActingAs::catalog();
    // The body is written with this, as the one that it is compared with.
    set_local(c"standard_conforming_strings", c"on");
    catalog::write(
        "SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text, pg_catalog.pg_has_role(c.relowner, p.proowner, 'USAGE') \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_depend s ON s.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND s.refobjid = c.oid \
         AND s.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND s.deptype = 'n' JOIN pg_catalog.pg_proc p ON p.oid = s.objid \
         WHERE c.oid = $1 AND p.pronargs = 0 AND (p.pronamespace = c.relnamespace OR p.proowner = c.relowner) \
         AND EXISTS (SELECT FROM pg_catalog.pg_depend x JOIN pg_catalog.pg_extension e ON x.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.oid = x.refobjid \
          WHERE x.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND x.objid = p.oid AND x.deptype = 'x' AND e.extname = 'hll') \
         AND pg_catalog.pg_get_function_sqlbody(p.oid) = pg_catalog.concat('RETURN rollup.', $2, '(''', \
          pg_catalog.replace(c.oid::pg_catalog.regclass::pg_catalog.text, '''', ''''''), '''::regclass)') ORDER BY 1",
        &[source.into(), verb.into()],
        |row| Ok(Ours { name: row.must(1)?, may_drop: row.get(2)? == Some(true) }),
    )
}

/// How a function next to a source is to be called.
struct Call {
    /// With its schema and (), quoted, and no longer than names are.
    name: String,
    /// Functions that answer to it, or make it ambiguous.
    taken_by: Vec<String>,
    /// Its owner may make functions in the schema.
    may_create: bool,
}

fn call(source: pg_sys::Oid, prefix: &str) -> Result<Call> {
    let _acting = xact::ActingAs::catalog();
    let found = catalog::write(
        "SELECT pg_catalog.format('%I.%I()', n.nspname, f.name), pg_catalog.has_schema_privilege(c.relowner, n.oid, 'CREATE'), \
         ARRAY(SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid AND p.proname = f.name \
          AND p.pronargs <= p.pronargdefaults ORDER BY p.oid) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, \
         LATERAL (SELECT pg_catalog.concat($2, '_', c.relname)::pg_catalog.name AS name) f WHERE c.oid = $1",
        &[source.into(), prefix.into()],
        |row| Ok(Call { name: row.must(1)?, may_create: row.get(2)? == Some(true), taken_by: row.must(3)? }),
    )?;
    found.into_iter().next().ok_or_else(|| super::error::internal("the source is gone"))
}

impl Call {
    /// Whose function has the call, where it is not one of ours.
    fn taken(&self, ours: &[Ours]) -> Option<&String> {
        self.taken_by.iter().find(|name| ours.iter().all(|o| o.name != **name))
    }

    fn say(&self, source: &Source, verb: &str, why: &str) {
        report(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("function {} was not made: {why}", self.name),
            format!("Call SELECT rollup.{verb}({}) instead.", literal(&source.qualified())),
        )
        .report(PgLogLevel::NOTICE);
    }
}

/// Makes the missing functions, as the owner of the source, or says what to call instead.
pub fn create(relation: pg_sys::Oid) -> Result<()> {
    let source = describe(relation)?;
    for (prefix, verb, what) in KINDS {
        let (call, ours) = (call(relation, prefix)?, ours(relation, verb)?);
        if let Some(other) = call.taken(&ours) {
            call.say(&source, verb, &format!("{other} is there, and is no function of the table's rollups"));
        } else if !call.may_create {
            call.say(&source, verb, "the owner of the table may not create it there");
        } else if call.taken_by.is_empty() {
            let _acting = xact::ActingAs::role(source.owner);
            if node::citus_loaded() {
                // The rollups of a cluster are run on this node.
                set_local(c"citus.enable_ddl_propagation", c"off");
            }
            define(&call.name, verb, &source, "CREATE")?;
            catalog::execute(&format!("COMMENT ON FUNCTION {} IS {}", call.name, literal(what)), &[])?;
        }
    }
    Ok(())
}

/// Says what to call for the expiry of a source, where `expire_<source>()` does something else.
pub fn say_how_to_expire(relation: pg_sys::Oid) -> Result<()> {
    let (prefix, verb, _) = KINDS[1];
    let call = call(relation, prefix)?;
    if let Some(other) = call.taken(&ours(relation, verb)?) {
        let why = format!("{other} is there, and is no function of the table's rollups");
        call.say(&describe(relation)?, verb, &why);
    }
    Ok(())
}

/// Binds the functions of a source to the table that has taken its place.
pub fn follow(old: pg_sys::Oid, new: pg_sys::Oid) -> Result<()> {
    let source = describe(new)?;
    for (_, verb, _) in KINDS {
        for one in ours(old, verb)?.into_iter().filter(|one| one.may_drop) {
            let _acting = xact::ActingAs::role(source.owner);
            set_local(c"citus.enable_ddl_propagation", c"off");
            define(&one.name, verb, &source, "CREATE OR REPLACE")?;
        }
    }
    Ok(())
}

/// The function depends on the extension again: replacing it forgets that.
fn define(name: &str, verb: &str, source: &Source, create: &str) -> Result<()> {
    let table = literal(&source.qualified());
    for command in [
        format!(
            "{create} FUNCTION {name} RETURNS bigint LANGUAGE sql VOLATILE RETURN rollup.{verb}({table}::pg_catalog.regclass)"
        ),
        format!("ALTER FUNCTION {name} DEPENDS ON EXTENSION {}", ident("hll")),
    ] {
        catalog::execute(&command, &[])?;
    }
    Ok(())
}

/// Drops the functions of a source that has no rollup any more.
pub fn drop(relation: pg_sys::Oid) -> Result<()> {
    let source = describe(relation)?;
    for (_, verb, _) in KINDS {
        for one in ours(relation, verb)? {
            if !one.may_drop {
                notice!(
                    "function {} stays: it does not belong to the owner of {}",
                    one.name,
                    source.qualified()
                );
                continue;
            }
            let _acting = xact::ActingAs::role(source.owner);
            catalog::execute(&format!("DROP FUNCTION {}", one.name), &[])?;
        }
    }
    Ok(())
}
