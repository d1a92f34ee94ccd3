//! Partitions ahead: those that rows will need are there before the rows are, and rows that a default partition took
//! in meanwhile go to theirs.
//!
//! A row that moves keeps its stamp, and so stays merged or unmerged, whichever it was. It is in no table that readers
//! see between the two: they are kept out of the partitioned table until it has arrived.
use super::catalog::{self, Must};
use super::error::{Result, fail, internal};
use super::patience::until_free;
use crate::pg::deparse::shown_name;
use crate::pg::lock::{self, Mode};
use crate::pg::query::set_local;
use crate::pg::told;
use crate::pg::xact::{ActingAs, in_subtransaction};
use hll_rollup::sql::{ident, literal};
use hll_rollup::statements;
use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::time::Duration;

/// Rows in a default partition that are older than so many widths stay there: their times are mistakes, mostly, and
/// each could make a partition of its own.
const LONG_AGO: i64 = 1000;

/// A table whose partitions are made ahead.
struct Kept {
    oid: pg_sys::Oid,
    name: String,
    schema: String,
    table: String,
    owner: pg_sys::Oid,
    key: String,
    key_type: String,
    default: Option<(pg_sys::Oid, String)>,
}

/// Makes partitions of `width` exist for `ahead`; without a width ends that. Makes those that are missing now, and returns
/// how many.
pub fn partition(
    relation: pg_sys::Oid,
    width: Option<Interval>,
    ahead: Option<Interval>,
    timezone: &str,
) -> Result<i64> {
    let name = shown_name(relation);
    let (owner, whole_days) = partitioned_by_time(relation, &name)?;
    catalog::check_owner(Some(owner), &format!("table {name}"))?;
    let Some(width) = width else {
        let _acting = ActingAs::catalog();
        catalog::execute("DELETE FROM rollup.partitioning WHERE relation = $1", &[relation.into()])?;
        return Ok(0);
    };
    super::retention::refuse_temporary(relation)?;
    super::clock::check_timezone(timezone)?;
    check_width(&width, &ahead, whole_days)?;
    lock::take_partitions(relation);
    {
        let _acting = ActingAs::catalog();
        catalog::execute(
            "INSERT INTO rollup.partitioning (relation, width, ahead, timezone) VALUES ($1, $2, coalesce($3, 3 * $2), $4) \
             ON CONFLICT (relation) DO UPDATE SET width = excluded.width, ahead = excluded.ahead, timezone = excluded.timezone, last_error = NULL",
            &[relation.into(), width.into(), ahead.into(), timezone.into()],
        )?;
    }
    super::deferred::of_table(relation)?;
    let mut made = 0;
    while until_free(if made == 0 { PATIENCE } else { PATIENCE / 10 }, || step(relation))? {
        made += 1;
    }
    Ok(made)
}

/// How long a call by hand tries, again and again, until nobody uses the tables. Once it has made partitions, and with them
/// locks are held that others wait for, it is a tenth of that.
const PATIENCE: Duration = Duration::from_secs(5);

/// The owner of a table that is partitioned by range of one date or time column, and whether that holds days.
fn partitioned_by_time(relation: pg_sys::Oid, name: &str) -> Result<(pg_sys::Oid, bool)> {
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        "SELECT c.relowner, o.opcintype = 'pg_catalog.date'::pg_catalog.regtype \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] JOIN pg_catalog.pg_opclass o ON o.oid = p.partclass[0] \
         WHERE c.oid = $1 AND p.partstrat = 'r' AND p.partnatts = 1 AND o.opcintype IN ('pg_catalog.timestamptz'::pg_catalog.regtype, \
         'pg_catalog.timestamp'::pg_catalog.regtype, 'pg_catalog.date'::pg_catalog.regtype)",
        &[relation.into()],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, row.get::<bool>(2)? == Some(true))),
    )?;
    found.into_iter().next().map_or_else(
        || {
            fail(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("{name} is not partitioned by range of one date or time column"),
                "Partitions are made ahead for PARTITION BY RANGE (column), its type timestamptz, timestamp or date, or a domain over one.",
            )
        },
        Ok,
    )
}

fn check_width(width: &Interval, ahead: &Option<Interval>, whole_days: bool) -> Result<()> {
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        "SELECT CASE WHEN $1 < interval '1 minute' THEN 'width is ' || $1 || ', less than a minute' \
         WHEN date_part('month', $1) + date_part('year', $1) > 0 AND date_trunc('month', $1) <> $1 THEN 'width is ' || $1 || ', months and more' \
         WHEN $3 AND date_part('epoch', $1)::int8 % 86400 <> 0 AND date_trunc('month', $1) <> $1 THEN 'width is ' || $1 || ', but the column holds days' \
         WHEN $2 < interval '0' THEN 'ahead is ' || $2 || ', less than nothing' \
         WHEN $2 > 1000 * $1 THEN 'ahead is ' || $2 || ', more than a thousand times ' || $1 END",
        &[(*width).into(), (*ahead).into(), whole_days.into()],
        |row| row.get::<String>(1),
    )?;
    match found.into_iter().flatten().next() {
        None => Ok(()),
        Some(wrong) => fail(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            wrong,
            "Write a width such as '1 day', '6 hours' or '1 month', and ahead such as '1 week'.",
        ),
    }
}

/// Tables whose partitions are made ahead, with the owner of each.
pub fn kept() -> Result<Vec<(pg_sys::Oid, pg_sys::Oid)>> {
    let _acting = ActingAs::catalog();
    catalog::read_often(
        "SELECT p.relation::pg_catalog.oid, c.relowner FROM rollup.partitioning p JOIN pg_catalog.pg_class c ON c.oid = p.relation ORDER BY 1",
        &[],
        |row| Ok((row.must(1)?, row.must(2)?)),
    )
}

fn find(relation: pg_sys::Oid) -> Result<Option<Kept>> {
    let _acting = ActingAs::catalog();
    // As it is now: of a table that is locked, what is called how stays so.
    let found = catalog::write(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relowner, \
         a.attname::pg_catalog.text, pg_catalog.format_type(o.opcintype, NULL), \
         (SELECT pg_catalog.format('%I.%I', dn.nspname, d.relname) FROM pg_catalog.pg_class d JOIN pg_catalog.pg_namespace dn ON dn.oid = d.relnamespace WHERE d.oid = p.partdefid AND d.relkind = 'r'), p.partdefid \
         FROM rollup.partitioning k JOIN pg_catalog.pg_class c ON c.oid = k.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] \
         JOIN pg_catalog.pg_opclass o ON o.oid = p.partclass[0] WHERE k.relation = $1",
        &[relation.into()],
        |row| {
            let text = |at: usize| row.must::<String>(at);
            Ok(Kept {
                oid: relation,
                name: text(1)?,
                schema: text(2)?,
                table: text(3)?,
                owner: row.must(4)?,
                key: text(5)?,
                key_type: text(6)?,
                default: row.get::<pg_sys::Oid>(8)?.zip(row.get::<String>(7)?),
            })
        },
    )?;
    Ok(found.into_iter().next())
}

/// Makes the next missing partition, if there is one. Takes no transaction id where none does.
pub fn step(relation: pg_sys::Oid) -> Result<bool> {
    let Some(k) = find(relation)? else { return Ok(false) };
    let Some(bound) = lacking(&k)? else { return Ok(false) };
    let made = make(&k, &bound)?;
    if let Some(moved) = made {
        let _acting = ActingAs::catalog();
        catalog::execute(
            "UPDATE rollup.partitioning SET made = made + 1, moved = moved + $2, last_error = NULL WHERE relation = $1",
            &[relation.into(), moved.into()],
        )?;
    }
    Ok(made.is_some())
}

fn acting(k: &Kept) -> ActingAs {
    let acting = ActingAs::role(k.owner);
    super::session::set_timezone("UTC");
    // Whoever uses the tables is waited for only shortly: others wait behind.
    set_local(c"lock_timeout", c"50ms");
    acting
}

/// Sees that nobody else makes partitions of the table meanwhile, nor renames it or its default partition, and says what
/// they are called now; None where partitions are not made any more. Taken before any lock on one of them.
fn lock(k: &Kept) -> Result<Option<Kept>> {
    {
        let _acting = acting(k);
        lock::take_partitions(k.oid);
        if !lock::relation(k.oid, Mode::Shape) {
            return Ok(None);
        }
    }
    let Some(Kept { default: Some((default, _)), .. }) = find(k.oid)? else { return find(k.oid) };
    {
        let _acting = acting(k);
        lock::relation(default, Mode::Read);
    }
    find(k.oid)
}

/// Where a partition is missing: from now to as far ahead as is wanted, and where rows lie in the default partition. As it is
/// now, not as the calling statement saw it: that may have made others.
fn lacking(k: &Kept) -> Result<Option<String>> {
    let found = {
        let _acting = ActingAs::catalog();
        set_local(c"timezone", c"UTC");
        catalog::write(
            &format!(
                "SELECT (SELECT b FROM (VALUES (n.now), (rollup_internal.covered_until($1, n.now))) v (b) WHERE b <= n.until AND rollup_internal.covered_until($1, b) IS NULL ORDER BY b LIMIT 1)::pg_catalog.text, \
                 greatest(CASE WHEN p.width < interval '1 year' THEN n.now - {LONG_AGO} * p.width ELSE '-infinity' END, n.now - t.keep)::pg_catalog.text, n.until::pg_catalog.text FROM rollup.partitioning p \
                 LEFT JOIN rollup.retention t ON t.relation = p.relation, rollup_internal.partition_zones($1) z, \
                 LATERAL (SELECT timezone('UTC', timezone(z.of_bounds, pg_catalog.now())) AS now, timezone('UTC', timezone(z.of_bounds, pg_catalog.now() + p.ahead)) AS until) n \
                 WHERE p.relation = $1"
            ),
            &[k.oid.into()],
            |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?, row.get::<String>(3)?)),
        )?
    };
    // Nobody partitions it any more.
    let Some((ahead, since, until)) = found.into_iter().next() else { return Ok(None) };
    if ahead.is_some() || k.default.is_none() {
        return Ok(ahead);
    }
    let Some(k) = lock(k)? else { return Ok(None) };
    let Some((_, default)) = &k.default else { return Ok(None) };
    let _acting = acting(&k);
    let key = format!("{}::pg_catalog.timestamptz", ident(&k.key));
    let oldest = format!(
        "SELECT pg_catalog.min({0})::pg_catalog.timestamptz::pg_catalog.text FROM ONLY {default} WHERE {key} >= $1::pg_catalog.timestamptz AND {key} <= $2::pg_catalog.timestamptz \
         AND pg_catalog.isfinite({0})",
        ident(&k.key)
    );
    let found = catalog::write(&oldest, &[since.into(), until.into()], |row| row.get::<String>(1))?;
    Ok(found.into_iter().flatten().next())
}

/// Makes the partition that a row at `bound` would lie in; returns the rows that moved into it. None where somebody
/// else has made it.
fn make(k: &Kept, bound: &str) -> Result<Option<i64>> {
    let Some(k) = &lock(k)? else { return Ok(None) };
    let Some(Slot { from, to, partition, like }) = slot(k, bound)? else { return Ok(None) };
    let _acting = acting(k);
    let mut moved = 0;
    let within = format!(
        "{key} >= {}::{t} AND {key} < {}::{t}",
        literal(&from),
        literal(&to),
        key = ident(&k.key),
        t = k.key_type
    );
    let waiting = match &k.default {
        None => false,
        Some((_, default)) => {
            let any = format!("SELECT true FROM ONLY {default} WHERE {within} LIMIT 1");
            !catalog::write(&any, &[], |row| row.get::<bool>(1))?.is_empty()
        }
    };
    if waiting && super::citus::place(k.oid)?.is_some() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("rows of {} from {from} on lie in its default partition, and Citus keeps it", k.name),
            "Rows are not moved between shards: copy them out, delete them, and insert them with their rollup_stamp once the partition is there.",
        );
    }
    if waiting {
        catalog::execute(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", k.name), &[])?;
    }
    catalog::execute(
        &format!(
            "CREATE TABLE {partition} (LIKE {} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION){like}",
            k.name
        ),
        &[],
    )?;
    if let (true, Some(default)) = (waiting, &k.default) {
        moved = super::moved::move_rows(k.oid, &k.name, default, &partition, &within)?;
    }
    // Attached, and not created as a partition: writers of the others need not wait.
    catalog::execute(
        &format!(
            "ALTER TABLE {} ATTACH PARTITION {partition} FOR VALUES FROM ({}) TO ({})",
            k.name,
            literal(&from),
            literal(&to)
        ),
        &[],
    )?;
    Ok(Some(moved))
}

/// A partition to make: its bounds, its name, and how it is stored.
struct Slot {
    from: String,
    to: String,
    partition: String,
    like: String,
}

/// The partition for `bound`; None where there is one. It is stored as the newest of its sisters is.
fn slot(k: &Kept, bound: &str) -> Result<Option<Slot>> {
    let _acting = ActingAs::catalog();
    set_local(c"timezone", c"UTC");
    let found = catalog::write(
        "SELECT f.lower::pg_catalog.text, f.upper::pg_catalog.text, pg_catalog.timezone(z.of_grid, f.lower), p.width, \
         (SELECT pg_catalog.array_to_string(c.reloptions, ', ') FROM rollup_internal.partition_bounds($1) b JOIN pg_catalog.pg_class c ON c.oid = b.partition \
          WHERE c.relkind = 'r' ORDER BY b.upper DESC LIMIT 1) AS options, \
         (SELECT t.spcname::pg_catalog.text FROM rollup_internal.partition_bounds($1) b JOIN pg_catalog.pg_class c ON c.oid = b.partition \
          JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace WHERE c.relkind = 'r' ORDER BY b.upper DESC LIMIT 1) AS space, \
         pg_catalog.to_char(pg_catalog.timezone(z.of_grid, f.lower), CASE WHEN p.width >= interval '1 month' AND date_part('day', pg_catalog.timezone(z.of_grid, f.lower)) = 1 THEN '_pYYYY_MM' \
          WHEN date_trunc('day', pg_catalog.timezone(z.of_grid, f.lower)) = pg_catalog.timezone(z.of_grid, f.lower) AND p.width >= interval '1 day' THEN '_pYYYY_MM_DD' ELSE '_pYYYY_MM_DD_HH24MI' END) AS suffix, \
         EXISTS (SELECT FROM rollup.definition d WHERE d.relation = $1 UNION ALL SELECT FROM rollup.level l WHERE l.relation = $1) \
         FROM rollup.partitioning p, rollup_internal.partition_zones($1) z, rollup_internal.partition_for($1, $2::pg_catalog.timestamptz) f WHERE p.relation = $1 AND f.lower IS NOT NULL",
        &[k.oid.into(), bound.into()],
        |row| {
            Ok((
                row.must::<String>(1)?,
                row.must::<String>(2)?,
                // Most tables have no options.
                row.get::<String>(5)?.unwrap_or_default(),
                row.get::<String>(6)?,
                row.must::<String>(7)?,
                row.get::<bool>(8)? == Some(true),
            ))
        },
    )?;
    let Some((from, to, options, space, suffix, is_rollup)) = found.into_iter().next() else {
        return Ok(None);
    };
    let options = if options.is_empty() && is_rollup { statements::ROLLUP_OPTIONS.into() } else { options };
    let mut like = if options.is_empty() { String::new() } else { format!(" WITH ({options})") };
    if let Some(space) = space {
        like += &format!(" TABLESPACE {}", ident(&space));
    }
    Ok(Some(Slot { from, to, partition: free_name(k, &suffix)?, like }))
}

/// A name that no relation of the schema has: the table's, as far as it fits, and when the partition begins.
fn free_name(k: &Kept, suffix: &str) -> Result<String> {
    let found = catalog::read(
        "SELECT pg_catalog.format('%I.%I', $1, t.name) FROM pg_catalog.generate_series(0, 999) n, \
         LATERAL (SELECT $3 || CASE n WHEN 0 THEN '' ELSE '_' || n END AS suffix) s, \
         LATERAL (SELECT substring($2::pg_catalog.text FOR l) || s.suffix AS name FROM pg_catalog.generate_series(pg_catalog.length($2::pg_catalog.text), 1, -1) l \
           WHERE pg_catalog.octet_length(substring($2::pg_catalog.text FOR l) || s.suffix) <= 63 LIMIT 1) t \
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = $1::pg_catalog.name AND c.relname = t.name::pg_catalog.name) \
         ORDER BY n LIMIT 1",
        &[k.schema.as_str().into(), k.table.as_str().into(), suffix.into()],
        |row| row.get::<String>(1),
    )?;
    found.into_iter().flatten().next().ok_or_else(|| internal("no name for a partition is free"))
}

/// Stores why partitions could not be made; true if it is not the same as before.
pub fn failed(relation: pg_sys::Oid, message: &str) -> Result<bool> {
    let _acting = ActingAs::catalog();
    let news = catalog::read(
        "SELECT last_error IS DISTINCT FROM $2 FROM rollup.partitioning WHERE relation = $1",
        &[relation.into(), message.into()],
        |row| row.get::<bool>(1),
    )?;
    if news.first().copied().flatten() != Some(true) {
        return Ok(false);
    }
    catalog::execute(
        "UPDATE rollup.partitioning SET last_error = $2 WHERE relation = $1",
        &[relation.into(), message.into()],
    )?;
    Ok(true)
}

/// Makes what is missing of tables that the caller may act for, each partition in a part of the transaction that can fail
/// alone.
pub fn make_due() -> Result<()> {
    for (relation, owner) in kept()? {
        if catalog::check_owner(Some(owner), "").is_err() {
            continue;
        }
        super::deferred::of_table(relation)?;
        loop {
            match in_subtransaction(|| step(relation)) {
                Ok(true) => {}
                Ok(false) => break,
                // The next call is another attempt.
                Err(e) if super::patience::in_use(e.code) => break,
                Err(e) => {
                    failed(relation, &e.message)?;
                    told::bounded(Some(owner), || {
                        warning!("partitions of {}: {}", shown_name(relation), e.message);
                    });
                    break;
                }
            }
        }
    }
    Ok(())
}
