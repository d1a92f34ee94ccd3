//! The plan of a rollup: the analysed SELECT as a typed document, kept in `rollup.definition`.
use super::error::{Result, fail};
use crate::pg::query::{Entry, Select, Target};
use pgrx::prelude::PgSqlErrorCode;
use serde::{Deserialize, Serialize};

/// How two values of one column become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// count: never NULL, a + b.
    Count,
    /// sum: a + b, NULL is nothing.
    Sum,
    /// The smaller.
    Min,
    /// The greater.
    Max,
    /// Both.
    And,
    /// Either.
    Or,
    /// Union of sketches.
    Hll,
    /// Key-wise sum of counters.
    Counter,
}

/// One column of the rollup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, qualified.
    pub sql_type: String,
    /// Its expression over the source.
    pub expression: String,
    /// None for a group key.
    pub merge: Option<Merge>,
    /// Schema of the aggregate; sketches and counters find their functions there.
    pub schema: String,
}

/// A rollup as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Columns in the order of the select list.
    pub columns: Vec<Column>,
    /// WHERE of the SELECT.
    pub filter: Option<String>,
    /// The date or time column of the source.
    pub time_column: String,
    /// The rollup's own time column.
    pub time_key: String,
    /// No group key can be NULL.
    pub keys_never_null: bool,
}

impl Plan {
    /// Makes the plan, or says what cannot be rolled up and what to write instead.
    pub fn of(select: &Select) -> Result<Plan> {
        let unsupported = PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED;
        if let Some(k) = select.hidden_keys.first() {
            return fail(
                PgSqlErrorCode::ERRCODE_INVALID_COLUMN_REFERENCE,
                format!("group key {k} is not in the select list"),
                "A rollup stores its keys: put the expression into the select list.",
            );
        }
        if select.filter_volatile {
            return fail(
                unsupported,
                "WHERE has a volatile function",
                "A row must be in the rollup or not, whenever it is looked at: filter on columns.",
            );
        }
        let columns = select.targets.iter().map(column).collect::<Result<Vec<_>>>()?;
        if !columns.iter().any(|c| c.merge.is_some()) {
            return fail(
                unsupported,
                "the query has no aggregate",
                "Add what to count or sum, such as count(*) AS request_count.",
            );
        }
        let time_keys: Vec<(&Target, &Vec<String>)> = select
            .targets
            .iter()
            .filter(|t| t.is_time)
            .filter_map(|t| match &t.entry {
                Entry::Key { time_columns, .. } if !time_columns.is_empty() => Some((t, time_columns)),
                _ => None,
            })
            .collect();
        let (key, time_columns) = match time_keys.as_slice() {
            [one] => *one,
            [] => {
                return fail(
                    PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                    "the query has no time key",
                    "Group by the time of the rows, as in date_trunc('minute', ingest_time) AS ingest_time.",
                );
            }
            [a, b, ..] => {
                return fail(
                    PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("the query has two time keys, {} and {}", a.0.name, b.0.name),
                    "Group by one of them.",
                );
            }
        };
        if time_columns.len() > 1 {
            return fail(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("time key {} is made of several columns: {}", key.name, time_columns.join(", ")),
                "Make it of one.",
            );
        }
        let keys_never_null =
            select.targets.iter().all(|t| !matches!(t.entry, Entry::Key { never_null: false, .. }));
        Ok(Plan {
            columns,
            filter: select.filter.clone(),
            time_column: time_columns[0].clone(),
            time_key: key.name.clone(),
            keys_never_null,
        })
    }

    /// The group keys.
    pub fn keys(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| c.merge.is_none())
    }

    /// The mergeable columns.
    pub fn values(&self) -> impl Iterator<Item = (&Column, Merge)> {
        self.columns.iter().filter_map(|c| c.merge.map(|m| (c, m)))
    }
}

fn column(t: &Target) -> Result<Column> {
    let unsupported = PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED;
    if t.volatile {
        return fail(
            unsupported,
            format!("column {} has a volatile function: {}", t.name, t.expression),
            "A rollup counts each row once, whenever that happens: use what the row holds.",
        );
    }
    let (merge, schema) = match &t.entry {
        Entry::Key { .. } => (None, String::new()),
        Entry::Other => {
            return fail(
                unsupported,
                format!("column {} is neither a group key nor a single aggregate: {}", t.name, t.expression),
                "Store the aggregates themselves, such as sum(x) and count(*), and compute with them in the query over the rollup.",
            );
        }
        Entry::Aggregate { function, schema, distinct, plain } => {
            if *distinct {
                return fail(
                    unsupported,
                    format!("column {}: {} cannot be merged", t.name, t.expression),
                    "Distinct values are counted by a sketch: hll_add_agg(hll_hash_text(x)) or hll_hash_bigint.",
                );
            }
            if !plain {
                return fail(
                    unsupported,
                    format!(
                        "column {}: {} depends on the order of rows, which a rollup does not keep",
                        t.name, t.expression
                    ),
                    "Use an aggregate without ORDER BY.",
                );
            }
            (Some(merge_rule(function, schema, t)?), schema.clone())
        }
    };
    Ok(Column {
        name: t.name.clone(),
        sql_type: t.sql_type.clone(),
        expression: t.expression.clone(),
        merge,
        schema,
    })
}

fn merge_rule(function: &str, schema: &str, t: &Target) -> Result<Merge> {
    let built_in = schema == "pg_catalog";
    Ok(match function {
        "count" if built_in => Merge::Count,
        "sum" if built_in => Merge::Sum,
        "min" if built_in => Merge::Min,
        "max" if built_in => Merge::Max,
        "bool_and" | "every" if built_in => Merge::And,
        "bool_or" if built_in => Merge::Or,
        "hll_add_agg" | "hll_union_agg" if !built_in => Merge::Hll,
        "jsonb_counter_agg" | "jsonb_counter_merge_agg" if !built_in => Merge::Counter,
        _ => {
            let hint = match function {
                "avg" => {
                    "An average cannot be merged: store sum(x) and count(x), and divide in the query over the rollup."
                }
                "array_agg" | "string_agg" | "json_agg" | "jsonb_agg" => {
                    "Lists grow without bound: count with jsonb_counter_agg(x) or hll_add_agg(hll_hash_text(x))."
                }
                "jsonb_object_agg" | "json_object_agg" => "Count per key with jsonb_counter_agg(key).",
                _ => {
                    "Aggregates that merge: count, sum, min, max, bool_and, bool_or, hll_add_agg, hll_union_agg, jsonb_counter_agg, jsonb_counter_merge_agg."
                }
            };
            return fail(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("column {}: aggregate {schema}.{function} has no known merge", t.name),
                hint,
            );
        }
    })
}
