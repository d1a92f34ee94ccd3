//! rollup.create, rollup.drop: everything in the caller's transaction, as the caller; only the catalog rows are
//! written by the extension itself. An error leaves nothing behind.
use super::catalog::{self, Definition};
use super::error::{Result, fail, internal, report};
use super::plan::Plan;
use super::sql::{self, STAMP, ident, literal};
use crate::pg::{query, xact};
use pgrx::pg_sys;
use pgrx::prelude::*;

struct Source {
    schema: String,
    table: String,
    owner: String,
}

impl Source {
    fn qualified(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.table))
    }
}

/// Defines a rollup; returns its id.
pub fn create(name: &str, text: &str, every: Option<pgrx::datum::Interval>, timezone: &str) -> Result<i64> {
    if xact::keeps_one_snapshot() {
        return fail(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "rollup.create needs a READ COMMITTED transaction",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED.",
        );
    }
    check_timezone(timezone)?;
    let select = query::analyse(text)
        .map_err(|u| report(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, u.what, u.hint))?;
    if !['r', 'p'].contains(&select.relkind) {
        return fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{} is not a table", super::expire::name_of(select.source)?),
            "Write the query over the table itself.",
        );
    }
    let plan = Plan::of(&select)?;
    let source = describe(select.source)?;
    catalog::check_owner(&source.owner, &format!("table {}", source.qualified()))?;
    let (schema, table) = split(name, &source.schema)?;
    let target = format!("{}.{}", ident(&schema), ident(&table));
    let view = format!("{}.{}", ident(&schema), ident(&format!("{table}_live")));
    for relation in [&target, &view] {
        refuse_existing(relation)?;
    }
    let role = current_role()?;

    add_stamp(&source)?;
    register_source(select.source, &plan, &source.owner)?;
    add_index(select.source, &source, &plan)?;
    catalog::execute(&sql::create_table(&plan, &target), &[])?;
    let id = insert_definition(
        name_in_catalog(&schema, &table, &source),
        &target,
        select.source,
        &role,
        text,
        &plan,
        timezone,
        every,
    )?;
    catalog::execute(&sql::live_view(&plan, &view, &source.qualified(), &target, id), &[])?;
    comment(&plan, &source, &target, &view)?;
    create_functions(&source)?;
    Ok(id)
}

fn name_in_catalog(schema: &str, table: &str, source: &Source) -> String {
    // One name a table; the schema is said where it is not the source's own.
    if schema == source.schema { table.to_string() } else { format!("{schema}.{table}") }
}

fn check_timezone(timezone: &str) -> Result<()> {
    let known = catalog::read(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_timezone_names WHERE pg_catalog.lower(name) = pg_catalog.lower($1))",
        &[timezone.into()],
        |row| row.get::<bool>(1),
    )?;
    if known.first().copied().flatten() == Some(true) {
        return Ok(());
    }
    fail(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("time zone {timezone} is not known"),
        "TABLE pg_timezone_names lists the names, such as UTC or Europe/Berlin.",
    )
}

fn describe(relation: pg_sys::Oid) -> Result<Source> {
    catalog::read(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, r.rolname::pg_catalog.text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE c.oid = $1",
        &[relation.into()],
        |row| {
            Ok(Source {
                schema: row.get(1)?.unwrap_or_default(),
                table: row.get(2)?.unwrap_or_default(),
                owner: row.get(3)?.unwrap_or_default(),
            })
        },
    )?
    .into_iter()
    .next()
    .ok_or_else(|| internal("the source is gone"))
}

/// Schema and table of a rollup's name, read as SQL reads it; the source's schema where it names none.
fn split(name: &str, default_schema: &str) -> Result<(String, String)> {
    let parts =
        catalog::read("SELECT pg_catalog.parse_ident($1)", &[name.into()], |row| row.get::<Vec<String>>(1))?
            .into_iter()
            .next()
            .flatten()
            .unwrap_or_default();
    let (schema, table) = match parts.as_slice() {
        [t] => (default_schema.to_string(), t.clone()),
        [s, t] => (s.clone(), t.clone()),
        _ => {
            return fail(
                PgSqlErrorCode::ERRCODE_INVALID_NAME,
                format!("{name} is no name for a table"),
                "Write name or schema.name.",
            );
        }
    };
    // NAMEDATALEN is 64; the view's name must fit, and be told from another's.
    if table.len() + "_live".len() > 63 {
        return fail(
            PgSqlErrorCode::ERRCODE_NAME_TOO_LONG,
            format!("name {table} has {} bytes, at most 58 fit beside its view {table}_live", table.len()),
            "Choose a shorter one.",
        );
    }
    Ok((schema, table))
}

fn refuse_existing(relation: &str) -> Result<()> {
    let there = catalog::read("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[relation.into()], |row| {
        row.get::<bool>(1)
    })?;
    if there.first().copied().flatten() == Some(true) {
        return fail(
            PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
            format!("relation {relation} already exists"),
            "Choose another name, or drop it first; a rollup is dropped by rollup.drop(name).",
        );
    }
    Ok(())
}

fn current_role() -> Result<String> {
    catalog::read("SELECT current_user::pg_catalog.text", &[], |row| row.get::<String>(1))?
        .into_iter()
        .next()
        .flatten()
        .ok_or_else(|| internal("no current role"))
}

/// The stamp column: its default is STABLE, so that adding it rewrites nothing.
fn add_stamp(source: &Source) -> Result<()> {
    let existing = {
        // With this search_path the default reads rollup.stamp(), whatever the caller's is.
        let _acting = xact::ActingAs::catalog();
        catalog::read(
            "SELECT a.atttypid = 'pg_catalog.int8'::pg_catalog.regtype AND a.attnotnull AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) = 'rollup.stamp()' \
             FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
             WHERE a.attrelid = $1::pg_catalog.regclass AND a.attname = $2::pg_catalog.name AND NOT a.attisdropped",
            &[source.qualified().into(), STAMP.into()],
            |row| row.get::<bool>(1),
        )?
    };
    match existing.first() {
        Some(Some(true)) => Ok(()),
        Some(_) => fail(
            PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
            format!(
                "table {} has a column {STAMP} that is not bigint NOT NULL DEFAULT rollup.stamp()",
                source.qualified()
            ),
            "Rename it: the name is taken by the rollup engine.",
        ),
        None => {
            lock_exclusively(source)?;
            catalog::execute(
                &format!(
                    "ALTER TABLE {} ADD COLUMN {STAMP} bigint NOT NULL DEFAULT rollup.stamp()",
                    source.qualified()
                ),
                &[],
            )
        }
    }
}

/// Takes the lock that adding a column needs, in short attempts: whoever comes after a waiting exclusive lock
/// waits too, so it must not wait behind a long transaction.
fn lock_exclusively(source: &Source) -> Result<()> {
    let table = source.qualified();
    let busy = format!("table {table} is in use: its lock was not free for 30 seconds");
    let body = format!(
        "DECLARE
           before text := pg_catalog.current_setting('lock_timeout');
           deadline timestamptz := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) interval '30 seconds';
         BEGIN
           LOOP
             BEGIN
               PERFORM pg_catalog.set_config('lock_timeout', '100ms', true);
               LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
               PERFORM pg_catalog.set_config('lock_timeout', before, true);
               RETURN;
             EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
               IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) deadline THEN
                 RAISE EXCEPTION USING ERRCODE = '55P03', MESSAGE = {},
                   HINT = 'SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start shows the long transactions; call again when they have ended.';
               END IF;
             END;
             PERFORM pg_catalog.pg_sleep(0.1);
           END LOOP;
         END",
        literal(&busy)
    );
    catalog::execute(&format!("DO {}", literal(&body)), &[])
}

fn add_index(relation: pg_sys::Oid, source: &Source, plan: &Plan) -> Result<()> {
    let there = catalog::read(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid \
         AND a.attnum = ANY (i.indkey::pg_catalog.int2[]) WHERE i.indrelid = $1 AND a.attname = $2::pg_catalog.name)",
        &[relation.into(), STAMP.into()],
        |row| row.get::<bool>(1),
    )?;
    if there.first().copied().flatten() == Some(true) {
        return Ok(());
    }
    catalog::execute(
        &format!(
            "CREATE INDEX ON {} USING brin ({}, {STAMP} int8_minmax_multi_ops) WITH (autosummarize = on, pages_per_range = 32)",
            source.qualified(),
            ident(&plan.time_column)
        ),
        &[],
    )
}

fn register_source(relation: pg_sys::Oid, plan: &Plan, owner: &str) -> Result<()> {
    let _acting = xact::ActingAs::catalog();
    catalog::execute(
        "INSERT INTO rollup.source (relation, time_column, owner) VALUES ($1, $2::pg_catalog.name, $3::pg_catalog.name) ON CONFLICT DO NOTHING",
        &[relation.into(), plan.time_column.clone().into(), owner.into()],
    )?;
    // Expiry holds this row in share mode: none is under way while the rollup comes into being.
    catalog::execute("SELECT FROM rollup.source WHERE relation = $1 FOR UPDATE", &[relation.into()])
}

#[allow(clippy::too_many_arguments)]
fn insert_definition(
    name: String,
    target: &str,
    source: pg_sys::Oid,
    role: &str,
    text: &str,
    plan: &Plan,
    timezone: &str,
    every: Option<pgrx::datum::Interval>,
) -> Result<i64> {
    let plan = serde_json::to_string(plan).map_err(internal)?;
    let _acting = xact::ActingAs::catalog();
    catalog::write(
        "INSERT INTO rollup.definition (name, relation, source, owner, query, plan, timezone, every, system_id) \
         SELECT $1, $2::pg_catalog.regclass, $3, $4::pg_catalog.name, $5, $6::pg_catalog.jsonb, $7, $8, system_identifier \
         FROM pg_catalog.pg_control_system() RETURNING id",
        &[
            name.into(),
            target.into(),
            source.into(),
            role.into(),
            text.into(),
            plan.into(),
            timezone.into(),
            every.into(),
        ],
        |row| row.get::<i64>(1),
    )?
    .into_iter()
    .next()
    .flatten()
    .ok_or_else(|| internal("no id"))
}

fn comment(plan: &Plan, source: &Source, target: &str, view: &str) -> Result<()> {
    let of = source.qualified();
    catalog::execute(
        &format!(
            "COMMENT ON TABLE {target} IS {}",
            literal(&format!("rollup of {of}; {view} adds the rows not yet rolled up"))
        ),
        &[],
    )?;
    catalog::execute(
        &format!(
            "COMMENT ON VIEW {view} IS {}",
            literal(&format!(
                "{target} and the rows of {of} not yet rolled up: what the query over {of} itself gives"
            ))
        ),
        &[],
    )?;
    for c in &plan.columns {
        catalog::execute(
            &format!("COMMENT ON COLUMN {target}.{} IS {}", ident(&c.name), literal(&c.expression)),
            &[],
        )?;
    }
    Ok(())
}

fn function_names(source: &Source) -> [(String, &'static str, &'static str); 2] {
    let f =
        |prefix: &str| format!("{}.{}", ident(&source.schema), ident(&format!("{prefix}_{}", source.table)));
    [
        (f("rollup"), "run", "Rolls up now; returns the raw rows merged"),
        (f("expire"), "expire", "Removes old rows now; returns how many"),
    ]
}

/// `rollup_<source>()` and `expire_<source>()`, beside the source.
fn create_functions(source: &Source) -> Result<()> {
    for (name, verb, what) in function_names(source) {
        let there = catalog::read(
            "SELECT pg_catalog.to_regprocedure($1) IS NOT NULL",
            &[format!("{name}()").into()],
            |row| row.get::<bool>(1),
        )?;
        if there.first().copied().flatten() == Some(true) {
            continue;
        }
        let body = format!("SELECT rollup.{verb}({}::pg_catalog.regclass)", literal(&source.qualified()));
        catalog::execute(
            &format!("CREATE FUNCTION {name}() RETURNS bigint LANGUAGE sql VOLATILE AS {}", literal(&body)),
            &[],
        )?;
        catalog::execute(&format!("COMMENT ON FUNCTION {name}() IS {}", literal(what)), &[])?;
    }
    Ok(())
}

/// Removes a rollup: its view, its table unless the data is kept, and with the last one of a source the two
/// functions beside it.
pub fn drop(d: &Definition, keep_data: bool) -> Result<()> {
    if let Some(target) = &d.target {
        let table = catalog::read(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname || '_live') FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::pg_catalog.regclass",
            &[target.clone().into()],
            |row| row.get::<String>(1),
        )?;
        if let Some(Some(view)) = table.first() {
            catalog::execute(&format!("DROP VIEW IF EXISTS {view}"), &[])?;
        }
        if !keep_data {
            catalog::execute(&format!("DROP TABLE {target}"), &[])?;
        }
    }
    {
        let _acting = xact::ActingAs::catalog();
        if let Some(target) = &d.target {
            catalog::execute(
                "DELETE FROM rollup.retention WHERE relation = pg_catalog.to_regclass($1)",
                &[target.clone().into()],
            )?;
        }
        catalog::execute("DELETE FROM rollup.definition WHERE id = $1", &[d.id.into()])?;
    }
    if catalog::of_source(d.source_oid, true)?.is_empty() {
        if d.source.is_some() {
            for (name, _, _) in function_names(&describe(d.source_oid)?) {
                catalog::execute(&format!("DROP FUNCTION IF EXISTS {name}()"), &[])?;
            }
        }
        let _acting = xact::ActingAs::catalog();
        catalog::execute("DELETE FROM rollup.source WHERE relation = $1", &[d.source_oid.into()])?;
    }
    Ok(())
}
