//! Whether a live view is still what it was made: its owner may put anything into it.
use super::catalog::{self, Definition};
use super::error::Result;
use super::live_sql;
use super::strangers::not_run;
use crate::pg::deparse::shown_name;
use crate::pg::plan::called::is_superuser;
use crate::pg::xact::ActingAs;
use crate::pg::{lock, security, shape, watched};
use hll_rollup::{Level, Plan};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;

/// Whether a live view says what it was made to say, as it is said in the names of today; an error where it belongs to another
/// role than the rollup.
pub fn is_as_made(d: &Definition, plan: &Plan, view: pg_sys::Oid, level: Option<&Level>) -> Result<bool> {
    thread_local! {
        static MADE: RefCell<HashMap<(pg_sys::Oid, i64), u64>> = RefCell::default();
    }
    let (source, target, owner) = d.parts()?;
    // Once the lock is had the view stays as it is, and word of its changes has come.
    if !lock::relation(view, lock::Mode::Read) {
        return Ok(false);
    }
    if let Some(of) = security::owner_of(view).filter(|of| *of != owner && !is_superuser(*of)) {
        not_run(&format!("view {}", shown_name(view)), of.to_u32(), owner)
    }
    let epoch = watched::epoch();
    if MADE.with_borrow(|made| made.get(&(view, d.id)) == Some(&epoch)) {
        return Ok(true);
    }
    let text = live_sql::live_view(d.state.nodes().is_some(), plan, "v", source, target, level, d.id);
    let text = text.split_once(" AS ").map_or(text.as_str(), |(_, select)| select);
    let made = {
        let _acting = ActingAs::role(owner);
        shape::deparsed(text)
    };
    let is: String = catalog::one("SELECT pg_catalog.pg_get_viewdef($1)", &[view.into()])?;
    let same = is.trim_end_matches(';') == made.trim_end_matches(';');
    if same {
        watched::watch(view);
        MADE.with_borrow_mut(|made| _ = made.insert((view, d.id), epoch));
    }
    Ok(same)
}
