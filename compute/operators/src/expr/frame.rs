//! Evaluation of a graph over one batch, or over the rows of one that a branch selected.
//!
//! A frame keeps the values of shared nodes. A frame over selected rows takes columns and values
//! that its parent has already, filtered when first asked for.

use std::cell::RefCell;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, new_empty_array},
    buffer::BooleanBuffer,
    compute::{FilterBuilder, FilterPredicate},
};

use super::{
    EvalContext, EvalError,
    graph::{Graph, Node, NodeId, NodeKind, Purity},
    value::{Args, Value},
};

pub(crate) struct Frame<'a> {
    pub(crate) graph: &'a Graph,
    context: &'a EvalContext,
    pub(crate) rows: usize,
    source: Source<'a>,
    cache: RefCell<Vec<Option<Value>>>,
}

enum Source<'a> {
    Columns(&'a [ArrayRef]),
    Selected {
        parent: &'a Frame<'a>,
        predicate: FilterPredicate,
    },
}

impl<'a> Frame<'a> {
    pub(crate) fn new(
        graph: &'a Graph,
        context: &'a EvalContext,
        columns: &'a [ArrayRef],
        rows: usize,
    ) -> Self {
        Frame {
            graph,
            context,
            rows,
            source: Source::Columns(columns),
            cache: RefCell::new(Vec::new()),
        }
    }

    /// The same columns for the rows where `mask` is set.
    pub(crate) fn select(&'a self, mask: &BooleanBuffer) -> Frame<'a> {
        let filter = BooleanArray::new(mask.clone(), None);
        let predicate = FilterBuilder::new(&filter).optimize().build();
        Frame {
            graph: self.graph,
            context: self.context,
            rows: predicate.count(),
            source: Source::Selected {
                parent: self,
                predicate,
            },
            cache: RefCell::new(Vec::new()),
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> &'a Node {
        &self.graph.nodes[id]
    }

    /// The value of a node for all rows of the frame.
    pub(crate) fn evaluate(&self, id: NodeId) -> Result<Value, EvalError> {
        let node = self.node(id);
        if let NodeKind::Constant(array) = &node.kind {
            return Ok(Value::Scalar(array.clone()));
        }
        if self.rows == 0 {
            return Ok(Value::Array(new_empty_array(&node.arrow_type)));
        }
        if let Some(value) = self.known(id, node)? {
            return Ok(value);
        }
        let value = self.compute(node)?;
        if node.uses > 1 {
            self.remember(id, &value);
        }
        Ok(value)
    }

    fn known(&self, id: NodeId, node: &Node) -> Result<Option<Value>, EvalError> {
        if let Some(Some(value)) = self.cache.borrow().get(id) {
            return Ok(Some(value.clone()));
        }
        let Source::Selected { parent, predicate } = &self.source else {
            return Ok(None);
        };
        let value = if node.is_path {
            Some(parent.evaluate(id)?)
        } else if node.uses > 1 {
            parent.known(id, node)?
        } else {
            None
        };
        let value = match value {
            Some(Value::Array(array)) => Value::Array(predicate.filter(&array)?),
            Some(scalar) => scalar,
            None => return Ok(None),
        };
        self.remember(id, &value);
        Ok(Some(value))
    }

    fn remember(&self, id: NodeId, value: &Value) {
        let mut cache = self.cache.borrow_mut();
        if cache.is_empty() {
            cache.resize(self.graph.nodes.len(), None);
        }
        cache[id] = Some(value.clone());
    }

    fn compute(&self, node: &Node) -> Result<Value, EvalError> {
        match &node.kind {
            NodeKind::Column(index) => self.column(*index, node),
            NodeKind::Constant(array) => Ok(Value::Scalar(array.clone())),
            NodeKind::Call { kernel, args } => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    values.push(self.evaluate(*arg)?);
                }
                let constant =
                    node.purity != Purity::Volatile && values.iter().all(Value::is_scalar);
                let args = Args {
                    values: &values,
                    rows: if constant { 1 } else { self.rows },
                    context: self.context,
                };
                let array = kernel(&args)?;
                debug_assert_eq!(array.len(), args.rows, "a kernel fills its rows");
                Ok(if constant {
                    Value::Scalar(array)
                } else {
                    Value::Array(array)
                })
            }
            NodeKind::And(args) => self.logic(args, false),
            NodeKind::Or(args) => self.logic(args, true),
            NodeKind::Coalesce(args) => self.coalesce(args, node),
            NodeKind::Case {
                branches,
                otherwise,
            } => self.case(branches, *otherwise, node),
        }
    }

    fn column(&self, index: usize, node: &Node) -> Result<Value, EvalError> {
        let Source::Columns(columns) = &self.source else {
            unreachable!("a selected frame takes columns from its parent");
        };
        let input = |found: String| EvalError::Input {
            index,
            found,
            expected: node.arrow_type.to_string(),
        };
        let column = columns
            .get(index)
            .ok_or_else(|| input("missing".to_owned()))?;
        if !column.data_type().equals_datatype(&node.arrow_type) {
            return Err(input(column.data_type().to_string()));
        }
        Ok(Value::Array(column.clone()))
    }
}
