//! AND, OR, CASE and COALESCE: operands are computed only for the rows that reach them, unless
//! they are so cheap and safe that computing them for all rows costs less than selecting.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, UInt32Array},
    buffer::BooleanBuffer,
    compute::{and_kleene, concat, interleave, is_not_null, or_kleene, take},
};

use super::{
    EvalError, Frame,
    graph::{Node, NodeId},
    value::Value,
};

impl Frame<'_> {
    /// Three-valued AND (`dominant` FALSE) or OR (`dominant` TRUE) of the operands.
    pub(super) fn logic(&self, args: &[NodeId], dominant: bool) -> Result<Value, EvalError> {
        let kernel = if dominant { or_kleene } else { and_kleene };
        let mut result: Option<BooleanArray> = None;
        for arg in args {
            let operand = match &result {
                Some(known) if !self.node(*arg).is_eager() => {
                    let undecided = !&dominated(known, dominant);
                    self.boolean_where(*arg, &undecided, dominant)?
                }
                _ => self.boolean(*arg)?,
            };
            let next = match result {
                Some(known) => kernel(&known, &operand)?,
                None => operand,
            };
            if next.null_count() == 0 && dominated(&next, dominant).count_set_bits() == self.rows {
                return Ok(Value::Array(Arc::new(next)));
            }
            result = Some(next);
        }
        let result = result.unwrap_or_else(|| BooleanArray::from(vec![!dominant; self.rows]));
        Ok(Value::Array(Arc::new(result)))
    }

    /// First operand that is not NULL.
    pub(super) fn coalesce(&self, args: &[NodeId], node: &Node) -> Result<Value, EvalError> {
        let mut pick = Pick::new(self.rows);
        for arg in args {
            let Some(rows) = pick.remaining_rows() else {
                break;
            };
            let value = self.where_needed(*arg, &rows)?;
            match &value {
                Part::Whole(value) => {
                    let valid = match value.nulls(self.rows) {
                        Some(nulls) => nulls.inner() & &rows,
                        None => rows,
                    };
                    pick.whole(value, &valid);
                }
                Part::Selected(value, selected) => {
                    let valid = is_not_null(value.array())?;
                    let valid = scatter(valid.values(), selected, self.rows, false);
                    pick.selected(value, selected, &valid);
                }
            }
        }
        pick.finish(&node.arrow_type)
    }

    /// Searched CASE.
    pub(super) fn case(
        &self,
        branches: &[(NodeId, NodeId)],
        otherwise: NodeId,
        node: &Node,
    ) -> Result<Value, EvalError> {
        let mut pick = Pick::new(self.rows);
        for (condition, result) in branches {
            let Some(remaining) = pick.remaining_rows() else {
                return pick.finish(&node.arrow_type);
            };
            let condition = if self.node(*condition).is_eager() {
                self.boolean(*condition)?
            } else {
                self.boolean_where(*condition, &remaining, false)?
            };
            let matched = &is_true(&condition) & &remaining;
            self.branch(&mut pick, *result, matched)?;
        }
        if let Some(remaining) = pick.remaining_rows() {
            self.branch(&mut pick, otherwise, remaining)?;
        }
        pick.finish(&node.arrow_type)
    }

    fn branch(&self, pick: &mut Pick, id: NodeId, rows: BooleanBuffer) -> Result<(), EvalError> {
        if rows.count_set_bits() == 0 {
            return Ok(());
        }
        match self.where_needed(id, &rows)? {
            Part::Whole(value) => pick.whole(&value, &rows),
            Part::Selected(value, selected) => pick.selected(&value, &selected, &rows),
        }
        Ok(())
    }

    /// A node's value at least for the rows of `mask`.
    fn where_needed(&self, id: NodeId, mask: &BooleanBuffer) -> Result<Part, EvalError> {
        if self.node(id).is_eager() || mask.count_set_bits() == self.rows {
            return Ok(Part::Whole(self.evaluate(id)?));
        }
        let frame = self.select(mask);
        let value = frame.evaluate(id)?;
        Ok(Part::Selected(value, mask.clone()))
    }

    /// A BOOLEAN node as an array.
    pub(crate) fn boolean(&self, id: NodeId) -> Result<BooleanArray, EvalError> {
        let array = self.evaluate(id)?.into_array(self.rows)?;
        Ok(array.as_boolean().clone())
    }

    /// A BOOLEAN node for the rows of `mask`, `default` for the others.
    fn boolean_where(
        &self,
        id: NodeId,
        mask: &BooleanBuffer,
        default: bool,
    ) -> Result<BooleanArray, EvalError> {
        let selected = mask.count_set_bits();
        if selected == self.rows {
            return self.boolean(id);
        }
        if selected == 0 {
            return Ok(BooleanArray::from(vec![default; self.rows]));
        }
        let value = self.select(mask).boolean(id)?;
        let values = scatter(value.values(), mask, self.rows, default);
        let nulls = value
            .nulls()
            .map(|nulls| scatter(nulls.inner(), mask, self.rows, true).into());
        Ok(BooleanArray::new(values, nulls))
    }
}

/// A value for all rows, or for the rows of a mask only.
enum Part {
    Whole(Value),
    Selected(Value, BooleanBuffer),
}

/// Rows where the array is TRUE; NULL is not.
pub(crate) fn is_true(array: &BooleanArray) -> BooleanBuffer {
    match array.nulls() {
        Some(nulls) => array.values() & nulls.inner(),
        None => array.values().clone(),
    }
}

fn dominated(array: &BooleanArray, dominant: bool) -> BooleanBuffer {
    let values = if dominant {
        array.values().clone()
    } else {
        !array.values()
    };
    match array.nulls() {
        Some(nulls) => &values & nulls.inner(),
        None => values,
    }
}

/// Spreads bits of the rows of `mask` over all rows.
fn scatter(
    bits: &BooleanBuffer,
    mask: &BooleanBuffer,
    rows: usize,
    default: bool,
) -> BooleanBuffer {
    let mut next = 0;
    BooleanBuffer::collect_bool(rows, |row| {
        if !mask.value(row) {
            return default;
        }
        next += 1;
        bits.value(next - 1)
    })
}

/// Gathers each row's value from the part that the row chose.
struct Pick {
    rows: usize,
    remaining: BooleanBuffer,
    parts: Vec<ArrayRef>,
    all_constant: bool,
    chosen: Vec<(usize, usize)>,
    only: Option<Value>,
}

const NONE: (usize, usize) = (usize::MAX, 0);

impl Pick {
    fn new(rows: usize) -> Self {
        Pick {
            rows,
            remaining: BooleanBuffer::new_set(rows),
            parts: Vec::new(),
            all_constant: true,
            chosen: vec![NONE; rows],
            only: None,
        }
    }

    fn remaining_rows(&self) -> Option<BooleanBuffer> {
        (self.remaining.count_set_bits() > 0).then(|| self.remaining.clone())
    }

    /// Rows `rows` take their value from the same row of `value`.
    fn whole(&mut self, value: &Value, rows: &BooleanBuffer) {
        if rows.count_set_bits() == self.rows {
            self.only = Some(value.clone());
        }
        let part = self.parts.len();
        let step = value.step();
        for row in rows.set_indices() {
            self.chosen[row] = (part, row * step);
        }
        self.add(value, rows);
    }

    /// Rows `rows` take their value from a value for the rows of `selected` only.
    fn selected(&mut self, value: &Value, selected: &BooleanBuffer, rows: &BooleanBuffer) {
        let part = self.parts.len();
        let step = value.step();
        for (position, row) in selected.set_indices().enumerate() {
            if rows.value(row) {
                self.chosen[row] = (part, position * step);
            }
        }
        self.add(value, rows);
    }

    fn add(&mut self, value: &Value, rows: &BooleanBuffer) {
        self.all_constant &= value.is_scalar();
        self.parts.push(value.array().clone());
        self.remaining = &self.remaining & &!rows;
    }

    fn finish(mut self, data_type: &arrow::datatypes::DataType) -> Result<Value, EvalError> {
        if let Some(only) = self.only {
            return Ok(only);
        }
        if self.remaining.count_set_bits() > 0 {
            let null = (self.parts.len(), 0);
            self.parts.push(arrow::array::new_null_array(data_type, 1));
            for chosen in &mut self.chosen {
                if *chosen == NONE {
                    *chosen = null;
                }
            }
        }
        let parts: Vec<&dyn arrow::array::Array> =
            self.parts.iter().map(|part| part.as_ref()).collect();
        if self.all_constant {
            let indices: UInt32Array = self
                .chosen
                .iter()
                .map(|(part, _)| *part as u32)
                .collect::<Vec<u32>>()
                .into();
            return Ok(Value::Array(take(&concat(&parts)?, &indices, None)?));
        }
        Ok(Value::Array(interleave(&parts, &self.chosen)?))
    }
}
