//! The count of skipped tests itself: what skips itself is neither passed nor lost.
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hll_lab::{SKIPS, root, skip};

/// A folder of its own, gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("hll-skips-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Two small files in the folder for temporary ones; a test that failed says so otherwise.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `passed failed skipped` of a step that ended so, printed this, and left these lines.
fn counted(folder: &Folder, status: i32, log: &str, skips: &str) -> String {
    fs::write(folder.0.join("log"), log).unwrap();
    fs::write(folder.0.join("skips"), skips).unwrap();
    let out = Command::new(root().join("tests/count"))
        .arg(status.to_string())
        .args([folder.0.join("log"), folder.0.join("skips")])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_string()
}

fn result(passed: u32, failed: u32, ignored: u32) -> String {
    let word = if failed == 0 { "ok" } else { "FAILED" };
    format!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out; finished in 1.00s\n"
    )
}

#[test]
fn skipped_tests_are_not_passed_ones() {
    let folder = Folder::new("count");
    let log = format!("{}\nsomething else: 7 passed, 7 failed\n{}", result(5, 0, 0), result(3, 0, 1));
    assert_eq!(counted(&folder, 0, &log, ""), "8 0 1");
    assert_eq!(counted(&folder, 0, &log, "one: why\ntwo: why\n"), "6 0 3");
    assert_eq!(counted(&folder, 0, &result(2, 0, 0), "one: why\ntwo: why\n"), "0 0 2");
    assert_eq!(counted(&folder, 101, &result(5, 2, 0), "one: why\n"), "4 2 1");
    // The regression files.
    assert_eq!(counted(&folder, 1, "ok     one\n13 passed, 1 failed\n", ""), "13 1 0");
    // Checks without a count, and a step that ended before it could count.
    assert_eq!(counted(&folder, 0, "", ""), "1 0 0");
    assert_eq!(counted(&folder, 1, "error: it does not compile\n", ""), "0 1 0");
    assert_eq!(counted(&folder, 101, &result(5, 0, 0), ""), "5 1 0");
    // A test that says twice that it is skipped would take another one off.
    assert_eq!(counted(&folder, 0, &result(1, 0, 0), "one: why\none: why\n"), "0 1 1");
}

/// What the next test runs in a process of its own.
#[test]
fn skips_itself_when_told() {
    if std::env::var_os("HLL_SKIP_ITSELF").is_some() {
        skip("it was told so");
    }
}

#[test]
fn a_skip_is_written_and_counted() {
    let folder = Folder::new("written");
    let file = folder.0.join("now");
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["skips::skips_itself_when_told", "--exact", "--quiet", "--test-threads=2"])
        .envs([("HLL_SKIP_ITSELF", "1".as_ref()), (SKIPS, file.as_os_str())])
        .output()
        .unwrap();
    let log = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && log.contains(" 1 passed;"), "{log}");
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.ends_with(": it was told so\n") && written.lines().count() == 1, "{written}");
    assert_eq!(counted(&folder, 0, &log, &written), "0 0 1");
}

/// The runner's own last lines, over a step that passes, one that skips and one that fails.
#[test]
fn the_last_line_is_the_sum() {
    let run = fs::read_to_string(root().join("tests/run")).unwrap();
    let (before, rest) = run.split_once("\nstep \"format\"").expect("the steps");
    let (_, after) = rest.split_once("\necho \"== where the time went\"").expect("the end");
    let folder = Folder::new("run");
    let script = folder.0.join("run");
    let steps = format!(
        "cd '{}' || exit 1\nstep plain true\nstep skipping sh -c 'echo \"one: why\" >>$HLL_SKIPS; echo \"4 passed, 0 failed\"'\nstep failing false",
        root().display()
    );
    fs::write(&script, format!("{before}\n{steps}\necho \"== where the time went\"{after}")).unwrap();
    let out = Command::new("bash").arg(&script).env("PG", "15").output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(!out.status.success(), "a failed step fails the run: {said}");
    assert!(said.ends_with("\nskipped: one: why\n4 passed, 1 failed, 1 skipped\n"), "{said}");
}
