//! Archive before drop: an old partition is detached, handed to the function that rollup.retain names, and dropped once that
//! has returned.
//!
//! Invariant: a partition that was detached to be archived is in `rollup.archiving` until the transaction that drops it, or leaves it
//! where the function has put it. Detaching and handing over are two transactions of the worker, so that nobody waits for the
//! function: what comes between them, an error or the end of the server, leaves the table as it is, and the next look goes on from
//! there. No other partition is detached before. So a function is called at least once for each, and once more where its
//! transaction was rolled back, with what it has done in the database.
//!
//! The function runs as the owner of the table, as triggers and expressions of owners do: restricted, whoever calls.
use super::catalog::{self, Must};
use super::error::{Result, fail};
use super::removal::Partition;
use super::retention::{self, Retention};
use crate::pg::lock::{self, Mode};
use crate::pg::xact::{ActingAs, role_name};
use hll_rollup::sql::literal;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;

/// A partition that was detached, and waits to be archived.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The table.
    pub oid: pg_sys::Oid,
    /// What it was called when it was detached: for people.
    pub name: String,
}

const UNFIT: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;

/// Those of a table, oldest first.
pub fn waiting(relation: pg_sys::Oid) -> Result<Vec<Waiting>> {
    let _acting = ActingAs::catalog();
    catalog::read(
        "SELECT partition::pg_catalog.oid, name FROM rollup.archiving WHERE relation = $1 ORDER BY until, detached",
        &[relation.into()],
        |row| Ok(Waiting { oid: row.must(1)?, name: row.must(2)? }),
    )
}

/// Remembers a partition that has just been detached, in the same transaction.
pub fn remember(r: &Retention, p: &Partition) -> Result<()> {
    let _acting = ActingAs::catalog();
    super::session::set_timezone(&r.timezone);
    catalog::execute(
        "UPDATE rollup.retention SET last_removed = pg_catalog.clock_timestamp() WHERE relation = $1",
        &[r.oid.into()],
    )?;
    catalog::execute(
        "INSERT INTO rollup.archiving (partition, relation, name, until) VALUES ($1, $2, $3, $4::pg_catalog.timestamptz)",
        &[p.oid.into(), r.oid.into(), p.name.as_str().into(), p.upto.as_str().into()],
    )
}

/// What a table is, as committed now or by this transaction.
struct Now {
    name: String,
    attached: bool,
}

fn now(oid: pg_sys::Oid) -> Result<Option<Now>> {
    let _acting = ActingAs::catalog();
    let found = catalog::write(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relispartition OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
        &[oid.into()],
        |row| Ok(Now { name: row.must(1)?, attached: row.get::<bool>(2)? == Some(true) }),
    )?;
    Ok(found.into_iter().next())
}

thread_local! {
    /// A function is being called.
    static CALLED: Cell<bool> = const { Cell::new(false) };
}

/// A call of a function, which calls no other: it would be given the same table.
struct Called;

impl Called {
    fn now(call: &str, table: &str) -> Result<Called> {
        if CALLED.replace(true) {
            return fail(
                UNFIT,
                format!("{table} is being archived: {call} cannot have rows expire"),
                "Do not call rollup.expire in a function that archives.",
            );
        }
        Ok(Called)
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        CALLED.set(false);
    }
}

/// Hands a table over, and drops it. One that has gone, or was attached again, waits no more.
pub fn hand_over(relation: pg_sys::Oid, w: &Waiting) -> Result<()> {
    let locked = {
        let _acting = ActingAs::catalog();
        let lock = "SELECT true FROM rollup.archiving WHERE partition = $1 AND relation = $2 FOR UPDATE";
        catalog::write(lock, &[w.oid.into(), relation.into()], |row| row.get::<bool>(1))?
    };
    if locked.is_empty() {
        return Ok(());
    }
    let Some(before) = now(w.oid)?.filter(|table| !table.attached) else { return forget(w.oid) };
    let r = retention::retention(relation)?;
    let Some(archive) = &r.archive else {
        return fail(
            UNFIT,
            format!(
                "{} was detached from {} to be archived, and no function to do so is set any more",
                before.name, r.relation
            ),
            format!(
                "SELECT rollup.retain({}, {}, archive => 'schema.function'); names one. ALTER TABLE … ATTACH PARTITION, or DROP TABLE, puts it where you want it.",
                literal(&r.relation),
                literal(&r.keep)
            ),
        );
    };
    let call = resolve(archive, &r)?;
    {
        let _called = Called::now(&call, &before.name)?;
        let _acting = r.acting();
        catalog::execute(
            &format!("SELECT {call}({}::pg_catalog.oid::pg_catalog.regclass)", w.oid.to_u32()),
            &[],
        )?;
    }
    drop_archived(&r, archive, &call, w.oid, &before.name)?;
    forget(w.oid)?;
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.retention SET dropped = dropped + 1 WHERE relation = $1",
        &[relation.into()],
    )
}

/// Drops a table of which `call` has returned, if it is what was given to it, and the retention what it was.
fn drop_archived(r: &Retention, archive: &str, call: &str, partition: pg_sys::Oid, name: &str) -> Result<()> {
    // Under the lock: another session may be renaming it, and a new table may have the name by the time that it is free.
    let after = {
        let _acting = r.acting();
        if lock::relation(partition, Mode::All) { now(partition)? } else { None }
    };
    let still = {
        let _acting = ActingAs::catalog();
        catalog::one_now::<bool>(
            "SELECT EXISTS (SELECT FROM rollup.retention WHERE relation = $1 AND archive = $2)",
            &[r.oid.into(), archive.into()],
        )?
    };
    if !still {
        return fail(
            UNFIT,
            format!("the retention of {} was changed while {name} was archived", r.relation),
            "Nothing was done. The next attempt goes by what is set now.",
        );
    }
    if after.as_ref().is_some_and(|table| table.attached) {
        return fail(
            UNFIT,
            format!("{call} has attached {name}, which it was given to archive"),
            "It may copy the table, move it to another schema, or leave it to be dropped.",
        );
    }
    // What it has moved or renamed is where it wants to have it.
    if after.is_some_and(|table| table.name == name) {
        let _acting = r.acting();
        catalog::execute(&format!("DROP TABLE {name}"), &[])?;
    }
    Ok(())
}

fn forget(partition: pg_sys::Oid) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute("DELETE FROM rollup.archiving WHERE partition = $1", &[partition.into()])
}

/// The function of that signature, to be called. It is kept by its name, so that a dump has it: whose it is, is asked each time.
fn resolve(signature: &str, r: &Retention) -> Result<String> {
    let oid = catalog::maybe_now::<pg_sys::Oid>(
        "SELECT pg_catalog.to_regprocedure($1)::pg_catalog.oid",
        &[signature.into()],
    )?;
    match oid {
        Some(oid) => check(oid, &r.relation, r.owner),
        None => fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
            format!("function {signature}, which archives partitions of {}, does not exist", r.relation),
            format!(
                "Create it, or SELECT rollup.retain({}, {}, archive => …) names another.",
                literal(&r.relation),
                literal(&r.keep)
            ),
        ),
    }
}

/// The name of a function, qualified and quoted, that can archive partitions of a table of `owner`'s.
fn check(function: pg_sys::Oid, relation: &str, owner: pg_sys::Oid) -> Result<String> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT pg_catalog.format('%I.%I', n.nspname, p.proname), p.prokind = 'f' AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.regclass'::pg_catalog.regtype AND p.provariadic = 0, \
             p.proowner, p.proowner = $2 OR o.rolsuper, pg_catalog.has_function_privilege($2, p.oid, 'EXECUTE') AND pg_catalog.has_schema_privilege($2, n.oid, 'USAGE') \
             FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles o ON o.oid = p.proowner WHERE p.oid = $1",
            &[function.into(), owner.into()],
            |row| {
                let is = |at| Ok::<_, pgrx::spi::Error>(row.get::<bool>(at)? == Some(true));
                Ok((row.must::<String>(1)?, is(2)?, row.must::<pg_sys::Oid>(3)?, is(4)?, is(5)?))
            },
        )?
    };
    let Some((name, fits, its_owner, trusted, may_call)) = found.into_iter().next() else {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
            format!("archive is {}, which is no function", function.to_u32()),
            "Name a function that takes the partition, a regclass: archive => 'schema.function'.",
        );
    };
    if !fits {
        return fail(
            PgSqlErrorCode::ERRCODE_INVALID_FUNCTION_DEFINITION,
            format!("{name} takes other arguments than one regclass"),
            "CREATE FUNCTION name(partition regclass) RETURNS void …",
        );
    }
    let role = role_name(owner);
    if !trusted {
        return fail(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!(
                "{name} belongs to {}, and {relation} to {role}, as whom it would run",
                role_name(its_owner)
            ),
            format!("ALTER FUNCTION {name}(regclass) OWNER TO {role}, or to a superuser."),
        );
    }
    if !may_call {
        return fail(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("{role}, the owner of {relation}, may not call {name}"),
            format!("GRANT EXECUTE ON FUNCTION {name}(regclass) TO {role}; and USAGE on its schema."),
        );
    }
    Ok(name)
}

/// What rollup.retain stores for a function: its signature. An error where it cannot archive partitions of that table.
pub fn signature(
    function: Option<pg_sys::Oid>,
    relation: pg_sys::Oid,
    name: &str,
    owner: pg_sys::Oid,
) -> Result<Option<String>> {
    let Some(function) = function else {
        tell_that_none_is_left(relation, name)?;
        return Ok(None);
    };
    let called = check(function, name, owner)?;
    let partitioned = catalog::one_now::<bool>(
        "SELECT c.relkind = 'p' FROM pg_catalog.pg_class c WHERE c.oid = $1",
        &[relation.into()],
    )?;
    if !partitioned {
        return fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{name} has no partitions, and {called} would be given none"),
            "Rows of it are deleted one by one. Partition the table by its time, or leave archive away.",
        );
    }
    if super::citus::place(relation)?.is_some() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("archive is not supported for {name}, which Citus keeps"),
            "Old partitions may be stored by columns instead: alter_old_partitions_set_access_method, before they expire.",
        );
    }
    Ok(Some(format!("{called}(pg_catalog.regclass)")))
}

fn tell_that_none_is_left(relation: pg_sys::Oid, name: &str) -> Result<()> {
    let _acting = ActingAs::catalog();
    let before = catalog::maybe_now::<String>(
        "SELECT archive FROM rollup.retention WHERE relation = $1",
        &[relation.into()],
    )?;
    if let Some(before) = before {
        notice!("partitions of {name} are dropped without being given to {before} from now on");
    }
    Ok(())
}
