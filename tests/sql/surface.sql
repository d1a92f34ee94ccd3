-- The whole surface of the type: what postgresql-hll 2.21 has, as its users find it, and what is new.
\set VERBOSITY terse
\pset format unaligned
\pset footer off
SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')' AS function, pg_get_function_result(p.oid) AS result,
    CASE WHEN p.proisstrict THEN 'strict' ELSE 'not strict' END AS strict,
    CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
    CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END AS parallel, p.prosrc AS symbol, p.procost AS cost
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll'
WHERE p.prokind = 'f' AND p.pronamespace = 'public'::regnamespace AND (p.proname LIKE 'hll%' OR p.proname LIKE 'ddsketch%') ORDER BY p.proname COLLATE "C", p.pronargs, 1;
SELECT a.aggfnoid::regprocedure AS aggregate, a.aggtransfn AS transition, a.aggfinalfn AS final, a.aggcombinefn AS combine, a.aggserialfn AS serialize,
    a.aggdeserialfn AS deserialize, a.aggtranstype::regtype AS state, a.aggtransspace AS space, a.aggfinalmodify AS modify, a.agginitval AS initial,
    a.aggmtransfn AS moving, p.proparallel AS parallel
FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid
WHERE p.proname LIKE 'hll%' OR p.proname LIKE 'approx%' OR p.proname LIKE 'ddsketch%' ORDER BY a.aggfnoid::regprocedure::text COLLATE "C";
SELECT o.oid::regoperator AS operator, o.oprcode AS function, o.oprresult::regtype AS result, o.oprcom::regoperator AS commutator, o.oprnegate::regoperator AS negator,
    o.oprrest AS restrict, o.oprjoin AS join, o.oprcanmerge AS merges, o.oprcanhash AS hashes
FROM pg_operator o WHERE 'hll'::regtype IN (o.oprleft, o.oprright) OR 'hll_hashval'::regtype IN (o.oprleft, o.oprright) ORDER BY 1::text COLLATE "C", o.oid::regoperator::text COLLATE "C";
SELECT c.castsource::regtype AS source, c.casttarget::regtype AS target, c.castcontext AS context, c.castmethod AS method, c.castfunc::regprocedure AS function
FROM pg_cast c WHERE 'hll'::regtype IN (c.castsource, c.casttarget) OR 'hll_hashval'::regtype IN (c.castsource, c.casttarget) ORDER BY c.castsource::regtype::text COLLATE "C", c.casttarget::regtype::text COLLATE "C";
SELECT typname, typlen, typbyval, typalign, typstorage, typcategory, typispreferred, typdelim, typinput, typoutput, typreceive, typsend, typmodin, typmodout, typarray::regtype
FROM pg_type WHERE typname IN ('hll', 'hll_hashval') ORDER BY 1;
SELECT opcname, amname, opcintype::regtype AS type, opcdefault, opckeytype::regtype FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod
WHERE c.opcintype IN ('hll'::regtype, 'hll_hashval'::regtype) ORDER BY amname, opcname;
-- the catalog agrees with itself: PostgreSQL's own check of operator classes
SELECT opcname, amname, amvalidate(c.oid) FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod
WHERE c.opcintype IN ('hll'::regtype, 'hll_hashval'::regtype) ORDER BY amname, opcname;
-- found by name and number of arguments alone, so each but once
SELECT p.proname, p.pronargs, count(*) FROM pg_proc p
WHERE (p.proname, p.pronargs) IN (('hll_add_agg', 2), ('hll_union_agg', 1), ('hll_cardinality', 1), ('hll_hash_integer', 2), ('hll_hash_bigint', 2), ('hll_hash_text', 2), ('hll_hash_any', 2))
GROUP BY 1, 2 ORDER BY 1;
SELECT name, setting, context, vartype FROM pg_settings WHERE name LIKE 'hll.%' ORDER BY name;
-- everything is commented on
SELECT pg_describe_object(d.classid, d.objid, 0) AS silent FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll' AND d.refclassid = 'pg_extension'::regclass
WHERE d.deptype = 'e' AND pg_describe_object(d.classid, d.objid, 0) NOT LIKE 'sequence %_id_seq' AND obj_description(d.objid, d.classid::regclass::name) IS NULL
  -- from PostgreSQL 17 on row types and array types are members, too
  AND NOT (d.classid = 'pg_type'::regclass AND d.objid IN (SELECT oid FROM pg_type WHERE typrelid <> 0 OR typcategory = 'A')) ORDER BY 1;
