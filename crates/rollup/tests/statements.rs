//! What a plan becomes as text, compared with `statements.sql`, which is read like any change of the code.
//!
//! `ACCEPT=1 cargo test -p hll-rollup --test statements` writes that file.
use std::fmt::Write;
use std::path::Path;

use hll_rollup::{
    Bucket, Column, Frontier, Joined, Joins, Kind, Level, Merge, Missing, Plan, Role, Snapshot, State,
    gathered, live, newcomers, statements,
};

fn column(name: &str, sql_type: &str, expression: &str, role: Role) -> Column {
    Column {
        name: name.into(),
        sql_type: sql_type.into(),
        collation: None,
        written: expression.into(),
        expression: expression.into(),
        hidden: false,
        role,
    }
}

fn value(combine: &str, unite: &str, companion: Option<&str>, never_null: bool) -> Role {
    Role::Value(Merge {
        combine: combine.into(),
        unite: unite.into(),
        companion: companion.map(String::from),
        never_null,
    })
}

/// A rollup with a key of each kind, a value of each kind, and a result.
fn plan() -> Plan {
    let hour = "pg_catalog.date_trunc('hour', r.at, 'UTC')";
    let counts = value("$1 OPERATOR(pg_catalog.+) $2", "pg_catalog.sum($1)", None, true);
    let result = Role::Result { template: "$1 / $2".into(), of: vec!["ms".into(), "n".into()], stored: true };
    Plan {
        columns: vec![
            column("hour", "timestamp with time zone", hour, Role::Key),
            column("a \"site\"", "text", "r.site", Role::Key),
            column("n", "bigint", "pg_catalog.count(*)", counts),
            column(
                "ms",
                "bigint",
                "pg_catalog.sum(r.ms)",
                value("$1 OPERATOR(pg_catalog.+) $2", "pg_catalog.sum($1)", None, false),
            ),
            column(
                "status",
                "integer",
                "rollup.last(r.status, r.at)",
                value(
                    "CASE WHEN $3 > $4 THEN $1 ELSE $2 END",
                    "rollup.last($1, $2)",
                    Some("status_time"),
                    false,
                ),
            ),
            column("mean", "numeric", "", result),
            Column {
                hidden: true,
                ..column(
                    "status_time",
                    "timestamp with time zone",
                    "pg_catalog.max(r.at)",
                    value("greatest($1, $2)", "pg_catalog.max($1)", None, false),
                )
            },
        ],
        joins: None,
        followed: None,
        alias: "r".into(),
        filter: Some("r.status <> 404".into()),
        time_column: "at".into(),
        time_zoned: true,
        time_key: "hour".into(),
        bucket: Bucket::of_unit("hour"),
        plain_key: true,
        follows: None,
        keys_never_null: false,
        rows: Some("n".into()),
        whole: None,
    }
}

fn level(name: &str, unit: &str) -> Level {
    let bucket = Bucket::of_unit(unit);
    let expression = bucket.expression(Kind::Zoned, "UTC");
    Level { name: name.into(), target: format!("public.{name}"), bucket, expression, utc: true, keys: None }
}

/// The columns of a plan, and a result of a key.
fn with_label(plan: &Plan) -> Vec<Column> {
    let of = vec!["a \"site\"".into(), "n".into()];
    let role = Role::Result { template: "$1 || $2".into(), of, stored: true };
    let mut columns = plan.columns.clone();
    columns.push(column("label", "text", "", role));
    columns
}

/// What levels that drop keys become.
fn without_keys(plan: &Plan, state: &State, new: &str) -> Vec<(&'static str, String)> {
    let by_site = Level { keys: Some(vec!["a \"site\"".into()]), ..level("per_day_site", "day") };
    let whole = Level { keys: Some(Vec::new()), ..level("per_day_whole", "day") };
    let all_hours = Level {
        bucket: plan.bucket,
        expression: "$1".into(),
        keys: Some(Vec::new()),
        ..level("per_hour_whole", "hour")
    };
    let narrowed = [all_hours, level("per_day", "day"), by_site, whole];
    let with_label = Plan { columns: with_label(plan), ..plan.clone() };
    let lies = |key: &str| format!("{key} >= '2026-01-01'");
    vec![
        (
            "the table of a level without keys: what is computed from one is not there",
            statements::create_table(&with_label.of_level(Some(&narrowed[3])), "public.per_day_whole"),
        ),
        (
            "the merge of a run, with levels without keys",
            statements::merge_delta(&with_label, "public.per_hour", &narrowed, &[]),
        ),
        (
            "the merge of one statement, into a level without keys",
            statements::merge_directly(
                &with_label,
                "public.request",
                "public.per_day_whole",
                Some(&narrowed[3]),
                new,
            ),
        ),
        (
            "groups computed again, in a level without keys",
            statements::recomputed(plan, "public.request", state, Some(&narrowed[0]), lies),
        ),
        (
            "groups of several nodes, for levels that lie on one",
            gathered::gather(&with_label, "public.request", &narrowed[2..], new),
        ),
        ("the merge of these groups", gathered::merge_gathered(&with_label, &narrowed[2..])),
    ]
}

/// The same over a join.
fn joined(plan: &Plan) -> Plan {
    Plan {
        joins: Some(Joins::new(
            "$1 r JOIN ONLY $2 s USING (site)".into(),
            vec![
                Joined { id: 1, name: "public.request".into() },
                Joined { id: 2, name: "\"S\".site".into() },
            ],
        )),
        ..plan.clone()
    }
}

fn texts() -> String {
    let plan = plan();
    let levels = [level("per_day", "day"), level("per_week", "week"), level("per_month", "month")];
    let snapshot = |xmax, xip: &[i64]| Frontier::Server(Snapshot { xmax, xip: xip.to_vec() });
    let state = State::at(snapshot(107, &[105]));
    let new = hll_rollup::sql::new("\"r\".", &snapshot(90, &[]), &snapshot(107, &[105]));
    let joined = joined(&plan);
    let lies = |key: &str| format!("{key} >= '2026-01-01'");
    let late = ["hour < '2026-01-01'".to_string()];
    let came = newcomers::newcomers(&plan, "public.request", "the bounds", "who");
    let mut out = String::new();
    for (what, text) in [
        ("the table", statements::create_table(&plan, "public.per_hour")),
        ("the query as it would be written today", statements::query(&plan, "public.request")),
        ("groups of a run", statements::delta(&plan, "public.request", &new)),
        (
            "the merge of a run, with its levels",
            statements::merge_delta(&plan, "public.per_hour", &levels, &late),
        ),
        (
            "the merge of one statement, over a join",
            statements::merge_directly(&joined, "public.request", "public.per_hour", None, &new),
        ),
        (
            "groups computed again, in a level",
            statements::recomputed(&plan, "public.request", &state, Some(&levels[0]), lies),
        ),
        ("differences", statements::differences(&plan, "public.per_hour", "the groups", lies)),
        ("late rows", statements::count_late(&plan, "public.request", &new, &["hour < now()"])),
        (
            "what the live view reads",
            live::live_query(&plan, "public.per_hour", "the groups of unmerged rows"),
        ),
        ("newcomers", came.clone()),
        (
            "newcomers judged",
            newcomers::judged(
                &plan,
                "public.request",
                "public.per_hour",
                &came,
                "raw rows",
                "stored groups",
                ["expired", "lost"],
            ),
        ),
        ("newcomers merged", newcomers::merge_judged(&plan, "public.per_hour", &levels[..1], &[])),
    ]
    .into_iter()
    .chain(without_keys(&plan, &state, &new))
    {
        writeln!(out, "-- {what}\n{text};\n").unwrap();
    }
    out
}

#[test]
fn statements_are_as_written() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/statements.sql");
    let now = texts();
    if std::env::var_os("ACCEPT").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap();
    for (now, known) in now.lines().zip(known.lines()) {
        assert_eq!(now, known, "ACCEPT=1 accepts it");
    }
    assert_eq!(now, known);
}

/// Nothing is left open in what is run.
#[test]
fn every_place_of_a_rule_is_filled() {
    let text = texts();
    let open =
        text.match_indices('$').filter(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(open.count(), 0, "{text}");
}

#[test]
fn a_plan_is_stored_as_it_is() {
    let plan = plan();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    // What releases before have stored lacks what came after.
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    let fields = old.as_object_mut().unwrap();
    fields.retain(|field, _| !["plain_key", "follows", "rows"].contains(&field.as_str()));
    let old: Plan = serde_json::from_value(old).unwrap();
    assert_eq!(old, Plan { plain_key: false, follows: None, rows: None, ..plan });
}

/// A plan that names a column which it does not have is found out when it is read.
#[test]
fn a_plan_names_its_own_columns() {
    assert_eq!(plan().check(), Ok(()));
    for gone in ["hour", "n", "ms", "status_time"] {
        let mut plan = plan();
        plan.columns.retain(|c| c.name != gone);
        assert_eq!(plan.check(), Err(Missing(gone.into())));
    }
    for unused in ["mean", "status", "a \"site\""] {
        let mut plan = plan();
        plan.columns.retain(|c| c.name != unused);
        assert_eq!(plan.check(), Ok(()), "{unused}");
    }
}
