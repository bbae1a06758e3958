//! One expression over one input: what operators that need a single value per row use.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use engine::schema::arrow_type;
use proto::{
    plan,
    types::{DataType, Field, LogicalType},
};

use super::{
    EvalContext, EvalError, ExprError, Frame, Graph, NodeId, branch::is_true, graph::Purity,
};

/// An expression of a plan, ready to be evaluated over batches of the input it was compiled for.
pub struct CompiledExpr {
    graph: Graph,
    root: NodeId,
}

impl CompiledExpr {
    /// Compiles `expr`, whose column references are to `input`. Constant parts are evaluated now;
    /// one that fails will fail when a row reaches it.
    ///
    /// # Errors
    /// When the plan is broken or asks for a function or cast that does not exist.
    pub fn compile(expr: &plan::Expr, input: &[Field]) -> Result<Self, ExprError> {
        let mut graph = Graph::new(input);
        let root = graph.add(expr)?;
        Ok(CompiledExpr { graph, root })
    }

    /// Type of the result.
    #[must_use]
    pub fn data_type(&self) -> &DataType {
        &self.graph.nodes[self.root].data_type
    }

    /// Whether equal rows give equal results at any time.
    #[must_use]
    pub fn is_deterministic(&self) -> bool {
        self.graph.nodes[self.root].purity == Purity::Pure
    }

    /// The value of the expression for each row of `batch`.
    ///
    /// # Errors
    /// When a value cannot be computed (division by zero, CAST) or the batch has other columns.
    pub fn evaluate(
        &self,
        batch: &RecordBatch,
        context: &EvalContext,
    ) -> Result<ArrayRef, EvalError> {
        let frame = Frame::new(&self.graph, context, batch.columns(), batch.num_rows());
        let array = frame.evaluate(self.root)?.into_array(batch.num_rows())?;
        debug_assert!(
            array
                .data_type()
                .equals_datatype(&arrow_type(&self.data_type().logical)),
            "{} for {}",
            array.data_type(),
            self.data_type()
        );
        Ok(array)
    }

    /// For each row whether the expression, a BOOLEAN, is TRUE; never NULL.
    ///
    /// # Errors
    /// As [`CompiledExpr::evaluate`].
    pub fn evaluate_predicate(
        &self,
        batch: &RecordBatch,
        context: &EvalContext,
    ) -> Result<BooleanArray, EvalError> {
        if self.data_type().logical != LogicalType::Boolean {
            return Err(EvalError::function(
                "a condition",
                format!("its type is {}", self.data_type()),
            ));
        }
        let frame = Frame::new(&self.graph, context, batch.columns(), batch.num_rows());
        let array = frame.boolean(self.root)?;
        Ok(BooleanArray::new(is_true(&array), None))
    }
}

impl std::fmt::Debug for CompiledExpr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledExpr")
            .field("type", self.data_type())
            .field("nodes", &self.graph.nodes.len())
            .finish()
    }
}
