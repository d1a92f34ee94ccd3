//! The live view of a rollup that follows changes of raw rows, and what every live view asks first.
use super::changes::Changes;
use super::error::{Result, fail};
use crate::pg::security;
use crate::pg::v1::Call;
use crate::pg::xact::role_name;
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Level, Plan, sql as bounds, statements};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;

crate::v1!(rollup_sees_all, all_is_seen);

fn all_is_seen(call: &mut Call) -> pg_sys::Datum {
    sees_all(call).unwrap_or_else(super::error::raise);
    pg_sys::Datum::from(true)
}

/// The condition that no policy hides rows of the source from the view, whose owner is that of `table`. Policies that hold
/// for the owner would leave rows out of the tail that are in the rollup; asked once a statement, it costs two look-ups.
fn sees_all(call: &Call) -> Result<()> {
    let oid = |n: usize| call.arg(n).map(|d| pg_sys::Oid::from(d.value() as u32));
    let Some(owner) = oid(0).and_then(security::owner_of) else { return Ok(()) };
    for table in oid(1).into_iter().chain(call.oids(2)) {
        if security::is_filtered(table, owner) {
            return fail(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!(
                    "row-level security of {} hides rows from role {}, who owns the rollup",
                    crate::pg::deparse::shown_name(table),
                    role_name(owner)
                ),
                "What its owner does not see is not rolled up. Take back FORCE ROW LEVEL SECURITY, or give the rollup's table and view to a role with BYPASSRLS; policies for readers go on the view or its readers' tables.",
            );
        }
    }
    Ok(())
}

/// The same as a condition of a view. Each of its parts has it: from 17 on the planner leaves out a part that reads a table of
/// which a policy hides every row, with whatever it would have asked.
pub fn whole(plan: &Plan, source: &str, table: &str, id: i64) -> String {
    let name = |relation: &str| format!("{}::pg_catalog.regclass", literal(relation));
    let joined = match plan.joins {
        Some(_) => {
            format!(", (SELECT d.joined FROM rollup.definition d WHERE d.id OPERATOR(pg_catalog.=) {id})")
        }
        None => String::new(),
    };
    format!("(SELECT rollup_internal.sees_all({}, {}{joined}))", name(table), name(source))
}

/// Its first words and its parts: changed buckets are read from the raw rows, until a run has computed them again.
pub fn view_parts(
    plan: &Plan,
    zone: &str,
    source: &str,
    target: &str,
    level: Option<&Level>,
    id: i64,
) -> (String, String) {
    let c = Changes::of_view(plan, zone, id);
    let raw_key = plan.bucket_of_row();
    let mut with = format!(
        "WITH \"the changes\" AS MATERIALIZED (SELECT {} AS fine, {} AS nulls)",
        c.fine(0),
        c.nulls()
    );
    let whole = whole(plan, source, target, id);
    let unmerged =
        format!("{} AND {whole}", bounds::current::unmerged_rows(&statements::prefix(plan), plan.time(), id));
    let (mut parts, again) = match level {
        None => {
            let stored = format!(
                "SELECT {} FROM {target} WHERE NOT {} AND {whole}",
                statements::kept_names(plan),
                is_changed(&ident(&plan.time_key))
            );
            (vec![stored], is_changed(&raw_key))
        }
        Some(level) => {
            with = format!(
                "{with}, \"the buckets\" AS MATERIALIZED (SELECT {} AS coarse, {} AS floor FROM \"the changes\" c)",
                c.coarse(level, "c.fine"),
                c.floor(&c.target)
            );
            let again =
                format!("({} AND {})", is_changed(&raw_key), lies_above_floor(&level.bucket_of(&raw_key)));
            (level_parts(plan, target, level, &whole), again)
        }
    };
    parts.push(statements::aggregate_source(plan, source, &format!("{unmerged} AND NOT {again}"), level, ""));
    let rows = changed_rows(plan, &c);
    parts.push(statements::aggregate_source(
        plan,
        source,
        &format!("{} AND {rows} AND {again} AND {whole}", any_changed()),
        level,
        "",
    ));
    (with + " ", parts.join(" UNION ALL "))
}

/// A column of the changed buckets of the rollup's own table, which the view computes once.
fn of_changes(column: &str) -> String {
    format!("(SELECT f.{column} FROM \"the changes\" f)")
}

/// A column of the changed buckets of a level.
fn of_buckets(column: &str) -> String {
    format!("(SELECT b.{column} FROM \"the buckets\" b)")
}

/// The condition that the bucket `k` of the rollup's own table has changed.
fn is_changed(k: &str) -> String {
    format!("(({k} <@ {}) IS TRUE OR {k} IS NULL AND {})", of_changes("fine"), of_changes("nulls"))
}

/// The condition that anything has changed.
fn any_changed() -> String {
    let fine = of_changes("fine IS NOT NULL AND NOT pg_catalog.isempty(f.fine)");
    format!("({fine} OR {})", of_changes("nulls"))
}

/// The condition that a raw row lies between the first and the last changed bucket.
fn changed_rows(plan: &Plan, c: &Changes) -> String {
    let time = format!("{}{}", statements::prefix(plan), ident(&plan.time_column));
    let [from, to] = c.times();
    let span = |end: &str, at: &str| {
        format!(
            "(SELECT {at} FROM (SELECT pg_catalog.range_merge(f.fine) AS r FROM \"the changes\" f) {end})"
        )
    };
    format!(
        "({time} >= {} AND {time} <= {} OR {time} IS NULL AND {})",
        span("a", &from),
        span("b", &to),
        of_changes("nulls")
    )
}

/// The condition that all rows of a level's bucket `k` are there.
fn lies_above_floor(k: &str) -> String {
    format!("({k} >= {f} OR {f} IS NULL OR {k} IS NULL)", f = of_buckets("floor"))
}

/// The stored groups of a level, and in the place of those that a change has touched the rollup's own, of buckets that have
/// not changed.
fn level_parts(plan: &Plan, target: &str, level: &Level, whole: &str) -> Vec<String> {
    let key = ident(&plan.time_key);
    let touched = |k: &str| {
        format!(
            "(({k} <@ {}) IS TRUE AND {} OR {k} IS NULL AND {})",
            of_buckets("coarse"),
            lies_above_floor(k),
            of_changes("nulls")
        )
    };
    let finer = format!(
        "(SELECT * FROM {target} f WHERE {} AND {} AND NOT {}) f",
        any_changed(),
        touched(&level.bucket_of(&key)),
        is_changed(&key)
    );
    let stored = format!(
        "SELECT {} FROM {} WHERE NOT {} AND {whole}",
        statements::kept_names(plan),
        level.target,
        touched(&key)
    );
    vec![stored, statements::coarser(plan, level, &finer)]
}
