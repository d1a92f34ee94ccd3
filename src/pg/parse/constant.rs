//! Constants of an analysed query.
use crate::pg::deparse::string;
use pgrx::pg_sys;

/// A constant as text.
///
/// # Safety
/// `node` is an expression.
pub unsafe fn constant(node: *mut pg_sys::Node) -> Option<String> {
    // SAFETY: the tag says what the node is; the output function belongs to its type.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_Const {
            return None;
        }
        let c = &*node.cast::<pg_sys::Const>();
        if c.constisnull {
            return None;
        }
        let (mut output, mut varlena) = (pg_sys::InvalidOid, false);
        pg_sys::getTypeOutputInfo(c.consttype, &mut output, &mut varlena);
        Some(string(pg_sys::OidOutputFunctionCall(output, c.constvalue)))
    }
}

/// A constant interval: months, days, microseconds.
///
/// # Safety
/// `node` is an expression.
pub unsafe fn constant_interval(node: *mut pg_sys::Node) -> Option<(i32, i32, i64)> {
    // SAFETY: the tag and the type say what the node and its value are.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_Const {
            return None;
        }
        let c = &*node.cast::<pg_sys::Const>();
        if c.constisnull || c.consttype != pg_sys::INTERVALOID {
            return None;
        }
        let i = &*c.constvalue.cast_mut_ptr::<pg_sys::Interval>();
        Some((i.month, i.day, i.time))
    }
}
