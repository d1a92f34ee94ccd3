//! Rules about the source itself.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hll_lab::root;

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_stays_behind_the_fence() {
    let root = root();
    let mut found = Vec::new();
    for dir in ["src", "crates", "tests"] {
        sources(&root.join(dir), &mut found);
    }
    let allowed =
        [root.join("src/pg"), root.join("crates/sketch/src/kernel"), root.join("tests/boundary.rs")];
    let kernel = root.join("crates/sketch/src/kernel.rs");
    let mut offending = Vec::new();
    for path in found.iter().filter(|p| !allowed.iter().any(|a| p.starts_with(a)) && **p != kernel) {
        for (number, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|word| word == "unsafe") {
                offending.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(offending.is_empty(), "unsafe outside the fence:\n{}", offending.join("\n"));
}

#[test]
fn every_symbol_of_the_script_is_exported() {
    let root = root();
    let listed =
        Command::new("nm").args(["-D", "--defined-only"]).arg(root.join("target/release/libhll.so")).output();
    let listed = String::from_utf8(listed.expect("nm").stdout).unwrap();
    let exported: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert!(!exported.is_empty(), "target/release/libhll.so exports nothing");
    let mut missing = Vec::new();
    for part in ["hll", "counters", "rollup"] {
        let script = fs::read_to_string(root.join("sql").join(part).with_extension("sql")).unwrap();
        for rest in script.split("'MODULE_PATHNAME'").skip(1) {
            let Some(symbol) = rest.trim_start().strip_prefix(',') else { continue };
            let symbol = symbol.trim_start().trim_start_matches('\'').split('\'').next().unwrap_or_default();
            for name in [symbol.to_string(), format!("pg_finfo_{symbol}")] {
                if !exported.contains(&name.as_str()) {
                    missing.push(format!("{part}.sql: {name}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "not in the library:\n{}", missing.join("\n"));
}
