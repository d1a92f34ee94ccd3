//! rollup.move to a table that took the place of the source, where raw rows are gone that the rollup has counted: they expired,
//! or left with a partition. It keeps its tables, and has the buckets whose raw rows are all there computed from the other one.
//!
//! Invariant: what raw rows do not tell any more stays, and rows of the other table that lie in its buckets are taken as
//! counted. Whether they were is told by their number, as of rows that came in another way (see `newcomers`): a bucket has as
//! many of them as merged rows of the source, or as it counts. Where it has another number it is refused, since nobody knows
//! then which of them were counted.
use super::check::{self, Levels};
use super::error::{Result, fail};
use super::range::{self, Range};
use super::session::set_timezone;
use super::source::{self, Source};
use super::{arrange, caller, create, unlogged};
use super::{
    beside, catalog, definition, drop, holes, maps, rebase, relocate, run, state, switched, watch, written,
};
use crate::pg::deparse::{qualified_name, shown_name};
use crate::pg::xact::ActingAs;
use catalog::{Definition, Must};
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Column, Frontier, Joins, Plan, Snapshot, State, from_clause, statements};
use pgrx::pg_sys;
use pgrx::prelude::*;

const UNFIT: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;

/// Has the rollup, whose state row is locked, count the rows of `to` in the place of those of its source.
pub fn carry(d: &Definition, to: pg_sys::Oid) -> Result<()> {
    let there = relocate::check(d, to)?;
    written::check(d)?;
    let (from, before) = (source::describe(d.source_oid)?, d.source_oid);
    let joins = refuse_other_columns(d, to, &there)?;
    for (table, owner) in [(&from, from.owner), (&there, there.owner)] {
        let _acting = ActingAs::role(owner);
        source::lock_exclusively(table)?;
    }
    // Its rows are all merged, so that those of the copy are told from rows that nobody has counted.
    run::run_one(d.id, run::HowMuch::All)?;
    let old = caller::lock(d.id)?;
    let plan = old.plan()?;
    let Some(rows) = plan.rows.clone() else {
        return fail(
            UNFIT,
            format!(
                "rollup {} does not keep the number of rows, by which those of a copy are recognised",
                d.name
            ),
            "Leave it as it is, and give one over the copy another name.",
        );
    };
    let (offset, merged) = stamps(&old, to, &there, &plan)?;
    let copy = qualified_name(to).unwrap_or_else(|| there.qualified());
    let new = Plan { joins, ..plan.clone() };
    let kept = whole(&old, &plan, old.source_oid)?;
    refuse_unknown(&old, [&plan, &new], &rows, &kept, &copy, &merged)?;
    move_definition(&old, to, offset, &merged)?;
    {
        let _acting = ActingAs::role(old.parts()?.2);
        relocate::remake_views(&old, &new, &there.qualified(), old.parts()?.1)?;
        old.store_plan(&new, &statements::query(&new, &there.qualified()))?;
    }
    compute(&old, &rows, to)?;
    {
        let _acting = ActingAs::role(there.owner);
        maps::add_index(to, &there, &plan)?;
        maps::tell_anew(to)?;
        switched::arrange(to)?;
    }
    leave(before, &from)?;
    beside::create(to)
}

/// Refuses a table of which the query makes other columns; the joins of the query over it.
fn refuse_other_columns(d: &Definition, to: pg_sys::Oid, there: &Source) -> Result<Option<Joins>> {
    let plan = d.plan()?;
    let text = statements::query(&plan, &there.qualified());
    let _acting = d.owner.map(ActingAs::role);
    let select = definition::analyse(&text, &d.timezone)?;
    create::check_source(&select, plan.joins.is_some())?;
    let from = from_clause(select.joins.as_ref(), &there.qualified(), &select.alias);
    let mut new = definition::plan(&select, &from, &d.timezone)?;
    definition::count_rows(&mut new, &from, &d.timezone)?;
    let on_change = watch::OnChange::parse(&catalog::one::<String>(
        "SELECT on_change FROM rollup.definition WHERE id = $1",
        &[d.id.into()],
    )?)?;
    unlogged::check_source(to, on_change)?;
    if d.follows {
        watch::check_followed(to, &new)?;
    }
    let says = |c: &Column| (c.sql_type.clone(), c.collation.clone(), c.expression.clone());
    for c in plan.kept() {
        let Some(other) = new.column(&c.name).filter(|other| says(other) != says(c)) else { continue };
        return fail(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column {} of rollup {} is {} of type {}, and from {} would be {} of type {}",
                c.name,
                d.name,
                c.written,
                c.sql_type,
                shown_name(to),
                other.written,
                other.sql_type
            ),
            "Buckets of which raw rows are gone stay, and cannot be brought into other columns.",
        );
    }
    Ok(new.joins)
}

/// Gives the table stamps, and says what is added to transaction ids in them, and the state in which all its rows are merged.
fn stamps(d: &Definition, to: pg_sys::Oid, there: &Source, plan: &Plan) -> Result<(i64, State)> {
    let _acting = ActingAs::role(there.owner);
    if source::add_stamp(there)? {
        super::identity::tell_publishers(to, &there.qualified())?;
    }
    source::register(to, plan)?;
    let others = catalog::of_source(to, true)?;
    if let Some(other) = others.first() {
        return Ok((other.offset, State::at(catalog::current_frontier(true, other.offset)?)));
    }
    let (offset, _) = rebase::shift_stamps(there, false, d.offset)?;
    Ok((offset, State::at(Frontier::Server(Snapshot { xmax: offset, xip: Vec::new() }))))
}

/// The buckets whose raw rows are all there, as far as the rollup has them.
fn whole(d: &Definition, plan: &Plan, source: pg_sys::Oid) -> Result<Range> {
    let source = source::describe(source)?.qualified();
    let floors = [range::whole_from(&source, plan)?, range::whole_from(d.parts()?.1, plan)?];
    Ok(Range::of(plan, &d.timezone, None, None).after(&floors)?.without(holes::whole(d, plan, None)?))
}

/// Refuses rows in buckets that stay of which it cannot be told whether they were counted.
fn refuse_unknown(
    d: &Definition,
    [plan, new]: [&Plan; 2],
    rows: &str,
    whole: &Range,
    to: &str,
    merged: &State,
) -> Result<()> {
    let (from, target, owner) = d.parts()?;
    let stays = |key: &str| format!("({}) IS NOT TRUE", whole.holds(key));
    let groups = [
        format!("({})", statements::recomputed(new, to, merged, None, stays)),
        format!("({})", statements::recomputed(plan, from, &d.state, None, stays)),
        format!("(SELECT * FROM {target} WHERE {})", stays(&ident(&plan.time_key))),
    ];
    let keys: Vec<String> = plan.keys().map(|c| ident(&c.name)).collect();
    let numbers = |one: usize| {
        let n = |at: usize| if at == one { ident(rows) } else { "0".into() };
        format!(
            "{}, {} AS \"in copy\", {} AS \"in source\", {} AS counted",
            keys.join(", "),
            n(0),
            n(1),
            n(2)
        )
    };
    let all: Vec<String> =
        groups.iter().enumerate().map(|(n, g)| format!("SELECT {} FROM {g} g", numbers(n))).collect();
    let sum = |of: &str| format!("pg_catalog.sum({of})");
    let (copy, source, counted) = (sum("\"in copy\""), sum("\"in source\""), sum("counted"));
    let unknown = format!(
        "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(u.a), 0)::pg_catalog.int8, coalesce(pg_catalog.sum(u.b), 0)::pg_catalog.int8, \
         coalesce(pg_catalog.sum(u.c), 0)::pg_catalog.int8, pg_catalog.min(u.k)::pg_catalog.text FROM (SELECT {copy} AS a, {source} AS b, {counted} AS c, pg_catalog.min({key}) AS k \
         FROM ({}) g GROUP BY {} HAVING {copy} OPERATOR(pg_catalog.>) 0 AND {copy} OPERATOR(pg_catalog.<>) {source} AND {copy} OPERATOR(pg_catalog.<>) {counted}) u",
        all.join(" UNION ALL "),
        keys.join(", "),
        key = ident(&plan.time_key),
    );
    let found = {
        let _acting = ActingAs::role(owner);
        set_timezone(&d.timezone);
        catalog::write(&unknown, &[], |row| {
            Ok((
                row.must::<i64>(1)?,
                [row.must::<i64>(2)?, row.must(3)?, row.must(4)?],
                row.get::<String>(5)?,
            ))
        })?
    };
    let Some((number, [copy, source, counted], first)) = found.into_iter().next().filter(|f| f.0 > 0) else {
        return Ok(());
    };
    fail(
        UNFIT,
        format!(
            "it cannot be told which rows of {to} rollup {} has counted: of {number} groups, the first of {}, raw rows have gone, \
             {counted} were counted, {source} are in {from} and {copy} in {to}",
            d.name,
            first.unwrap_or_else(|| "no time".into())
        ),
        format!(
            "Bring what is in {to} for them in line with {from}, or have the rollup keep what it counted without them: DELETE FROM {to} AS {} WHERE {};",
            ident(&plan.alias),
            stays(&plan.bucket_of_row())
        ),
    )
}

/// The definition names the table as its source from here on, with what is known of how much of it has gone.
fn move_definition(d: &Definition, to: pg_sys::Oid, offset: i64, merged: &State) -> Result<()> {
    {
        let _acting = ActingAs::catalog();
        for sql in [
            "UPDATE rollup.definition SET source = $2, joined = pg_catalog.array_replace(joined, $3::pg_catalog.oid::pg_catalog.regclass, $2::pg_catalog.oid::pg_catalog.regclass) WHERE id = $1",
            "INSERT INTO rollup.expired (relation, below) SELECT $2, e.below FROM rollup.expired e WHERE e.relation = $3 AND $1 > 0 \
             ON CONFLICT (relation) DO UPDATE SET below = greatest(expired.below, excluded.below)",
        ] {
            catalog::execute(sql, &[d.id.into(), to.into(), d.source_oid.into()])?;
        }
        catalog::execute(
            "UPDATE rollup.source SET stamp_offset = $2 WHERE relation = $1",
            &[to.into(), offset.into()],
        )?;
    }
    state::store(d.id, merged, 0)
}

/// Computes the buckets whose rows are all there; refused where the table has fewer than were counted.
fn compute(old: &Definition, rows: &str, to: pg_sys::Oid) -> Result<()> {
    let d = caller::lock(old.id)?;
    let plan = d.plan()?;
    let (_, target, owner) = d.parts()?;
    let range = whole(&d, &plan, to)?;
    let counted = || {
        let _acting = ActingAs::role(owner);
        set_timezone(&d.timezone);
        catalog::one_now::<i64>(
            &format!(
                "SELECT coalesce(pg_catalog.sum({}), 0)::pg_catalog.int8 FROM {target} WHERE {}",
                ident(rows),
                range.holds(&ident(&plan.time_key))
            ),
            &[],
        )
    };
    let before = counted()?;
    check::rebuild_range(&d, &plan, &range, Levels::WhereWhole)?;
    let after = counted()?;
    if after < before {
        return fail(
            UNFIT,
            format!(
                "rollup {} has counted {before} rows in buckets whose raw rows are all there, of which {after} are in {}",
                d.name,
                shown_name(to)
            ),
            format!(
                "Copy the others from {}. Or leave the rollup as it is, and give one over {} another name: rollup.create('name', {}).",
                old.parts()?.0,
                shown_name(to),
                literal(&statements::query(&plan, d.parts()?.0))
            ),
        );
    }
    Ok(())
}

/// What goes of the table that was the source, if it has no other rollup.
fn leave(before: pg_sys::Oid, from: &Source) -> Result<()> {
    let _acting = ActingAs::role(from.owner);
    arrange::release(before)?;
    watch::forget(before, false)?;
    drop::forget_source(before, true)
}
