//! What an event trigger is told of a command: the objects that it made or changed, by their ids.
use super::v1::Call;
use pgrx::PgList;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The catalog of subscriptions, which every version of PostgreSQL calls by this id.
const SUBSCRIPTION: pg_sys::Oid = pg_sys::Oid::from_u32(6100);

/// What a command did that may bring rows to a table by another road than an INSERT into it.
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
    /// Tables of which a column was renamed: which, from what, to what.
    pub renamed: Vec<(pg_sys::Oid, String, String)>,
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
                            let name = CStr::from_ptr((*name).relname).to_string_lossy().into_owned();
                            told.detached.push((alter.objectId, name));
                        }
                        pg_sys::AlterTableType::AT_DropInherit => told.freed.push(alter.objectId),
                        pg_sys::AlterTableType::AT_AddInherit => told.children.push(alter.objectId),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    told
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

/// Who owned a table that the command at hand has just dropped, for its event trigger: under the command's snapshot the
/// table is there still. SPI would take a newer one, once anything was written in the transaction.
pub fn owner_before(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: inside a command, whose snapshot is active; a look-up by index in pg_class, whose rows begin with the struct
    // that is read. Scan and relation are closed before return.
    unsafe {
        let class = pg_sys::table_open(pg_sys::RelationRelationId, pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_class_oid as i16,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_OIDEQ.into(),
            relation.into(),
        );
        let snapshot = pg_sys::GetActiveSnapshot();
        let scan =
            pg_sys::systable_beginscan(class, pg_sys::ClassOidIndexId.into(), true, snapshot, 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let owner = (!tuple.is_null())
            .then(|| (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner);
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(class, pg_sys::AccessShareLock as i32);
        owner
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
