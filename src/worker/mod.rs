//! The background workers: one launcher a server, one scheduler a database that has the extension.
use crate::pg::background;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

mod launcher;
mod scheduler;

/// Milliseconds between two looks at what is due.
static NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(1000);

/// `rollup.naptime` as it is now.
fn naptime() -> i64 {
    i64::from(NAPTIME.get())
}

/// Called once when the library is loaded: registers the settings, and the launcher where it is preloaded.
pub fn init() {
    GucRegistry::define_int_guc(
        c"rollup.naptime",
        c"Time between two looks of a scheduler at what is due.",
        c"Rollups run every so often as each was told; this bounds how late.",
        &NAPTIME,
        10,
        3_600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    if background::preloading() {
        background::register_launcher("rollup launcher", "rollup_launcher_main");
    }
}
