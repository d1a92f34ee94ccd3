//! The function reference and the table of settings: what the extension's objects say of themselves in the catalog.
use std::fmt::Write as _;

use postgres::Client;

use crate::Outcome;

/// A part of the page: its heading and the condition (on `p`, a row of pg_proc, and the joined facts) that selects it.
const PARTS: [(&str, &str); 6] = [
    ("Sketches", "schema = 'public' AND name LIKE 'hll%' AND name NOT LIKE 'hll_hash%' AND NOT support"),
    ("Hashes of elements", "schema = 'public' AND name LIKE 'hll_hash%' AND NOT support"),
    ("Distinct values in one step", "schema = 'public' AND name LIKE 'approx_count%' AND NOT support"),
    (
        "Percentiles",
        "schema = 'public' AND (name LIKE 'ddsketch%' OR name LIKE 'approx_percentile%') AND NOT support",
    ),
    ("Counters", "schema = 'public' AND name LIKE 'jsonb%' AND NOT support"),
    ("Rollups", "schema = 'rollup' AND NOT support"),
];

/// Everything the extension owns that can be called. What PostgreSQL calls for a type, an operator class or an aggregate
/// is support: it takes or gives an internal value or a C string, or stands behind a comparison or an aggregate.
const ROUTINES: &str = "
    WITH owned AS (
        SELECT p.*, n.nspname::text AS schema, p.proname::text AS name, obj_description(p.oid, 'pg_proc') AS comment,
            EXISTS (SELECT FROM pg_aggregate a WHERE p.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn))
            OR EXISTS (SELECT FROM pg_amproc s WHERE s.amproc = p.oid)
            OR EXISTS (SELECT FROM pg_operator o WHERE o.oprcode = p.oid AND o.oprname IN ('=', '<>', '<', '<=', '>=', '>'))
            OR EXISTS (SELECT FROM pg_type t WHERE p.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout))
            OR EXISTS (SELECT FROM pg_cast c WHERE c.castfunc = p.oid AND c.castsource = c.casttarget)
            OR EXISTS (SELECT FROM unnest(p.proargtypes) t(type) WHERE t.type = 'internal'::regtype)
            AS support
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
            JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
            JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'hll'
    )
    SELECT CASE WHEN schema = 'public' THEN '' ELSE schema || '.' END || name || '(' || pg_get_function_arguments(oid) || ')' AS call,
        CASE WHEN prokind = 'p' OR pg_get_function_result(oid) IN ('void', 'record') THEN '' ELSE pg_get_function_result(oid) END AS result,
        CASE prokind WHEN 'a' THEN 'aggregate ' WHEN 'p' THEN 'procedure ' ELSE '' END AS kind, comment
    FROM owned WHERE ";

const OPERATORS: &str = "
    SELECT CASE WHEN oprleft = 0 THEN '' ELSE format_type(oprleft, NULL) || ' ' END || oprname || ' ' || format_type(oprright, NULL),
        format_type(oprresult, NULL), obj_description(o.oid, 'pg_operator')
    FROM pg_operator o JOIN pg_depend d ON d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll'";

const CASTS: &str = "
    SELECT format_type(castsource, NULL) || ' to ' || format_type(casttarget, NULL),
        CASE castcontext WHEN 'i' THEN 'implicit' WHEN 'a' THEN 'on assignment' ELSE 'explicit' END, obj_description(c.oid, 'pg_cast')
    FROM pg_cast c JOIN pg_depend d ON d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll'";

const TYPES: &str = "
    SELECT format_type(t.oid, NULL), '', obj_description(t.oid, 'pg_type')
    FROM pg_type t JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll'
    WHERE t.typrelid = 0 AND t.typelem = 0";

const VIEWS: &str = "
    SELECT c.oid::regclass::text, '', obj_description(c.oid, 'pg_class')
    FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'hll'
    WHERE c.relkind = 'v'";

/// The page, made from a database that has the extension.
pub fn reference(client: &mut Client) -> Outcome<String> {
    let mut page = String::from(
        "# Reference\n\nMade by `make reference` from the comments on the objects; `\\df+`, `\\do+` and `\\dx+ hll` show the same in psql.\n",
    );
    table(&mut page, client, "Types", TYPES)?;
    for (heading, condition) in PARTS {
        write!(page, "\n## {heading}\n")?;
        let sql = format!(
            "{ROUTINES} {condition} ORDER BY name COLLATE \"C\", prokind, pronargs, pg_get_function_arguments(oid) COLLATE \"C\""
        );
        for row in client.query(&sql, &[])? {
            let (call, result, kind): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
            let arrow = if result.is_empty() { String::new() } else { format!(" → {result}") };
            write!(page, "\n{kind}**`{call}{arrow}`**  \n{}\n", sentence(row.get(3)))?;
        }
    }
    table(&mut page, client, "Views", VIEWS)?;
    table(&mut page, client, "Operators", OPERATORS)?;
    table(&mut page, client, "Casts", CASTS)?;
    Ok(page)
}

/// What one would write into a configuration: boot_val is in the unit of the setting.
const SETTINGS: &str = "
    SELECT format('| `%s` | `%s` | %s | %s | %s |', name, boot_val || coalesce(unit, ''),
        CASE vartype WHEN 'bool' THEN '`on`, `off`' WHEN 'enum' THEN '`' || array_to_string(enumvals, '`, `') || '`'
            WHEN 'string' THEN 'text' ELSE format('%s to %s%s', min_val, max_val, coalesce(' ' || unit, '')) END,
        CASE context WHEN 'user' THEN 'anyone, per session' WHEN 'superuser' THEN 'superusers, per session'
            WHEN 'sighup' THEN 'reload' WHEN 'postmaster' THEN 'restart' ELSE context END,
        rtrim(short_desc, '.') || '.' || coalesce(' ' || extra_desc, ''))
    FROM pg_settings WHERE name ~ '^(hll|rollup)\\.' ORDER BY name COLLATE \"C\"";

/// The rows of the table of settings, as the server has them.
pub fn settings(client: &mut Client) -> Outcome<Vec<String>> {
    client.batch_execute("LOAD 'hll'")?;
    Ok(client.query(SETTINGS, &[])?.iter().map(|row| row.get(0)).collect())
}

fn table(page: &mut String, client: &mut Client, heading: &str, sql: &str) -> Outcome<()> {
    write!(page, "\n## {heading}\n\n")?;
    let sql = format!("SELECT * FROM ({sql}) q(name, fact, comment) ORDER BY name COLLATE \"C\"");
    for row in client.query(&sql, &[])? {
        let (name, fact): (&str, &str) = (row.get(0), row.get(1));
        let fact = if fact.is_empty() { String::new() } else { format!(" ({fact})") };
        writeln!(page, "- `{name}`{fact}: {}", sentence(row.get(2)))?;
    }
    Ok(())
}

/// A comment as Markdown: a full stop last, a capital first unless that is a name, and no character that would mark
/// anything up.
fn sentence(comment: Option<&str>) -> String {
    let comment = comment.unwrap_or("?").replace('*', "\\*").replace('_', "\\_").replace('<', "&lt;");
    let word = comment.split([' ', ',']).next().unwrap_or_default();
    let start = if word.chars().all(char::is_alphabetic) { 1 } else { 0 };
    let (first, rest) = comment.split_at_checked(start).unwrap_or(("", &comment));
    format!("{}{rest}.", first.to_uppercase())
}
