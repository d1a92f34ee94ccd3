//! What a release is made of says one version, and META.json is what PGXN's specification asks for:
//! https://pgxn.org/meta/spec.txt
use std::fs;

use hll_lab::root;
use serde_json::{Map, Value};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn text(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn every_place_has_the_version_of_cargo_toml() {
    let line = |name: &str, start: &str| {
        let found = text(name).lines().find(|line| line.starts_with(start)).map(str::to_string);
        found.unwrap_or_else(|| panic!("{name}: no line that begins with {start}"))
    };
    assert_eq!(line("hll.control", "default_version"), format!("default_version = '{VERSION}'"));
    assert!(line("debian/changelog", "hll-rollup").starts_with(&format!("hll-rollup ({VERSION}-")));
    assert!(line("CHANGELOG.md", "## ").starts_with(&format!("## {VERSION}")), "the newest entry");
    let meta = meta();
    assert_eq!(meta["version"], VERSION);
    assert_eq!(meta["provides"]["hll"]["version"], VERSION);
    for page in ["docs/operations.md", "docs/migrating-from-postgresql-hll.md"] {
        for rest in text(page).split("-hll-rollup_").skip(1) {
            assert!(
                rest.starts_with(&format!("{VERSION}-")),
                "{page}: a package of another version: {rest:.20}"
            );
        }
    }
}

fn meta() -> Value {
    serde_json::from_str(&text("META.json")).expect("META.json is JSON")
}

/// Two characters at least; none that a path could not hold, no space.
fn is_term(s: &str) -> bool {
    s.chars().count() > 1 && !s.chars().any(|c| c.is_control() || c.is_whitespace() || "/\\".contains(c))
}

/// Semantic Versioning 1.0.0, which the specification names: 1.2.3, and a word after it.
fn is_version(s: &str) -> bool {
    let (numbers, word) = s.split_at(s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len()));
    let numbers: Vec<&str> = numbers.split('.').collect();
    let number = |n: &&str| !n.is_empty() && (*n == "0" || !n.starts_with('0'));
    let word = word.trim_start_matches('-');
    numbers.len() == 3
        && numbers.iter().all(number)
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !word.starts_with(|c: char| c.is_ascii_digit())
}

/// A version, or several with comparisons: `>= 1.2.0, != 1.5.0`; 0 is any.
fn is_range(s: &str) -> bool {
    s == "0"
        || s.split(',').all(|one| {
            let one = one.trim();
            let compared = ["<=", ">=", "==", "!=", "<", ">"].iter().find_map(|op| one.strip_prefix(op));
            is_version(compared.unwrap_or(one).trim())
        })
}

/// The texts of these keys of an object; each must be there.
fn required<'a>(object: &'a Map<String, Value>, keys: &[&str]) -> Result<Vec<&'a str>, String> {
    let text = |key: &&str| match object.get(*key).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(format!("{key} is no text")),
    };
    keys.iter().map(text).collect()
}

fn object<'a>(parent: &'a Map<String, Value>, key: &str) -> Result<&'a Map<String, Value>, String> {
    parent.get(key).and_then(Value::as_object).ok_or_else(|| format!("{key} is no object"))
}

/// That an object has no other keys than these; the specification allows others by the prefix x_.
fn only(object: &Map<String, Value>, keys: &[&str]) -> Result<(), String> {
    let odd =
        object.keys().find(|key| !keys.contains(&key.as_str()) && !key.to_lowercase().starts_with("x_"));
    odd.map_or(Ok(()), |key| Err(format!("unknown key {key}")))
}

const LICENSES: [&str; 28] = [
    "agpl_3",
    "apache_1_1",
    "apache_2_0",
    "artistic_1",
    "artistic_2",
    "bsd",
    "freebsd",
    "gfdl_1_2",
    "gfdl_1_3",
    "gpl_1",
    "gpl_2",
    "gpl_3",
    "lgpl_2_1",
    "lgpl_3_0",
    "mit",
    "mozilla_1_0",
    "mozilla_1_1",
    "openssl",
    "perl_5",
    "postgresql",
    "qpl_1_0",
    "ssleay",
    "sun",
    "zlib",
    "open_source",
    "restricted",
    "unrestricted",
    "unknown",
];

/// What is wrong with a META.json by the specification, 1.0.0.
fn fault(meta: &Value) -> Result<(), String> {
    let meta = meta.as_object().ok_or("no object")?;
    only(
        meta,
        &[
            "abstract",
            "maintainer",
            "license",
            "provides",
            "name",
            "version",
            "meta-spec",
            "description",
            "generated_by",
            "tags",
            "no_index",
            "prereqs",
            "release_status",
            "resources",
        ],
    )?;
    let [name, version, license] = required(meta, &["name", "version", "license"])?[..] else {
        unreachable!()
    };
    required(meta, &["abstract", "maintainer"])?;
    if !is_term(name) || !is_version(version) || !LICENSES.contains(&license) {
        return Err(format!("name {name}, version {version} or license {license}"));
    }
    let spec = object(meta, "meta-spec")?;
    only(spec, &["version", "url"])?;
    if spec.get("version").and_then(Value::as_str) != Some("1.0.0") {
        return Err("meta-spec is another".into());
    }
    let provides = object(meta, "provides")?;
    if provides.is_empty() {
        return Err("provides nothing".into());
    }
    for (extension, one) in provides {
        let one = one.as_object().ok_or("provides no object")?;
        only(one, &["file", "version", "abstract", "docfile"])?;
        let [file, version] = required(one, &["file", "version"])?[..] else { unreachable!() };
        let files = [Some(file), one.get("docfile").and_then(Value::as_str)];
        if let Some(missing) = files.into_iter().flatten().find(|file| !root().join(file).is_file()) {
            return Err(format!("{missing} is not there"));
        }
        if !is_term(extension) || !is_version(version) {
            return Err(format!("extension {extension}, version {version}"));
        }
    }
    for (phase, relations) in object(meta, "prereqs")? {
        if !["configure", "build", "test", "runtime", "develop"].contains(&phase.as_str()) {
            return Err(format!("phase {phase}"));
        }
        let relations = relations.as_object().ok_or("a phase is no object")?;
        only(relations, &["requires", "recommends", "suggests", "conflicts"])?;
        for (package, range) in relations.values().filter_map(Value::as_object).flatten() {
            if !is_term(package) || !range.as_str().is_some_and(is_range) {
                return Err(format!("{package} {range}"));
            }
        }
    }
    let tags = meta.get("tags").and_then(Value::as_array).ok_or("tags are no list")?;
    let tag = |tag: &Value| {
        tag.as_str().is_some_and(|t| !t.is_empty() && t.len() < 256 && !t.contains(['/', '\\']))
    };
    if tags.iter().all(tag) { Ok(()) } else { Err("a tag".into()) }
}

#[test]
fn the_metadata_is_as_pgxn_specifies() {
    let sound = meta();
    assert_eq!(fault(&sound), Ok(()));
    // The check itself: each of these must not pass.
    let broken = |pointer: &str, value: Value| {
        let mut meta = sound.clone();
        *meta.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        assert!(fault(&meta).is_err(), "{pointer}");
    };
    for (pointer, value) in [
        ("/name", "a name"),
        ("/version", "3.0"),
        ("/license", "Apache-2.0"),
        ("/maintainer", ""),
        ("/provides/hll/file", "sql/none.sql"),
        ("/provides/hll/version", "3.01.0"),
        ("/prereqs/runtime/requires/PostgreSQL", "fifteen"),
        ("/meta-spec/version", "2.0.0"),
        ("/tags/0", "a/b"),
    ] {
        broken(pointer, value.into());
    }
    broken("/tags", "sketch".into());
    broken("/provides", Value::Object(Map::new()));
    for key in ["name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"] {
        let mut meta = sound.clone();
        meta.as_object_mut().unwrap().remove(key);
        assert!(fault(&meta).is_err(), "without {key}");
    }
}
