//! Statements over a raw table are answered from its rollups, where `rollup.rewrite` says so and the answer is the same.
//!
//! `pg::plan` takes a statement's tree apart; here is what it asks: which tables have rollups and what these offer
//! (`offers`), and the sub-query that takes a table's place (`text`).
mod coarser;
mod explain;
mod offers;
mod pieces;
mod state;
mod state_text;
mod table;
mod text;

use super::rules::{self, Rule};
use crate::pg::plan::{self, Engine, Parts};
use crate::pg::v1::Call;
use crate::pg::watched;
use crate::pg::xact::ActingAs;
use crate::pg::{background, counted};
use pgrx::guc::{GucContext, GucFlags, GucSetting, PostgresGucEnum};
use pgrx::pg_sys;

/// The values of `rollup.rewrite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum Rewrite {
    /// Statements are executed as they are written.
    #[name = c"off"]
    Off,
    /// Where the answer is that of the raw table.
    #[name = c"exact"]
    Exact,
    /// Also where a rollup knows more than the raw table: of rows that have expired, or as they were when they came.
    #[name = c"history"]
    History,
}

static REWRITE: GucSetting<Rewrite> = GucSetting::<Rewrite>::new(Rewrite::Off);

/// Called once when the library is loaded.
pub fn init() {
    watched::define_with_plans(
        c"rollup.rewrite",
        c"Answers statements over a raw table from its rollups.",
        c"off: never. exact: where the answer is what the raw table gives at the same snapshot. history: also rows that have expired, and rows as they were inserted. SELECT rollup.explain_rewrite(query) says what a query is answered from, or why it is not.",
        &REWRITE,
        GucContext::Userset,
        GucFlags::default(),
    );
    if background::preloading() {
        counted::install();
    }
    plan::install(Engine {
        wanted: || REWRITE.get() != Rewrite::Off,
        is_source: offers::is_source,
        is_live: offers::is_live,
        offers: |source| offers::offers(source, history()),
        epoch: watched::epoch,
        parts,
        history,
        sql: |offer, asked| offers::sql_of(offer, asked, history()),
    });
}

/// Rollups that know more than the raw table are used, too.
fn history() -> bool {
    REWRITE.get() == Rewrite::History
}

/// Of which calls an aggregate is made, and how.
fn parts(aggregate: pg_sys::Oid, arguments: usize) -> Option<Parts> {
    let a = watched::routine(aggregate)?;
    // Of calls without the parameters of sketches those of the session are meant.
    if let Some(call) = rules::with_parameters(&a.schema, &a.name, arguments) {
        return Some((vec![call], "$1".into()));
    }
    let _acting = ActingAs::catalog();
    // A rule that must not be used is no error of who reads.
    match rules::find(&a.signature) {
        Ok(Some(Rule::Made { parts, result, .. })) => Some((parts, result)),
        Ok(Some(Rule::Whole { .. }) | None) | Err(_) => None,
    }
}

crate::v1!(rollup_rewritten, rewritten);

/// How many queries were answered from a rollup.
fn rewritten(call: &mut Call) -> pg_sys::Datum {
    match call.i64(0).and_then(counted::count) {
        Some(count) => pg_sys::Datum::from(count),
        None => call.null(),
    }
}

crate::v1!(rollup_forget_rewriting, forget_rewriting);

/// Sessions that have plans over a table, or know what its rollups offer, hear that these have changed.
fn forget_rewriting(call: &mut Call) -> pg_sys::Datum {
    call.oids(0).into_iter().for_each(watched::tell);
    call.null()
}
