//! Which file names which: in `src`, names go down only, and no files name each other in a circle.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hll_lab::root;

/// Files of src/rollup, floor by floor from the ground: each names files of its own floor and of those below. A new file has
/// its place in one of them, in docs/architecture.md too where the page names the floor's files.
const FLOORS: [(&str, &str); 4] = [
    ("ground", "ask batch error patience progress session settings"),
    ("stored", "catalog citus citus::places naming state"),
    (
        "parts",
        "adopt ahead arrange arrival as_made backlog beside called caller changes citus::commit citus::create citus::finest citus::gather \
         citus::leaving citus::moment citus::narrow citus::shards citus::status citus::view citus::whole clock comments deferred definition diagnose drafted follow grid guard history holes identity late leaving left_out levels live live_sql long lost \
         maps merged moved names notify options place range reach records recreated removal retention rewrite::coarser rewrite::explain rewrite::pieces rewrite::state \
         rewrite::state_text rewrite::table rewrite::text rule_record rules source staying strangers switched time_key trust unlogged unwatched views waiting watch written",
    ),
    (
        "acts",
        "add_level again anew archive attempt carried change check citus::expire citus::rebase citus::run command copied create differences drop evolve expire gone mend \
         newcomers old_partitions one_server partition rebase relocate renamed rewrite rewrite::offers run series sweep",
    ),
];

/// Folders of src, from the ground: each names itself and those below.
const FOLDERS: [&str; 6] = ["pg", "hll", "ddsketch", "counters", "rollup", "worker"];

/// The modules of src with what each names, by their paths; the root is "".
struct Modules {
    code: BTreeMap<String, (String, bool)>,
}

impl Modules {
    fn read() -> Modules {
        let mut code = BTreeMap::new();
        read_below(&root().join("src"), "", &mut code);
        Modules { code }
    }

    /// The longest beginning of a path, seen from a module, that is a module; None for what is not of src.
    fn resolve(&self, from: &str, path: &str) -> Option<String> {
        let mut at: Vec<&str> = from.split("::").filter(|part| !part.is_empty()).collect();
        let mut parts = path.split("::").map(str::trim).peekable();
        match *parts.peek()? {
            "crate" => {
                at.clear();
                parts.next();
            }
            "super" => {
                while parts.next_if_eq(&"super").is_some() {
                    at.pop()?;
                }
            }
            // A folder's own file names the files of the folder.
            first => {
                let below = if from.is_empty() { first.to_string() } else { format!("{from}::{first}") };
                (self.code[from].1 && self.code.contains_key(&below)).then_some(())?;
            }
        }
        for part in parts {
            at.push(part);
            if !self.code.contains_key(&at.join("::")) {
                at.pop();
                // The fence hands on the files of its rooms.
                if at == ["pg"]
                    && let Some(file) = self.of_a_room(part)
                {
                    return Some(file);
                }
                break;
            }
        }
        // Macros, which the root exports, are no names of its.
        (!at.is_empty()).then(|| at.join("::"))
    }

    fn of_a_room(&self, name: &str) -> Option<String> {
        let rooms = ["call", "event", "parse", "session"].map(|room| format!("pg::{room}::{name}"));
        rooms.into_iter().find(|file| self.code.contains_key(file))
    }

    fn named(&self) -> BTreeMap<&str, BTreeSet<String>> {
        self.code
            .iter()
            .map(|(from, (code, _))| {
                let found = paths(code).into_iter().filter_map(|path| self.resolve(from, &path));
                (from.as_str(), found.filter(|to| to != from).collect())
            })
            .collect()
    }
}

fn read_below(folder: &Path, path: &str, code: &mut BTreeMap<String, (String, bool)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let below = if path.is_empty() { stem.to_string() } else { format!("{path}::{stem}") };
        if file.is_dir() {
            read_below(&file, &below, code);
        } else if file.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let lines = text.lines().map(|line| line.split("//").next().unwrap());
            let own = stem == "mod" || stem == "lib";
            code.insert(
                if own { path.to_string() } else { below },
                (lines.collect::<Vec<_>>().join("\n"), own),
            );
        }
    }
}

/// The paths that code names, in `use` lines, whose braces are taken apart, and elsewhere.
fn paths(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut statement = String::new();
    for line in code.lines() {
        let begins = ["use ", "pub use "].iter().find_map(|word| line.trim_start().strip_prefix(word));
        match begins {
            Some(path) if statement.is_empty() => statement = path.to_string(),
            _ if !statement.is_empty() => statement += line,
            _ => rest = rest + line + "\n",
        }
        if let Some(path) = statement.strip_suffix(';') {
            taken_apart("", path, &mut found);
            statement.clear();
        }
    }
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    found.extend(rest.split(|c| !part(c)).filter(|word| word.contains("::")).map(String::from));
    found
}

fn taken_apart(prefix: &str, path: &str, found: &mut Vec<String>) {
    let Some((before, inner)) = path.split_once('{') else {
        let path = path.split(" as ").next().unwrap().trim();
        return found.push(format!("{prefix}{path}"));
    };
    let inner = inner.rsplit_once('}').unwrap().0;
    let prefix = format!("{prefix}{}", before.trim());
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[begin..at].trim().is_empty() {
                    taken_apart(&prefix, inner[begin..at].trim(), found);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// A circle, if there is one among those for which `counts`.
fn circle(named: &BTreeMap<&str, BTreeSet<String>>, counts: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = named
        .iter()
        .filter(|(from, _)| counts(from))
        .map(|(from, to)| (*from, to.iter().map(String::as_str).filter(|to| counts(to)).collect()))
        .collect();
    // What names nobody who is left is in no circle.
    while let Some(leaf) = left.iter().find(|(_, to)| to.is_empty()).map(|(from, _)| *from) {
        left.remove(leaf);
        left.values_mut().for_each(|to| {
            to.remove(leaf);
        });
    }
    let mut way = vec![*left.keys().next()?];
    loop {
        let next = *left[way[way.len() - 1]].first().unwrap();
        if let Some(at) = way.iter().position(|name| *name == next) {
            return Some(way[at..].iter().chain([&next]).map(|name| name.to_string()).collect());
        }
        way.push(next);
    }
}

#[test]
fn the_engine_has_no_circle_of_imports() {
    let modules = Modules::read();
    let named = modules.named();
    // The face of a folder names what its SQL functions call, and is named by nobody below it.
    let files = |name: &str| ["rollup", "worker"].iter().any(|folder| name.starts_with(folder));
    assert!(named.keys().filter(|name| files(name)).count() > 70, "{:?}", named.keys());
    assert!(named["rollup::run"].contains("rollup::one_server"), "{:?}", named["rollup::run"]);
    assert_eq!(circle(&named, files), None);
}

#[test]
fn four_rooms_of_the_fence_have_no_circle_of_imports() {
    let modules = Modules::read();
    let named = modules.named();
    assert!(named["pg::parse::target"].contains("pg::parse::select"), "{:?}", named["pg::parse::target"]);
    assert_eq!(circle(&named, |name| name.starts_with("pg::parse") || name.starts_with("pg::event")), None);
    assert_eq!(circle(&named, |name| name.starts_with("pg::call")), None);
    assert_eq!(circle(&named, |name| name.starts_with("pg::session")), None);
}

#[test]
fn each_floor_of_the_engine_names_those_below() {
    let modules = Modules::read();
    let named = modules.named();
    let mut floor_of = BTreeMap::new();
    for (floor, (_, files)) in FLOORS.iter().enumerate() {
        for file in files.split_whitespace() {
            let file = format!("rollup::{file}");
            assert!(named.contains_key(file.as_str()), "{file} is not there");
            assert_eq!(floor_of.insert(file, floor), None);
        }
    }
    for (from, to) in named.iter().filter(|(from, _)| from.starts_with("rollup::")) {
        let floor = *floor_of.get(*from).unwrap_or_else(|| panic!("on which floor is {from}?"));
        let up: Vec<&String> = to
            .iter()
            .filter(|to| to.starts_with("rollup") && floor_of.get(*to).is_none_or(|f| *f > floor))
            .collect();
        assert!(up.is_empty(), "{from}, on floor {}, names {up:?}", FLOORS[floor].0);
    }
}

#[test]
fn each_folder_names_those_below() {
    let modules = Modules::read();
    let folder = |name: &str| {
        let first = name.split("::").next().unwrap();
        FOLDERS.iter().position(|folder| *folder == first)
    };
    for (from, to) in modules.named() {
        let Some(floor) = folder(from) else { continue };
        let up: Vec<&String> = to.iter().filter(|to| folder(to).is_none_or(|f| f > floor)).collect();
        assert!(up.is_empty(), "{from} names {up:?}");
    }
}

/// What is looked for is what is written there.
#[test]
fn paths_are_read_as_they_are_written() {
    let found =
        paths("use super::{ask, sql as text};\nlet x = super::catalog::read(1);\npub use a::{b::{c, d}, e};");
    let want = ["super::ask", "super::sql", "a::b::c", "a::b::d", "a::e", "super::catalog::read"];
    assert_eq!(found, want);
    let one = |name: &'static str, to: &[&str]| (name, to.iter().map(|to| to.to_string()).collect());
    let named = BTreeMap::from([one("a", &["b"]), one("b", &["c", "d"]), one("c", &["b"]), one("d", &[])]);
    assert_eq!(circle(&named, |_| true), Some(["b", "c", "b"].map(String::from).to_vec()));
    assert_eq!(circle(&named, |name| name != "c"), None);
}
