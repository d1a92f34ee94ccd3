//! What an owner's process does: take a source that nobody works on, and run what is due of it, each rollup in
//! transactions of its own, so that one that fails stops no other. And the look at what is due, the scheduler's too.
use crate::pg::background;
use crate::pg::ctext::c_text;
use crate::pg::lock::{self, Work};
use crate::pg::xact::{self, Moment, clock};
use crate::rollup::attempt::{self, Due};
use crate::rollup::catalog;
use crate::rollup::citus::moment::OfNodes;
use crate::rollup::diagnose;
use crate::rollup::error::Result;
use crate::rollup::history;
use crate::rollup::run;
use crate::rollup::settings;
use crate::rollup::waiting::New;
use pgrx::prelude::*;
use std::collections::HashSet;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// One transaction, within the time that the settings give it.
pub fn timed<T>(
    body: impl FnOnce() -> Result<T> + UnwindSafe + RefUnwindSafe,
) -> std::result::Result<T, xact::Failure> {
    background::start_clock(settings::timeout());
    let done = xact::in_transaction(|| {
        let wait = c_text(settings::lock_timeout().to_string());
        crate::pg::query::set_local(c"lock_timeout", &wait);
        xact::check_constraints_at_once();
        body().unwrap_or_else(|report| {
            report.report(PgLogLevel::ERROR);
            unreachable!("an error ends the transaction")
        })
    });
    background::stop_clock();
    done
}

/// What a worker finds when it looks at its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It has no business here.
    Leave,
    /// The catalog is not of the library's version; this is the one that it is of.
    OtherVersion(String),
    /// Transactions may not write here.
    ReadOnly,
    /// Rollups to look at.
    Ready(Rc<[Due]>),
}

/// What a worker knows of its database, as long as it holds.
///
/// Invariant: what is kept is what a transaction would read now. It was read in tables after `at` was taken, and until another
/// moment comes no transaction that may have written them has finished (see `Moment`). Nothing else makes a rollup
/// or a retention due but the clock, so what is kept are times and no answers; settings, and whether somebody waits for the
/// database, are in no table, and asked each time. A transaction that was prepared counts when it is committed; and after a
/// crash, or where a standby is promoted, processes are new, and the first look of each reads all.
#[derive(Default)]
pub struct Known {
    at: Option<Moment>,
    found: Option<Found>,
}

impl Known {
    /// When the last look began.
    pub fn at(&self) -> Option<Moment> {
        self.at
    }

    /// Looks at the database in transactions that take no transaction id.
    pub fn look(&mut self, name: &str) -> std::result::Result<Found, xact::Failure> {
        let database = background::own_database();
        let (leaves, at) = xact::in_transaction(|| {
            // Settings that only a new process would see are compared by `Settings`.
            (!settings::serves(name) || lock::asked_to_leave(database), Moment::now())
        })?;
        if leaves {
            return Ok(Found::Leave);
        }
        if self.at != Some(at) {
            (self.at, self.found) = (Some(at), None);
        }
        let found = match &self.found {
            Some(found) => found,
            None => self.found.insert(timed(read)?),
        };
        Ok(match found {
            Found::Leave => Found::Leave,
            _ if xact::read_only_by_default() => Found::ReadOnly,
            found => found.clone(),
        })
    }
}

/// What a database says of itself.
fn read() -> Result<Found> {
    if !background::extension_installed() {
        return Ok(Found::Leave);
    }
    match attempt::catalog_version()? {
        Some(version) if version != attempt::LIBRARY_VERSION => Ok(Found::OtherVersion(version)),
        Some(_) => Ok(Found::Ready(attempt::scheduled()?.into())),
        None => Ok(Found::Leave),
    }
}

/// A database in which transactions may not write is looked at again after this.
const READ_ONLY: Duration = Duration::from_secs(60);

/// What was set for sessions of the database when this one began: another one begins with what is set by now.
pub struct Settings {
    known: Option<String>,
    compared: Instant,
    at: Option<Moment>,
}

impl Settings {
    pub fn known() -> Settings {
        Settings { known: timed(attempt::settings_of_database).ok(), compared: Instant::now(), at: None }
    }

    /// Compared once a second, where anything has happened since: `at` is when the last look began.
    pub fn have_changed(&mut self, at: Option<Moment>) -> bool {
        if self.compared.elapsed() < Duration::from_secs(1) || (at.is_some() && self.at == at) {
            return false;
        }
        (self.compared, self.at) = (Instant::now(), at);
        timed(attempt::settings_of_database).is_ok_and(|now| self.known.as_ref() != Some(&now))
    }
}

/// Waits where transactions may not write unless they say so, as where a disk is full. Failures are kept in tables, so
/// there would be no end to them, and to their lines in the log. Returns once they may, or when it is time for another
/// process to look: what is set for a database holds for sessions that begin after.
pub fn wait_while_read_only(database: &str, who: &str, known: &mut Known, settings: &mut Settings) {
    let since = Instant::now();
    while since.elapsed() < READ_ONLY
        && matches!(known.look(database), Ok(Found::ReadOnly))
        && !settings.have_changed(known.at())
    {
        background::report(who, Some("waiting: default_transaction_read_only is on"));
        background::pause(1000);
    }
}

/// Whether a rollup has rows to merge: waits for nobody, and runs nothing that an owner has defined. What cannot be told
/// so is found out in the run.
fn look_for_rows(d: &Due, look: impl FnOnce(i64) -> Result<New> + UnwindSafe + RefUnwindSafe) -> New {
    let found = timed(|| look(d.id)).unwrap_or(New::Unknown);
    if found == New::Nothing
        && d.failing
        && let Err(e) = timed(|| history::nothing_to_do(d.id))
    {
        log!("rollup {}: {}", d.name, e.message);
    }
    found
}

/// Rollups that had no rows to merge when they were looked at last. As long as it is the moment that it was before, they have none:
/// whatever brings rows, or changes a definition or a table of it, is a transaction with an id. So on a server where nobody writes, a tick
/// looks at no table, however many rollups there are. Of those in a cluster that is so as long as it is the moment of all nodes that it
/// was before: a tick asks each node for it once, whatever the number of rollups, shards and partitions.
#[derive(Default)]
pub struct Quiet {
    at: Option<Moment>,
    rollups: HashSet<i64>,
    nodes: Nodes,
    on_nodes: HashSet<i64>,
}

/// What is known of the nodes of a cluster.
#[derive(Default)]
enum Nodes {
    /// No rollup is in one.
    #[default]
    Unasked,
    /// They were asked at an earlier tick.
    Before(Option<OfNodes>),
    /// They were asked at this one.
    Now(Option<OfNodes>),
}

impl Quiet {
    /// To be called before rollups are looked at, with the moment at which the last look at what is due began: what has
    /// finished after it is seen by the next tick.
    pub fn begin(&mut self, at: Option<Moment>) {
        if at.is_none() || at != self.at {
            self.rollups.clear();
        }
        self.at = at;
        if let Nodes::Now(of_nodes) = std::mem::take(&mut self.nodes) {
            self.nodes = Nodes::Before(of_nodes);
        }
    }

    /// The same of a rollup in a cluster, by a process that may wait for nodes.
    fn may_have_rows_on_nodes(&mut self, d: &Due) -> bool {
        let Some(at) = self.at else { return true };
        if !matches!(self.nodes, Nodes::Now(_)) {
            let now = timed(|| OfNodes::now(at)).ok();
            if now.is_none() || !matches!(&self.nodes, Nodes::Before(before) if *before == now) {
                self.on_nodes.clear();
            }
            self.nodes = Nodes::Now(now);
        }
        // Where a node does not answer the run says which.
        let Nodes::Now(Some(_)) = self.nodes else { return true };
        if self.on_nodes.contains(&d.id) {
            return false;
        }
        let found = look_for_rows(d, run::look_on_nodes);
        if found == New::Nothing {
            self.on_nodes.insert(d.id);
        }
        !matches!(found, New::Nothing | New::Locked)
    }

    /// Whether a rollup may have rows to merge.
    pub fn may_have_rows(&mut self, d: &Due) -> bool {
        if self.rollups.contains(&d.id) {
            return false;
        }
        let found = look_for_rows(d, run::look);
        if found == New::Nothing && self.at.is_some() {
            self.rollups.insert(d.id);
        }
        !matches!(found, New::Nothing | New::Locked)
    }
}

/// Cancels what a process does.
pub fn cancel(pid: i32) -> Result<()> {
    catalog::execute("SELECT pg_catalog.pg_cancel_backend($1)", &[pid.into()])
}

/// Ends a process.
pub fn end(pid: i32) -> Result<()> {
    catalog::execute("SELECT pg_catalog.pg_terminate_backend($1)", &[pid.into()])
}

/// Those that are due and have rows to merge, one group a source. One that cannot be asked is taken along: its run
/// says why.
pub fn with_rows<'a>(scheduled: impl Iterator<Item = &'a Due>, quiet: &mut Quiet) -> Vec<Vec<Due>> {
    let mut sources: Vec<Vec<Due>> = Vec::new();
    for d in scheduled {
        let may_have_rows = |quiet: &mut Quiet| match d.on_nodes && !d.backlog {
            true => quiet.may_have_rows_on_nodes(d),
            false => quiet.may_have_rows(d),
        };
        if !d.is_due(clock()) || !may_have_rows(quiet) {
            continue;
        }
        match sources.iter_mut().find(|s| s[0].source == d.source) {
            Some(group) => group.push(d.clone()),
            None => sources.push(vec![d.clone()]),
        }
    }
    sources
}

/// Runs the rollups of each source that no other process works on; true if a piece of a backlog was done, and there
/// may be more of it. Others that are due come first: the next look has those that waited longest in front.
pub fn run_all(sources: Vec<Vec<Due>>) -> bool {
    let mut more = false;
    for source in sources {
        let Some(_work) = Work::on(source[0].source) else { continue };
        for d in source {
            more |= run_one(&d) && d.backlog;
            background::report_statistics();
        }
    }
    more
}

/// Says whether it was run.
fn run_one(d: &Due) -> bool {
    background::report(&format!("rollup: {}", d.name), Some(&format!("rollup.run of {}", d.name)));
    // The start is written before the run, and taken back by it: a start that is left tells of a crash.
    let done = match timed(|| attempt::begin(d.id)) {
        Ok(false) => return false,
        Ok(true) => timed(|| attempt::run(d.id, run::HowMuch::Piece)),
        Err(e) => Err(e),
    };
    let Err(e) = done else { return true };
    // Looking for whose value it was costs what a run does: once is enough.
    let message = match timed(|| attempt::previous_message(d.id, &e.message)) {
        Ok(Some(said)) => said,
        _ => timed(|| Ok(diagnose::explain(d.id, &e))).unwrap_or(e.message),
    };
    match timed(|| attempt::failed(d.id, &message)) {
        Ok(failed) => tell(d, &failed, &message),
        Err(e) => log!("rollup {}: its failure could not be stored: {}", d.name, e.message),
    }
    false
}

/// Writes a failure into the log, if it is time to. What is not written there is in rollup.status.
fn tell(d: &Due, failed: &attempt::Failed, message: &str) {
    let Some(owner) = d.owner.filter(|owner| failed.is_news(*owner)) else { return };
    let others = match timed(|| attempt::others_failing(d.id, owner)) {
        Ok(n) if n > 0 => {
            format!("; {n} other rollups of role {} fail, see rollup.status", xact::role_name_at_top(owner))
        }
        _ => String::new(),
    };
    match &failed.paused {
        Some(reason) => warning!("rollup {} is {reason}{others}", d.name),
        None => log!("rollup {} failed: {message}{others}", d.name),
    }
}
