//! The page of measurements, the charts and the README's block are drawn of the figures that are kept, and of nothing else.
use std::fs;

use hll_lab::figures::{self, Figures};
use hll_lab::{charts, drawing, root};

/// Figures as `make bench` keeps them.
const FIGURES: &str = r#"{"parts": {
  "sketch": {"measured": {"date": "2026-01-01", "postgresql": "PostgreSQL 15.9", "machine": "a processor (2 cores)"}, "blocks": [
    {"table": {"title": "Time of postgresql-hll 2.21 (C) divided by ours", "columns": ["operation", "C ms", "ours ms", "C / ours", "alone", "to reach"],
      "rows": [
        ["`hll_cardinality` SPARSE", {"value": 60.04, "decimals": 1}, {"value": 10.0, "decimals": 1}, {"value": 6.0, "decimals": 2},
         {"value": 7.0, "decimals": 1, "before": ">"}, {"value": 6, "decimals": 0}],
        ["`hll_union` FULL", {"value": 50.0, "decimals": 1}, {"value": 100.0, "decimals": 1}, {"value": 0.5, "decimals": 2}, "", {"value": 12, "decimals": 0}]]}},
    {"note": {"text": "2 parallel workers against one process: 216 ms / 102 ms", "values": {"one_process_ms": 216.4, "two_workers_ms": 102.1}}}]},
  "accuracy": {"measured": {"date": "2026-01-02", "postgresql": "PostgreSQL 15.9", "machine": "a processor (2 cores)"}, "blocks": [
    {"table": {"title": "Error of the estimate in percent", "columns": ["distinct", "improved: bias", "RMSE", "classic: bias", "RMSE"], "rows": [
      [{"value": 200, "decimals": 0}, {"value": -0.02, "decimals": 2, "signed": true}, {"value": 1, "decimals": 2}, {"value": 0, "decimals": 2, "signed": true}, {"value": 1, "decimals": 2}],
      [{"value": 4000, "decimals": 0}, {"value": 0.05, "decimals": 2, "signed": true}, {"value": 2, "decimals": 2}, {"value": 1.9, "decimals": 2, "signed": true}, {"value": 2.5, "decimals": 2}],
      [{"value": 100000, "decimals": 0}, {"value": -0.1, "decimals": 2, "signed": true}, {"value": 2, "decimals": 2}, {"value": 0.1, "decimals": 2, "signed": true}, {"value": 2.1, "decimals": 2}]]}}]},
  "rollup": {"measured": {"date": "2026-01-02", "postgresql": "PostgreSQL 15.9", "machine": "a processor (2 cores)"}, "blocks": [
    {"table": {"title": "Rollup", "columns": ["work", "ms", "against ms", "ratio"], "rows": [
      ["run over 1 M new rows", {"value": 900, "decimals": 0}, {"value": 450, "decimals": 0, "after": "plain GROUP BY"}, {"value": 2, "decimals": 2, "after": "x"}],
      ["idle run, 4.0 M raw rows", {"value": 0.5, "decimals": 2}, "", ""],
      ["a day per site over http_request_1day", {"value": 1, "decimals": 2}, {"value": 800, "decimals": 0, "after": "over raw rows"}, {"value": 800, "decimals": 0, "after": "x faster"}]]}}]},
  "inserts": {"measured": {"date": "2026-01-02", "postgresql": "PostgreSQL 15.9", "machine": "a processor (2 cores)"}, "blocks": [
    {"table": {"title": "Inserts", "columns": ["rows", "ms", "ms without stamp", "ratio", "at most"], "rows": [
      ["5,000, one a transaction", {"value": 120, "decimals": 0}, {"value": 100, "decimals": 0}, {"value": 1.2, "decimals": 2}, {"value": 1.05, "decimals": 2}]]}}]}
}}"#;

fn sample() -> Figures {
    serde_json::from_str(FIGURES).unwrap()
}

fn chart(name: &str) -> String {
    let charts = charts::charts(&sample());
    charts.into_iter().find(|(n, _, _)| *n == name).unwrap_or_else(|| panic!("no chart {name}")).2
}

#[test]
fn the_page_has_the_figures_as_they_are_written() {
    let page = charts::page(&sample());
    for line in [
        "Measured on 2026-01-01 with PostgreSQL 15.9, a processor (2 cores).",
        "| `hll_cardinality` SPARSE | 60.0 | 10.0 | 6.00 | > 7.0 | 6 |",
        "| `hll_union` FULL | 50.0 | 100.0 | 0.50 |  | 12 |",
        "2 parallel workers against one process: 216 ms / 102 ms",
        "| 4000 | +0.05 | 2.00 | +1.90 | 2.50 |",
        "| run over 1 M new rows | 900 | 450 plain GROUP BY | 2.00 x |",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\n{page}");
    }
    // What is kept is what was read: nothing is lost between two parts that are measured.
    let again: Figures = serde_json::from_str(&serde_json::to_string(&sample()).unwrap()).unwrap();
    assert_eq!(charts::page(&again), page);
    assert!(serde_json::from_str::<Figures>(&FIGURES.replace("\"machine\"", "\"host\"")).is_err());
}

/// Every element that opens closes, and no number is missing.
fn is_well_formed(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag that ends");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name), "{svg}"),
            (false, false) => open.push(name),
            (false, true) => {}
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(
        open.is_empty() && svg.starts_with("<svg ") && !svg.contains("NaN") && !svg.contains("inf"),
        "{svg}"
    );
}

fn lengths(svg: &str) -> Vec<f64> {
    let bars = svg.lines().filter_map(|line| line.strip_prefix("<rect x=")?.split_once("width=\""));
    bars.map(|(_, rest)| rest.split('"').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn bars_are_as_long_as_their_numbers() {
    let svg = chart("sketch");
    is_well_formed(&svg);
    assert_eq!(lengths(&svg), [360.0, 30.0], "6 and 0.5");
    assert!(svg.contains(">hll_cardinality SPARSE<") && svg.contains(">6.0<"), "{svg}");
    let svg = chart("rollup");
    is_well_formed(&svg);
    assert_eq!(lengths(&svg), [360.0, 180.0], "900 and 450");
    assert!(svg.contains(">plain GROUP BY<") && svg.contains(">450 ms<"));
    assert!(chart("dashboard").contains(">800<"));
    assert_eq!(lengths(&chart("inserts")), [360.0, 300.0], "120 and 100");
}

#[test]
fn curves_pass_through_their_points() {
    let svg = chart("accuracy");
    is_well_formed(&svg);
    let classic = svg.lines().filter(|line| line.starts_with("<polyline")).nth(1).unwrap();
    let points = classic.split('"').nth(1).unwrap();
    assert!(
        points.starts_with("70.0,") && points.contains(",60.0 ") && points.contains("630.0,"),
        "{points}"
    );
}

#[test]
fn a_terminal_shows_its_lines() {
    let svg = drawing::terminal("make demo", &["a < b & c", "  site   requests"]);
    is_well_formed(&svg);
    assert!(svg.contains(">a &lt; b &amp; c<") && svg.contains(">  site   requests<"), "{svg}");
}

#[test]
fn page_readme_and_charts_are_those_of_the_figures() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let kept = figures::kept().unwrap();
    assert!(!kept.parts.is_empty(), "docs/bench/figures.json has figures");
    assert!(kept.parts.keys().all(|part| figures::PARTS.contains(&part.as_str())), "{:?}", kept.parts.keys());
    assert_eq!(read("docs/bench/figures.md"), charts::page(&kept), "make figures draws it");
    let readme = read("README.md");
    let block = charts::block(&kept);
    assert_eq!(
        charts::with_block(&readme, &block).as_deref(),
        Some(readme.as_str()),
        "make figures draws it"
    );
    let charts = charts::charts(&kept);
    for (name, _, picture) in &charts {
        assert!(read(&format!("docs/bench/{name}.svg")) == *picture, "{name}.svg is not of these figures");
    }
    let drawn = fs::read_dir(root().join("docs/bench")).unwrap().map(|entry| entry.unwrap().path());
    let drawn = drawn.filter(|path| path.extension().is_some_and(|x| x == "svg"));
    assert_eq!(drawn.count(), charts.len(), "pictures that are of no figures");
    is_well_formed(&read("docs/story.svg"));
}
