//! The setting that says which queries are grouped a page at a time.
use crate::pg::batch::{Asked, Wanted};
use crate::pg::planner;
use pgrx::guc::PostgresGucEnum;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// The values of `rollup.batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum Batch {
    /// None.
    #[name = c"off"]
    Off,
    /// The statements of runs, and queries with an aggregate of this extension.
    #[name = c"on"]
    On,
    /// Every query that can be.
    #[name = c"always"]
    Always,
}

static BATCH: GucSetting<Batch> = GucSetting::<Batch>::new(Batch::On);

/// Called once when the library is loaded.
pub fn init() {
    GucRegistry::define_enum_guc(
        c"rollup.batch",
        c"Which queries group the rows of a page at once instead of one by one.",
        c"on: the statements of runs, and queries with an aggregate of this extension; always: every query that groups rows of one table; off: none. The results are the same.",
        &BATCH,
        GucContext::Userset,
        GucFlags::default(),
    );
    planner::group_by_pages(|| match BATCH.get() {
        Batch::Off => Wanted::Nothing,
        Batch::On => Wanted::Ours,
        Batch::Always => Wanted::Everything,
    });
}

/// While it lives, statements are taken for those of a run.
pub fn for_run() -> Asked {
    Asked::for_now()
}
