//! JSONB counters (being built)
