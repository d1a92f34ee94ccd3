//! What is drawn of the measured figures: the page, the charts, and the README's block.
use std::fs;

use crate::figures::{Block, Cell, Figure, Figures, Measured, PARTS, Table, line};
use crate::{Outcome, drawing, root};

const BEGIN: &str = "<!-- what `make bench` measured -->\n";
const END: &str = "<!-- end -->\n";
const HEAD: &str = "# Measurements\n\nWritten by `make bench`, as are [the same figures for programs](figures.json), of which this page and the charts next to it are drawn.\n";

fn sentence(measured: &Measured) -> String {
    let Measured { date, postgresql, machine } = measured;
    format!("Measured on {date} with {postgresql}, {machine}.")
}

/// The page.
pub fn page(figures: &Figures) -> String {
    let mut page = HEAD.to_string();
    for name in PARTS {
        let Some(part) = figures.parts.get(name) else { continue };
        page += &format!("\n## {name}\n\n{}\n", sentence(&part.measured));
        for block in &part.blocks {
            match block {
                Block::Note(note) => page += &format!("\n{}\n", note.text),
                Block::Table(table) => {
                    page += &format!("\n{}\n\n{}\n|", table.title, line(&table.columns));
                    page += &"---|".repeat(table.columns.len());
                    table.rows.iter().for_each(|row| page += &format!("\n{}", line(row)));
                    page.push('\n');
                }
            }
        }
    }
    page
}

fn tables<'a>(figures: &'a Figures, part: &str) -> impl Iterator<Item = &'a Table> {
    let blocks = figures.parts.get(part).map_or(&[][..], |part| &part.blocks);
    blocks.iter().filter_map(|block| match block {
        Block::Table(table) => Some(table),
        Block::Note(_) => None,
    })
}

fn label(text: &str) -> String {
    let text = text.replace('`', "");
    if text.chars().count() <= 46 {
        return text;
    }
    text.chars().take(45).collect::<String>() + "…"
}

/// The number in that column of a row.
fn at(row: &[Cell], column: usize) -> Option<&Figure> {
    row.get(column)?.figure()
}

/// Rows that say how many times faster something is; "the same" is the row above.
fn faster(table: &Table) -> Vec<(String, f64)> {
    let (mut found, mut above) = (Vec::new(), String::new());
    for row in &table.rows {
        let name = row[0].to_string();
        if name != "the same" {
            above = name;
        }
        let times = row.iter().filter_map(Cell::figure).find(|figure| figure.after == "x faster");
        let against = at(row, 2).map_or("", |figure| &figure.after);
        found.extend(times.map(|figure| (label(&format!("{above}, {against}")), figure.value)));
    }
    found
}

/// The charts: names of their files, what they show, and the pictures.
pub fn charts(figures: &Figures) -> Vec<(&'static str, &'static str, String)> {
    let mut charts = Vec::new();
    let mut chart = |name, title, picture: String| charts.push((name, title, picture));
    for table in tables(figures, "sketch") {
        let Some(ratio) = table.columns.iter().position(|c| c == "C / ours") else { continue };
        let bar = |row: &Vec<Cell>| Some((label(&row[0].to_string()), at(row, ratio)?.value));
        let bars: Vec<_> = table.rows.iter().filter_map(bar).collect();
        let title = "Times as fast as the C extension, same PostgreSQL, same data";
        chart("sketch", title, drawing::times(title, &bars));
    }
    for table in tables(figures, "accuracy") {
        let curve = |name: &str, column: usize| -> drawing::Curve {
            let point = |row: &Vec<Cell>| Some((at(row, 0)?.value, at(row, column)?.value));
            (name.into(), table.rows.iter().filter_map(point).collect())
        };
        let title = "Bias of the estimate, 2048 registers";
        let both = [curve("improved", 1), curve("classic", 3)];
        chart("accuracy", title, drawing::curves(title, "distinct elements", &both));
    }
    for (part, title) in [
        ("counters", "JSONB counters: times as fast as the SQL that people write"),
        ("percentiles", "Percentiles: times as fast as what they are compared with"),
    ] {
        for table in tables(figures, part) {
            chart(part, title, drawing::times(title, &faster(table)));
        }
    }
    for table in tables(figures, "rollup") {
        let title = "Questions about a day: times as fast over the rollup as over raw rows";
        chart("dashboard", title, drawing::times(title, &faster(table)));
        let pair = |row: &Vec<Cell>| {
            let (ours, against) = (at(row, 1)?, at(row, 2)?);
            (at(row, 3)?.after == "x")
                .then(|| (label(&row[0].to_string()), ours.value, label(&against.after), against.value))
        };
        let title = "Rollups at work, compared with others";
        let pairs: Vec<_> = table.rows.iter().filter_map(pair).collect();
        chart("rollup", title, drawing::pairs(title, &pairs));
    }
    for table in tables(figures, "rewriting") {
        let Some(raw) = table.columns.iter().position(|c| c == "over raw rows") else { continue };
        let pair = |row: &Vec<Cell>| {
            let name = label(&row[0].to_string());
            Some((name, at(row, 1)?.value, "over raw rows".into(), at(row, raw)?.value))
        };
        let title = "Raw queries, unchanged: answered from rollups, and over raw rows";
        let pairs: Vec<_> = table.rows.iter().filter_map(pair).collect();
        chart("rewriting", title, drawing::pairs(title, &pairs));
    }
    for table in tables(figures, "inserts") {
        let pair = |row: &Vec<Cell>| {
            let name = label(&row[0].to_string());
            Some((name, at(row, 1)?.value, "without stamp".into(), at(row, 2)?.value))
        };
        let title = "Inserts into a table that is rolled up: processor time of the server";
        let pairs: Vec<_> = table.rows.iter().filter_map(pair).collect();
        chart("inserts", title, drawing::pairs(title, &pairs));
    }
    charts
}

/// The README's block, without the marks around it.
pub fn block(figures: &Figures) -> String {
    // Parts may have been measured at different times, on different machines.
    let mut said: Vec<String> = Vec::new();
    for part in PARTS.iter().filter_map(|part| figures.parts.get(*part)) {
        let sentence = sentence(&part.measured);
        if !said.contains(&sentence) {
            said.push(sentence);
        }
    }
    if said.is_empty() {
        return "Nothing was measured yet: `make bench` measures, and puts its charts here.\n".into();
    }
    let mut text =
        format!("{} All tables: [docs/bench/figures.md](docs/bench/figures.md).\n", said.join(" "));
    for (name, title, _) in charts(figures) {
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

/// Writes the page, the charts and the README's block.
pub fn draw(figures: &Figures) -> Outcome<()> {
    let folder = root().join("docs/bench");
    for (name, _, picture) in charts(figures) {
        fs::write(folder.join(format!("{name}.svg")), picture)?;
    }
    let readme = root().join("README.md");
    let fresh = with_block(&fs::read_to_string(&readme)?, &block(figures))
        .ok_or("README.md has lost the marks around its figures")?;
    fs::write(readme, fresh)?;
    Ok(fs::write(folder.join("figures.md"), page(figures))?)
}
