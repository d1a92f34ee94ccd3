//! A rollup whose query does not group by the column that its table is distributed by.
//!
//! Each node can make groups of its own rows only. So what is made is the rollup of the same query with that column among its
//! keys, whose name says so, and what was asked for is a level of it, by the name that was asked for: the groups without that
//! column, on the coordinator. The plan names that level, and where a rollup is named, so may it be.
use super::{Place, create, place};
use crate::pg::node;
use crate::pg::query::Select;
use crate::pg::xact::ActingAs;
use crate::rollup::catalog::Definition;
use crate::rollup::error::Result;
use crate::rollup::levels::Shape;
use crate::rollup::naming;
use crate::rollup::options::{Joining, Options};
use crate::rollup::{clock, definition, source};
use hll_rollup::sql::ident;
use hll_rollup::{Plan, from_clause, gathered};
use pgrx::prelude::*;

/// What is to be made instead of a rollup: its name, query and options.
pub struct Asked {
    /// The name.
    pub name: String,
    /// The query.
    pub text: String,
    /// The options.
    pub options: Options,
}

/// What is to be made where a rollup of this name, query and options is asked for.
pub fn of(name: &str, text: &str, mut options: Options) -> Result<Asked> {
    let as_it_is = |options| Ok(Asked { name: name.to_string(), text: text.to_string(), options });
    if !node::citus_loaded() || options.into.is_some() || options.joins != Joining::Refuse {
        return as_it_is(options);
    }
    clock::check_timezone(&options.timezone)?;
    let select = definition::analyse(text, &options.timezone)?;
    let Some(Place::Distributed(column)) = place(select.source)? else { return as_it_is(options) };
    let source = source::describe(select.source)?;
    let from = from_clause(select.joins.as_ref(), &source.qualified(), &select.alias);
    let plan = definition::plan(&select, &from, &options.timezone)?;
    let Some(width) = plan.bucket.width() else { return as_it_is(options) };
    if create::has_key(&column, &plan) || plan.column(&column).is_some() {
        return as_it_is(options);
    }
    let keys: Vec<String> =
        plan.keys().map(|c| &c.name).filter(|name| **name != plan.time_key).cloned().collect();
    for shape in options.coarser.values_mut() {
        shape.keys.get_or_insert_with(|| keys.clone());
    }
    options.coarser.insert(name.to_string(), Shape { width, keys: Some(keys) });
    let (schema, table) = naming::split(name, &source.schema)?;
    let finest = format!("{table}_by_{column}");
    ereport!(
        PgLogLevel::NOTICE,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!(
            "{name} is made on this node, of the groups that each node makes: those of rollup {finest}, which {column} is a key of"
        )
    );
    options.whole = Some(naming::name_in_catalog(&schema, &table, &source.schema)?);
    let text = gathered::with_key(&plan, &from, &column);
    Ok(Asked { name: format!("{}.{}", ident(&schema), ident(&finest)), text, options })
}

/// The query with that column among its keys, where it is one for a rollup that was made so and does not group by it.
pub fn again(d: &Definition, old: &Plan, select: &Select) -> Result<Option<String>> {
    let Some(Place::Distributed(column)) = old.whole.as_ref().map_or(Ok(None), |_| place(d.source_oid))?
    else {
        return Ok(None);
    };
    let (name, ..) = d.parts()?;
    let from = from_clause(select.joins.as_ref(), name, &select.alias);
    let _acting = d.owner.map(ActingAs::role);
    let plan = definition::plan(select, &from, &d.timezone)?;
    Ok((!create::has_key(&column, &plan)).then(|| gathered::with_key(&plan, &from, &column)))
}
