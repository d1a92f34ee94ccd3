//! The background workers: one launcher a server, one scheduler a database that has the extension, and
//! for each owner whose rollups are due a process of its own.
use crate::pg::background;

mod expiry;
mod helper;
mod launcher;
mod owners;
mod partitions;
mod scheduler;
mod work;

/// Called once when the library is loaded: registers the settings, and the launcher where it is preloaded.
pub fn init() {
    crate::rollup::settings::init();
    if background::preloading() {
        background::register_launcher("rollup launcher", "rollup_launcher_main");
    }
}
