//! What sources were called before: a rollup follows its source to another name, by its id, and no table that takes the name. So it
//! is said when one does, as the copy does that a table is exchanged for: ALTER TABLE event RENAME TO event_old, event_new TO event.
use super::arrange::warn;
use super::catalog::{self, Must};
use super::error::Result;
use crate::pg::ddl::{Called, Command};
use crate::pg::deparse::shown_name;
use crate::pg::node;
use crate::pg::query::set_local;
use crate::pg::xact::{ActingAs, in_subtransaction};
use hll_rollup::sql::literal;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Names that are remembered of a source.
const REMEMBERED: i32 = 20;

/// Called after a command that may have given tables names, or schemas.
pub fn told(command: &Command) -> Result<()> {
    command.called.iter().try_for_each(follow)?;
    command.called.iter().map(|called| &called.table).chain(&command.made).try_for_each(|table| taken(*table))
}

/// Where the table is a source, what it was called is remembered.
fn follow(called: &Called) -> Result<()> {
    let table = called.table;
    let names = rollups(table)?;
    // Citus renames tables on its own account, and says of them what there is to say.
    if names.is_empty() || node::citus_loaded() {
        return Ok(());
    }
    let done = in_subtransaction(std::panic::AssertUnwindSafe(|| {
        let _acting = ActingAs::catalog();
        set_local(c"lock_timeout", c"50ms");
        catalog::execute(
            "UPDATE rollup.source s SET called = pg_catalog.array_append(s.called[greatest(1, pg_catalog.cardinality(s.called) - $3 + 2):], n.was) \
             FROM (SELECT pg_catalog.format('%I.%I', n.nspname, coalesce($2, c.relname::pg_catalog.text)) AS was FROM pg_catalog.pg_class c \
              JOIN pg_catalog.pg_namespace n ON n.oid = coalesce($4, c.relnamespace) WHERE c.oid = $1) n \
             WHERE s.relation = $1 AND NOT n.was = ANY (s.called)",
            &[table.into(), called.was.clone().into(), REMEMBERED.into(), called.schema.into()],
        )
    }));
    if let Err(e) = done {
        log!("rollup: the name that {} had is not remembered: {}", shown_name(table), e.message);
    }
    ereport!(
        PgLogLevel::NOTICE,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("{} follows its table, which is {} now", said(&names), shown_name(table))
    );
    Ok(())
}

fn rollups(source: pg_sys::Oid) -> Result<Vec<String>> {
    let _acting = ActingAs::catalog();
    catalog::write(
        "SELECT d.name FROM rollup.definition d WHERE d.source = $1 ORDER BY d.name",
        &[source.into()],
        |row| row.must::<String>(1),
    )
}

fn said(names: &[String]) -> String {
    match names {
        [one] => format!("rollup {one}"),
        many => format!("each of rollups {}", many.join(", ")),
    }
}

/// Where the table has the name that a source had, that is said.
fn taken(table: pg_sys::Oid) -> Result<()> {
    let left = {
        let _acting = ActingAs::catalog();
        catalog::write_often(
            "SELECT s.relation::pg_catalog.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN rollup.source s ON pg_catalog.format('%I.%I', n.nspname, c.relname) = ANY (s.called) AND s.relation <> c.oid \
             WHERE c.oid = $1 AND c.relkind IN ('r', 'p') AND s.called <> '{}' ORDER BY 1",
            &[table.into()],
            |row| row.must::<pg_sys::Oid>(1),
        )?
    };
    for source in left {
        let names = rollups(source)?;
        if names.is_empty() {
            continue;
        }
        let here = shown_name(table);
        let calls: Vec<String> = names
            .iter()
            .map(|name| format!("SELECT rollup.move({}, {});", literal(name), literal(&here)))
            .collect();
        warn(
            format!(
                "{here} has the name that the table of {} had, which follows {}",
                said(&names),
                shown_name(source)
            ),
            format!("{} counts what is in {here} in its place, once it has all rows.", calls.join(" ")),
        );
    }
    Ok(())
}
