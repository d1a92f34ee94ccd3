//! Tests that cannot run on this machine. `cargo test` knows no result but passed and failed at run time, and counts a
//! test that returns early as passed. So a test that returns early says so in a file, a line per test, and
//! `tests/count` takes these lines off the passed ones.
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// The variable that names the file. Without it the line goes to standard error.
pub const SKIPS: &str = "HLL_SKIPS";

/// Says that the test that calls this is skipped, and why. It must return next: one call is one skipped test.
pub fn skip(why: impl Display) {
    let thread = std::thread::current();
    // The test harness names a test's thread after the test.
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    let written = match std::env::var_os(SKIPS) {
        // One write, appended: tests of one program end at the same time.
        Some(file) => OpenOptions::new()
            .append(true)
            .create(true)
            .open(&file)
            .and_then(|mut file| file.write_all(line.as_bytes())),
        // Not by a macro whose output the test harness keeps to itself.
        None => std::io::stderr().write_all(format!("skipped: {line}").as_bytes()),
    };
    // A skip that nobody hears of would be a test that passed.
    written.unwrap_or_else(|e| panic!("{line}: the skip could not be written: {e}"));
}
