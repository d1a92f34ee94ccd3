//! What an event trigger is told of a command: the objects that it made or changed, by their ids.
use crate::pg::v1::Call;
use pgrx::PgList;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The catalog of subscriptions, which every version of PostgreSQL calls by this id.
const SUBSCRIPTION: pg_sys::Oid = pg_sys::Oid::from_u32(6100);

/// What a command did that may bring rows to a table in another way than an INSERT into it.
#[derive(Debug, Default)]
pub struct Command {
    /// Tables that were made.
    pub made: Vec<pg_sys::Oid>,
    /// Tables that have come to stand below another.
    pub children: Vec<pg_sys::Oid>,
    /// Partitions that a table has been given: its id, and what they are called, whatever their schema.
    pub attached: Vec<(pg_sys::Oid, String)>,
    /// Tables from which one was detached: what they are, and what it is called, whatever its schema.
    pub detached: Vec<(pg_sys::Oid, String)>,
    /// Tables that inherit from one less.
    pub freed: Vec<pg_sys::Oid>,
    /// Subscriptions that were made or changed.
    pub subscriptions: Vec<pg_sys::Oid>,
    /// Partitions that have left a table: that one, and which; 0 where no name leads to it.
    pub left: Vec<(pg_sys::Oid, pg_sys::Oid)>,
    /// Tables of which triggers were switched off, or on, so that they may not fire for all who change rows.
    pub switched: Vec<(pg_sys::Oid, Switch)>,
    /// Tables that were made unlogged.
    pub unlogged: Vec<pg_sys::Oid>,
    /// Tables of which a column was renamed: which, from what, to what.
    pub renamed: Vec<(pg_sys::Oid, String, String)>,
    /// Tables that were given another name or schema.
    pub called: Vec<Called>,
}

/// A table that is called otherwise.
#[derive(Debug)]
pub struct Called {
    /// The table.
    pub table: pg_sys::Oid,
    /// The name that it had, where that is another one.
    pub was: Option<String>,
    /// The schema that it was in, where that is another one.
    pub schema: Option<pg_sys::Oid>,
}

/// How triggers were switched.
#[derive(Debug)]
pub struct Switch {
    /// They fire from now on, for some at least.
    pub on: bool,
    /// The one that the command names; None: all of them, or all of users.
    pub trigger: Option<String>,
}

/// The command that argument 0 is, a pg_ddl_command.
pub fn command(call: &Call) -> Command {
    let mut told = Command::default();
    let Some(argument) = call.arg(0) else { return told };
    // SAFETY: values of type pg_ddl_command come from pg_event_trigger_ddl_commands() alone, can be stored nowhere, and
    // point to a command that PostgreSQL keeps until its event triggers have ended. The tags say what the nodes are.
    unsafe {
        let collected = &*argument.cast_mut_ptr::<pg_sys::CollectedCommand>();
        match collected.type_ {
            pg_sys::CollectedCommandType::SCT_Simple => {
                let address = collected.d.simple.address;
                if address.classId == SUBSCRIPTION {
                    told.subscriptions.push(address.objectId);
                } else if address.classId != pg_sys::RelationRelationId {
                } else if let Some((was, now)) = renames_column(collected.parsetree) {
                    told.renamed.push((address.objectId, was, now));
                } else if let Some(called) = calls(&collected.d.simple, collected.parsetree) {
                    told.called.push(called);
                } else if let Some(below) = creates_table(collected.parsetree) {
                    told.made.push(address.objectId);
                    told.children.extend(below.then_some(address.objectId));
                }
            }
            pg_sys::CollectedCommandType::SCT_AlterTable => {
                let alter = collected.d.alterTable;
                for sub in PgList::<pg_sys::CollectedATSubcmd>::from_pg(alter.subcmds).iter_ptr() {
                    let command = (*sub).parsetree.cast::<pg_sys::AlterTableCmd>();
                    if (*command).type_ != pg_sys::NodeTag::T_AlterTableCmd {
                        continue;
                    }
                    match (*command).subtype {
                        // PostgreSQL does not keep the id of the partition.
                        pg_sys::AlterTableType::AT_AttachPartition
                            if alter.classId == pg_sys::RelationRelationId =>
                        {
                            let name = (*(*command).def.cast::<pg_sys::PartitionCmd>()).name;
                            let name = CStr::from_ptr((*name).relname).to_string_lossy().into_owned();
                            told.attached.push((alter.objectId, name));
                        }
                        pg_sys::AlterTableType::AT_DetachPartition
                        | pg_sys::AlterTableType::AT_DetachPartitionFinalize
                            if alter.classId == pg_sys::RelationRelationId =>
                        {
                            let name = (*(*command).def.cast::<pg_sys::PartitionCmd>()).name;
                            told.left.push((alter.objectId, named(name)));
                            let name = CStr::from_ptr((*name).relname).to_string_lossy().into_owned();
                            told.detached.push((alter.objectId, name));
                        }
                        pg_sys::AlterTableType::AT_DropInherit => told.freed.push(alter.objectId),
                        pg_sys::AlterTableType::AT_AddInherit => told.children.push(alter.objectId),
                        pg_sys::AlterTableType::AT_SetUnLogged => told.unlogged.push(alter.objectId),
                        _ => told.switched.extend(switches(command).map(|switch| (alter.objectId, switch))),
                    }
                }
            }
            _ => {}
        }
    }
    told
}

/// What a part of ALTER TABLE does to triggers.
///
/// # Safety
/// `command` is such a part.
unsafe fn switches(command: *const pg_sys::AlterTableCmd) -> Option<Switch> {
    // SAFETY: as the caller's; the name is NULL where the command has none.
    let (kind, name) = unsafe { ((*command).subtype, (*command).name) };
    let on = match kind {
        pg_sys::AlterTableType::AT_DisableTrig
        | pg_sys::AlterTableType::AT_DisableTrigAll
        | pg_sys::AlterTableType::AT_DisableTrigUser => false,
        pg_sys::AlterTableType::AT_EnableTrig
        | pg_sys::AlterTableType::AT_EnableTrigAll
        | pg_sys::AlterTableType::AT_EnableTrigUser
        | pg_sys::AlterTableType::AT_EnableAlwaysTrig
        | pg_sys::AlterTableType::AT_EnableReplicaTrig => true,
        _ => return None,
    };
    // SAFETY: as above.
    let trigger = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name).to_string_lossy().into_owned() });
    Some(Switch { on, trigger })
}

/// The table that a command names, as it was found by it; 0 where there is none of that name any more.
///
/// # Safety
/// `name` is that of a command.
unsafe fn named(name: *mut pg_sys::RangeVar) -> pg_sys::Oid {
    // SAFETY: as the caller's; takes no lock, and tolerates absence.
    unsafe {
        pg_sys::RangeVarGetRelidExtended(
            name,
            pg_sys::NoLock as i32,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        )
    }
}

/// Whether the table of a CREATE TABLE is PARTITION OF or INHERITS another; None of other commands.
///
/// # Safety
/// `tree` is a node, or NULL.
unsafe fn creates_table(tree: *const pg_sys::Node) -> Option<bool> {
    // SAFETY: the tag says what the node is.
    unsafe {
        (!tree.is_null() && (*tree).type_ == pg_sys::NodeTag::T_CreateStmt)
            .then(|| !(*tree.cast::<pg_sys::CreateStmt>()).inhRelations.is_null())
    }
}

/// The first row of a catalog by its index on one column, an oid that comes first, as it was before the command at hand:
/// under the command's snapshot. SPI would take a newer one, once anything was written in the transaction.
///
/// # Safety
/// Inside a command, whose snapshot is active; the index is one of the catalog.
unsafe fn before<T>(
    catalog: u32,
    index: u32,
    column: i16,
    id: pg_sys::Oid,
    read: impl FnOnce(pg_sys::HeapTuple, pg_sys::TupleDesc) -> Option<T>,
) -> Option<T> {
    // SAFETY: as the caller's; scan and relation are closed before return.
    unsafe {
        let table = pg_sys::table_open(catalog.into(), pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            column,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_OIDEQ.into(),
            id.into(),
        );
        let snapshot = pg_sys::GetActiveSnapshot();
        let scan = pg_sys::systable_beginscan(table, index.into(), true, snapshot, 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let found = if tuple.is_null() { None } else { read(tuple, (*table).rd_att) };
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
        found
    }
}

fn class_before<T>(
    relation: pg_sys::Oid,
    read: impl FnOnce(pg_sys::HeapTuple, pg_sys::TupleDesc) -> Option<T>,
) -> Option<T> {
    let (class, index) = (pg_sys::RelationRelationId.to_u32(), pg_sys::ClassOidIndexId);
    // SAFETY: event triggers are called inside a command; the index is that of pg_class.
    unsafe { before(class, index, pg_sys::Anum_pg_class_oid as i16, relation, read) }
}

/// Who owned a table that the command at hand has just dropped, for its event trigger.
pub fn owner_before(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: rows of pg_class begin with the struct that is read.
    class_before(relation, |tuple, _| unsafe {
        Some((*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner)
    })
}

/// The table that such a table stood below.
pub fn parent_before(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // pg_inherits, its index on the child, and its first and second column.
    const INHERITS: (u32, u32, i16) = (2611, 2680, 1);
    // SAFETY: as above; the second column is an oid.
    unsafe {
        before(INHERITS.0, INHERITS.1, INHERITS.2, relation, |tuple, shape| {
            let mut null = false;
            let parent = pg_sys::heap_getattr(tuple, 2, shape, &mut null);
            (!null).then(|| pg_sys::Oid::from(parent.value() as u32))
        })
    }
}

/// Where such a partition ended by its first column, if that holds times: in microseconds since 2000, those of a date or a
/// time without zone as if it were UTC.
pub fn end_before(relation: pg_sys::Oid) -> Option<i64> {
    const DAY: i64 = 86_400_000_000;
    // SAFETY: rows of pg_class begin with the struct that is read; a bound is the text of a tree, whose tags say what its
    // nodes are.
    class_before(relation, |tuple, shape| unsafe {
        let mut null = false;
        let text = pg_sys::heap_getattr(tuple, pg_sys::Anum_pg_class_relpartbound as i32, shape, &mut null);
        if null {
            return None;
        }
        let text = pg_sys::text_to_cstring(text.cast_mut_ptr());
        let bound = pg_sys::stringToNode(text).cast::<pg_sys::PartitionBoundSpec>();
        let first = PgList::<pg_sys::PartitionRangeDatum>::from_pg((*bound).upperdatums).get_ptr(0)?;
        let value = (*first).value.cast::<pg_sys::Const>();
        if value.is_null() || (*value).xpr.type_ != pg_sys::NodeTag::T_Const || (*value).constisnull {
            return None;
        }
        let at = (*value).constvalue.value();
        match pg_sys::getBaseType((*value).consttype) {
            pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID => Some(at as i64),
            pg_sys::DATEOID => i64::from(at as i32).checked_mul(DAY),
            _ => None,
        }
    })
}

/// What ALTER TABLE … RENAME TO, or SET SCHEMA, has a table be called.
///
/// # Safety
/// `tree` is the node of the command, or NULL.
unsafe fn calls(
    command: &pg_sys::CollectedCommand__bindgen_ty_1__bindgen_ty_1,
    tree: *const pg_sys::Node,
) -> Option<Called> {
    let table = command.address.objectId;
    // SAFETY: the tag says what the node is; a table that is renamed was named by the command.
    unsafe {
        match tree.as_ref()?.type_ {
            pg_sys::NodeTag::T_RenameStmt => {
                let rename = &*tree.cast::<pg_sys::RenameStmt>();
                let is_table =
                    rename.renameType == pg_sys::ObjectType::OBJECT_TABLE && !rename.relation.is_null();
                is_table.then(|| {
                    let was = CStr::from_ptr((*rename.relation).relname).to_string_lossy().into_owned();
                    Called { table, was: Some(was), schema: None }
                })
            }
            // What the command did it to before is the schema.
            pg_sys::NodeTag::T_AlterObjectSchemaStmt => {
                let schema = command.secondaryObject.objectId;
                Some(Called { table, was: None, schema: Some(schema) })
            }
            _ => None,
        }
    }
}

/// What ALTER TABLE … RENAME COLUMN renames, and how.
///
/// # Safety
/// `tree` is a node, or NULL.
unsafe fn renames_column(tree: *const pg_sys::Node) -> Option<(String, String)> {
    // SAFETY: the tag says what the node is.
    unsafe {
        if tree.is_null() || (*tree).type_ != pg_sys::NodeTag::T_RenameStmt {
            return None;
        }
        let rename = &*tree.cast::<pg_sys::RenameStmt>();
        let text = |p: *const std::ffi::c_char| CStr::from_ptr(p).to_string_lossy().into_owned();
        (rename.renameType == pg_sys::ObjectType::OBJECT_COLUMN)
            .then(|| (text(rename.subname), text(rename.newname)))
    }
}
