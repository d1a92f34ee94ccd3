//! Tests that run inside the server, for what is neither pure nor visible to a user.
use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use crate::pg::ownership::{Argument, Header, look};
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

    /// A value: the name of its type, the type, and the text.
    type Sample = (String, pg_sys::Oid, String);

    /// Values of the types that functions of the extension take, for the test below.
    fn samples() -> Vec<Sample> {
        Spi::run("CREATE AGGREGATE kept_state(text) (SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state)")
            .expect("runs");
        let sql = "SELECT k, k::regtype::oid, v FROM (
                SELECT 'hll', hll_add_agg(hll_hash_integer(i), 11, 5, 64)::text FROM (VALUES (1), (2), (15), (16), (40), (600), (9000)) c(n), generate_series(1, n) i GROUP BY n
                UNION ALL SELECT 'hll', hll_empty(11, 5, 64)::text
                UNION ALL SELECT 'jsonb_counter_state', kept_state(i::text)::text FROM (VALUES (1), (9), (500)) c(n), generate_series(1, n) i GROUP BY n
                UNION ALL SELECT 'jsonb_counter_state', kept_state(repeat('k', 200))::text
                UNION ALL SELECT 'ddsketch', ddsketch_agg(i * 0.3)::text FROM (VALUES (1), (9), (500)) c(n), generate_series(1, n) i GROUP BY n
                UNION ALL SELECT 'ddsketch', 'scale=5'
                UNION ALL SELECT 'bytea', '\\x000000000000e03f' || encode(ddsketch_send(ddsketch_agg(i)), 'hex') FROM generate_series(1, 9) i
                UNION ALL SELECT 'cstring', 'scale=5 positive=1:1'
                UNION ALL SELECT 'jsonb', v FROM unnest(ARRAY['{}', '{\"a\": 1}', '{\"a\": {\"b\": 2.5}, \"*\": 3}']) v
                UNION ALL SELECT 'cstring', v FROM unnest(ARRAY['\\x118b7f', '\\x108b7f', '\\x010000', '12']) v
                UNION ALL SELECT 'double precision[]', v FROM unnest(ARRAY['{3,2,1}', '{3,2,1,4,5,6}', '{0,0.5,1}']) v
                UNION ALL SELECT t, v FROM unnest(ARRAY['integer', 'bigint', 'smallint', 'oid', 'hll_hashval', 'numeric', 'double precision']) t, unnest(ARRAY['0', '1', '11']) v
                UNION ALL VALUES ('integer', '-1'), ('boolean', 'f'), ('text', 'x'), ('bytea', '\\x00'), ('hll_hashval[]', '{1,2,NULL}'), ('cstring[]', '{11,5}')
            ) s(k, v)";
        let rows = Spi::connect(|client| {
            let rows = client.select(sql, None, &[])?;
            rows.map(|row| Ok((row.get(1)?, row.get(2)?, row.get(3)?))).collect::<pgrx::spi::Result<Vec<_>>>()
        });
        let rows = rows.expect("runs").into_iter();
        rows.map(|(k, t, v)| (k.expect("a name"), t.expect("a type"), v.expect("a text"))).collect()
    }

    /// Calls `f` with arguments of these types, every choice of the samples and NULL up to a number, with either header of
    /// varlenas; returns how often it was true.
    fn each_call(
        kinds: &[pg_sys::Oid],
        samples: &[Sample],
        mut f: impl FnMut(&[Argument], Header) -> bool,
    ) -> usize {
        const MOST: usize = 400;
        let choices: Vec<Vec<Argument>> = kinds
            .iter()
            .map(|kind| {
                let of_kind = samples.iter().filter(|(_, k, _)| k == kind);
                of_kind.map(|(_, k, v)| (*k, Some(v.clone()))).chain([(*kind, None)]).collect()
            })
            .collect();
        let all: usize = choices.iter().map(Vec::len).product();
        let mut seen = 0;
        for number in 0..all.min(MOST) {
            let mut rest = number;
            let arguments: Vec<Argument> = choices
                .iter()
                .map(|choice| {
                    let at = rest % choice.len();
                    rest /= choice.len();
                    choice[at].clone()
                })
                .collect();
            seen += usize::from(f(&arguments, Header::Long)) + usize::from(f(&arguments, Header::Short));
        }
        seen
    }

    /// What callers in C rely on, and what a send function that gave back its argument broke. Records and rows are left out:
    /// PostgreSQL's own way to return one gives an address inside of a chunk, and nobody frees it.
    #[pg_test]
    fn what_a_function_returns_belongs_to_its_caller() {
        let samples = samples();
        let sql = "SELECT p.oid, p.oid::regprocedure::text, p.proargtypes::oid[], p.prorettype = ANY(p.proargtypes::oid[])
             FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN pg_type t ON t.oid = p.prorettype
             JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
             JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll'
            WHERE p.prokind = 'f' AND NOT p.proretset AND p.prorettype <> 'record'::regtype AND t.typtype <> 'c' AND l.lanname = 'c' AND p.pronargs > 0 AND (NOT t.typbyval OR p.prorettype = 'internal'::regtype OR 'internal'::regtype = ANY(p.proargtypes::oid[]))";
        let functions = Spi::connect(|client| {
            let rows = client.select(sql, None, &[])?;
            rows.map(|row| {
                Ok((
                    row.get::<pg_sys::Oid>(1)?.expect("an oid"),
                    row.get::<String>(2)?.expect("a name"),
                    row.get::<Vec<pg_sys::Oid>>(3)?.expect("types"),
                    row.get::<bool>(4)?.expect("a boolean"),
                ))
            })
            .collect::<pgrx::spi::Result<Vec<_>>>()
        });
        let (mut wrong, mut sound, mut silent) = (Vec::new(), 0, Vec::new());
        for (function, name, kinds, may_alias) in functions.expect("runs") {
            let seen =
                each_call(&kinds, &samples, |arguments, header| match look(function, arguments, header) {
                    Ok(Some(Ok(()))) => true,
                    Ok(Some(Err(what))) => {
                        wrong.push(format!("{name} of {arguments:?}, {header:?}: {what}"));
                        false
                    }
                    // SQL has no NULL of type internal; this call has.
                    Err(failure) if failure.code == PgSqlErrorCode::ERRCODE_INTERNAL_ERROR => {
                        wrong.push(format!("{name} of {arguments:?}: XX000 {}", failure.message));
                        false
                    }
                    Ok(None) | Err(_) => false,
                });
            sound += seen;
            if seen == 0 && may_alias {
                silent.push(name);
            }
        }
        assert!(wrong.is_empty(), "{} calls:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
        assert!(sound > 500, "{sound} results were looked at");
        // Steps of aggregates, which run in those alone, and whose states PostgreSQL handles by their addresses.
        silent.retain(|name| !name.contains("_trans(") && !name.contains("_combine("));
        let takes_internal = |name: &str| name.split_once('(').is_some_and(|(_, of)| of.contains("internal"));
        silent.retain(|name| !takes_internal(name) && name != "rollup.explain(text)");
        assert!(silent.is_empty(), "no result of {silent:?}");
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
