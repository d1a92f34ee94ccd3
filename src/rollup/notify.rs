//! Told when something changed: `rollup.status` says when, and a rollup made with NOTIFY sends a message with the times of
//! the buckets that changed.
//!
//! Invariant: a change and what tells of it are one transaction. Who reads the rollup when the message comes sees the change;
//! where the transaction is rolled back nobody is told. A message says no less than what has changed, and may say more.
use super::catalog::{self, Definition, Must};
use super::error::Result;
use super::retention::Retention;
use super::session::set_timezone;
use crate::pg::xact::ActingAs;
use hll_rollup::Plan;
use hll_rollup::sql::ident;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::cell::RefCell;

/// The least and the greatest bucket of a part of the changes; None: no bucket that has a time.
type Ends = (Option<String>, Option<String>);

thread_local! {
    /// What has changed of the rollup at hand in the act at hand.
    static CHANGED: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

/// The part of the queue of messages from which on none is sent: a full one makes those fail who send.
const FULL: f64 = 0.5;

/// An act begins that may change a rollup. What one that failed has left is forgotten.
pub fn begin() {
    CHANGED.with_borrow_mut(Vec::clear);
}

/// Some buckets have changed: those of `from`, a relation with the time key, as far as `condition` holds. It is read where
/// somebody is to be told.
pub fn changed(d: &Definition, key: &str, from: &str, condition: &str) -> Result<()> {
    let mut ends = (None, None);
    if d.notifies {
        let found = catalog::write(&select(key, from, condition), &[], |row| {
            Ok((row.get::<String>(1)?, row.get::<String>(2)?))
        })?;
        ends = found.into_iter().next().unwrap_or_default();
    }
    note(ends);
    Ok(())
}

/// The same of a relation that only this client knows.
pub fn changed_here(d: &Definition, plan: &Plan, client: &SpiClient, from: &str) -> pgrx::spi::SpiResult<()> {
    let mut ends = (None, None);
    if d.notifies {
        let row = client.select(&*select(&ident(&plan.time_key), from, "true"), None, &[])?.first();
        ends = (row.get::<String>(1)?, row.get::<String>(2)?);
    }
    note(ends);
    Ok(())
}

fn select(key: &str, from: &str, condition: &str) -> String {
    format!(
        "SELECT pg_catalog.min({key})::pg_catalog.text, pg_catalog.max({key})::pg_catalog.text FROM {from} WHERE {condition}"
    )
}

fn note(ends: Ends) {
    CHANGED.with_borrow_mut(|changed| changed.push(ends));
}

/// The act ends: it is remembered when, and told, if anything has changed. `because` is what it was.
pub fn tell(d: &Definition, plan: &Plan, because: &str) -> Result<()> {
    let changed = CHANGED.with_borrow_mut(std::mem::take);
    if changed.is_empty() {
        return Ok(());
    }
    let _acting = ActingAs::catalog();
    catalog::execute_often(
        "UPDATE rollup.attempt SET updated_at = pg_catalog.clock_timestamp() WHERE id = $1",
        &[d.id.into()],
    )?;
    if !d.notifies {
        return Ok(());
    }
    let ends: Vec<Option<String>> = changed.into_iter().flat_map(|(from, to)| [from, to]).collect();
    let message = {
        // The type of the key may be one that runs code of its owner's.
        let _acting = ActingAs::role(d.parts()?.2);
        set_timezone(&d.timezone);
        catalog::one_now::<String>(
            &format!(
                "SELECT pg_catalog.json_build_object('rollup', $1, 'because', $2, 'from', pg_catalog.min(k), 'to', pg_catalog.max(k))::pg_catalog.text \
                 FROM pg_catalog.unnest($3::{}[]) k",
                plan.key_column().sql_type
            ),
            &[d.name.as_str().into(), because.into(), ends.into()],
        )?
    };
    send(&d.name, &message)
}

/// Rows of a table of a rollup have expired.
pub fn expired(r: &Retention) -> Result<()> {
    if !r.is_rollup {
        return Ok(());
    }
    let _acting = ActingAs::catalog();
    set_timezone(&r.timezone);
    let found = catalog::write(
        "SELECT d.name, pg_catalog.json_build_object('rollup', d.name, 'because', 'expire', 'level', l.name, 'from', NULL, 'to', pg_catalog.now() - $2::pg_catalog.interval)::pg_catalog.text \
         FROM rollup.definition d LEFT JOIN rollup.level l ON l.definition = d.id AND l.relation = $1 WHERE d.notify AND (d.relation = $1 OR l.relation = $1)",
        &[r.oid.into(), r.keep.as_str().into()],
        |row| Ok((row.must::<String>(1)?, row.must::<String>(2)?)),
    )?;
    found.iter().try_for_each(|(name, message)| send(name, message))
}

fn send(name: &str, message: &str) -> Result<()> {
    let sent = catalog::write(
        "SELECT CASE WHEN pg_catalog.pg_notification_queue_usage() < $3 THEN pg_catalog.pg_notify($1, $2) IS NULL END",
        &[hll_rollup::channel(name).into(), message.into(), FULL.into()],
        |row| row.get::<bool>(1),
    )?;
    if sent.first() != Some(&Some(false)) {
        log!("rollup {name}: nobody is told of its changes while the queue of notifications is half full");
    }
    Ok(())
}

crate::v1!(rollup_channel, channel);

fn channel(call: &mut crate::pg::v1::Call) -> pg_sys::Datum {
    let name = call.bytes(0).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    crate::pg::v1::new_varlena(hll_rollup::channel(&name).as_bytes())
}
