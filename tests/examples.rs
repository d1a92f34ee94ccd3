//! The examples that other programs read: the Grafana dashboard asks what the README asks and every panel gets an
//! answer; messages in kcat's format come in once, however often they are given.
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use hll_lab::{Cluster, root, skip};
use hll_tests::{TABLE, number};
use serde_json::Value;

fn psql(cluster: &Cluster, db: &str, args: &[&str], input: &str) -> Result<(), String> {
    let mut child = cluster
        .command("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", db])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("examples/grafana.json")).unwrap()).unwrap()
}

/// Spaces do not matter to a query.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    panels
        .iter()
        .map(|p| {
            let text = |v: &Value| v.as_str().unwrap().to_string();
            (text(&p["title"]), text(&p["targets"][0]["rawSql"]))
        })
        .collect()
}

/// What Grafana puts in the macro's place.
fn expanded(sql: &str) -> String {
    let expanded = sql
        .replace(
            "$__timeFilter(ingest_time)",
            "ingest_time BETWEEN now() - interval '1 hour' AND now() + interval '1 hour'",
        )
        .replace("$__timeFrom()", "now() - interval '1 hour'")
        .replace("$__timeTo()", "now() + interval '1 hour'");
    assert!(!expanded.contains("$_"), "a macro that is not known here: {sql}");
    expanded
}

#[test]
fn every_panel_has_an_answer() {
    let cluster = Cluster::new().unwrap();
    cluster.connect("postgres").unwrap().batch_execute("CREATE DATABASE panels").unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let tour: String = readme
        .split("```sql\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```"))
        .map(|(sql, _)| sql)
        .collect();
    // Before the chapters that come after the tour.
    let tour = tour.split("CREATE TABLE daily").next().unwrap();
    psql(&cluster, "panels", &[], tour).unwrap_or_else(|e| panic!("{e}"));
    let mut client = cluster.connect("panels").unwrap();
    for (title, sql) in queries() {
        let rows = client.query(&expanded(&sql), &[]).unwrap_or_else(|e| panic!("{title}: {e:?}"));
        assert!(!rows.is_empty(), "{title}: no row");
        let columns: Vec<&str> = rows[0].columns().iter().map(|c| c.name()).collect();
        let series = dashboard()["panels"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["title"] == title.as_str() && p["targets"][0]["format"] == "time_series");
        assert_eq!(columns[0] == "time" && columns[1] == "metric", series, "{title}: {columns:?}");
    }
}

#[test]
fn the_panels_ask_what_the_readme_asks() {
    let readme = words(&fs::read_to_string(root().join("README.md")).unwrap());
    let asked = queries();
    let find = |title: &str| &asked.iter().find(|(t, _)| t == title).unwrap().1;
    let sites =
        find("Sites").replace("$__timeFilter(ingest_time)", "ingest_time > now() - interval '1 hour'");
    assert!(readme.contains(&words(&sites)), "{sites}");
    assert!(readme.contains(&words(find("Rollups"))));
    let busiest =
        find("Busiest URLs").replace("$__timeFilter(ingest_time)", "ingest_time > now() - interval '1 day'");
    assert!(readme.contains(&words(&busiest)), "{busiest}");
    for relation in ["http_request_1min_live", "http_request_1hour"] {
        assert!(readme.contains(&format!("FROM {relation} ")), "{relation}");
        assert!(asked.iter().any(|(_, sql)| words(sql).contains(&format!("FROM {relation} "))), "{relation}");
    }
}

/// A field's name, and what its value must be.
type Field<'a> = (&'a str, fn(&Value) -> bool);

/// Fields of an object, each with the kind of value that it has; all are there, and no others.
fn has(what: &str, object: &Value, fields: &[Field]) {
    let object = object.as_object().unwrap_or_else(|| panic!("{what} is no object"));
    for (name, holds) in fields {
        let value = object.get(*name).unwrap_or_else(|| panic!("{what}: no {name}"));
        assert!(holds(value), "{what}: {name} is {value}");
    }
    for name in object.keys() {
        assert!(fields.iter().any(|(known, _)| known == name), "{what}: {name} is not known");
    }
}

fn text(v: &Value) -> bool {
    v.as_str().is_some_and(|s| !s.is_empty())
}

fn source(v: &Value) -> bool {
    v["type"] == "grafana-postgresql-datasource" && v["uid"] == "${datasource}"
}

/// What a dashboard of schema version 39 is made of, as far as this one is.
#[test]
fn the_dashboard_is_one() {
    let dashboard = dashboard();
    has(
        "dashboard",
        &dashboard,
        &[
            ("uid", |v| v.as_str().is_some_and(|s| s.len() <= 40)),
            ("title", text),
            ("description", text),
            ("tags", |v| v.as_array().is_some_and(|a| a.iter().all(text))),
            ("schemaVersion", |v| v == 39),
            ("version", Value::is_u64),
            ("editable", Value::is_boolean),
            ("timezone", |v| ["browser", "utc"].contains(&v.as_str().unwrap_or_default())),
            ("refresh", text),
            ("time", |v| text(&v["from"]) && text(&v["to"])),
            ("graphTooltip", |v| v.as_u64().is_some_and(|n| n <= 2)),
            ("links", Value::is_array),
            ("annotations", |v| v["list"].is_array()),
            ("templating", |v| v["list"].is_array()),
            ("panels", |v| v.as_array().is_some_and(|a| !a.is_empty())),
        ],
    );
    let variable = &dashboard["templating"]["list"][0];
    assert_eq!((&variable["name"], &variable["type"]), (&"datasource".into(), &"datasource".into()));
    assert_eq!(variable["query"], "grafana-postgresql-datasource");
    let mut taken = [[false; 24]; 100];
    let mut ids = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        has(
            "panel",
            panel,
            &[
                ("id", Value::is_u64),
                ("type", |v| {
                    ["timeseries", "table", "barchart", "stat"].contains(&v.as_str().unwrap_or_default())
                }),
                ("title", text),
                ("description", text),
                ("gridPos", Value::is_object),
                ("datasource", source),
                ("fieldConfig", |v| v["defaults"].is_object() && v["overrides"].is_array()),
                ("options", Value::is_object),
                ("targets", |v| v.as_array().is_some_and(|a| a.len() == 1)),
            ],
        );
        has(
            "target",
            &panel["targets"][0],
            &[
                ("refId", text),
                ("datasource", source),
                ("format", |v| ["table", "time_series"].contains(&v.as_str().unwrap_or_default())),
                ("editorMode", |v| v == "code"),
                ("rawQuery", |v| v == true),
                ("rawSql", text),
            ],
        );
        assert!(!ids.contains(&&panel["id"]), "two panels have id {}", panel["id"]);
        ids.push(&panel["id"]);
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap() as usize;
        for line in taken.iter_mut().skip(at("y")).take(at("h")) {
            for cell in &mut line[at("x")..at("x") + at("w")] {
                assert!(!std::mem::replace(cell, true), "{} lies on another panel", panel["title"]);
            }
        }
    }
}

/// Whether the compiler finds that text a dashboard by Grafana's own types, or what it says.
fn typed(folder: &Path, name: &str, dashboard: &str) -> Result<(), String> {
    // A literal in place: only there are fields refused that no type knows.
    let program = format!(
        "import type {{ Dashboard }} from '@grafana/schema';\nexport const it: Dashboard = {dashboard};\n"
    );
    let file = folder.join(name);
    fs::write(&file, program).unwrap();
    let done = Command::new(folder.join("node_modules/.bin/tsc"))
        .args(["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext"])
        .arg(&file)
        .output()
        .unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stdout).into_owned()) }
}

#[test]
fn the_dashboard_is_one_by_grafanas_types() {
    let folder = root().join("target/grafana");
    if !folder.join("node_modules/.bin/tsc").exists() {
        return skip("Grafana's types are not there: make setup-test");
    }
    let text = fs::read_to_string(root().join("examples/grafana.json")).unwrap();
    typed(&folder, "dashboard.ts", &text).unwrap_or_else(|e| panic!("{e}"));
    for (right, wrong) in [
        ("\"graphTooltip\": 1", "\"graphTooltip\": 7"),
        ("\"gridPos\"", "\"position\""),
        ("\"h\": 9", "\"h\": \"9\""),
    ] {
        assert!(text.contains(right), "{right}");
        let said = typed(&folder, "wrong.ts", &text.replace(right, wrong)).expect_err(wrong);
        assert!(said.contains("error TS2"), "{wrong}: {said}");
    }
}

#[test]
fn messages_come_in_once() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("kafka").unwrap();
    client.batch_execute(&TABLE.replace("ip_address text", "url text, ip_address text")).unwrap();
    client
        .batch_execute(
            "SELECT rollup.create('by_country', 'SELECT date_trunc(''hour'', ingest_time) AS hour, count(*) AS n,
                jsonb_counter_agg(request_country) AS countries FROM http_request GROUP BY 1', every => '1 second');
             CREATE TABLE kafka_offset (partition int PRIMARY KEY, next bigint NOT NULL)",
        )
        .unwrap();
    // The account of the server's programs need not be able to read the tree.
    let script = cluster.socket().join("kafka_ingest.sql");
    fs::copy(root().join("examples/kafka_ingest.sql"), &script).unwrap();
    let file = fs::read_to_string(root().join("tests/data/kcat.tsv")).unwrap();
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let messages = lines.iter().filter(|line| line.trim_end().ends_with('}')).count() as i64;
    let give = |text: &str| psql(&cluster, "kafka", &["-f", script.to_str().unwrap()], text);
    let state = |client: &mut postgres::Client| {
        let offsets = client.query("SELECT next FROM kafka_offset ORDER BY partition", &[]).unwrap();
        let offsets: Vec<i64> = offsets.iter().map(|row| row.get(0)).collect();
        (number(client, "SELECT count(*) FROM http_request"), offsets)
    };

    give("").unwrap();
    assert_eq!(state(&mut client), (0, vec![]));
    give(&lines[..9].concat()).unwrap();
    assert_eq!(state(&mut client), (9, vec![5, 4]));
    // Cut off inside a message: nothing of it, nothing of those before it.
    let cut = lines[5..20].concat();
    let error = give(&cut[..cut.len() - 30]).unwrap_err();
    assert!(error.contains("invalid input syntax for type json") && error.contains("line 15"), "{error}");
    assert_eq!(state(&mut client), (9, vec![5, 4]));
    // From before where it stopped, some of it twice, in no order.
    let mut again: Vec<&str> = [&lines[3..], &lines[6..12]].concat();
    again.reverse();
    give(&again.concat()).unwrap();
    assert_eq!(state(&mut client), (messages, vec![26, 25]));
    // All of it, by two at once.
    std::thread::scope(|scope| {
        let both = [
            scope.spawn(|| psql(&cluster, "kafka", &["-f", script.to_str().unwrap()], &file)),
            scope.spawn(|| psql(&cluster, "kafka", &["-f", script.to_str().unwrap()], &file)),
        ];
        both.into_iter().for_each(|one| one.join().unwrap().unwrap());
    });
    assert_eq!(state(&mut client), (messages, vec![26, 25]));

    let odd = "SELECT count(*) FROM http_request WHERE url IN ('/a\"quoted\"\\back\\slash', E'/tab\\there\\nand a new line', '/größe/日本')
        OR url = '/page/9' AND ingest_time = '2026-01-01 00:00:04Z'";
    assert_eq!(number(&mut client, odd), 4);
    let stamps = "SELECT count(DISTINCT rollup_stamp) FROM http_request";
    assert_eq!(number(&mut client, stamps), 2);
    hll_lab::wait_for("the rollup has every message", 30, || {
        number(&mut client, "SELECT coalesce(sum(n), 0)::bigint FROM by_country") == messages
    });
    let counted = "SELECT count(*) FROM rollup.check('by_country')";
    assert_eq!(number(&mut client, counted), 0);
}
