//! From the analysed SELECT to the plan: keys, values that merge, and results computed from them.
use super::error::{Result, fail, internal, report};
use super::reach;
use super::rules::{self, Rule};
use super::time_key;
use crate::pg::query::{self, Aggregate, Entry, Part, Select, Target, Unsteady};
use crate::pg::reach::TimeType;
use hll_rollup::sql::{STAMP, ident};
use hll_rollup::{Bucket, Column, Kind, Merge, Plan, Role, fill};
use pgrx::prelude::*;

const UNSUPPORTED: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED;

/// Reads `text` as PostgreSQL does, or says what cannot be rolled up.
pub fn analyse(text: &str, zone: &str) -> Result<Select> {
    let mut select = query::analyse(text, zone).map_err(|u| report(UNSUPPORTED, u.what, u.hint))?;
    rules::write_parameters(&mut select);
    // What is volatile is refused by its column.
    let volatile = select.filter_volatile || select.targets.iter().any(|t| t.volatile);
    match &select.unsteady {
        Some((what, Unsteady::Session)) if !volatile => fail(
            UNSUPPORTED,
            format!("{what} depends on the session or on the moment, not on the row alone"),
            "A rollup counts each row once, whoever runs it and whenever: use what the row holds. Clock times are those of the rollup's \
             time zone in casts to date, time and timestamp, in extract and to_char(time, format); AT TIME ZONE with a constant names another.",
        ),
        Some((what, Unsteady::Perhaps)) => {
            ereport!(
                PgLogLevel::WARNING,
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("{what} has a function that is STABLE, not IMMUTABLE"),
                "A row counts as what the function gives when the row is rolled up; the live view may say otherwise before."
            );
            Ok(select)
        }
        _ => Ok(select),
    }
}

/// Makes the plan, or says what cannot be rolled up and what to write instead. `from` is the FROM clause to look
/// parts of aggregates up in.
pub fn plan(select: &Select, from: &str, zone: &str) -> Result<Plan> {
    if let Some(k) = select.hidden_keys.first() {
        return fail(
            PgSqlErrorCode::ERRCODE_INVALID_COLUMN_REFERENCE,
            format!("group key {k} is not in the select list"),
            "A rollup stores its keys: put the expression into the select list.",
        );
    }
    if select.filter_volatile {
        return fail(
            UNSUPPORTED,
            "WHERE or ON has a volatile function",
            "A row must be in the rollup or not, whenever it is looked at: filter on columns.",
        );
    }
    let mut columns = columns(&select.targets, Vec::new(), from, zone)?;
    if !columns.iter().any(|c| c.merge().is_some()) {
        return fail(
            UNSUPPORTED,
            "the query has no aggregate",
            "Add what to count or sum, such as count(*) AS request_count.",
        );
    }
    let (key, time_column) = time_key::of(&select.targets)?;
    let Entry::Key { bucket, zoned, plain, .. } = &key.entry else {
        return Err(internal("the time key is no key"));
    };
    let keys_never_null =
        select.targets.iter().all(|t| !matches!(t.entry, Entry::Key { never_null: false, .. }));
    let bucket = time_key::bucket_of(bucket.as_ref(), &key.sql_type, zone)?;
    if *plain
        && let (Some(kind), Some(time)) = (Kind::of(&key.sql_type), TimeType::of(select.source, &time_column))
        && let Some(column) = columns.iter_mut().find(|c| c.name == key.name)
    {
        let expression = &column.expression;
        let (alias, name) = (ident(&select.alias), ident(&time_column));
        let of = |at: &str| {
            format!("(SELECT {expression} FROM (SELECT {at}::{} AS {name}) AS {alias})", time.name())
        };
        column.expression = reach::guarded(time, kind, zone, &format!("{alias}.{name}"), expression, of)?;
    }
    let plan = Plan {
        bucket,
        plain_key: *plain && bucket != Bucket::Unknown && Kind::of(&key.sql_type).is_some(),
        follows: None,
        columns,
        joins: select.joins.clone(),
        followed: None,
        alias: select.alias.clone(),
        filter: select.filter.clone(),
        time_column,
        time_zoned: *zoned,
        time_key: key.name.clone(),
        keys_never_null,
        rows: None,
        whole: None,
    };
    plan.check().map_err(internal)?;
    Ok(plan)
}

/// Sees that a column counts the rows of each group, a hidden one where the query has none: by it is told whether rows that
/// come in another way were counted.
pub fn count_rows(plan: &mut Plan, from: &str, zone: &str) -> Result<()> {
    let calls = query::aggregates(&format!("SELECT pg_catalog.count(*) FROM {from}"), zone)
        .map_err(|u| report(UNSUPPORTED, u.what, u.hint))?;
    let call = calls.first().ok_or_else(|| internal("count(*) is no aggregate"))?;
    let reserved = plan.columns.iter().map(|c| c.name.clone()).collect();
    let there = std::mem::take(&mut plan.columns);
    let mut b = Builder { visible: Vec::new(), hidden: Vec::new(), there, reserved, from, zone };
    let (_, names) = b.part(call, &Label { column: None, target: "row", label: "count" })?;
    plan.columns = b.there;
    plan.columns.extend(b.hidden);
    plan.rows = names.into_iter().next();
    Ok(())
}

/// Columns of the select list, each after those that are there, and the hidden ones they need at the end.
pub fn columns(targets: &[Target], there: Vec<Column>, from: &str, zone: &str) -> Result<Vec<Column>> {
    let mut names: Vec<&str> =
        targets.iter().map(|t| t.name.as_str()).chain(there.iter().map(|c| c.name.as_str())).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return fail(
            PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
            format!("two columns are called {}", twice[0]),
            "Name each: expression AS name.",
        );
    }
    if let Some(t) = targets.iter().find(|t| t.name == STAMP) {
        return fail(
            PgSqlErrorCode::ERRCODE_RESERVED_NAME,
            format!("column {} has a name that the engine needs", t.name),
            "Call it something else.",
        );
    }
    let reserved = names.iter().map(|n| n.to_string()).collect();
    let mut b = Builder { visible: Vec::new(), hidden: Vec::new(), there, reserved, from, zone };
    // What merges by itself comes first, so that results find it.
    for t in targets {
        let column = b.key_or_value(t)?;
        b.visible.push(column);
    }
    for (at, t) in targets.iter().enumerate() {
        if b.visible[at].is_none() {
            b.visible[at] = Some(b.result(t)?);
        }
    }
    let mut all = b.there;
    all.extend(b.visible.into_iter().flatten());
    all.extend(b.hidden);
    Ok(all)
}

struct Builder<'a> {
    there: Vec<Column>,
    visible: Vec<Option<Column>>,
    hidden: Vec<Column>,
    reserved: Vec<String>,
    from: &'a str,
    zone: &'a str,
}

/// How a part is called: after the column it is over, or after what it is a part of.
struct Label<'a> {
    column: Option<&'a str>,
    target: &'a str,
    label: &'a str,
}

impl Builder<'_> {
    fn key_or_value(&mut self, t: &Target) -> Result<Option<Column>> {
        if t.volatile {
            return fail(
                UNSUPPORTED,
                format!("column {} has a volatile function: {}", t.name, t.written),
                "A rollup counts each row once, whenever that happens: use what the row holds.",
            );
        }
        let column = |expression: &str, role| Column {
            name: t.name.clone(),
            sql_type: t.sql_type.clone(),
            collation: t.collation.clone(),
            written: t.written.clone(),
            expression: expression.to_string(),
            hidden: false,
            role,
        };
        match &t.entry {
            Entry::Key { .. } if !t.sortable => fail(
                UNSUPPORTED,
                format!("group key {} is of type {}, which has no order", t.name, t.sql_type),
                "Keys are found through an index: group by the value as text.",
            ),
            Entry::Key { .. } => Ok(Some(column(&t.expression, Role::Key))),
            Entry::Value { parts, .. } => {
                let (1, Some(Part::Aggregate(a)), "$1") = (parts.len(), parts.first(), t.expression.as_str())
                else {
                    return Ok(None);
                };
                rules::check_call(&t.name, a)?;
                match rules::find(&a.signature)? {
                    Some(Rule::Whole { merge, .. }) => {
                        let merge = self.with_companion(merge, a, &t.name)?;
                        Ok(Some(column(&a.text, Role::Value(merge))))
                    }
                    // Made of one that merges, and nothing else: that is kept.
                    Some(Rule::Made { parts, result, .. }) if parts.len() == 1 && result == "$1" => {
                        let calls = self.over_the_same(&parts, a)?;
                        match calls
                            .first()
                            .map(|call| Ok((call, rules::find(&call.signature)?)))
                            .transpose()?
                        {
                            Some((call, Some(Rule::Whole { merge, .. }))) => {
                                let merge = self.with_companion(merge, call, &t.name)?;
                                Ok(Some(column(&call.text, Role::Value(merge))))
                            }
                            _ => Ok(None),
                        }
                    }
                    Some(Rule::Made { .. }) => Ok(None),
                    None => rules::unknown(&t.name, a),
                }
            }
        }
    }

    fn result(&mut self, t: &Target) -> Result<Column> {
        let Entry::Value { parts, immutable } = &t.entry else { return Err(internal("a key is no result")) };
        if parts.is_empty() {
            return fail(
                UNSUPPORTED,
                format!("column {} is no expression over group keys and aggregates: {}", t.name, t.written),
                "Group by what it is made of, or aggregate it.",
            );
        }
        let (mut of, mut texts) = (Vec::new(), Vec::new());
        for part in parts {
            let (template, columns) = match part {
                Part::Key(name) => ("$1".to_string(), vec![name.clone()]),
                Part::Aggregate(a) => {
                    self.part(a, &Label { column: a.column.as_deref(), target: &t.name, label: "" })?
                }
            };
            let places: Vec<usize> = columns
                .into_iter()
                .map(|c| {
                    of.iter().position(|o| *o == c).unwrap_or_else(|| {
                        of.push(c);
                        of.len() - 1
                    })
                })
                .collect();
            texts.push(fill(&template, |n| places.get(n.wrapping_sub(1)).map(|p| format!("${}", p + 1))));
        }
        Ok(Column {
            name: t.name.clone(),
            sql_type: t.sql_type.clone(),
            collation: t.collation.clone(),
            written: t.written.clone(),
            expression: String::new(),
            hidden: false,
            role: Role::Result {
                template: fill(&t.expression, |n| texts.get(n.wrapping_sub(1)).cloned()),
                of,
                stored: *immutable,
            },
        })
    }

    /// An aggregate call as an expression over columns, which come into being where they are not there.
    fn part(&mut self, a: &Aggregate, label: &Label) -> Result<(String, Vec<String>)> {
        rules::check_call(label.target, a)?;
        match rules::find(&a.signature)? {
            None => rules::unknown(label.target, a),
            Some(Rule::Whole { merge, label: own }) => {
                let called = if label.label.is_empty() { own.as_str() } else { label.label };
                let name = self.kept(a, merge, &Label { label: called, ..*label })?;
                Ok(("$1".into(), vec![name]))
            }
            Some(Rule::Made { parts, labels, result }) => {
                let calls = self.over_the_same(&parts, a)?;
                let mut names = Vec::new();
                for (call, part_label) in calls.iter().zip(&labels) {
                    let inner =
                        Label { column: a.column.as_deref(), target: label.target, label: part_label };
                    let (_, columns) = self.part(call, &inner)?;
                    names.extend(columns);
                }
                Ok((format!("({result})"), names))
            }
        }
    }

    /// The column that holds this aggregate.
    fn kept(&mut self, a: &Aggregate, merge: Merge, label: &Label) -> Result<String> {
        let mut all = self.there.iter().chain(self.visible.iter().flatten()).chain(&self.hidden);
        if let Some(c) =
            all.find(|c| c.merge().is_some() && c.expression == a.text && c.sql_type == a.sql_type)
        {
            return Ok(c.name.clone());
        }
        let name = match label.column.filter(|_| a.filter.is_none()) {
            _ if a.arguments.is_empty() && a.filter.is_none() => self.free("row", label.label),
            Some(column) => self.free(column, label.label),
            None => self.free(label.target, label.label),
        };
        let merge = self.with_companion(merge, a, &name)?;
        self.hidden.push(Column {
            name: name.clone(),
            sql_type: a.sql_type.clone(),
            collation: a.collation.clone(),
            written: a.text.clone(),
            expression: a.text.clone(),
            hidden: true,
            role: Role::Value(merge),
        });
        Ok(name)
    }

    fn with_companion(&mut self, mut merge: Merge, a: &Aggregate, of: &str) -> Result<Merge> {
        if let Some(call) = merge.companion.take() {
            let calls = self.over_the_same(std::slice::from_ref(&call), a)?;
            let companion = calls.first().ok_or_else(|| internal("a companion is no aggregate"))?;
            let (_, names) = self.part(companion, &Label { column: Some(of), target: of, label: "time" })?;
            merge.companion = names.into_iter().next();
        }
        Ok(merge)
    }

    /// The calls of a rule over the arguments and the FILTER of `a`, as PostgreSQL reads them.
    fn over_the_same(&self, calls: &[String], a: &Aggregate) -> Result<Vec<Aggregate>> {
        let filter = a.filter.as_ref().map_or(String::new(), |f| format!(" FILTER (WHERE {f})"));
        let argument = |n: usize| a.arguments.get(n.wrapping_sub(1)).map(|t| format!("({t})"));
        let calls: Vec<String> = calls.iter().map(|c| fill(c, argument) + &filter).collect();
        let text = format!("SELECT {} FROM {}", calls.join(", "), self.from);
        query::aggregates(&text, self.zone).map_err(|u| report(UNSUPPORTED, u.what, u.hint))
    }

    /// A name that no other column has, within the length that names may have.
    fn free(&mut self, stem: &str, label: &str) -> String {
        let mut number = 1;
        loop {
            let suffix = if number == 1 { format!("_{label}") } else { format!("_{label}_{number}") };
            let mut end = stem.len().min(63usize.saturating_sub(suffix.len()));
            while !stem.is_char_boundary(end) {
                end -= 1;
            }
            let name = format!("{}{suffix}", &stem[..end]);
            if !self.reserved.contains(&name) {
                self.reserved.push(name.clone());
                return name;
            }
            number += 1;
        }
    }
}
