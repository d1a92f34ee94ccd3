//! rollup (being built)
