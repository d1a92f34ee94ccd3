//! Whose a relation is, and what row security hides.
use pgrx::pg_sys;
use std::ffi::CStr;

/// Whether row security hides rows of a table from a role, or may.
pub fn is_filtered(table: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalog, which give no error where told so.
    unsafe { pg_sys::check_enable_rls(table, role, true) == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32 }
}

/// Whether a role may read a column of a table in all its rows; None: whole rows. It may where the table is gone.
pub fn may_read(table: pg_sys::Oid, column: Option<&CStr>, role: pg_sys::Oid) -> bool {
    const SELECT: pg_sys::AclMode = pg_sys::ACL_SELECT as pg_sys::AclMode;
    // SAFETY: look-ups in the catalog; those of privileges are for a table that is there.
    unsafe {
        if owner_of(table).is_none() {
            return true;
        }
        let of_column = |name: &CStr| {
            let number = pg_sys::get_attnum(table, name.as_ptr());
            number > 0
                && pg_sys::pg_attribute_aclcheck(table, number, role, SELECT)
                    == pg_sys::AclResult::ACLCHECK_OK
        };
        let granted = pg_sys::pg_class_aclcheck(table, role, SELECT) == pg_sys::AclResult::ACLCHECK_OK
            || column.is_some_and(of_column);
        granted && !is_filtered(table, role)
    }
}

/// Whether there is such a role.
pub fn is_role(role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up that tolerates absence.
    unsafe { !pg_sys::GetUserNameFromId(role, true).is_null() }
}

/// The system identifier of this cluster, as pg_control_system() gives it, which reads a file for that.
pub fn system_identifier() -> i64 {
    // SAFETY: reads shared memory that is set before any session begins.
    unsafe { pg_sys::GetSystemIdentifier() as i64 }
}

/// The oid of this database.
pub fn database() -> u32 {
    // SAFETY: a variable of the process that is set before any session begins.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}

/// The columns of a relation that were not dropped, as they are called now: their numbers and names; none where it is gone.
pub fn columns_of(relation: pg_sys::Oid) -> Vec<(i16, String)> {
    // SAFETY: look-ups in the catalog, which give NULL where there is nothing; names are copied. One that was dropped has a
    // number yet, and no name by which it is found.
    unsafe {
        let tuple =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return Vec::new();
        }
        let last = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(tuple)).relnatts;
        pg_sys::ReleaseSysCache(tuple);
        (1..=last)
            .filter_map(|number| {
                let name = pg_sys::get_attname(relation, number, true);
                (!name.is_null() && pg_sys::get_attnum(relation, name) == number)
                    .then(|| (number, CStr::from_ptr(name).to_string_lossy().into_owned()))
            })
            .collect()
    }
}

/// The owner of a relation, if it is there.
pub fn owner_of(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: the cached tuple is released before return; what is read of it is its fixed part.
    unsafe {
        let tuple =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(tuple)).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}
