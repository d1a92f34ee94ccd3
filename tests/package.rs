//! What reaches a database administrator: scripts that never change once released, and the files of the package.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use hll_lab::{Tree, root, skip};

/// SHA-256 of every script that databases may have run. One that differs would make two databases of one version differ:
/// what is to change belongs into the next version's script.
const RELEASED: [(&str, &str); 12] = [
    ("hll--2.10.sql", "4a491a110c02dad5bbfd068c98639c2340d7a8f0225685126e75653691209a23"),
    ("hll--2.10--2.11.sql", "628f28c30d7c5c4b3425efe13a027ade9e21b28050b11f7dee805c627f9ae518"),
    ("hll--2.11--2.12.sql", "dfaace652e0e0c5ba8dedc5640b1fbc303b5d9b90d0f3431bae8725bb9790a0b"),
    ("hll--2.12--2.13.sql", "c381912d7bc5124411941eee01d3d90fe04768129448bcedabb1c99d6d820b39"),
    ("hll--2.13--2.14.sql", "78aa2efc3c347b082c81e7533ca3abe3ef5779454c9a45f306c8ccb1dd805199"),
    ("hll--2.14--2.15.sql", "2571bfa5d56d83f5b33573a4f97d58c439dcf809d4fd214eae6dc52a2c77a932"),
    ("hll--2.15--2.16.sql", "0608f57ab6a93a712622b198160a59f64f161ef50c7c8269e88289fb0a432179"),
    ("hll--2.16--2.17.sql", "ea6e50b63054c0a3b194053aa41533e453506b7e34b91158a18dfc65194fbcb2"),
    ("hll--2.17--2.18.sql", "51a2c632006f60c7f3c2917b7b9666766fd8faa51c678bfe44859f07cb135474"),
    ("hll--2.18--2.19.sql", "2baf4e9fec593e1aad2b5e62742752b6f4f068f414287ffe4d0687ac7aaaa100"),
    ("hll--2.19--2.20.sql", "a54a0eb57cc5efc8abb74cfe0689e15fbc8f0b8770917d58b1bfcc37353058db"),
    ("hll--2.20--2.21.sql", "7e74d3fdffd4f19514f37efe792192724eebaefd9c5cb68b4a90d6f8b143a5c0"),
];

fn output(program: &str, args: &[&str], file: &Path) -> String {
    let out =
        Command::new(program).args(args).arg(file).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn released_scripts_never_change() {
    let folder = root().join("sql/upgrade");
    let mut listed: Vec<&str> = RELEASED.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(names(&folder), listed, "the scripts in sql/upgrade");
    for (name, wanted) in RELEASED {
        let got = output("sha256sum", &[], &folder.join(name));
        assert_eq!(got.split_whitespace().next(), Some(wanted), "{name} is released and must not change");
    }
}

/// The newest change below a file or folder.
fn changed(path: &Path) -> SystemTime {
    let own = fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let below = fs::read_dir(path).into_iter().flatten().map(|entry| changed(&entry.unwrap().path()));
    below.fold(own, SystemTime::max)
}

/// The files below a folder, without the folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

#[test]
fn make_installs_and_uninstalls() {
    let tree = Tree::prepare().unwrap();
    let staged = root().join("target/staged");
    // A folder that is not there, named as in the Makefile: from the tree's top.
    let scripts = root().join("target/staged-scripts");
    for folder in [&staged, &scripts] {
        if folder.exists() {
            fs::remove_dir_all(folder).unwrap();
        }
    }
    let make = |goal: &str| {
        let out = Command::new("make")
            .args(["--no-print-directory", "-o", "build", "SCRIPTS=target/staged-scripts", goal])
            .arg(format!("DESTDIR={}", staged.display()))
            .current_dir(root())
            .output()
            .unwrap();
        assert!(out.status.success(), "make {goal}: {}", String::from_utf8_lossy(&out.stderr));
    };
    make("install");
    let mut installed = below(&staged);
    installed.sort();
    let names: Vec<String> =
        installed.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(
        names.len(),
        RELEASED.len() + 4,
        "the scripts, two new ones, the control file, the library: {names:?}"
    );
    for (path, name) in installed.iter().zip(&names) {
        let folder = if name == "hll.so" { tree.lib.clone() } else { tree.share.join("extension") };
        let differs = fs::read(path).unwrap() != fs::read(folder.join(name)).unwrap();
        assert!(!differs, "{name} is another than the tests run with");
    }
    make("uninstall");
    assert_eq!(below(&staged), Vec::<PathBuf>::new(), "what uninstall leaves");
}

/// The packages of this tree's version, or why there is nothing to look at.
fn packages() -> Result<(String, Vec<PathBuf>), String> {
    let major = std::env::var("PG").unwrap_or_else(|_| "15".into());
    let name = format!("postgresql-{major}-hll-rollup");
    let folder = root().join("target/deb");
    let kept = if folder.exists() { names(&folder) } else { Vec::new() };
    let find =
        |prefix: String| kept.iter().find(|file| file.starts_with(&prefix)).map(|file| folder.join(file));
    let (Some(package), Some(symbols)) = (find(format!("{name}_")), find(format!("{name}-dbgsym_"))) else {
        return Err(format!("no package was built: make deb PG={major}"));
    };
    let inputs = ["sql", "docs", "examples", "debian", "hll.control", "README.md", "CHANGELOG.md"];
    match inputs.iter().find(|input| changed(&root().join(input)) > changed(&package)) {
        Some(newer) => Err(format!("{newer} is newer than the package")),
        None => Ok((major, vec![package, symbols])),
    }
}

/// The files of a package as `mode owner path`; folders are left out.
fn contents(package: &Path) -> BTreeSet<String> {
    let listing = output("dpkg-deb", &["-c"], package);
    let files = listing.lines().filter(|line| !line.starts_with('d'));
    files
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", fields[0], fields[1], fields[5..].join(" ").trim_start_matches("./"))
        })
        .collect()
}

#[test]
fn the_package_holds_what_it_should() {
    let (major, packages) = match packages() {
        Ok(found) => found,
        Err(why) => return skip(why),
    };
    let name = format!("postgresql-{major}-hll-rollup");
    let mut wanted = BTreeSet::new();
    let mut file = |path: String| wanted.insert(format!("-rw-r--r-- root/root {path}"));
    file(format!("usr/lib/postgresql/{major}/lib/hll.so"));
    let share = format!("usr/share/postgresql/{major}/extension");
    let released = RELEASED.iter().map(|(name, _)| *name);
    let version = env!("CARGO_PKG_VERSION");
    let (new, update) = (format!("hll--{version}.sql"), format!("hll--2.21--{version}.sql"));
    for script in released.chain([new.as_str(), &update, "hll.control"]) {
        file(format!("{share}/{script}"));
    }
    let doc = format!("usr/share/doc/{name}");
    for text in ["changelog.Debian.gz", "changelog.gz", "copyright", "linked-crates.gz"] {
        file(format!("{doc}/{text}"));
    }
    // Pages above 4 kB are compressed, as Debian's policy asks.
    let mut page = |from: &Path, to: String| {
        let large = fs::metadata(from).unwrap().len() > 4096;
        file(if large { format!("{to}.gz") } else { to });
    };
    page(&root().join("README.md"), format!("{doc}/README.md"));
    for from in names(&root().join("docs")).iter().filter(|name| name.ends_with(".md")) {
        page(&root().join("docs").join(from), format!("{doc}/docs/{from}"));
    }
    for from in names(&root().join("examples")) {
        file(format!("{doc}/examples/{from}"));
    }
    let got = contents(&packages[0]);
    let differ: Vec<_> = got.symmetric_difference(&wanted).collect();
    assert!(differ.is_empty(), "in one only, the package or the list: {differ:#?}");

    let symbols = contents(&packages[1]);
    let one = |ends: &str| symbols.iter().filter(|line| line.contains(ends)).count();
    assert_eq!((symbols.len(), one("usr/lib/debug/.build-id/"), one(" -> ")), (2, 1, 1), "{symbols:#?}");
}

#[test]
fn the_package_takes_the_place_of_the_original() {
    let (major, packages) = match packages() {
        Ok(found) => found,
        Err(why) => return skip(why),
    };
    let field = |package: &Path, name: &str| {
        let out = Command::new("dpkg-deb").arg("-f").arg(package).arg(name).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_string()
    };
    for relation in ["Provides", "Conflicts", "Replaces"] {
        assert_eq!(field(&packages[0], relation), format!("postgresql-{major}-hll"), "{relation}");
        assert_eq!(field(&packages[1], relation), "", "{relation} of the symbols");
    }
    let depends = field(&packages[0], "Depends");
    let depends: Vec<&str> = depends.split(", ").collect();
    // Of the minor version that it was built with, where postgresql-common knows it.
    let server = [format!("postgresql-{major}"), format!("postgresql-{major} (>> {major}.")];
    assert!(depends.iter().any(|d| *d == server[0] || d.starts_with(&server[1])), "{depends:?}");
    assert!(depends.iter().any(|d| d.starts_with("libc6 (>= ")), "{depends:?}");
    let version = field(&packages[0], "Version");
    assert_eq!(version.rsplit_once('-').map(|(upstream, _)| upstream), Some(env!("CARGO_PKG_VERSION")));
    let exact = format!("postgresql-{major}-hll-rollup (= {version})");
    assert_eq!(field(&packages[1], "Depends"), exact);
}
