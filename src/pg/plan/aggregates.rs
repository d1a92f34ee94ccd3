//! Aggregates of a query as merges of what a rollup keeps.
use super::matching::{Column, Matching, same};
use super::offer::Offer;
use super::tree::{self, Node};
use crate::pg::deparse::string;
use pgrx::{PgList, pg_sys};

impl Matching<'_> {
    /// An aggregate as the merge of what is kept; None, with the reason, where it cannot be.
    pub(super) unsafe fn aggregate(&mut self, n: Node) -> Option<Node> {
        // SAFETY: the tag said what the node is; parts are copies.
        unsafe {
            if let Some(merged) = self.kept(n) {
                return Some(merged);
            }
            let a = &*n.cast::<pg_sys::Aggref>();
            if a.aggkind as u8 != b'n' || !a.aggorder.is_null() || !a.aggdistinct.is_null() || a.aggvariadic {
                self.refuse(format!("{} has DISTINCT or ORDER BY", aggregate_name(a)));
                return None;
            }
            if !a.aggfilter.is_null()
                && let Some(made) = self.filtered(n)
            {
                return Some(made);
            }
            let arguments: Vec<Node> =
                PgList::<pg_sys::TargetEntry>::from_pg(a.args).iter_ptr().map(|t| (*t).expr.cast()).collect();
            let (parts, result) = if counts_rows(a, &arguments, self.offer, self.rt) {
                (vec!["pg_catalog.count(*)".to_string()], "$1".to_string())
            } else {
                let of = (self.engine.parts)(a.aggfnoid, arguments.len());
                let Some(found) = of else {
                    self.refuse(self.none(a));
                    return None;
                };
                found
            };
            let types: Vec<pg_sys::Oid> = arguments.iter().map(|t| pg_sys::exprType(*t)).collect();
            let mut merged = Vec::new();
            for template in tree::expressions(&format!("SELECT {}", parts.join(", ")), &types) {
                let part = tree::folded(tree::filled(template, &arguments));
                if (*part).type_ != pg_sys::NodeTag::T_Aggref {
                    return None;
                }
                (*part.cast::<pg_sys::Aggref>()).aggfilter = tree::copied(a.aggfilter);
                match self.kept(part) {
                    Some(m) => merged.push(m),
                    None => {
                        self.refuse(self.none(a));
                        return None;
                    }
                }
            }
            let types: Vec<pg_sys::Oid> = merged.iter().map(|m| pg_sys::exprType(*m)).collect();
            let template = *tree::expressions(&format!("SELECT {result}"), &types).first()?;
            let made = tree::filled(template, &merged);
            if pg_sys::exprType(made) != a.aggtype || pg_sys::exprCollation(made) != a.aggcollid {
                self.refuse(self.none(a));
                return None;
            }
            Some(made)
        }
    }

    /// An aggregate whose FILTER is over keys: the merge of what is kept without, of the groups that satisfy it.
    unsafe fn filtered(&mut self, n: Node) -> Option<Node> {
        // SAFETY: as the caller's; what is changed are copies.
        unsafe {
            let bare = tree::copied(n.cast::<pg_sys::Aggref>());
            let filter: Node = (*bare).aggfilter.cast();
            (*bare).aggfilter = std::ptr::null_mut();
            if pg_sys::contain_volatile_functions(filter) {
                return None;
            }
            // Where no group satisfies it there is nothing to merge.
            let outer = std::mem::replace(&mut self.filtering, true);
            let made = self.mapped(filter).and_then(|filter| {
                let made = self.aggregate(bare.cast());
                self.reason().map_or(Ok((filter, made)), Err)
            });
            self.filtering = outer;
            let (filter, made) = made.ok()?;
            let made = made?;
            let with = tree::replaced(made, &mut |n, level| {
                if level > 0 || (*n).type_ != pg_sys::NodeTag::T_Aggref {
                    return None;
                }
                let a = tree::copied(n.cast::<pg_sys::Aggref>());
                let both: Vec<Node> = [(*a).aggfilter.cast(), tree::copied(filter)]
                    .into_iter()
                    .filter(|f| !f.is_null())
                    .collect();
                (*a).aggfilter = tree::all_of(&both).cast();
                Some(a.cast())
            });
            Some(with)
        }
    }

    /// The merge of the value that an aggregate is.
    unsafe fn kept(&mut self, n: Node) -> Option<Node> {
        // SAFETY: as the caller's.
        unsafe {
            let offer = self.offer;
            let value = offer.values.iter().find(|v| same(v.tree, n, self.rt))?;
            if (!self.ask.grouped || self.filtering) && !value.null_of_nothing {
                self.refuse(format!("{} of no rows is not NULL", value.name));
            }
            let mut unknown = false;
            let merged = tree::replaced(value.merged, &mut |n, _| {
                if (*n).type_ != pg_sys::NodeTag::T_Var {
                    return None;
                }
                // Of which column of the rollup's table it is.
                let v = &*n.cast::<pg_sys::Var>();
                let name = string(pg_sys::get_attname(offer.about.target, v.varattno, false));
                let Some(at) = offer.values.iter().position(|v| v.name == name) else {
                    unknown = true;
                    return Some(n);
                };
                let place = self.place(Column::Value(at));
                Some(pg_sys::makeVar(self.new, place, v.vartype, v.vartypmod, v.varcollid, 0).cast())
            });
            (!unknown).then_some(merged)
        }
    }

    /// Why an aggregate cannot be made: what of it there is.
    pub(super) unsafe fn none(&self, a: &pg_sys::Aggref) -> String {
        let offer = self.offer;
        // SAFETY: values of offers are aggregates; the trees are copies.
        unsafe {
            let bare = |n: Node| {
                let copy = tree::copied(n.cast::<pg_sys::Aggref>());
                (*copy).aggfilter = std::ptr::null_mut();
                copy.cast::<pg_sys::Node>()
            };
            let own = bare((a as *const pg_sys::Aggref).cast_mut().cast());
            let near = |filtered: bool| {
                let mut all = offer.values.iter();
                all.find(|v| {
                    (*v.tree.cast::<pg_sys::Aggref>()).aggfilter.is_null() != filtered
                        && same(bare(v.tree), own, self.rt)
                })
            };
            let near = near(!a.aggfilter.is_null()).or_else(|| near(a.aggfilter.is_null()));
            let same_call =
                near.map(|v| format!("FILTER of {} differs from {}'s", aggregate_name(a), v.name));
            let other = offer
                .values
                .iter()
                .find(|v| (*v.tree.cast::<pg_sys::Aggref>()).aggfnoid == a.aggfnoid)
                .map(|v| format!("{} is over another expression than {}", aggregate_name(a), v.name));
            same_call.or(other).unwrap_or_else(|| {
                format!(
                    "rollup {} has no column of which {} can be made",
                    offer.about.name,
                    aggregate_name(a)
                )
            })
        }
    }
}

/// # Safety
/// The aggregate exists.
unsafe fn aggregate_name(a: &pg_sys::Aggref) -> String {
    // SAFETY: a look-up that tolerates absence.
    unsafe { string(pg_sys::get_func_name(a.aggfnoid)) }
}

/// Whether it is a count of what is never NULL.
///
/// # Safety
/// The aggregate is one over entry `rt` of the query.
unsafe fn counts_rows(a: &pg_sys::Aggref, arguments: &[Node], offer: &Offer, rt: i32) -> bool {
    // SAFETY: the tags say what nodes are.
    unsafe {
        let [one] = arguments else { return false };
        if a.aggfnoid.to_u32() != pg_sys::F_COUNT_ANY {
            return false;
        }
        match (**one).type_ {
            pg_sys::NodeTag::T_Const => !(*one.cast::<pg_sys::Const>()).constisnull,
            // Below an ordinary parent a column may be NULL that is not in the parent.
            pg_sys::NodeTag::T_Var => {
                let v = &*one.cast::<pg_sys::Var>();
                let partitioned = pg_sys::get_rel_relkind(offer.about.source) as u8 == b'p';
                v.varlevelsup == 0
                    && v.varno == rt
                    && v.varattno > 0
                    && (partitioned || offer.about.parts.is_empty())
                    && crate::pg::select::attribute_not_null(offer.about.source, v.varattno)
            }
            _ => false,
        }
    }
}
