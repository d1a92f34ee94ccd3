//! Settings: the estimator, and the session defaults that `hll_set_*` change.
//!
//! The session defaults are held in two settings nobody may SET: `hll_set_*` must not be undone by
//! ROLLBACK, yet parallel workers must see what their leader set. Writing a setting with the `override`
//! source gives both.
use crate::pg::ctext::c_text;
use crate::pg::error::{OrRaise, raise};
use crate::pg::native;
use crate::pg::v1::Call;
use crate::v1;
use hll_sketch::{Estimator, Params};
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;
use std::ffi::CStr;

/// The values of `hll.estimator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum EstimatorSetting {
    /// Ertl's improved raw estimator.
    #[name = c"improved"]
    Improved,
    /// postgresql-hll's numbers, bit for bit.
    #[name = c"classic"]
    Classic,
}

static ESTIMATOR: GucSetting<EstimatorSetting> =
    GucSetting::<EstimatorSetting>::new(EstimatorSetting::Improved);
static FORCE_GROUPAGG: GucSetting<bool> = GucSetting::<bool>::new(false);

const DEFAULTS_NAME: &CStr = c"hll.session_defaults";
const SPARSE_NAME: &CStr = c"hll.session_max_sparse";
/// log2m 11, regwidth 5, expthresh -1, sparseon 1 in the bits of a type modifier.
const DEFAULTS_BOOT: i32 = 11 << 10 | 5 << 7 | 63 << 1 | 1;
/// The largest type modifier whose log2m is one that sketches may have.
const DEFAULTS_MAX: i32 = 17 << 10 | 0x3ff;
static DEFAULTS: GucSetting<i32> = GucSetting::<i32>::new(DEFAULTS_BOOT);
static MAX_SPARSE: GucSetting<i32> = GucSetting::<i32>::new(-1);

v1!(hll_set_output_version, set_output_version);
v1!(hll_set_max_sparse, set_max_sparse);
v1!(hll_set_defaults, set_defaults);

/// Registers the settings.
pub fn init() {
    GucRegistry::define_enum_guc(
        c"hll.estimator",
        c"How cardinality is estimated from registers.",
        c"improved is unbiased over the whole range; classic gives the numbers of postgresql-hll, bit for bit.",
        &ESTIMATOR,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"hll.force_groupagg",
        c"Aggregates sketches over sorted input, never in a hash table.",
        c"Off is right for nearly everyone: a group in the hash table takes what its sketch takes.",
        &FORCE_GROUPAGG,
        GucContext::Userset,
        GucFlags::default(),
    );
    crate::pg::planner::sort_sketches(|| FORCE_GROUPAGG.get());
    let hidden = GucFlags::NO_SHOW_ALL | GucFlags::DISALLOW_IN_FILE;
    GucRegistry::define_int_guc(
        DEFAULTS_NAME,
        c"Parameters of new sketches in this session, as a type modifier.",
        c"Changed by hll_set_defaults.",
        &DEFAULTS,
        0,
        DEFAULTS_MAX,
        GucContext::Backend,
        hidden,
    );
    GucRegistry::define_int_guc(
        SPARSE_NAME,
        c"Most registers that are stored sparsely in this session; -1 means the smaller form.",
        c"Changed by hll_set_max_sparse.",
        &MAX_SPARSE,
        -1,
        i32::MAX,
        GucContext::Backend,
        hidden,
    );
    crate::pg::xact::undo_with_role(DEFAULTS_NAME);
    crate::pg::xact::undo_with_role(SPARSE_NAME);
}

/// The estimator in force.
#[inline]
pub fn estimator() -> Estimator {
    match ESTIMATOR.get() {
        EstimatorSetting::Improved => Estimator::Improved,
        EstimatorSetting::Classic => Estimator::Classic,
    }
}

/// Parameters of new sketches where the call names none.
pub fn defaults() -> Params {
    Params::from_typmod(DEFAULTS.get())
}

/// The limit of filled registers for the sparse form, -1 for the smaller form.
#[inline]
pub fn max_sparse() -> i32 {
    MAX_SPARSE.get()
}

fn store(name: &CStr, value: i32) {
    let text = c_text(value.to_string());
    native::set_session_setting(name, &text);
}

fn set_output_version(call: &mut Call) -> Datum {
    if call.i32(0) != Some(1) {
        raise(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, "output version must be 1");
    }
    Datum::from(1i32)
}

fn set_max_sparse(call: &mut Call) -> Datum {
    let wanted = call.i32(0).unwrap_or(-1);
    if wanted < -1 {
        raise(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, "sparse threshold must be in range [-1,MAXINT]");
    }
    let previous = max_sparse();
    store(SPARSE_NAME, wanted);
    Datum::from(previous)
}

fn set_defaults(call: &mut Call) -> Datum {
    let int = |n| i64::from(call.i32(n).unwrap_or(0));
    let wanted = Params::new(int(0), int(1), call.i64(2).unwrap_or(0), int(3)).or_raise();
    let previous = defaults();
    store(DEFAULTS_NAME, wanted.to_typmod());
    // A plan may hold a call with the parameters written into it.
    crate::pg::plan::forget_plans();
    let mut columns = [
        Datum::from(i32::from(previous.log2m)),
        Datum::from(i32::from(previous.regwidth)),
        Datum::from(previous.expthresh),
        Datum::from(i32::from(previous.sparseon)),
    ];
    native::record(call, &mut columns)
}
