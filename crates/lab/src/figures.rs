//! Measured figures: `docs/bench/figures.json`, of which the page, the charts and the README's block are drawn.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::{Outcome, charts, root};

/// The parts of the page, in order.
pub const PARTS: [&str; 9] =
    ["sketch", "accuracy", "counters", "percentiles", "rollup", "series", "rewriting", "many", "inserts"];

/// All figures, by their part.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// By one of [`PARTS`].
    pub parts: BTreeMap<String, Part>,
}

/// What one run of a part measured.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// When and where.
    pub measured: Measured,
    /// Tables and sentences, in order.
    pub blocks: Vec<Block>,
}

/// When, with which PostgreSQL and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The day, as ISO 8601 writes it.
    pub date: String,
    /// As pg_config says it.
    pub postgresql: String,
    /// The processor, and how many cores it has.
    pub machine: String,
}

/// A table, or a sentence with figures in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// Rows of figures.
    Table(Table),
    /// A sentence.
    Note(Note),
}

/// A table of the page.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The paragraph before it.
    pub title: String,
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Its cells.
    pub rows: Vec<Vec<Cell>>,
}

/// A sentence of the page, and the figures that it has.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The sentence.
    pub text: String,
    /// Its figures, by name and unit.
    pub values: BTreeMap<String, f64>,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// Words; empty where there is nothing.
    Text(String),
    /// A number.
    Figure(Figure),
}

/// A number as it was measured, and how the page writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// As measured.
    pub value: f64,
    /// Decimals that the page gives.
    pub decimals: usize,
    /// The page gives a sign to positive ones too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signed: bool,
    /// Words before it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub before: String,
    /// Words after it: a unit, or what it is of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
}

/// A number that the page writes with so many decimals.
pub fn figure(value: f64, decimals: usize) -> Figure {
    Figure { value, decimals, signed: false, before: String::new(), after: String::new() }
}

/// A number that is given, not measured, with the decimals that it has.
pub fn exact(value: f64) -> Figure {
    let decimals = value.to_string().split_once('.').map_or(0, |(_, decimals)| decimals.len());
    figure(value, decimals)
}

impl Figure {
    /// With a unit, or what it is of.
    pub fn of(self, after: impl Into<String>) -> Figure {
        Figure { after: after.into(), ..self }
    }

    /// With words before it, such as "at most".
    pub fn after(self, before: impl Into<String>) -> Figure {
        Figure { before: before.into(), ..self }
    }

    /// With its sign.
    pub fn signed(self) -> Figure {
        Figure { signed: true, ..self }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figure { value, decimals, before, after, .. } = self;
        let number = if self.signed { format!("{value:+.decimals$}") } else { format!("{value:.decimals$}") };
        let words = [before, &number, after].map(String::as_str);
        f.write_str(words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").as_str())
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cell::Text(text) => f.write_str(text),
            Cell::Figure(figure) => figure.fmt(f),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.into())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<Figure> for Cell {
    fn from(figure: Figure) -> Cell {
        Cell::Figure(figure)
    }
}

impl Cell {
    /// Its number.
    pub fn figure(&self) -> Option<&Figure> {
        match self {
            Cell::Figure(figure) => Some(figure),
            Cell::Text(_) => None,
        }
    }
}

/// What the part that runs has said so far.
static SAID: Mutex<Vec<Block>> = Mutex::new(Vec::new());

fn said() -> std::sync::MutexGuard<'static, Vec<Block>> {
    SAID.lock().unwrap_or_else(|e| e.into_inner())
}

/// A line of a table, as Markdown has it.
pub(crate) fn line(cells: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    cells.into_iter().fold(String::from("|"), |line, cell| line + &format!(" {cell} |"))
}

/// Begins a table.
pub fn table(title: &str, columns: &[&str]) {
    println!("\n{title}\n\n{}\n|{}", line(columns), "---|".repeat(columns.len()));
    let columns = columns.iter().map(|c| c.to_string()).collect();
    said().push(Block::Table(Table { title: title.into(), columns, rows: Vec::new() }));
}

/// Prints and keeps a row of the table that was begun last; the cells at its end that are missing are empty.
pub fn row(cells: impl IntoIterator<Item = Cell>) {
    let mut cells: Vec<Cell> = cells.into_iter().collect();
    let mut said = said();
    let table = said.iter_mut().rev().find_map(|block| match block {
        Block::Table(table) => Some(table),
        Block::Note(_) => None,
    });
    let table = table.expect("a table was begun");
    assert!(cells.len() <= table.columns.len(), "{cells:?} has more cells than there are columns");
    cells.resize(table.columns.len(), "".into());
    println!("{}", line(&cells));
    table.rows.push(cells);
}

/// Prints and keeps a sentence, and the figures that it has.
pub fn note(text: String, values: &[(&str, f64)]) {
    println!("\n{text}");
    let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    said().push(Block::Note(Note { text, values }));
}

fn file() -> PathBuf {
    root().join("docs/bench/figures.json")
}

/// The figures that are kept; none before the first were measured.
pub fn kept() -> Outcome<Figures> {
    if !file().exists() {
        return Ok(Figures::default());
    }
    Ok(serde_json::from_str(&fs::read_to_string(file())?).map_err(|e| format!("figures.json: {e}"))?)
}

/// Keeps what was said since this was called last as that part, and draws everything again.
pub fn publish(part: &str, measured: Measured) -> Outcome<()> {
    let blocks = std::mem::take(&mut *said());
    let mut figures = kept()?;
    figures.parts.insert(part.into(), Part { measured, blocks });
    fs::create_dir_all(root().join("docs/bench"))?;
    fs::write(file(), serde_json::to_string_pretty(&figures)? + "\n")?;
    charts::draw(&figures)
}

/// The processor, and how many of it there are.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!("{} ({cores} cores)", model.map_or("an unknown processor", |(_, name)| name.trim()))
}
