//! HyperLogLog sketches in the storage format of postgresql-hll.
