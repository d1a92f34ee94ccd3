//! Settings of the session for statements of the engine, until the current role ends.
use crate::pg::ctext::c_text;
use crate::pg::query::set_local;

/// New rows lie at the end of the table, all of them: to the planner, which takes them to be anywhere, reading the
/// table until one comes looks cheap. Until the current role ends.
pub fn prefer_the_index() {
    set_local(c"enable_seqscan", c"off");
}

/// The planner cannot know how few groups a bucket expression makes, and would sort all rows. Hashing spills where
/// it does not fit. Until the current role ends.
pub fn prefer_hashing() {
    set_local(c"enable_sort", c"off");
}

/// Sets the time zone until the current role ends.
pub fn set_timezone(zone: &str) {
    set_local(c"timezone", &c_text(zone));
}
