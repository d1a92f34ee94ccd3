//! rollup.explain_rewrite: what a query is answered from, or why it is not.
use crate::pg::plan;
use pgrx::pg_sys;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn rollup_explain_rewrite(
    query: &str,
) -> TableIterator<
    'static,
    (
        name!(source, pg_sys::Oid),
        name!(rollup, Option<String>),
        name!(level, Option<String>),
        name!(reason, Option<String>),
    ),
> {
    let rows: Vec<_> = plan::explain(query)
        .into_iter()
        .map(|told| {
            let (rollup, level) = told.from.map_or((None, None), |(rollup, level)| (Some(rollup), level));
            (told.source, rollup, level, told.why)
        })
        .collect();
    TableIterator::new(rows)
}
