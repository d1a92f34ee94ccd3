//! Rules about the source itself, and about what is built from it.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hll_lab::root;

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
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

/// Crates of mathematics depend on nothing but serde.
#[test]
fn the_mathematics_depends_on_nothing() {
    for name in ["sketch", "ddsketch", "rollup"] {
        let text = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let dependencies: Vec<&str> = text.split("[dependencies]").skip(1).collect();
        let lines = dependencies.iter().flat_map(|d| d.lines().take_while(|l| !l.starts_with('[')));
        let other: Vec<&str> = lines.filter(|l| !l.is_empty() && !l.starts_with("serde")).collect();
        assert!(other.is_empty(), "crate {name} depends on {other:?}");
    }
}

/// What catalogs made by postgresql-hll point at: these names are looked up as soon as the library is exchanged.
const ORIGINAL: &str = "
    hll hll_add hll_add_rev hll_add_trans0 hll_add_trans1 hll_add_trans2 hll_add_trans3 hll_add_trans4 hll_card_unpacked
    hll_cardinality hll_ceil_card_unpacked hll_deserialize hll_empty0 hll_empty1 hll_empty2 hll_empty3 hll_empty4 hll_eq
    hll_expthresh hll_floor_card_unpacked hll_hash_1byte hll_hash_2byte hll_hash_4byte hll_hash_8byte hll_hash_any
    hll_hash_varlena hll_hashval hll_hashval_eq hll_hashval_in hll_hashval_int4 hll_hashval_ne hll_hashval_out hll_in
    hll_log2m hll_ne hll_out hll_pack hll_print hll_recv hll_regwidth hll_schema_version hll_send hll_serialize
    hll_set_defaults hll_set_max_sparse hll_set_output_version hll_sparseon hll_type hll_typmod_in hll_typmod_out
    hll_union hll_union_internal hll_union_trans";

/// The sections that the script is built from.
fn sections() -> Vec<String> {
    let list = fs::read_to_string(root().join("sql/sections")).unwrap();
    list.lines().map(String::from).collect()
}

/// What the library exports.
fn exported() -> BTreeSet<String> {
    let library = root().join("target/release/libhll.so");
    let listed = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().expect("nm");
    assert!(listed.status.success(), "{}: {}", library.display(), String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.lines().filter_map(|line| line.split_whitespace().last()).map(String::from).collect()
}

/// The symbols of the library that a section names, once each.
fn declared(section: &str) -> BTreeSet<String> {
    let script = fs::read_to_string(root().join("sql").join(section).with_extension("sql")).unwrap();
    let mut symbols = BTreeSet::new();
    for rest in script.split("'MODULE_PATHNAME'").skip(1) {
        // Without a symbol, CREATE FUNCTION takes its own name; ours all have one.
        let symbol = rest.trim_start().strip_prefix(',').and_then(|rest| rest.split('\'').nth(1));
        let line = rest.lines().next().unwrap_or(rest);
        symbols.insert(symbol.unwrap_or_else(|| panic!("{section}.sql: no symbol in {line}")).to_string());
    }
    symbols
}

#[test]
fn every_symbol_of_the_script_is_exported() {
    let exported = exported();
    assert_eq!(ORIGINAL.split_whitespace().count(), 53);
    let original =
        ORIGINAL.split_whitespace().map(|symbol| ("postgresql-hll".to_string(), symbol.to_string()));
    let ours = sections().into_iter().flat_map(|section| {
        let symbols = declared(&section);
        symbols.into_iter().map(move |symbol| (format!("sql/{section}.sql"), symbol))
    });
    let missing: Vec<String> = original
        .chain(ours)
        .flat_map(|(from, symbol)| [symbol.clone(), format!("pg_finfo_{symbol}")].map(|s| (from.clone(), s)))
        .filter(|(_, symbol)| !exported.contains(symbol))
        .map(|(from, symbol)| format!("{from}: {symbol}"))
        .collect();
    assert!(missing.is_empty(), "not in the library:\n{}", missing.join("\n"));
}

#[test]
fn every_function_of_the_library_is_declared() {
    let mut known: BTreeSet<String> = ORIGINAL.split_whitespace().map(String::from).collect();
    for section in sections() {
        known.extend(declared(&section));
    }
    let exported = exported();
    let functions = exported.iter().filter_map(|symbol| symbol.strip_prefix("pg_finfo_"));
    let idle: Vec<&str> = functions.filter(|name| !known.contains(*name)).collect();
    assert!(idle.is_empty(), "functions that no script declares: {idle:?}");
}

#[test]
fn every_section_is_in_every_list() {
    let listed = sections();
    let mut files: Vec<String> = fs::read_dir(root().join("sql"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".sql")?.to_string()))
        .collect();
    files.sort();
    let mut sorted = listed.clone();
    sorted.sort();
    assert_eq!(files, sorted, "the files of sql/ and the lines of sql/sections");
    // The macros of cargo-pgrx take no list.
    let source = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let read: Vec<&str> =
        source.split("\"../sql/").skip(1).filter_map(|rest| rest.split(".sql\"").next()).collect();
    assert_eq!(read, listed, "the order of src/lib.rs and of sql/sections");
    let after = source.split("requires = [\"").skip(1).filter_map(|rest| rest.split("_sql\"").next());
    assert_eq!(after.collect::<Vec<_>>(), listed[..listed.len() - 1], "each follows the one before");
}

#[test]
fn the_mathematics_knows_no_postgresql() {
    let pure: Vec<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_string())
        .filter(|name| name != "lab")
        .collect();
    assert!(pure.len() >= 2, "{pure:?}");
    for name in pure {
        let out = Command::new("cargo")
            .args([
                "tree",
                "--offline",
                "--locked",
                "--prefix",
                "none",
                "--edges",
                "normal,build",
                "--package",
            ])
            .arg(format!("hll-{name}"))
            .current_dir(root())
            .output()
            .unwrap();
        let tree = String::from_utf8(out.stdout).unwrap();
        assert!(
            out.status.success() && tree.starts_with(&format!("hll-{name} ")),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let crates = tree.lines().filter_map(|line| line.split(' ').next());
        let odd: Vec<&str> =
            crates.filter(|c| ["pgrx", "postgres", "pq-sys"].iter().any(|p| c.starts_with(p))).collect();
        assert!(odd.is_empty(), "crates/{name} depends on {odd:?}");
    }
}

/// A file that no program names is a test that never runs.
#[test]
fn every_file_of_tests_is_run() {
    let text = |name: &str| fs::read_to_string(root().join("tests").join(name)).unwrap();
    let programs = ["clusters.rs", "alone.rs", "lib.rs"];
    let named: Vec<String> = programs
        .iter()
        .flat_map(|program| {
            let lines = text(program).lines().map(String::from).collect::<Vec<_>>();
            lines.into_iter().filter_map(|line| {
                Some(line.trim_start_matches("pub ").strip_prefix("mod ")?.trim_end_matches(';').to_string())
            })
        })
        .collect();
    let mut found = Vec::new();
    sources(&root().join("tests"), &mut found);
    for path in found {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let program = programs.iter().any(|p| path.ends_with(p));
        assert!(program || named.iter().filter(|n| *n == name).count() == 1, "{}", path.display());
        // Who prints that it is skipped and returns would count as passed.
        assert!(!text_of(&path).contains("println!(\"skip"), "{}: hll_lab::skip counts it", path.display());
    }
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A file is read in one sitting.
#[test]
fn files_stay_short() {
    let mut found = Vec::new();
    for dir in ["src", "crates", "tests"] {
        sources(&root().join(dir), &mut found);
    }
    assert!(found.len() > 200, "{}", found.len());
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<(PathBuf, usize)> = found
        .into_iter()
        .map(|path| (path.clone(), lines(&path)))
        .filter(|(_, lines)| *lines > 400)
        .collect();
    assert!(long.is_empty(), "over 400 lines: {long:?}");
}

/// Files that the map of the code names are there.
#[test]
fn the_map_of_the_code_is_right() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let is_file = |name: &&str| {
        name.contains('/') && (name.ends_with(".rs") || name.ends_with(".sql") || name.ends_with(".md"))
    };
    let named: BTreeSet<&str> = page.split('`').filter(is_file).filter(|name| !name.contains('*')).collect();
    assert!(named.len() > 40, "{named:?}");
    let gone: Vec<&&str> = named.iter().filter(|name| !root().join(name).exists()).collect();
    assert!(gone.is_empty(), "docs/architecture.md names {gone:?}");
    // From the scheduler to what is stored each file is entered once.
    let walk = page
        .split_once("## A run")
        .and_then(|(_, rest)| rest.split_once("\nProcesses are started"))
        .unwrap()
        .0;
    let entered: Vec<&str> = walk.split('`').filter(is_file).collect();
    assert_eq!(entered.iter().collect::<BTreeSet<_>>().len(), entered.len(), "{entered:?}");
    assert!(entered.len() <= 10, "{entered:?}");
}
