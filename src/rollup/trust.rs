//! Whose functions a rollup calls.
//!
//! Names in merge rules, in results and in queries are texts when they are run. A schema, a function or a type may be renamed,
//! and another role may take the name that became free. So:
//!
//! Invariant: a run calls a function outside pg_catalog only if it is the extension's, if a superuser or the rollup's owner owns
//! it, or if it is what the rollup called when it was made (`Record` says when it is). So it is with types that run code of their
//! own. Names of the extension's own functions are followed when its schema is renamed. Anything else is an error.
//!
//! It is asked twice: when the plan is taken, before anything is run, and of each statement of the rollup when PostgreSQL has
//! made oids of the names in it (`guard`), since a name may change hands in between. It rests on every text of a plan that is run
//! coming from `Definition::plan`, which asks here. On a Citus cluster nodes read names once more: a name that changes hands on
//! its way there is not seen.
use super::catalog::{self, Definition, Must};
use super::error::{Result, internal};
use super::strangers::{here, odd, refused, strangers};
use super::{drafted, guard};
use crate::pg::plan::called::{self, Called};
use crate::pg::security;
use crate::pg::watched;
use crate::pg::xact::{ActingAs, in_subtransaction};
use hll_rollup::calls::{Call, calls, with_schemas};
use hll_rollup::routines::{Home, Known, Record};
use hll_rollup::sql::ident;
use hll_rollup::{Column, Plan, Role, fill, statements};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

/// The extension's own functions.
pub struct Members {
    schema: String,
    /// The same as PostgreSQL writes it.
    quoted: String,
    names: BTreeSet<String>,
}

thread_local! {
    static MEMBERS: RefCell<Option<(u64, Rc<Members>)>> = const { RefCell::new(None) };
    /// Plans that were looked at, by the rollup: with what was looked at, and the epoch.
    static CHECKED: RefCell<HashMap<i64, (u64, String, Plan)>> = RefCell::default();
}

impl Members {
    /// Those of this database.
    pub fn now() -> Result<Rc<Members>> {
        let epoch = watched::routines_epoch();
        let known = MEMBERS.with_borrow(|known| known.clone());
        if let Some((_, members)) = known.filter(|(then, _)| *then == epoch) {
            return Ok(members);
        }
        let _acting = ActingAs::catalog();
        let found = catalog::read(
            "SELECT n.nspname::pg_catalog.text, pg_catalog.quote_ident(n.nspname), ARRAY(SELECT DISTINCT p.proname::pg_catalog.text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc p ON p.oid = d.objid \
               WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid \
                 AND d.deptype = 'e' AND p.pronamespace = e.extnamespace) \
             FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'hll'",
            &[],
            |row| {
                let names = row.must::<Vec<String>>(3)?.into_iter().collect();
                Ok(Members { schema: row.must(1)?, quoted: row.must(2)?, names })
            },
        )?;
        let members = found.into_iter().next().ok_or_else(|| internal("extension hll is gone"))?;
        let members = Rc::new(members);
        MEMBERS.with_borrow_mut(|known| *known = Some((epoch, members.clone())));
        Ok(members)
    }

    /// A text of an extension's rule, in the name that the schema has now.
    pub fn restated(&self, text: &str) -> String {
        with_schemas(text, |call| self.is_member(call).then(|| ident(&self.schema)))
    }

    fn is_member(&self, call: &Call) -> bool {
        self.names.contains(&call.function) && !is_own_schema(&call.schema)
    }
}

/// Schemas in which nobody but a superuser makes functions, and the extension's own of a fixed name.
fn is_own_schema(schema: &str) -> bool {
    ["pg_catalog", "rollup", "rollup_internal"].contains(&schema)
}

/// The signature of an aggregate as it was when the extension was made, where its schema has another name since.
pub fn signature_when_made(signature: &str) -> Result<Option<String>> {
    let members = Members::now()?;
    let _acting = ActingAs::catalog();
    let then = catalog::maybe::<String>(
        "SELECT r.aggregate FROM rollup.merge_rule r WHERE r.added_by IS NULL AND r.aggregate LIKE '%.hll\\_union\\_agg(%'",
        &[],
    )?;
    let schema = then.and_then(|then| calls(&then).pop().map(|call| then[call.schema_at].to_string()));
    let Some(schema) = schema.filter(|schema| *schema != members.quoted) else { return Ok(None) };
    let [now, then] = [&members.quoted, &schema].map(|schema| format!("{schema}."));
    Ok(signature.contains(&now).then(|| signature.replace(&now, &then)))
}

/// The texts of a plan that are run and that no view has as a tree.
fn texts(plan: &Plan) -> impl Iterator<Item = &String> {
    plan.columns.iter().flat_map(|c| match &c.role {
        Role::Key => Vec::new(),
        Role::Value(m) => vec![&m.combine, &m.unite],
        Role::Result { template, .. } => vec![template],
    })
}

fn texts_mut(plan: &mut Plan) -> impl Iterator<Item = &mut String> {
    plan.columns.iter_mut().flat_map(|c| match &mut c.role {
        Role::Key => Vec::new(),
        Role::Value(m) => vec![&mut m.combine, &mut m.unite],
        Role::Result { template, .. } => vec![template],
    })
}

/// Whether a text may name what is not PostgreSQL's and not of a schema of ours.
fn is_foreign(text: &str) -> bool {
    let typed = |after: &str| {
        let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
        after.starts_with('"')
            || (end.is_some_and(|end| after[end..].starts_with('.')) && !after.starts_with("pg_catalog."))
    };
    text.contains("OPERATOR(")
        || text.split("::").skip(1).any(typed)
        || calls(text).iter().any(|call| !is_own_schema(&call.schema))
}

/// The group keys that are made of lookup tables when the rollup is read.
fn joined_keys(plan: &Plan) -> impl Iterator<Item = &String> {
    plan.followed.iter().flat_map(|followed| &followed.keys).map(|(_, key)| &key.expression)
}

/// Pieces of a plan's statements that name what is foreign.
pub fn pieces(plan: &Plan) -> Vec<String> {
    let before = |text: &String| text.split('$').next().unwrap_or_default().to_string();
    let rules = texts(plan).filter(|text| is_foreign(text)).map(before);
    let queries = plan.kept().map(|c| &c.expression).chain(&plan.filter).filter(|text| is_foreign(text));
    let from = plan.joins.is_some().then(|| plan.from_clause("")).filter(|from| is_foreign(from));
    // Where a join names something, every statement over the source does.
    let all = from.map(|_| plan.bucket_of_row()).into_iter();
    let joined = joined_keys(plan).filter(|text| is_foreign(text)).cloned();
    rules.chain(queries.cloned()).chain(all).chain(joined).collect()
}

/// The plan, in which no name stands for a function that it must not call.
pub fn checked(d: &Definition, plan: Plan) -> Result<Plan> {
    let Ok((source, target, owner)) = d.parts() else { return Ok(plan) };
    let wanted = pieces(&plan);
    if wanted.is_empty() && d.is_followed() {
        return Ok(plan);
    }
    let key = format!("{} {} {:?} {plan:?}", d.is_followed(), owner.to_u32(), d.routines);
    let epoch = watched::routines_epoch();
    let known = CHECKED.with_borrow(|all| match all.get(&d.id) {
        Some((then, of, plan)) if *then == epoch && *of == key => Some(plan.clone()),
        _ => None,
    });
    if let Some(plan) = known {
        return Ok(plan);
    }
    let recorded = d.recorded()?;
    let plan = restated(plan, &recorded, owner)?;
    let _acting = ActingAs::role(owner);
    let mut found = called_by_rules(&plan, target)?;
    if !d.is_followed() {
        found.extend(called_by_query(&plan, source)?);
    }
    found.extend(called_by_views(&plan, target)?);
    if let Some(odd) = odd(&found, &recorded, owner) {
        return refused(&d.name, &odd);
    }
    guard::set(d.id, guard::Guard { name: d.name.clone(), owner, pieces: pieces(&plan), recorded });
    CHECKED.with_borrow_mut(|all| all.insert(d.id, (epoch, key, plan.clone())));
    Ok(plan)
}

impl Definition {
    /// Whether its query is read from its live view. What is in a view of another role's is not: that role could put anything
    /// into it.
    pub fn is_followed(&self) -> bool {
        let of = self.live.and_then(security::owner_of);
        self.shape.is_some() && of.is_some() && of == self.owner
    }

    /// What it called when it was made.
    fn recorded(&self) -> Result<Record> {
        read(self.routines.as_deref())
    }
}

fn read(noted: Option<&str>) -> Result<Record> {
    noted.map_or(Ok(Record::default()), |noted| serde_json::from_str(noted).map_err(internal))
}

/// The plan with the extension's functions by the names of today: of those that are not called by a name that is all right.
fn restated(mut plan: Plan, recorded: &Record, owner: pg_sys::Oid) -> Result<Plan> {
    let members = Members::now()?;
    let stale: Vec<Call> = texts(&plan)
        .flat_map(|text| calls(text))
        .filter(|call| members.is_member(call) && call.schema != members.schema)
        .collect();
    let mut again = BTreeSet::new();
    for call in stale {
        let there = of_name(&call)?;
        // Somebody's own function may be called like one of the extension's.
        if there.is_empty() || odd(&there, recorded, owner).is_some() {
            again.insert((call.schema, call.function));
        }
    }
    for text in texts_mut(&mut plan) {
        *text = with_schemas(text, |call| {
            again.contains(&(call.schema.clone(), call.function.clone())).then(|| ident(&members.schema))
        });
    }
    Ok(plan)
}

/// What the merge rules and results of a plan call, for the columns of its table.
fn called_by_rules(plan: &Plan, target: &str) -> Result<Vec<Called>> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::read(
            "SELECT a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = $1::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped",
            &[target.into()],
            |row| Ok((row.must::<String>(1)?, row.must::<String>(2)?)),
        )?
    };
    let types: HashMap<String, String> = found.into_iter().collect();
    let null = |name: &String| types.get(name).map(|of_type| format!("(NULL::{of_type})"));
    let text = |c: &Column| -> Vec<String> {
        match &c.role {
            Role::Key => Vec::new(),
            Role::Value(m) => {
                let companion = |_: usize| m.companion.as_ref().and_then(&null);
                let two = |n: usize| if n <= 2 { null(&c.name) } else { companion(n) };
                let many = |n: usize| if n == 1 { null(&c.name) } else { companion(n) };
                vec![fill(&m.combine, two), fill(&m.unite, many)]
            }
            Role::Result { template, of, .. } => {
                vec![fill(template, |n| of.get(n.wrapping_sub(1)).and_then(&null))]
            }
        }
    };
    let all: Vec<String> = plan.columns.iter().flat_map(text).filter(|text| is_whole(text)).collect();
    match all.is_empty() {
        true => Ok(Vec::new()),
        false => Ok(called::outside(&format!("SELECT {}", all.join(", ")))),
    }
}

/// Whether every column that a text takes is there: where one is not, what runs says so.
fn is_whole(text: &str) -> bool {
    !text.contains('$')
}

/// What the query of a plan calls. Where it cannot be analysed, as a column of the source has gone, everything of the names
/// that it calls.
fn called_by_query(plan: &Plan, source: &str) -> Result<Vec<Called>> {
    let text = statements::aggregate_source(plan, source, "true", None, "");
    let analysed = in_subtransaction(AssertUnwindSafe(|| Ok(called::outside(&text))));
    if let Ok(found) = analysed {
        return Ok(found);
    }
    of_calls(plan.kept().map(|c| &c.expression).chain(&plan.filter))
}

/// What the views of a plan call that join lookup tables, as `called_by_query`.
fn called_by_views(plan: &Plan, target: &str) -> Result<Vec<Called>> {
    if plan.followed.is_none() {
        return Ok(Vec::new());
    }
    let text = plan.joined(&format!("SELECT {} FROM {target}", statements::kept_names(plan))).into_owned();
    match in_subtransaction(AssertUnwindSafe(|| Ok(called::outside(&text)))) {
        Ok(found) => Ok(found),
        Err(_) => of_calls(joined_keys(plan)),
    }
}

/// Everything of the names that texts call.
fn of_calls<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<Called>> {
    let mut found = Vec::new();
    for call in texts.flat_map(|text| calls(text)).filter(|call| !is_own_schema(&call.schema)) {
        found.extend(of_name(&call)?);
    }
    Ok(found)
}

/// The functions of a schema and a name.
fn of_name(call: &Call) -> Result<Vec<Called>> {
    let _acting = ActingAs::catalog();
    catalog::read(
        "SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 AND p.proname = $2",
        &[call.schema.as_str().into(), call.function.as_str().into()],
        |row| Ok(Called::function(row.must::<pg_sys::Oid>(1)?)),
    )
}

/// Records what a rollup calls that has just been made, or made anew, of `plan`. A name that was recorded stays with whom it
/// was.
pub fn note(id: i64, plan: &Plan, source: &str, target: &str) -> Result<()> {
    noted(id, plan, source, target, Record::is_usurped)
}

/// Records it again where names have changed, or where the record is of another database: nothing new may come.
pub fn note_again(d: &Definition, plan: &Plan) -> Result<()> {
    let (source, target, owner) = d.parts()?;
    let _acting = ActingAs::role(owner);
    noted(d.id, plan, source, target, |record, here, known| !record.holds(here, known))
}

/// The same where a dump has brought the rollup here.
pub fn settle(d: &Definition, plan: &Plan) -> Result<()> {
    let recorded = d.recorded()?;
    match recorded.called.is_empty() || recorded.home == Some(here()) {
        true => Ok(()),
        false => note_again(d, plan),
    }
}

fn noted(
    id: i64,
    plan: &Plan,
    source: &str,
    target: &str,
    is_odd: impl Fn(&Record, Home, &Known) -> bool,
) -> Result<()> {
    let before = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT d.name, d.routines::pg_catalog.text, c.relowner FROM rollup.definition d JOIN pg_catalog.pg_class c ON c.oid = $2::pg_catalog.regclass WHERE d.id = $1",
            &[id.into(), target.into()],
            |row| Ok((row.must::<String>(1)?, row.get::<String>(2)?, row.must::<pg_sys::Oid>(3)?)),
        )?
    };
    let Some((name, before, owner)) = before.into_iter().next() else { return Ok(()) };
    let found = {
        // To read a constant of a type may run code of the type's owner.
        let _acting = ActingAs::role(owner);
        let mut found = called_by_rules(plan, target)?;
        found.extend(called_by_query(plan, source)?);
        found.extend(called_by_views(plan, target)?);
        found.sort_unstable();
        found.dedup();
        found
    };
    let record = read(before.as_deref())?;
    drafted::check(&name, &found, owner)?;
    let called = strangers(&found, owner);
    if let Some(odd) = called.iter().find(|known| is_odd(&record, here(), known)) {
        return refused(&name, odd);
    }
    let record = serde_json::to_string(&Record { home: Some(here()), called }).map_err(internal)?;
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET routines = $2::pg_catalog.jsonb WHERE id = $1 AND routines IS DISTINCT FROM $2::pg_catalog.jsonb",
        &[id.into(), record.into()],
    )
}
