//! The page of measurements, `docs/bench/figures.md`, and what is made of it alone: charts, and the README's block.
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use crate::{Outcome, drawing, root};

const BEGIN: &str = "<!-- what `make bench` measured -->\n";
const END: &str = "<!-- end -->\n";
const HEAD: &str = "# Measurements\n\nWritten by `make bench`, as are the charts beside it, which are drawn from these tables.\n";
/// The parts of the page, in order.
pub const PARTS: [&str; 6] = ["sketch", "accuracy", "counters", "percentiles", "rollup", "inserts"];

static SAID: Mutex<String> = Mutex::new(String::new());

/// Prints a line and remembers it.
pub fn say(line: &str) {
    println!("{line}");
    let mut said = SAID.lock().unwrap_or_else(|e| e.into_inner());
    said.push_str(line);
    said.push('\n');
}

/// What was said since this was asked last.
pub fn said() -> String {
    std::mem::take(&mut *SAID.lock().unwrap_or_else(|e| e.into_inner()))
}

/// A table of the page.
#[derive(Debug)]
pub struct Table {
    /// The paragraph before it.
    pub title: String,
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Its cells.
    pub rows: Vec<Vec<String>>,
}

fn cells(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
}

/// The tables of a part of the page.
pub fn tables(page: &str, part: &str) -> Vec<Table> {
    let heading = format!("\n## {part}\n");
    let text = page.split_once(&heading).map_or("", |(_, rest)| rest.split("\n## ").next().unwrap_or(""));
    let (mut found, mut title, mut open) = (Vec::<Table>::new(), "", false);
    for line in text.lines() {
        if !line.starts_with('|') {
            open = false;
            if !line.trim().is_empty() {
                title = line.trim();
            }
        } else if !open {
            open = true;
            found.push(Table { title: title.into(), columns: cells(line), rows: Vec::new() });
        } else if let (Some(table), false) = (found.last_mut(), line.starts_with("|--")) {
            table.rows.push(cells(line));
        }
    }
    found
}

/// The number that a cell begins with.
fn number(cell: &str) -> Option<f64> {
    cell.split_whitespace().next()?.trim_start_matches('+').parse().ok()
}

/// Rows that say how many times faster something is; "the same" is the row above.
fn faster(table: &Table) -> Vec<(String, f64)> {
    let (mut found, mut above) = (Vec::new(), String::new());
    for row in &table.rows {
        if row[0] != "the same" {
            above = row[0].clone();
        }
        let Some(cell) = row.iter().find(|cell| cell.ends_with("x faster")) else { continue };
        let against = row.get(2).and_then(|cell| cell.split_once(' ')).map_or("", |(_, what)| what);
        found.extend(number(cell).map(|times| (shortened(&format!("{above}, {against}")), times)));
    }
    found
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= 46 {
        return label.into();
    }
    label.chars().take(45).collect::<String>() + "…"
}

/// The charts of a page: names of their files, what they show, and the pictures.
pub fn charts(page: &str) -> Vec<(&'static str, &'static str, String)> {
    let mut charts = Vec::new();
    for table in tables(page, "sketch") {
        let Some(ratio) = table.columns.iter().position(|c| c == "C / ours") else { continue };
        let bars: Vec<_> =
            table.rows.iter().filter_map(|r| Some((shortened(&r[0]), number(r.get(ratio)?)?))).collect();
        let title = "Times as fast as the C extension, same PostgreSQL, same data";
        charts.push(("sketch", title, drawing::times(title, &bars)));
    }
    for table in tables(page, "accuracy") {
        let curve = |name: &str, column: usize| -> drawing::Curve {
            let points = |r: &Vec<String>| Some((number(r.first()?)?, number(r.get(column)?)?));
            (name.into(), table.rows.iter().filter_map(points).collect())
        };
        let title = "Bias of the estimate, 2048 registers";
        let both = [curve("improved", 1), curve("classic", 3)];
        charts.push(("accuracy", title, drawing::curves(title, "distinct elements", &both)));
    }
    for table in tables(page, "counters") {
        let title = "JSONB counters: times as fast as the SQL that people write";
        charts.push(("counters", title, drawing::times(title, &faster(&table))));
    }
    for table in tables(page, "percentiles") {
        let title = "Percentiles: times as fast as what they are compared with";
        charts.push(("percentiles", title, drawing::times(title, &faster(&table))));
    }
    for table in tables(page, "rollup") {
        let title = "Questions about a day: times as fast over the rollup as over raw rows";
        charts.push(("dashboard", title, drawing::times(title, &faster(&table))));
        let pairs: Vec<_> = table
            .rows
            .iter()
            .filter(|r| r.last().is_some_and(|cell| cell.ends_with(" x")))
            .filter_map(|r| {
                let what = r.get(2)?.split_once(' ').map_or("", |(_, what)| what);
                Some((shortened(&r[0]), number(r.get(1)?)?, shortened(what), number(r.get(2)?)?))
            })
            .collect();
        let title = "Rollups at work, beside what they are compared with";
        charts.push(("rollup", title, drawing::pairs(title, &pairs)));
    }
    for table in tables(page, "inserts") {
        let pair = |r: &Vec<String>| {
            Some((shortened(&r[0]), number(r.get(1)?)?, "without stamp".into(), number(r.get(2)?)?))
        };
        let title = "Inserts into a table that is rolled up: processor time of the server";
        charts.push((
            "inserts",
            title,
            drawing::pairs(title, &table.rows.iter().filter_map(pair).collect::<Vec<_>>()),
        ));
    }
    charts
}

/// The README's block, without the marks around it.
pub fn block(page: Option<&str>) -> String {
    let Some(page) = page else {
        return "Nothing was measured yet: `make bench` measures, and puts its charts here.\n".into();
    };
    let first = page.lines().find(|line| line.starts_with("Measured ")).unwrap_or_default();
    let mut text = format!("{first} All tables: [docs/bench/figures.md](docs/bench/figures.md).\n");
    for (name, title, _) in charts(page) {
        text += &format!("\n![{title}](docs/bench/{name}.svg)\n");
    }
    text
}

/// The README with that block in the place of the one that it has.
pub fn with_block(readme: &str, block: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{block}{END}{after}"))
}

/// Puts what a part has measured into the page, and draws and writes everything that is made of it.
pub fn publish(part: &str, machine: &str, text: &str) -> Outcome<()> {
    let folder = root().join("docs/bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join("figures.md");
    let old = fs::read_to_string(&file).unwrap_or_default();
    let mut page = HEAD.to_string();
    for name in PARTS {
        let kept = old.split_once(&format!("\n## {name}\n")).map(|(_, rest)| rest);
        let kept = kept.map(|rest| rest.split("\n## ").next().unwrap_or("").trim().to_string());
        let now = (name == part).then(|| format!("{machine}\n\n{}", text.trim()));
        if let Some(section) = now.or(kept) {
            page += &format!("\n## {name}\n\n{section}\n");
        }
    }
    for (name, _, picture) in charts(&page) {
        fs::write(folder.join(format!("{name}.svg")), picture)?;
    }
    let readme = root().join("README.md");
    let fresh = with_block(&fs::read_to_string(&readme)?, &block(Some(&page)))
        .ok_or("README.md has lost the marks around its figures")?;
    fs::write(readme, fresh)?;
    Ok(fs::write(file, page)?)
}

/// The processor, and how many of it there are.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!("{} ({cores} cores)", model.map_or("an unknown processor", |(_, name)| name.trim()))
}
