//! Merge rules: which aggregates merge, and of which parts the others are made. `rollup.merge_rule` holds them
//! all, those of PostgreSQL's own aggregates and those that users add.
use super::catalog::{self, Must};
use super::error::{Result, fail, internal, raise, report};
use super::{rule_record, trust};
use crate::hll;
use crate::pg::literal;
use crate::pg::query::{Aggregate, Entry, Part, Select};
use crate::pg::xact::{ActingAs, role_name};
use hll_rollup::Merge;
use hll_rollup::sql::ident;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// What is known of an aggregate.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Its values merge.
    Whole {
        /// How; the companion still as a call over the aggregate's arguments.
        merge: Merge,
        /// What its column is called when it is a part of something.
        label: String,
    },
    /// It is made of others that do.
    Made {
        /// Calls over the aggregate's arguments `$1`, `$2`, ….
        parts: Vec<String>,
        /// What each is called.
        labels: Vec<String>,
        /// The value, of the parts.
        result: String,
    },
}

/// The rule of an aggregate, if it has one. Rules name what is the extension's as it was called when the extension was made.
pub fn find(signature: &str) -> Result<Option<Rule>> {
    if let Some(rule) = named(signature)? {
        return Ok(Some(rule));
    }
    match trust::signature_when_made(signature)? {
        Some(was) => named(&was),
        None => Ok(None),
    }
}

fn named(signature: &str) -> Result<Option<Rule>> {
    let members = trust::Members::now()?;
    let _acting = ActingAs::catalog();
    let text = |text: Option<String>| text.map(|text| members.restated(&text));
    let found = catalog::read(
        "SELECT parts, labels, result, combine, unite, companion, never_null, routines::pg_catalog.text FROM rollup.merge_rule WHERE aggregate = $1",
        &[signature.into()],
        |row| {
            let labels: Vec<String> = row.must(2)?;
            let rule = match row.get::<Vec<String>>(1)? {
                Some(parts) => Rule::Made {
                    parts: parts.iter().map(|part| members.restated(part)).collect(),
                    labels,
                    result: members.restated(&row.must::<String>(3)?),
                },
                None => Rule::Whole {
                    merge: Merge {
                        combine: members.restated(&row.must::<String>(4)?),
                        unite: members.restated(&row.must::<String>(5)?),
                        companion: text(row.get(6)?),
                        never_null: row.must(7)?,
                    },
                    label: labels
                        .into_iter()
                        .next()
                        .unwrap_or_else(|| raise(internal("a merge rule has no label"))),
                },
            };
            Ok((rule, row.get::<String>(8)?))
        },
    )?;
    let Some((rule, noted)) = found.into_iter().next() else { return Ok(None) };
    if let Some(noted) = noted {
        rule_record::check(signature, &noted)?;
    }
    Ok(Some(rule))
}

/// Refuses an aggregate call that no rule can help.
pub fn check_call(column: &str, a: &Aggregate) -> Result<()> {
    let unsupported = PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED;
    if a.distinct {
        return fail(
            unsupported,
            format!("column {column}: {} cannot be merged", a.text),
            "Distinct values are counted by a sketch: hll_add_agg(hll_hash_text(x)) or hll_hash_bigint.",
        );
    }
    if matches!(a.function.as_str(), "percentile_cont" | "percentile_disc" | "approx_percentile") {
        return fail(
            unsupported,
            format!("column {column}: {} cannot be merged", a.text),
            "Percentiles are kept by a sketch: ddsketch_percentile(ddsketch_agg(x), 0.99).",
        );
    }
    if !a.plain {
        return fail(
            unsupported,
            format!("column {column}: {} depends on the order of rows, which a rollup does not keep", a.text),
            "Use an aggregate without ORDER BY; rollup.first(x, time) and rollup.last(x, time) give the value at the earliest and latest time.",
        );
    }
    Ok(())
}

/// The error for an aggregate without a rule.
pub fn unknown<T>(column: &str, a: &Aggregate) -> Result<T> {
    let hint = match a.function.as_str() {
        "array_agg" | "string_agg" | "json_agg" | "jsonb_agg" | "xmlagg" => {
            "Lists grow without bound: count with jsonb_counter_agg(x) or hll_add_agg(hll_hash_text(x))."
        }
        "jsonb_counter_merge_agg" => {
            "max_keys would bound each run and not what is stored: leave it out. Counters that jsonb_counter_bounded_agg(key, n, max_keys) \
             made stay within their bound when they are merged."
        }
        "jsonb_object_agg" | "json_object_agg" => "Count per key with jsonb_counter_agg(key).",
        _ => {
            "Aggregates that merge: count, sum, avg, min, max, bool_and, bool_or, bit_and, bit_or, bit_xor, stddev, variance, \
             corr, covar_*, regr_*, range_agg, rollup.first, rollup.last, hll_add_agg, hll_union_agg, jsonb_counter_agg, \
             jsonb_counter_merge_agg, ddsketch_agg, ddsketch_union_agg. SELECT rollup.add_merge_rule(…) teaches one more."
        }
    };
    fail(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("column {column}: aggregate {}.{} has no known merge", a.schema, a.function),
        hint,
    )
}

/// A function or aggregate, as rules need to know it.
struct Routine {
    /// Qualified name, quoted.
    name: String,
    signature: String,
    kind: String,
    volatility: String,
    arguments: Vec<pg_sys::Oid>,
    result: pg_sys::Oid,
    result_name: String,
    owner: pg_sys::Oid,
    plain: bool,
}

fn routine(id: pg_sys::Oid) -> Result<Routine> {
    let _acting = ActingAs::catalog();
    catalog::read(
        "SELECT pg_catalog.format('%I.%I', n.nspname, p.proname), p.oid::pg_catalog.regprocedure::pg_catalog.text, p.prokind::pg_catalog.text, \
         p.provolatile::pg_catalog.text, p.proargtypes::pg_catalog.oid[], p.prorettype, pg_catalog.format_type(p.prorettype, NULL), p.proowner, \
         coalesce((SELECT a.aggkind = 'n' FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid), false) \
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = $1",
        &[id.into()],
        |row| {
            Ok(Routine {
                name: row.must(1)?,
                signature: row.must(2)?,
                kind: row.must(3)?,
                volatility: row.must(4)?,
                arguments: row.must(5)?,
                result: row.must(6)?,
                result_name: row.must(7)?,
                owner: row.must(8)?,
                plain: row.must(9)?,
            })
        },
    )?
    .pop()
    .ok_or_else(|| {
        report(
            PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
            format!("there is no function with OID {}", id.to_u32()),
            "Name it, as in 'sum(integer)'::regprocedure.",
        )
    })
}

impl Routine {
    /// What a column is called after it.
    fn label(&self) -> &str {
        let name = self.name.rsplit_once('.').map_or(self.name.as_str(), |(_, name)| name);
        name.trim_matches('"')
    }

    fn must(&self, holds: bool, what: &str, hint: &str) -> Result<()> {
        if holds {
            return Ok(());
        }
        fail(PgSqlErrorCode::ERRCODE_INVALID_FUNCTION_DEFINITION, format!("{} {what}", self.signature), hint)
    }
}

fn call(name: &str, arguments: usize) -> String {
    let holes: Vec<String> = (1..=arguments).map(|n| format!("${n}")).collect();
    format!("{name}({})", holes.join(", "))
}

fn insertable(id: pg_sys::Oid) -> Result<Routine> {
    let a = routine(id)?;
    a.must(
        a.kind == "a" && a.plain,
        "is no ordinary aggregate",
        "A rule says how values of an aggregate merge.",
    )?;
    catalog::check_owner(Some(a.owner), &format!("aggregate {}", a.signature))?;
    if find(&a.signature)?.is_some() {
        return fail(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("aggregate {} has a merge rule", a.signature),
            "SELECT rollup.drop_merge_rule(aggregate) first; rules of the extension stay.",
        );
    }
    Ok(a)
}

/// Adds the rule of an aggregate whose values merge: `combine(T, T)` gives T, and so does the aggregate `unite(T)`.
pub fn add(aggregate: pg_sys::Oid, combine: pg_sys::Oid, unite: pg_sys::Oid) -> Result<()> {
    let a = insertable(aggregate)?;
    let (c, u) = (routine(combine)?, routine(unite)?);
    let t = &a.result_name;
    c.must(
        c.kind == "f" && c.arguments == [a.result, a.result] && c.result == a.result,
        &format!("is no function of two values of type {t} that gives one"),
        "It makes one value of two.",
    )?;
    c.must(c.volatility == "i", "is not IMMUTABLE", "What was merged once is not merged again.")?;
    u.must(
        u.kind == "a" && u.plain && u.arguments == [a.result] && u.result == a.result,
        &format!("is no aggregate over type {t} that gives that type"),
        "It makes one value of many, as COMBINE does of two: CREATE AGGREGATE … (SFUNC = combine, STYPE = the type).",
    )?;
    let _acting = ActingAs::catalog();
    catalog::execute(
        "INSERT INTO rollup.merge_rule (aggregate, labels, combine, unite, added_by, routines) VALUES ($1, ARRAY[$2], $3, $4, $5::pg_catalog.name, $6::pg_catalog.jsonb)",
        &[
            a.signature.as_str().into(),
            a.label().into(),
            call(&c.name, 2).into(),
            call(&u.name, 1).into(),
            role_name(a.owner).into(),
            rule_record::of(&[aggregate, combine, unite])?.into(),
        ],
    )
}

/// Adds the rule of an aggregate that is made of others over the same arguments.
pub fn add_made(aggregate: pg_sys::Oid, parts: &[pg_sys::Oid], result: pg_sys::Oid) -> Result<()> {
    let a = insertable(aggregate)?;
    let named: Vec<pg_sys::Oid> = parts.iter().copied().chain([aggregate, result]).collect();
    let parts = parts.iter().map(|p| routine(*p)).collect::<Result<Vec<_>>>()?;
    for p in &parts {
        let same = p.arguments == a.arguments;
        p.must(
            p.kind == "a" && same,
            &format!("does not take what {} takes", a.signature),
            "Parts see the same rows.",
        )?;
        let whole = matches!(find(&p.signature)?, Some(Rule::Whole { .. }));
        p.must(
            whole,
            "has no merge rule of its own",
            "SELECT rollup.add_merge_rule(aggregate, combine, unite) first.",
        )?;
    }
    let r = routine(result)?;
    let given: Vec<pg_sys::Oid> = parts.iter().map(|p| p.result).collect();
    r.must(
        r.kind == "f" && r.arguments == given && r.result == a.result,
        &format!("does not take what the parts give, or does not give {}", a.result_name),
        "It makes the aggregate's value of its parts.",
    )?;
    r.must(r.volatility == "i", "is not IMMUTABLE", "The value is a generated column.")?;
    let calls: Vec<String> = parts.iter().map(|p| call(&p.name, p.arguments.len())).collect();
    let labels: Vec<String> = parts.iter().map(|p| p.label().to_string()).collect();
    let _acting = ActingAs::catalog();
    catalog::execute(
        "INSERT INTO rollup.merge_rule (aggregate, parts, labels, result, added_by, routines) VALUES ($1, $2, $3, $4, $5::pg_catalog.name, $6::pg_catalog.jsonb)",
        &[
            a.signature.into(),
            calls.into(),
            labels.into(),
            call(&r.name, parts.len()).into(),
            role_name(a.owner).into(),
            rule_record::of(&named)?.into(),
        ],
    )
}

/// Removes a rule that was added; rollups that were made with it keep it.
pub fn drop(aggregate: pg_sys::Oid) -> Result<()> {
    let a = routine(aggregate)?;
    catalog::check_owner(Some(a.owner), &format!("aggregate {}", a.signature))?;
    let _acting = ActingAs::catalog();
    let gone = catalog::write(
        "DELETE FROM rollup.merge_rule WHERE aggregate = $1 AND added_by IS NOT NULL RETURNING aggregate",
        &[a.signature.clone().into()],
        |row| row.get::<String>(1),
    )?;
    if gone.is_empty() {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("aggregate {} has no rule that was added", a.signature),
            "SELECT * FROM rollup.merge_rule WHERE added_by IS NOT NULL lists those; rules of the extension stay.",
        );
    }
    Ok(())
}

/// The session's parameters of sketches.
fn parameters() -> [String; 4] {
    let d = hll::settings::defaults();
    [
        i64::from(d.log2m).to_string(),
        i64::from(d.regwidth).to_string(),
        format!("{}::pg_catalog.int8", literal(&d.expthresh.to_string())),
        i64::from(d.sparseon).to_string(),
    ]
}

/// A call of this aggregate over `$1`, … with the parameters that it takes from the session; None of others.
pub fn with_parameters(schema: &str, function: &str, arguments: usize) -> Option<String> {
    if function != "hll_add_agg" || !(1..5).contains(&arguments) {
        return None;
    }
    let given = (1..=arguments).map(|n| format!("${n}"));
    let all: Vec<String> = given.chain(parameters()[arguments - 1..].iter().cloned()).collect();
    Some(format!("{}.{}({})", ident(schema), ident(function), all.join(", ")))
}

/// Sketches take the parameters of the session where the call names none: writes them into the call, so that every
/// session that runs the rollup or reads its live view makes the same sketches.
pub fn write_parameters(select: &mut Select) {
    let defaults = parameters();
    for target in &mut select.targets {
        let Entry::Value { parts, .. } = &mut target.entry else { continue };
        for part in parts {
            let Part::Aggregate(a) = part else { continue };
            if a.function != "hll_add_agg" || !(1..5).contains(&a.arguments.len()) {
                continue;
            }
            let missing = defaults[a.arguments.len() - 1..].iter().cloned();
            let arguments: Vec<String> = a.arguments.iter().cloned().chain(missing).collect();
            let filter = a.filter.as_ref().map_or(String::new(), |f| format!(" FILTER (WHERE {f})"));
            a.text = format!("{}.{}({}){filter}", ident(&a.schema), ident(&a.function), arguments.join(", "));
        }
    }
}

#[pg_extern(sql = false)]
fn rollup_add_merge_rule(aggregate: pg_sys::Oid, combine: pg_sys::Oid, unite: pg_sys::Oid) -> Result<()> {
    add(aggregate, combine, unite)
}

#[pg_extern(sql = false)]
fn rollup_add_made_rule(
    aggregate: pg_sys::Oid,
    parts: Vec<Option<pg_sys::Oid>>,
    result: pg_sys::Oid,
) -> Result<()> {
    let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() else {
        return fail(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "a part of the rule is NULL",
            "Name aggregates alone, as in '{sum(integer),count(integer)}'::regprocedure[].",
        );
    };
    add_made(aggregate, &parts, result)
}

#[pg_extern(sql = false)]
fn rollup_drop_merge_rule(aggregate: pg_sys::Oid) -> Result<()> {
    drop(aggregate)
}
