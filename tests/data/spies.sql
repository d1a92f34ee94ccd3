-- Everything that an owner can put on tables and into a query; each notes whom it runs as.
CREATE TABLE hostile.seen (what text, who text);
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
GRANT ALL ON hostile.seen TO PUBLIC;
CREATE FUNCTION hostile.spy(what text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  -- What a statement of the superuser's own on the source runs is the superuser's.
  INSERT INTO hostile.seen VALUES (CASE WHEN current_query() LIKE '%INSERT INTO hostile.src%' AND current_user <> 'hostile' THEN 'insert' ELSE what END, current_user);
END $$;
CREATE FUNCTION hostile.f_filter(v int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM hostile.spy('filter'); RETURN true; END $$;
CREATE FUNCTION hostile.f_key(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM hostile.spy('key'); RETURN v % 2; END $$;
CREATE FUNCTION hostile.f_res(v bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM hostile.spy('result'); RETURN v; END $$;
CREATE FUNCTION hostile.f_comb(a bigint, b bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM hostile.spy('combine'); RETURN coalesce(a, 0) + coalesce(b, 0); END $$;
CREATE FUNCTION hostile.f_chk(a bigint) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM hostile.spy('check'); RETURN true; END $$;
CREATE FUNCTION hostile.f_idx(a bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM hostile.spy('index'); RETURN a; END $$;
CREATE FUNCTION hostile.f_trg() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM hostile.spy('trigger'); RETURN coalesce(NEW, OLD); END $$;
CREATE FUNCTION hostile.f_pol() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM hostile.spy('policy'); RETURN true; END $$;
CREATE AGGREGATE hostile.ag(bigint) (sfunc = hostile.f_comb, stype = bigint);
CREATE AGGREGATE hostile.un(bigint) (sfunc = hostile.f_comb, stype = bigint);
SELECT rollup.add_merge_rule('hostile.ag(bigint)', 'hostile.f_comb(bigint,bigint)'::regprocedure, 'hostile.un(bigint)'::regprocedure);
CREATE TABLE hostile.src (at timestamptz DEFAULT now(), v int);
SELECT rollup.create('hostile.src_h', 'SELECT date_trunc(''hour'', at) AS h, hostile.f_key(v) AS k, count(*) AS n, hostile.ag(v::bigint) AS s, hostile.f_res(count(*)) AS r FROM hostile.src WHERE hostile.f_filter(v) GROUP BY 1, 2',
  every => NULL, coarser => '{"hostile.src_d": "1 day"}', on_change => 'recompute');
ALTER TABLE hostile.src_h ADD CHECK (hostile.f_chk(n));
CREATE INDEX ON hostile.src_h (hostile.f_idx(n));
CREATE INDEX ON hostile.src (hostile.f_idx(v));
CREATE TRIGGER t_row BEFORE INSERT OR UPDATE OR DELETE ON hostile.src_h FOR EACH ROW EXECUTE FUNCTION hostile.f_trg();
CREATE TRIGGER t_del AFTER DELETE ON hostile.src FOR EACH ROW EXECUTE FUNCTION hostile.f_trg();
CREATE TRIGGER t_trunc BEFORE TRUNCATE ON hostile.src EXECUTE FUNCTION hostile.f_trg();
ALTER TABLE hostile.src ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON hostile.src USING (hostile.f_pol());
ALTER TABLE hostile.src_h ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON hostile.src_h USING (hostile.f_pol());
INSERT INTO hostile.src SELECT now() - g * interval '1 hour', g FROM generate_series(1, 20) g;
