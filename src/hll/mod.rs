//! hll (being built)
/// Called once when the library is loaded.
pub fn init() {}
