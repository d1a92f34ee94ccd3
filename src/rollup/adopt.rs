//! A table that is there becomes the table of a rollup, where it fits: columns by name and type, and a unique key.
use super::catalog::{self, Must};
use super::error::{Result, fail};
use crate::pg::deparse::qualified;
use crate::pg::generated::computes;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::ident;
use hll_rollup::statements::{column_definition, generated_as};
use hll_rollup::{Column, Plan, Role};
use pgrx::pg_sys::{self, panic::ErrorReport};
use pgrx::prelude::*;

/// A column that is there.
struct Existing {
    name: String,
    sql_type: String,
    collation: Option<String>,
    not_null: bool,
    generated: bool,
    has_default: bool,
}

/// The table that is there.
struct There {
    columns: Vec<Existing>,
    /// It has no rows.
    empty: bool,
}

impl There {
    fn column(&self, name: &str) -> Option<&Existing> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Columns that want a value of which the query gives none.
    fn demanding<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = Misfit> + 'a {
        let demands = |c: &&Existing| c.not_null && !c.has_default && !c.generated;
        let given = |c: &Existing| plan.columns.iter().any(|p| p.name == c.name && p.in_table());
        self.columns.iter().filter(demands).filter(move |c| !given(c)).map(|c| {
            (
                format!("column {} is NOT NULL without a default, and the query does not give it", c.name),
                may_be_null(&c.name),
            )
        })
    }
}

/// What does not fit: what is there, and the part of an ALTER TABLE that puts it right.
type Misfit = (String, String);

/// Makes `target` fit by adding the columns that the query does not name, or says all that does not fit. Columns of
/// the plan become what the table has.
pub fn adopt(plan: &mut Plan, source: &str, target: &str, backfill: bool) -> Result<()> {
    if source == target {
        return fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("table {target} is the one that is rolled up"),
            "INTO_TABLE names the table that holds the groups.",
        );
    }
    let there = There { columns: columns(target)?, empty: is_empty(target)? };
    forget_row_count(plan, &there);
    let (mut missing, mut misfits) = compare_columns(plan, &there, target)?;
    misfits.extend(there.demanding(plan));
    if !has_key(plan, target)? {
        misfits.push(key_misfit(plan, target)?);
    }
    if !misfits.is_empty() {
        let is_freed = |c: &Existing| misfits.iter().any(|(_, how)| *how == may_be_null(&c.name));
        let freed = there.columns.iter().filter(|c| is_freed(c)).map(|c| c.name.clone()).collect();
        return Err(refusal(target, &misfits, in_the_way(target, freed)?));
    }
    if backfill && !there.empty {
        return fail(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table {target} is not empty: raw rows that it has counted would be counted again"),
            "backfill => false keeps what it holds and counts rows that come from now on; SELECT rollup.rebuild(name, from_time) then puts right \
             what raw rows are there for. Or empty it first.",
        );
    }
    // Parts before what is generated from them.
    missing.sort_by_key(|(generated, _)| *generated);
    for (_, column) in missing {
        catalog::define(&format!("ALTER TABLE {target} ADD COLUMN {column}"))?;
    }
    Ok(())
}

/// A column to add: whether it is generated, and its definition.
type Missing = (bool, String);

/// Leaves the count of rows out of the plan where the table has rows and no such column: how many rows its groups have
/// counted so far cannot be told.
fn forget_row_count(plan: &mut Plan, there: &There) {
    let rows = plan.rows.take();
    plan.columns.retain(|c| {
        let counts = c.hidden && rows.as_ref() == Some(&c.name);
        !counts || there.empty || there.column(&c.name).is_some()
    });
    plan.rows = rows.filter(|name| plan.column(name).is_some());
}

/// The columns of the plan that the table lacks, and those that do not fit. Columns of the plan become what the table has.
fn compare_columns(plan: &mut Plan, there: &There, target: &str) -> Result<(Vec<Missing>, Vec<Misfit>)> {
    let (mut missing, mut misfits) = (Vec::new(), Vec::new());
    let keys_never_null = plan.keys_never_null;
    for c in plan.columns.iter_mut().filter(|c| c.in_table()) {
        let found = there.column(&c.name);
        match found {
            // What a result is made of must be right in rows that are there: nobody but the user can fill it in.
            None if !c.is_kept() || c.hidden && there.empty => {
                missing.push((!c.is_kept(), column_definition(&nullable(c))))
            }
            None => misfits.push((
                format!("it has no column {} of type {}, for {}", c.name, shown(&c.sql_type), c.written),
                format!("ADD COLUMN {}", column_definition(&nullable(c))),
            )),
            Some(t) => misfits.extend(compare(c, t, keys_never_null, is_same(c, t, there, target)?)),
        }
        if let Role::Value(m) = &mut c.role {
            m.never_null &= found.is_some_and(|t| t.not_null);
        }
    }
    Ok((missing, misfits))
}

/// The table has no unique key on the group keys: what is said of it, and how it gets one.
fn key_misfit(plan: &Plan, target: &str) -> Result<Misfit> {
    let keys: Vec<String> = plan.keys().map(|c| ident(&c.name)).collect();
    let kind = match plan.keys_never_null {
        false => "UNIQUE NULLS NOT DISTINCT",
        true if has_primary_key(target)? => "UNIQUE",
        true => "PRIMARY KEY",
    };
    let keys = keys.join(", ");
    Ok((format!("it has no unique key on its group keys, ({keys})"), format!("ADD {kind} ({keys})")))
}

/// A column as it is added to a table that may have rows.
fn nullable(c: &Column) -> Column {
    let mut c = c.clone();
    if let Role::Value(m) = &mut c.role {
        m.never_null = false;
    }
    c
}

/// A type as people write it.
fn shown(sql_type: &str) -> &str {
    sql_type.trim_start_matches("pg_catalog.")
}

/// A type without its modifier.
fn without_modifier(sql_type: &str) -> String {
    match (sql_type.find('('), sql_type.find(')')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &sql_type[..from], &sql_type[to + 1..]),
        _ => sql_type.to_string(),
    }
}

/// Whether it is a column that is computed from others, and is so there: a table that has been a rollup's has such.
fn is_same(c: &Column, t: &Existing, there: &There, target: &str) -> Result<bool> {
    let Role::Result { of, .. } = &c.role else { return Ok(false) };
    let (true, Some(expression)) = (t.generated, generated_as(c)) else { return Ok(false) };
    let whole = of.iter().all(|part| there.column(part).is_some());
    let relation = super::naming::relation(target)?;
    Ok(whole && qualified(|| computes(relation, &c.name, &expression)))
}

fn compare(c: &Column, t: &Existing, keys_never_null: bool, is_same: bool) -> Option<Misfit> {
    let name = ident(&c.name);
    if !c.is_kept() && !is_same {
        return Some((
            format!(
                "column {} would have to be generated, since it is computed from others: {}",
                c.name, c.written
            ),
            format!("DROP COLUMN {name}"),
        ));
    }
    if t.generated && !is_same {
        return Some((
            format!("column {} is generated, and would have to be written", c.name),
            format!("ALTER COLUMN {name} DROP EXPRESSION"),
        ));
    }
    let wanted = shown(&c.sql_type);
    if t.sql_type != wanted && t.sql_type != without_modifier(wanted) {
        return Some((
            format!("column {} is of type {}, and would have to be of type {wanted}", c.name, t.sql_type),
            format!("ALTER COLUMN {name} TYPE {wanted}"),
        ));
    }
    if t.collation != c.collation {
        let collation = |c: &Option<String>| c.clone().unwrap_or_else(|| "that of its type".into());
        return Some((
            format!(
                "column {} has collation {}, and would have to have {}",
                c.name,
                collation(&t.collation),
                collation(&c.collation)
            ),
            format!(
                "ALTER COLUMN {name} TYPE {wanted}{}",
                c.collation.as_ref().map_or(String::new(), |c| format!(" COLLATE {c}"))
            ),
        ));
    }
    let never_null = match &c.role {
        Role::Value(m) => m.never_null,
        _ => keys_never_null,
    };
    (t.not_null && !never_null).then(|| {
        (format!("column {} is NOT NULL, and the query may give NULL", c.name), may_be_null(&c.name))
    })
}

/// What lets a column be NULL.
fn may_be_null(column: &str) -> String {
    format!("ALTER COLUMN {} DROP NOT NULL", ident(column))
}

/// What has to go before columns may be NULL: statements of their own, and parts of the ALTER TABLE.
struct InTheWay {
    statements: Vec<String>,
    parts: Vec<String>,
}

/// Primary keys, with the foreign keys that refer to them, identities, and the index that says which rows are which to
/// subscribers.
fn in_the_way(target: &str, columns: Vec<String>) -> Result<InTheWay> {
    let found = catalog::read(
        "WITH k AS (SELECT i.indexrelid, i.indisprimary, i.indisreplident FROM pg_catalog.pg_index i WHERE i.indrelid = pg_catalog.to_regclass($1) \
          AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname::pg_catalog.text = ANY ($2) AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]))) \
         SELECT true, pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL;', $1), 1 FROM k WHERE k.indisreplident UNION ALL \
         SELECT true, pg_catalog.format('ALTER TABLE %I.%I DROP CONSTRAINT %I;', n.nspname, c.relname, f.conname), 2 FROM k JOIN pg_catalog.pg_constraint f ON f.conindid = k.indexrelid AND f.contype = 'f' \
          JOIN pg_catalog.pg_class c ON c.oid = f.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE k.indisprimary AND f.conparentid = 0 UNION ALL \
         SELECT false, pg_catalog.format('DROP CONSTRAINT %I', p.conname), 3 FROM k JOIN pg_catalog.pg_constraint p ON p.conindid = k.indexrelid AND p.contype = 'p' UNION ALL \
         SELECT false, pg_catalog.format('ALTER COLUMN %I DROP IDENTITY', a.attname), 4 FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass($1) \
          AND a.attidentity <> '' AND a.attname::pg_catalog.text = ANY ($2) ORDER BY 3, 2",
        &[target.into(), columns.into()],
        |row| Ok((row.get::<bool>(1)? == Some(true), row.must::<String>(2)?)),
    )?;
    let (statements, parts): (Vec<_>, Vec<_>) = found.into_iter().partition(|(alone, _)| *alone);
    let texts = |all: Vec<(bool, String)>| all.into_iter().map(|(_, text)| text).collect();
    Ok(InTheWay { statements: texts(statements), parts: texts(parts) })
}

fn has_primary_key(target: &str) -> Result<bool> {
    let found = catalog::read(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = pg_catalog.to_regclass($1) AND i.indisprimary)",
        &[target.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first().copied().flatten() == Some(true))
}

fn refusal(target: &str, misfits: &[Misfit], first: InTheWay) -> ErrorReport {
    let (what, how): (Vec<&str>, Vec<&str>) = misfits.iter().map(|(a, b)| (a.as_str(), b.as_str())).unzip();
    let parts: Vec<&str> = first.parts.iter().map(String::as_str).chain(how).collect();
    let alter = format!("ALTER TABLE {target} {}; -- and fill in what is new", parts.join(", "));
    let statements: Vec<String> = first.statements.into_iter().chain([alter]).collect();
    super::error::report(
        PgSqlErrorCode::ERRCODE_INVALID_TABLE_DEFINITION,
        format!("table {target} does not fit the query: {}", what.join("; ")),
        statements.join(" "),
    )
}

/// Refuses a table that cannot become that of a rollup of the caller's; gives its owner.
pub fn check_table(target: &str) -> Result<pg_sys::Oid> {
    let found = catalog::read(
        "SELECT c.relkind::pg_catalog.text, c.relpersistence = 't', c.relowner, EXISTS (SELECT FROM rollup.level l WHERE l.relation = c.oid), \
         (SELECT d.name FROM rollup.definition d WHERE d.relation = c.oid OR d.source = c.oid LIMIT 1) \
         FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)",
        &[target.into()],
        |row| {
            let kind = row.must::<String>(1)?;
            let taken = row.get::<bool>(4)? == Some(true) || row.get::<String>(5)?.is_some();
            let owner = row.must::<pg_sys::Oid>(3)?;
            Ok((kind, row.get::<bool>(2)? == Some(true), owner, taken))
        },
    )?;
    let Some((kind, temporary, owner, taken)) = found.into_iter().next() else {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("table {target} does not exist"),
            "INTO_TABLE names a table that is there; without it rollup.create makes one.",
        );
    };
    if !["r", "p"].contains(&kind.as_str()) || temporary {
        return fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{target} is not a table that stays"),
            "INTO_TABLE names an ordinary or a partitioned table.",
        );
    }
    if taken {
        return fail(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            format!("table {target} belongs to a rollup already"),
            "TABLE rollup.status and TABLE rollup.level list the tables of rollups.",
        );
    }
    catalog::check_owner(Some(owner), &format!("table {target}"))?;
    Ok(owner)
}

fn columns(target: &str) -> Result<Vec<Existing>> {
    // So that types outside pg_catalog, and they alone, are written with their schema.
    let _acting = ActingAs::catalog();
    catalog::read(
        "SELECT a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, a.atttypmod), \
         CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::pg_catalog.regcollation::pg_catalog.text END, a.attnotnull, a.attgenerated <> '', \
         a.atthasdef OR a.attidentity <> '' FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        &[target.into()],
        |row| {
            Ok(Existing {
                name: row.must(1)?,
                sql_type: row.must(2)?,
                collation: row.get(3)?,
                not_null: row.get(4)? == Some(true),
                generated: row.get(5)? == Some(true),
                has_default: row.get(6)? == Some(true),
            })
        },
    )
}

/// A unique index on the group keys and nothing else, in which NULL is a value, where the keys may be NULL.
fn has_key(plan: &Plan, target: &str) -> Result<bool> {
    let keys: Vec<String> = plan.keys().map(|c| c.name.clone()).collect();
    let found = catalog::read(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = pg_catalog.to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate \
         AND i.indpred IS NULL AND i.indexprs IS NULL AND ($3 OR i.indnullsnotdistinct) \
         AND (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attname::pg_catalog.text) FROM pg_catalog.pg_attribute a \
              WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])) \
           = (SELECT pg_catalog.array_agg(k ORDER BY k) FROM pg_catalog.unnest($2) k))",
        &[target.into(), keys.into(), plan.keys_never_null.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first().copied().flatten() == Some(true))
}

fn is_empty(target: &str) -> Result<bool> {
    let any = format!("SELECT true FROM {target} LIMIT 1");
    Ok(catalog::write(&any, &[], |row| row.get::<bool>(1))?.is_empty())
}
