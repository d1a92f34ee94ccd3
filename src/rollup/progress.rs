//! A long call tells how far it is: to everyone in pg_stat_activity, from where rollup.status has it, to its caller in
//! notices, one a second at most.
use crate::pg::background;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

const BETWEEN: Duration = Duration::from_secs(1);

/// A call that is under way.
pub struct Progress {
    what: String,
    told: Instant,
}

impl Progress {
    /// Of a call that is described as, say, `rollup.rebuild of NAME`.
    pub fn of(what: String) -> Progress {
        background::tell(Some(&what));
        Progress { what, told: Instant::now() }
    }

    /// How far it is now.
    pub fn tell(&mut self, how_far: &str) {
        let text = format!("{}: {how_far}", self.what);
        background::tell(Some(&text));
        if self.told.elapsed() >= BETWEEN {
            notice!("{text}");
            self.told = Instant::now();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        background::tell(None);
    }
}
