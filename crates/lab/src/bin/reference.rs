//! Writes docs/reference.md, and the rows of the table of settings in docs/operations.md.
use std::fs;

use hll_lab::{Cluster, Outcome, reference, root, settings};

fn main() -> Outcome<()> {
    let cluster = Cluster::new()?;
    let mut client = cluster.database("reference")?;
    fs::write(root().join("docs/reference.md"), reference(&mut client)?)?;

    let operations = root().join("docs/operations.md");
    let page = fs::read_to_string(&operations)?;
    let (before, after) = page.split_once("|---|").ok_or("docs/operations.md has no table")?;
    let (rule, after) = after.split_once('\n').ok_or("the table has no rows")?;
    let rest: String =
        after.lines().skip_while(|line| line.starts_with('|')).map(|l| format!("{l}\n")).collect();
    let rows = settings(&mut client)?.join("\n");
    Ok(fs::write(operations, format!("{before}|---|{rule}\n{rows}\n{rest}"))?)
}
