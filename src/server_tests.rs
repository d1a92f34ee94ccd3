//! Tests that run inside the server, for what is neither pure nor visible to a user.
use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use crate::pg::{query, xact};
    use pgrx::prelude::*;

    fn one<T: FromDatum + IntoDatum>(sql: &str) -> T {
        Spi::get_one(sql).expect("the statement runs").expect("it returns a value")
    }

    #[pg_test]
    fn a_subtransaction_has_the_stamp_of_its_transaction() {
        let own = xact::own_transaction_id();
        Spi::run("CREATE TEMP TABLE t (s bigint)").expect("runs");
        Spi::run(
            "DO $$ BEGIN INSERT INTO t VALUES (rollup.stamp()); EXCEPTION WHEN others THEN NULL; END $$",
        )
        .expect("runs");
        assert_eq!(one::<i64>("SELECT s FROM t"), own);
        assert_eq!(one::<i64>("SELECT rollup.stamp()"), own);
        assert_eq!(one::<i64>("SELECT pg_current_xact_id()::text::bigint"), own);
    }

    #[pg_test]
    fn the_query_is_read_as_postgresql_reads_it() {
        Spi::run("CREATE TABLE \"Odd \"\"name\" (\"Day\" date NOT NULL, v int)").expect("runs");
        let s = query::analyse("SELECT \"Day\", sum(v) FILTER (WHERE v > 0) / count(*) FROM \"Odd \"\"name\" AS o WHERE o.v <> 3 GROUP BY 1", "UTC")
            .expect("is a SELECT");
        assert_eq!(s.relkind, 'r');
        assert_eq!(s.filter.as_deref(), Some("(v <> 3)"));
        assert_eq!(s.targets[0].name, "Day");
        assert_eq!(s.targets[1].written, "(sum(v) FILTER (WHERE (v > 0)) / count(*))");
        assert_eq!(s.targets[1].expression, "($1 / NULLIF($2, '0'::bigint))");
        assert_eq!(s.targets[1].sql_type, "bigint");
        assert!(s.targets[0].is_time && !s.targets[1].is_time);
        let query::Entry::Value { parts, immutable } = &s.targets[1].entry else { panic!("a value") };
        assert!(*immutable);
        let query::Part::Aggregate(sum) = &parts[0] else { panic!("an aggregate") };
        assert_eq!((sum.signature.as_str(), sum.column.as_deref()), ("sum(integer)", Some("v")));
        assert_eq!(sum.filter.as_deref(), Some("(v > 0)"));
        assert_eq!(sum.arguments, ["v"]);
    }

    #[pg_test]
    fn acting_as_the_catalog_ends_with_the_block() {
        Spi::run("SET search_path = public").expect("runs");
        {
            let _acting = xact::ActingAs::catalog();
            assert_eq!(one::<String>("SELECT current_setting('search_path')"), "pg_catalog, pg_temp");
        }
        assert_eq!(one::<String>("SELECT current_setting('search_path')"), "public");
    }

    #[pg_test]
    fn a_rollup_equals_its_query() {
        Spi::run("CREATE TABLE e (at timestamptz NOT NULL, k text)").expect("runs");
        Spi::run("SELECT rollup.create('e_1h', 'SELECT date_trunc(''hour'', at) AS at, jsonb_counter_agg(k) AS ks, hll_add_agg(hll_hash_text(k)) AS h FROM e GROUP BY 1')").expect("runs");
        Spi::run("INSERT INTO e SELECT timestamptz '2026-01-01' + i * interval '1 min', (i % 7)::text FROM generate_series(1, 500) i").expect("runs");
        assert_eq!(
            one::<i64>(
                "SELECT count(*) FROM (SELECT at, ks, h::text FROM e_1h_live EXCEPT SELECT date_trunc('hour', at), jsonb_counter_agg(k), hll_add_agg(hll_hash_text(k))::text FROM e GROUP BY 1) d"
            ),
            0
        );
        assert_eq!(one::<i64>("SELECT count(*) FROM e_1h_live"), 9);
    }
}
