//! The SQL of the README and of docs/ runs as it stands, and prints what the page says it prints; tables of settings and
//! the function reference are what the server says.
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hll_lab::{Cluster, reference, root, settings};

/// A block of SQL, and the block of output that follows it, if one does.
struct Block<'a> {
    sql: &'a str,
    shown: Option<&'a str>,
}

/// The blocks of a page. None escapes: a fence is of a kind that runs here, or holds no SQL.
fn blocks<'a>(name: &str, page: &'a str) -> Vec<Block<'a>> {
    let mut found: Vec<Block> = Vec::new();
    let mut rest = page;
    // Where the text before a fence is blank, the fence belongs to the block above it.
    while let Some((before, fenced)) = rest.split_once("```") {
        without_sql(name, before.lines().filter_map(|line| line.strip_prefix("    ")));
        let (language, body) = fenced.split_once('\n').expect("a fence that opens ends its line");
        let (body, after) = body.split_once("```").expect("a fence that opens is closed");
        match language {
            "sql" => found.push(Block { sql: body, shown: None }),
            "text" => {
                let above =
                    found.last_mut().filter(|above| above.shown.is_none() && before.trim().is_empty());
                above.unwrap_or_else(|| panic!("{name}: output of no SQL:{body}")).shown = Some(body);
            }
            // The cluster's page runs where there is one: tests/citus.rs.
            "psql" if name == "citus.md" => {}
            "" => without_sql(name, body.lines()),
            other => panic!("{name}: a block of {other}"),
        }
        rest = after;
    }
    without_sql(name, rest.lines().filter_map(|line| line.strip_prefix("    ")));
    found
}

/// Lines that are set off, but not run.
fn without_sql<'a>(name: &str, mut lines: impl Iterator<Item = &'a str>) {
    const VERBS: [&str; 8] = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "SET"];
    let found = lines.find(|line| VERBS.contains(&line.trim_start().split(' ').next().unwrap_or_default()));
    assert_eq!(found, None, "{name}: SQL that does not run");
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|e| e == "md")));
    pages.sort();
    pages
}

/// One psql for the page, so that settings of the session last from block to block.
fn printed(cluster: &Cluster, db: &str, blocks: &[Block]) -> Result<Vec<String>, String> {
    const MARK: &str = "=== next block ===";
    let mut script = String::from("\\pset footer off\n");
    for block in blocks {
        writeln!(script, "\\echo {MARK}\n{}", block.sql).unwrap();
    }
    let mut psql = cluster
        .command("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", db, "-f", "-"])
        .env("PGTZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe closes when it is dropped, which is what ends psql.
    psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let done = psql.wait_with_output().unwrap();
    let out = String::from_utf8(done.stdout).unwrap();
    let parts: Vec<String> = out.split(&format!("{MARK}\n")).skip(1).map(str::to_string).collect();
    if done.status.success() {
        return Ok(parts);
    }
    let sql = blocks[parts.len().saturating_sub(1)].sql;
    Err(format!("{}in\n{sql}", String::from_utf8_lossy(&done.stderr)))
}

fn trimmed(text: &str) -> String {
    text.lines().map(|line| line.trim_end().to_string() + "\n").collect::<String>().trim_end().to_string()
}

#[test]
fn every_page_runs_and_prints_what_it_shows() {
    let cluster = Cluster::new().unwrap();
    let mut wrong = String::new();
    let mut shown = 0;
    for (number, path) in pages().iter().enumerate() {
        let name = path.file_name().unwrap().to_string_lossy();
        let page = fs::read_to_string(path).unwrap();
        let blocks = blocks(&name, &page);
        let without = ["architecture.md", "citus.md", "reference.md"];
        assert!(!blocks.is_empty() || without.contains(&&*name), "{name} has no SQL");
        let db = format!("page{number}");
        let mut client = cluster.connect("postgres").unwrap();
        client.batch_execute(&format!("CREATE DATABASE {db}")).unwrap();
        match printed(&cluster, &db, &blocks) {
            Err(message) => writeln!(wrong, "{name}: {message}").unwrap(),
            Ok(parts) => {
                for (block, got) in blocks.iter().zip(&parts) {
                    let Some(wanted) = block.shown else { continue };
                    shown += 1;
                    if trimmed(wanted) != trimmed(got) {
                        writeln!(wrong, "{name}: shown\n{wanted}\nprinted\n{got}").unwrap();
                    }
                }
            }
        }
    }
    for page in ["CHANGELOG.md", "docs/bench/figures.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        assert!(blocks(page, &text).is_empty(), "{page} is not run");
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(shown > 0, "no page shows what its SQL prints");
}

#[test]
fn the_example_runs_and_answers() {
    let cluster = Cluster::new().unwrap();
    cluster.connect("postgres").unwrap().batch_execute("CREATE DATABASE example").unwrap();
    let schema = fs::read_to_string(root().join("examples/http_request.sql")).unwrap();
    let questions =
        "INSERT INTO http_request (site_id, request_country, ip_address, status_code, response_time_msec)
        SELECT 1 + g % 2, (ARRAY['Peru', 'India'])[1 + g % 2], '10.0.0.' || g % 100, 200 + g % 5 / 4 * 300, 40
        FROM generate_series(1, 1000) g;
        SELECT * FROM http_request_last_hour ORDER BY site_id;
        SELECT rollup_http_request() \\g /dev/null
        SELECT site_id, requests, distinct_ip_addresses FROM http_request_daily ORDER BY site_id;";
    let asked = [Block { sql: &schema, shown: None }, Block { sql: questions, shown: None }];
    let parts = printed(&cluster, "example", &asked).unwrap_or_else(|e| panic!("{e}"));
    let rows: Vec<String> = parts[1]
        .lines()
        .filter(|line| line.trim_start().starts_with(char::is_numeric))
        .map(|line| line.replace(' ', ""))
        .collect();
    let wanted = [
        "1|500|100|40.0000000000000000|40|50|{\"Peru\":500}",
        "2|500|100|40.0000000000000000|40|50|{\"India\":500}",
        "1|500|50",
        "2|500|50",
    ];
    assert_eq!(rows, wanted, "{}", parts[1]);
}

#[test]
fn the_settings_table_is_what_the_server_says() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.connect("postgres").unwrap();
    let wanted = settings(&mut client).unwrap();
    assert!(wanted.len() >= 3, "{wanted:?}");
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let given: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(given, wanted, "docs/operations.md is old: make reference");
}

#[test]
fn the_reference_is_current() {
    let cluster = Cluster::new().unwrap();
    let made = reference(&mut cluster.database("reference").unwrap()).unwrap();
    assert!(made.contains("jsonb_counter_merge") && !made.contains("\n?"), "{made}");
    let kept = fs::read_to_string(root().join("docs/reference.md")).unwrap_or_default();
    assert!(kept == made, "docs/reference.md is old: make reference");
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for rest in page.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            let local = !target.is_empty() && !target.contains("://");
            if local && !path.parent().unwrap_or(Path::new(".")).join(target).exists() {
                dead.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}
