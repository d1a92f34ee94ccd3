//! Runs `tests/sql/*.sql`, each in a fresh database, and compares what psql prints with `tests/expected`.
//! `--accept` writes the expected files; any other word selects files whose name contains it.
use std::fs::{self, File};
use std::process::{Command, ExitCode};

use hll_lab::{Cluster, OURS, Outcome, Tree, root};

fn main() -> Outcome<ExitCode> {
    let accept = std::env::args().any(|a| a == "--accept");
    let only: Vec<_> = std::env::args().skip(1).filter(|a| a != "--accept").collect();
    let tests = root().join("tests");
    let mut names: Vec<String> = fs::read_dir(tests.join("sql"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".sql").map(str::to_string))
        .filter(|name| only.is_empty() || only.iter().any(|word| name.contains(word)))
        .collect();
    names.sort();
    let results = root().join("target/regress");
    fs::create_dir_all(&results)?;
    fs::create_dir_all(tests.join("expected"))?;

    // Scripts say themselves when rollups run and rows expire.
    let cluster = Cluster::with(Tree::prepare()?, &format!("{OURS}rollup.databases = ''\n"))?;
    let (mut passed, mut failed) = (0, 0);
    for name in names {
        let (script, got) =
            (tests.join("sql").join(format!("{name}.sql")), results.join(format!("{name}.out")));
        let wanted = tests.join("expected").join(format!("{name}.out"));
        drop(cluster.database(&format!("regress_{name}"))?);
        let out = File::create(&got)?;
        cluster
            .command("psql")
            .args(["-X", "-a", "-q", "-d", &format!("regress_{name}")])
            .env("PGTZ", "UTC")
            .env("PGDATESTYLE", "ISO")
            // From standard input, so that messages name no path and the account need not read the tree.
            .args(["-f", "-"])
            .stdin(File::open(&script)?)
            .stdout(out.try_clone()?)
            .stderr(out)
            .status()?;
        if accept {
            fs::copy(&got, &wanted)?;
        }
        let same = fs::read(&wanted).is_ok_and(|wanted| fs::read(&got).is_ok_and(|got| got == wanted));
        println!("{} {name}", if same { "ok    " } else { "FAILED" });
        if same {
            passed += 1;
        } else {
            failed += 1;
            Command::new("diff").args(["-uN"]).arg(&wanted).arg(&got).status()?;
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
