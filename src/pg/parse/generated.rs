//! What a generated column is computed by.
use pgrx::pg_sys;
use std::ffi::CString;

/// The letter of a column that is generated and stored.
const STORED: std::ffi::c_char = b's' as std::ffi::c_char;

/// Whether it is a generated column that is computed by what `expression` says, an expression over its table as a column
/// definition has it: PostgreSQL makes the same of both. An error where it makes nothing of it.
pub fn computes(table: pg_sys::Oid, column: &str, expression: &str) -> bool {
    let (Ok(name), Ok(query)) = (CString::new(column), CString::new(format!("SELECT ({expression})"))) else {
        return false;
    };
    // SAFETY: the table is open while its descriptor is read and the expression is analysed over it. A statement that
    // begins with SELECT is parsed to one SelectStmt with one entry, or raises an error.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let relation = pg_sys::table_open(table, lock);
        let number = pg_sys::get_attnum(table, name.as_ptr());
        let stored = default_of(relation, number);
        let same = !stored.is_null() && {
            let state = pg_sys::make_parsestate(std::ptr::null_mut());
            let item = pg_sys::addRangeTableEntryForRelation(
                state,
                relation,
                lock,
                std::ptr::null_mut(),
                false,
                true,
            );
            pg_sys::addNSItemToQuery(state, item, true, true, true);
            let parsed = pg_sys::raw_parser(query.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
            let statement = pg_sys::list_nth(parsed, 0).cast::<pg_sys::RawStmt>();
            let select = (*statement).stmt.cast::<pg_sys::SelectStmt>();
            let target = pg_sys::list_nth((*select).targetList, 0).cast::<pg_sys::ResTarget>();
            let (mut kind, mut modifier, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
            pg_sys::get_atttypetypmodcoll(table, number, &mut kind, &mut modifier, &mut collation);
            let wanted = pg_sys::cookDefault(state, (*target).val, kind, modifier, name.as_ptr(), STORED);
            let same = pg_sys::equal(wanted.cast(), pg_sys::stringToNode(stored));
            pg_sys::free_parsestate(state);
            same
        };
        pg_sys::table_close(relation, lock);
        same
    }
}

/// The default, or what generates it, of a column, as it is stored; NULL where it has none.
///
/// # Safety
/// The relation is open.
unsafe fn default_of(relation: pg_sys::Relation, column: pg_sys::AttrNumber) -> *const std::ffi::c_char {
    // SAFETY: as many defaults are there as the descriptor says.
    unsafe {
        let constraints = (*(*relation).rd_att).constr;
        if constraints.is_null() {
            return std::ptr::null();
        }
        let all = (0..usize::from((*constraints).num_defval)).map(|n| *(*constraints).defval.add(n));
        all.into_iter().find(|d| d.adnum == column).map_or(std::ptr::null(), |d| d.adbin)
    }
}
