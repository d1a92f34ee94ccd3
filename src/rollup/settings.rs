//! What an administrator may set about the workers.
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::{CStr, CString};
use std::time::Duration;

static NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(1000);
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"*"));
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
static MAX_FAILURES: GucSetting<i32> = GucSetting::<i32>::new(100);
static RETRY_DELAY: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static CRASH_HOLD: GucSetting<i32> = GucSetting::<i32>::new(300_000);
static TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(0);
static LOCK_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static LONGEST_TURN: GucSetting<i32> = GucSetting::<i32>::new(60_000);
static EXPIRE_SLEEP: GucSetting<i32> = GucSetting::<i32>::new(0);
static HISTORY_KEEP: GucSetting<i32> = GucSetting::<i32>::new(1000);

/// Milliseconds between two looks at what is due.
pub fn naptime() -> i64 {
    i64::from(NAPTIME.get())
}

/// Processes that the scheduler of a database may have.
pub fn max_workers() -> usize {
    usize::try_from(MAX_WORKERS.get()).unwrap_or_default()
}

/// Failures in a row after which a rollup is paused; 0: never.
pub fn max_failures() -> i32 {
    MAX_FAILURES.get()
}

/// Milliseconds from a first failure to the next attempt.
pub fn retry_delay() -> i64 {
    i64::from(RETRY_DELAY.get())
}

/// Milliseconds for which a rollup rests in whose run the server crashed.
pub fn crash_hold() -> i64 {
    i64::from(CRASH_HOLD.get())
}

/// Milliseconds that one run may take; 0: any.
pub fn timeout() -> i32 {
    TIMEOUT.get()
}

/// Milliseconds that a worker waits for a lock; 0: for ever.
pub fn lock_timeout() -> i32 {
    LOCK_TIMEOUT.get()
}

/// How long a process that serves an owner may stay while others wait and there is no room for them.
pub fn longest_turn() -> Duration {
    Duration::from_millis(u64::from(LONGEST_TURN.get().unsigned_abs()))
}

/// Milliseconds between two batches of expiry.
pub fn expire_sleep() -> i64 {
    i64::from(EXPIRE_SLEEP.get())
}

/// Runs of each rollup that are kept in the history.
pub fn history_keep() -> i64 {
    i64::from(HISTORY_KEEP.get())
}

/// Whether rollup.databases names this database.
pub fn serves(database: &str) -> bool {
    DATABASES.get().is_none_or(|list| named(&list.to_string_lossy(), database))
}

/// Whether `list`, names with commas between (those with a comma or a quote in them quoted), has `name` or `*`.
fn named(list: &str, name: &str) -> bool {
    let (mut entry, mut quoted, mut was_quoted) = (String::new(), false, false);
    let mut entries = Vec::new();
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                entry.push('"');
            }
            '"' => (quoted, was_quoted) = (!quoted, true),
            ',' if !quoted => entries.push((std::mem::take(&mut entry), std::mem::take(&mut was_quoted))),
            c if c.is_whitespace() && !quoted && (entry.is_empty() || was_quoted) => {}
            c => entry.push(c),
        }
    }
    entries.push((entry, was_quoted));
    entries.iter().any(|(entry, quoted)| {
        let entry = if *quoted { entry } else { entry.trim_end() };
        entry == name || (entry == "*" && !quoted)
    })
}

fn number(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static GucSetting<i32>,
    (least, most): (i32, i32),
    flags: GucFlags,
) {
    GucRegistry::define_int_guc(name, short, long, setting, least, most, GucContext::Sighup, flags);
}

/// Registers the settings.
#[expect(clippy::too_many_lines, reason = "a table: one call a setting")]
pub fn init() {
    GucRegistry::define_string_guc(
        c"rollup.databases",
        c"Databases whose rollups are run.",
        c"Names with commas between, or * for every database that has the extension.",
        &DATABASES,
        GucContext::Sighup,
        GucFlags::default(),
    );
    number(
        c"rollup.naptime",
        c"Time between two looks of a scheduler at what is due.",
        c"Rollups run every so often as each was told; this bounds how late.",
        &NAPTIME,
        (10, 3_600_000),
        GucFlags::UNIT_MS,
    );
    number(
        c"rollup.max_workers",
        c"Processes that the scheduler of a database may start, one for each owner of rollups that are due.",
        c"Each takes one of max_worker_processes while it works; at least 1, and twice as many while owners wait for those whose runs are slow.",
        &MAX_WORKERS,
        (0, 64),
        GucFlags::default(),
    );
    number(
        c"rollup.max_failures",
        c"Failures in a row after which a rollup is paused; 0 never pauses.",
        c"rollup.status says why; rollup.resume lets it run again.",
        &MAX_FAILURES,
        (0, i32::MAX),
        GucFlags::default(),
    );
    number(
        c"rollup.retry_delay",
        c"Time from the first failure of a rollup to the next attempt.",
        c"Doubled with each failure in a row, to five times the interval of the rollup at most.",
        &RETRY_DELAY,
        (10, 3_600_000),
        GucFlags::UNIT_MS,
    );
    number(
        c"rollup.crash_hold",
        c"Time for which a rollup rests in whose run the server crashed.",
        c"So that a run which takes the server down does not do so without end.",
        &CRASH_HOLD,
        (0, 86_400_000),
        GucFlags::UNIT_MS,
    );
    number(
        c"rollup.timeout",
        c"Time that one run, or one batch of expiry, of a worker may take; 0 sets no limit.",
        c"As statement_timeout does for sessions.",
        &TIMEOUT,
        (0, i32::MAX),
        GucFlags::UNIT_MS,
    );
    number(
        c"rollup.lock_timeout",
        c"Time that a worker waits for a lock; 0 sets no limit.",
        c"A run that waited longer has failed and is tried again.",
        &LOCK_TIMEOUT,
        (0, i32::MAX),
        GucFlags::UNIT_MS,
    );
    number(
        c"rollup.longest_turn",
        c"Time that the process of an owner may stay while other owners have waited as long and there is no room for them.",
        c"Then what the process does is cancelled, and after a sixth of the time again the process is ended. The run has failed.",
        &LONGEST_TURN,
        (1000, 86_400_000),
        GucFlags::UNIT_MS,
    );
    number(
        c"rollup.expire_sleep",
        c"Time that expiry rests between two batches.",
        c"A batch is 200 pages; other work of the server goes first.",
        &EXPIRE_SLEEP,
        (0, 60_000),
        GucFlags::UNIT_MS,
    );
    number(
        c"rollup.history_keep",
        c"Runs of each rollup that rollup.history keeps.",
        c"The newest ones; an idle tick leaves none.",
        &HISTORY_KEEP,
        (1, 1_000_000),
        GucFlags::default(),
    );
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn lists_of_databases() {
        assert!(named("*", "any") && named("a, *", "any") && !named("\"*\"", "any"));
        assert!(named("one, two ,three", "two") && !named("one,two", "on") && !named("", "a"));
        assert!(named(r#""a,b" , "say ""x""", Big"#, "a,b"));
        assert!(named(r#""a,b" , "say ""x""", Big"#, "say \"x\"") && named("x, Big", "Big"));
        assert!(named("two words", "two words") && !named("Big", "big"));
    }
}
