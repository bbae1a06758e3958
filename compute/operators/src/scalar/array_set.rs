//! Arrays made of arrays: sorted, put together, and taken as sets. Elements are compared by value;
//! NULL is equal to NULL.

use std::{collections::HashSet, ops::Range};

use arrow::{buffer::NullBuffer, datatypes::FieldRef};
use engine::schema::arrow_type;
use proto::plan::ScalarFunction;

use super::{
    Kernel, Signature,
    gather::{Gather, Lists, comparable, item_field},
};
use crate::expr::{
    ExprError,
    value::{Args, NullAt as _, Numbers, is_valid},
};

/// Makes the kernel of a set function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    let result = arrow_type(&signature.result.logical);
    let item = item_field(&result).ok_or_else(|| signature.unsupported())?;
    match (signature.function, signature.args.len()) {
        (F::ArrayDistinct, 1) => Ok(distinct(item)),
        (F::ArrayRemove, 2) => Ok(remove(item)),
        (F::ArrayUnion, 2) => Ok(union(item)),
        (F::ArrayIntersect, 2) => Ok(against(item, true)),
        (F::ArrayExcept, 2) => Ok(against(item, false)),
        _ => Err(signature.unsupported()),
    }
}

/// One row of a call, for its scalar operands.
pub(super) struct Row<'a> {
    args: &'a Args<'a>,
    row: usize,
}

impl Row<'_> {
    /// An INT operand; `None` if there is none.
    pub(super) fn integer(&self, index: usize) -> Option<i64> {
        let value = self.args.values.get(index)?;
        Numbers::<arrow::datatypes::Int32Type>::new(value)
            .get(self.row)
            .map(i64::from)
    }

    fn boolean(&self, index: usize) -> Option<bool> {
        self.args.values.get(index)?;
        self.args.booleans(index).get(self.row)
    }
}

/// A list per row made of positions in the first operand's elements (source 0).
pub(super) fn per_row(item: FieldRef, f: fn(&Row<'_>, Range<usize>, &mut Gather<'_>)) -> Kernel {
    Box::new(move |args| {
        let lists = Lists::new(args.value(0));
        let nulls = args.nulls();
        let gather = Gather::new(vec![lists.elements().as_ref()]);
        fill(args, nulls, gather, &item, |row, gather| {
            f(&Row { args, row }, lists.range(row), gather);
        })
    })
}

fn fill<'a>(
    args: &Args<'_>,
    nulls: Option<NullBuffer>,
    mut gather: Gather<'a>,
    item: &FieldRef,
    mut f: impl FnMut(usize, &mut Gather<'a>),
) -> Result<arrow::array::ArrayRef, crate::expr::EvalError> {
    for row in 0..args.rows {
        if is_valid(nulls.as_ref(), row) {
            f(row, &mut gather);
        }
        gather.end_row();
    }
    gather.lists(item, nulls)
}

/// ARRAY_SORT(a[, ascending[, nulls first]]).
pub(super) fn sort(item: FieldRef) -> Kernel {
    Box::new(move |args| {
        let lists = Lists::new(args.value(0));
        let elements = lists.elements();
        let rows = comparable(&[elements])?;
        let gather = Gather::new(vec![elements.as_ref()]);
        fill(args, args.nulls(), gather, &item, |row, gather| {
            let options = Row { args, row };
            let ascending = options.boolean(1).unwrap_or(true);
            let nulls_first = options.boolean(2).unwrap_or(ascending);
            let (missing, mut valid): (Vec<usize>, Vec<usize>) = lists
                .range(row)
                .partition(|position| elements.is_null_at(*position));
            valid.sort_by(|a, b| {
                let order = rows[0].row(*a).cmp(&rows[0].row(*b));
                if ascending { order } else { order.reverse() }
            });
            let (first, second) = if nulls_first {
                (missing, valid)
            } else {
                (valid, missing)
            };
            for position in first.into_iter().chain(second) {
                gather.push(0, position);
            }
        })
    })
}

/// ARRAY_CONCAT(a, …).
pub(super) fn concat(item: FieldRef) -> Kernel {
    Box::new(move |args| {
        let lists: Vec<Lists<'_>> = args.values.iter().map(Lists::new).collect();
        let gather = Gather::new(lists.iter().map(|list| list.elements().as_ref()).collect());
        fill(args, args.nulls(), gather, &item, |row, gather| {
            for (source, list) in lists.iter().enumerate() {
                for position in list.range(row) {
                    gather.push(source, position);
                }
            }
        })
    })
}

/// ARRAY_APPEND and ARRAY_PREPEND.
pub(super) fn extend(item: FieldRef, append: bool) -> Kernel {
    Box::new(move |args| {
        let lists = Lists::new(args.value(0));
        let element = args.value(1);
        let gather = Gather::new(vec![lists.elements().as_ref(), element.array().as_ref()]);
        fill(args, args.nulls_of(0..1), gather, &item, |row, gather| {
            if !append {
                gather.push(1, row * element.step());
            }
            lists
                .range(row)
                .for_each(|position| gather.push(0, position));
            if append {
                gather.push(1, row * element.step());
            }
        })
    })
}

fn distinct(item: FieldRef) -> Kernel {
    Box::new(move |args| {
        let lists = Lists::new(args.value(0));
        let rows = comparable(&[lists.elements()])?;
        let gather = Gather::new(vec![lists.elements().as_ref()]);
        fill(args, args.nulls(), gather, &item, |row, gather| {
            let mut seen = HashSet::new();
            for position in lists.range(row) {
                if seen.insert(rows[0].row(position).data()) {
                    gather.push(0, position);
                }
            }
        })
    })
}

fn remove(item: FieldRef) -> Kernel {
    Box::new(move |args| {
        let lists = Lists::new(args.value(0));
        let needle = args.value(1);
        let rows = comparable(&[lists.elements(), needle.array()])?;
        let gather = Gather::new(vec![lists.elements().as_ref()]);
        fill(args, args.nulls_of(0..1), gather, &item, |row, gather| {
            let needle = rows[1].row(row * needle.step());
            for position in lists.range(row) {
                if rows[0].row(position) != needle {
                    gather.push(0, position);
                }
            }
        })
    })
}

fn union(item: FieldRef) -> Kernel {
    Box::new(move |args| {
        let (left, right) = (Lists::new(args.value(0)), Lists::new(args.value(1)));
        let rows = comparable(&[left.elements(), right.elements()])?;
        let gather = Gather::new(vec![left.elements().as_ref(), right.elements().as_ref()]);
        fill(args, args.nulls(), gather, &item, |row, gather| {
            let mut seen = HashSet::new();
            for (source, list) in [&left, &right].into_iter().enumerate() {
                for position in list.range(row) {
                    if seen.insert(rows[source].row(position).data()) {
                        gather.push(source, position);
                    }
                }
            }
        })
    })
}

/// Distinct elements that are (or are not) in the other array.
fn against(item: FieldRef, keep_common: bool) -> Kernel {
    Box::new(move |args| {
        let (left, right) = (Lists::new(args.value(0)), Lists::new(args.value(1)));
        let rows = comparable(&[left.elements(), right.elements()])?;
        let gather = Gather::new(vec![left.elements().as_ref()]);
        fill(args, args.nulls(), gather, &item, |row, gather| {
            let others: HashSet<&[u8]> = right
                .range(row)
                .map(|position| rows[1].row(position).data())
                .collect();
            let mut seen = HashSet::new();
            for position in left.range(row) {
                let bytes = rows[0].row(position).data();
                if others.contains(bytes) == keep_common && seen.insert(bytes) {
                    gather.push(0, position);
                }
            }
        })
    })
}
