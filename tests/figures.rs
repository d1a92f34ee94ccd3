//! Charts and the README's figures are drawn from the page of measurements, and from nothing else.
use std::fs;

use hll_lab::{drawing, figures, root};

/// A page as `make bench` writes it.
const PAGE: &str = "# Measurements

## sketch

Measured on 2026-01-01 with PostgreSQL 15.9, a processor (2 cores).

Time of postgresql-hll 2.21 (C) divided by ours

| operation | C ms | ours ms | C / ours | alone | to reach |
|---|---|---|---|---|---|
| `hll_cardinality` SPARSE | 60.0 | 10.0 | 6.00 | 7.0 | 6 |
| `hll_union` FULL | 50.0 | 100.0 | 0.50 | | 12 |

## accuracy

| distinct | improved: bias | RMSE | classic: bias | RMSE |
|---|---|---|---|---|
| 200 | -0.02 | 1.00 | +0.00 | 1.00 |
| 4000 | +0.05 | 2.00 | +1.90 | 2.50 |
| 100000 | -0.10 | 2.00 | +0.10 | 2.10 |

## rollup

| work | ms | against ms | ratio |
|---|---|---|---|
| run over 1 M new rows | 900 | 450 plain GROUP BY | 2.00 x |
| idle run, 4.0 M raw rows | 0.50 | | |
| a day per site over http_request_1day | 1.00 | 800 over raw rows | 800 x faster |

## inserts

| rows | ms | ms without stamp | ratio | at most |
|---|---|---|---|---|
| 5,000, one a transaction | 120 | 100 | 1.20 | 1.05 |
";

fn chart(name: &str) -> String {
    let charts = figures::charts(PAGE);
    charts.into_iter().find(|(n, _, _)| *n == name).unwrap_or_else(|| panic!("no chart {name}")).2
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
fn the_readme_and_the_charts_are_those_of_the_page() {
    let read = |name: &str| fs::read_to_string(root().join(name));
    let page = read("docs/bench/figures.md").ok();
    let readme = read("README.md").unwrap();
    let block = figures::block(page.as_deref());
    assert_eq!(
        figures::with_block(&readme, &block).as_deref(),
        Some(readme.as_str()),
        "make bench writes it"
    );
    let charts = page.as_deref().map(figures::charts).unwrap_or_default();
    for (name, _, picture) in &charts {
        assert!(
            read(&format!("docs/bench/{name}.svg")).unwrap() == *picture,
            "{name}.svg is not of that page"
        );
    }
    let drawn = fs::read_dir(root().join("docs/bench")).into_iter().flatten();
    let drawn =
        drawn.filter(|entry| entry.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == "svg")));
    assert_eq!(drawn.count(), charts.len(), "pictures that are of no page");
    is_well_formed(&read("docs/story.svg").unwrap());
}
