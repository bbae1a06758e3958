//! The compiled form of expressions: nodes that refer to their operands by number. Equal
//! sub-expressions become one node, constant ones are evaluated once, here.
//!
//! A constant that fails (1 / 0) stays a call: it fails for the first row that reaches it, not
//! when the plan is compiled.

use std::{collections::HashMap, fmt::Write as _};

use arrow::{array::ArrayRef, datatypes::DataType as ArrowType};
use engine::schema::arrow_type;
use proto::{
    plan::{self, PlanError, ScalarFunction, expr::Kind},
    types::{DataType, Field, LogicalType},
};

use super::{
    EvalContext, ExprError, Frame,
    cast::{self, Mode},
    literal,
    value::{Args, NullAt as _},
};
use crate::scalar::{self, Kernel, Signature};

/// Index of a node in its graph.
pub(crate) type NodeId = usize;

/// Nodes that cost more than this are evaluated only for the rows that need them.
const EAGER_COST_MAX: u32 = 6;

/// What a node's value depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Purity {
    /// Only its operands.
    Pure,
    /// The evaluation context too: the same for all rows of a batch.
    Context,
    /// Nothing: each call differs.
    Volatile,
}

pub(crate) enum NodeKind {
    Column(usize),
    Constant(ArrayRef),
    Call {
        kernel: Kernel,
        args: Vec<NodeId>,
    },
    And(Vec<NodeId>),
    Or(Vec<NodeId>),
    Coalesce(Vec<NodeId>),
    Case {
        branches: Vec<(NodeId, NodeId)>,
        otherwise: NodeId,
    },
}

pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) data_type: DataType,
    pub(crate) arrow_type: ArrowType,
    pub(crate) purity: Purity,
    pub(crate) can_fail: bool,
    /// The function that it calls, if it does.
    pub(crate) function: Option<ScalarFunction>,
    /// Rough work per row; a comparison of numbers is 1.
    pub(crate) cost: u32,
    /// A column or a field of one: filtered rather than computed for a subset of rows.
    pub(crate) is_path: bool,
    /// How many nodes and results read it.
    pub(crate) uses: u32,
}

impl Node {
    /// Whether it may and should be computed for rows that may not need it.
    pub(crate) fn is_eager(&self) -> bool {
        !self.can_fail && self.purity != Purity::Volatile && self.cost <= EAGER_COST_MAX
    }
}

/// Expressions over one input, sharing what they have in common.
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    by_key: HashMap<String, NodeId>,
    input: Vec<Field>,
}

impl Graph {
    pub(crate) fn new(input: &[Field]) -> Self {
        Graph {
            nodes: Vec::new(),
            by_key: HashMap::new(),
            input: input.to_vec(),
        }
    }

    /// Adds an expression and says which node computes it.
    pub(crate) fn add(&mut self, expr: &plan::Expr) -> Result<NodeId, ExprError> {
        let id = self.compile(expr)?;
        self.nodes[id].uses += 1;
        Ok(id)
    }

    pub(crate) fn constant(&self, id: NodeId) -> Option<&ArrayRef> {
        match &self.nodes[id].kind {
            NodeKind::Constant(array) => Some(array),
            _ => None,
        }
    }

    fn compile(&mut self, expr: &plan::Expr) -> Result<NodeId, ExprError> {
        let data_type = expr.data_type()?;
        match expr.kind.as_ref().ok_or(PlanError::Missing("expr.kind"))? {
            Kind::Column(index) => self.column(*index as usize),
            Kind::Literal(literal) => {
                let array = literal::constant(literal, &data_type.logical)?;
                let key = format!("literal {:?} {data_type}", literal.value);
                Ok(self.intern(key, |_| constant_node(array, data_type)))
            }
            Kind::Call(call) => self.call(call, data_type),
            Kind::Cast(cast) => {
                let input = cast
                    .input
                    .as_deref()
                    .ok_or(PlanError::Missing("cast.input"))?;
                let input = self.compile(input)?;
                self.cast(
                    input,
                    data_type,
                    if cast.r#try { Mode::Try } else { Mode::Fail },
                )
            }
            Kind::Case(case) => self.case(case, data_type),
            Kind::Field(access) => {
                let input = access
                    .input
                    .as_deref()
                    .ok_or(PlanError::Missing("field.input"))?;
                let input = self.compile(input)?;
                self.field(input, access.index as usize, data_type)
            }
        }
    }

    fn column(&mut self, index: usize) -> Result<NodeId, ExprError> {
        let count = self.input.len();
        let field = self
            .input
            .get(index)
            .ok_or(ExprError::NoSuchColumn { index, count })?;
        // The input knows its columns' types better than an expression's copy of them.
        let data_type = field.data_type.clone();
        let id = self.intern(format!("column {index}"), |_| Node {
            is_path: true,
            ..node(NodeKind::Column(index), data_type)
        });
        Ok(id)
    }

    fn call(&mut self, call: &plan::Call, data_type: DataType) -> Result<NodeId, ExprError> {
        let function: ScalarFunction = call
            .function
            .parse()
            .map_err(|_| ExprError::UnknownFunction(call.function.clone()))?;
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.compile(arg)?);
        }
        match function {
            ScalarFunction::And => Ok(self.logic("and", NodeKind::And, args, data_type)),
            ScalarFunction::Or => Ok(self.logic("or", NodeKind::Or, args, data_type)),
            ScalarFunction::Coalesce => {
                for arg in &mut args {
                    *arg = self.cast_to(*arg, &data_type)?;
                }
                let key = key("coalesce", &args, &data_type);
                let kind = NodeKind::Coalesce(args);
                Ok(self.combine(key, kind, data_type))
            }
            _ => self.function(function, args, data_type),
        }
    }

    fn function(
        &mut self,
        function: ScalarFunction,
        mut args: Vec<NodeId>,
        data_type: DataType,
    ) -> Result<NodeId, ExprError> {
        let types: Vec<DataType> = self.types(&args);
        if scalar::is_strict(function) && types.iter().any(|t| t.logical == LogicalType::Null) {
            return Ok(self.null(data_type));
        }
        for (arg, wanted) in args
            .iter_mut()
            .zip(scalar::wanted_types(function, &types, &data_type))
        {
            if let Some(wanted) = wanted {
                *arg = self.cast_to(*arg, &wanted)?;
            }
        }
        let types = self.types(&args);
        let constants: Vec<Option<ArrayRef>> = args
            .iter()
            .map(|arg| self.constant(*arg).cloned())
            .collect();
        let made_by: Vec<_> = args.iter().map(|arg| self.nodes[*arg].function).collect();
        let built = scalar::build(&Signature {
            function,
            name: function.into(),
            args: &types,
            constants: &constants,
            made_by: &made_by,
            result: &data_type,
        })?;
        let name: &'static str = function.into();
        let mut key = key(name, &args, &data_type);
        if built.purity == Purity::Volatile {
            let _ = write!(key, " #{}", self.nodes.len());
        }
        let node = |graph: &mut Graph| {
            let kind = NodeKind::Call {
                kernel: built.kernel,
                args,
            };
            let mut node = graph.summed(kind, data_type);
            node.purity = node.purity.max(built.purity);
            node.function = Some(function);
            node.can_fail |= built.can_fail;
            node.cost += built.cost;
            node
        };
        Ok(self.intern(key, node))
    }

    fn types(&self, args: &[NodeId]) -> Vec<DataType> {
        args.iter()
            .map(|arg| self.nodes[*arg].data_type.clone())
            .collect()
    }

    fn null(&mut self, data_type: DataType) -> NodeId {
        let array = arrow::array::new_null_array(&arrow_type(&data_type.logical), 1);
        let key = format!("null {data_type}");
        self.intern(key, |_| constant_node(array, data_type))
    }

    /// The node itself if it has this type in memory, else a cast of it.
    fn cast_to(&mut self, input: NodeId, to: &DataType) -> Result<NodeId, ExprError> {
        if self.nodes[input].arrow_type == arrow_type(&to.logical) {
            return Ok(input);
        }
        self.cast(input, to.clone(), Mode::Fail)
    }

    fn cast(&mut self, input: NodeId, to: DataType, mode: Mode) -> Result<NodeId, ExprError> {
        let from = self.nodes[input].data_type.clone();
        if from.logical == to.logical {
            return Ok(input);
        }
        if from.logical == LogicalType::Null {
            return Ok(self.null(to));
        }
        let constant = self.constant(input).is_some();
        let cast = match (&from.logical, &to.logical) {
            (LogicalType::Double, LogicalType::Float) if constant => {
                cast::constant_double_to_float()
            }
            (from, to) => cast::build(from, to, mode)?,
        };
        let key = key(&format!("cast {mode:?}"), &[input], &to);
        let node = |graph: &mut Graph| {
            let convert = cast.convert;
            let kernel: Kernel = Box::new(move |args: &Args<'_>| convert(args.value(0).array()));
            let kind = NodeKind::Call {
                kernel,
                args: vec![input],
            };
            let mut node = graph.summed(kind, to);
            node.can_fail |= cast.can_fail;
            node.cost += cast.cost;
            node
        };
        Ok(self.intern(key, node))
    }

    fn field(
        &mut self,
        input: NodeId,
        index: usize,
        data_type: DataType,
    ) -> Result<NodeId, ExprError> {
        let count = match &self.nodes[input].data_type.logical {
            LogicalType::Row(fields) => fields.len(),
            _ => 0,
        };
        if index >= count {
            return Err(ExprError::NoSuchColumn { index, count });
        }
        let key = key(&format!("field {index}"), &[input], &data_type);
        let node = |graph: &mut Graph| {
            let kernel = scalar::field_access(index);
            let is_path = graph.nodes[input].is_path;
            let kind = NodeKind::Call {
                kernel,
                args: vec![input],
            };
            Node {
                is_path,
                ..graph.summed(kind, data_type)
            }
        };
        Ok(self.intern(key, node))
    }

    fn logic(
        &mut self,
        name: &str,
        make: fn(Vec<NodeId>) -> NodeKind,
        mut args: Vec<NodeId>,
        data_type: DataType,
    ) -> NodeId {
        // Cheap conditions first, where no one can tell the difference.
        if args.iter().all(|arg| !self.nodes[*arg].can_fail) {
            args.sort_by_key(|arg| self.nodes[*arg].cost);
        }
        let key = key(name, &args, &data_type);
        self.combine(key, make(args), data_type)
    }

    fn case(&mut self, case: &plan::Case, data_type: DataType) -> Result<NodeId, ExprError> {
        let mut branches = Vec::with_capacity(case.branches.len());
        for branch in &case.branches {
            let missing = || PlanError::Missing("when");
            let condition = self.compile(branch.condition.as_ref().ok_or_else(missing)?)?;
            let result = self.compile(branch.result.as_ref().ok_or_else(missing)?)?;
            branches.push((condition, self.cast_to(result, &data_type)?));
        }
        let otherwise = match case.otherwise.as_deref() {
            Some(otherwise) => self.compile(otherwise)?,
            None => self.null(data_type.clone()),
        };
        let otherwise = self.cast_to(otherwise, &data_type)?;
        let ids: Vec<NodeId> = branches
            .iter()
            .flat_map(|(condition, result)| [*condition, *result])
            .chain([otherwise])
            .collect();
        let key = key("case", &ids, &data_type);
        let kind = NodeKind::Case {
            branches,
            otherwise,
        };
        Ok(self.combine(key, kind, data_type))
    }

    fn combine(&mut self, key: String, kind: NodeKind, data_type: DataType) -> NodeId {
        self.intern(key, |graph| graph.summed(kind, data_type))
    }

    /// A node whose properties are those of its operands together.
    fn summed(&mut self, kind: NodeKind, data_type: DataType) -> Node {
        let mut node = node(kind, data_type);
        for operand in operands(&node.kind) {
            let operand = &mut self.nodes[operand];
            operand.uses += 1;
            node.purity = node.purity.max(operand.purity);
            node.can_fail |= operand.can_fail;
            node.cost = node.cost.saturating_add(operand.cost);
        }
        if !matches!(node.kind, NodeKind::Call { .. }) {
            node.cost += 1;
        }
        node
    }

    fn intern(&mut self, key: String, make: impl FnOnce(&mut Graph) -> Node) -> NodeId {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let node = make(self);
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.fold(id);
        self.by_key.insert(key, id);
        id
    }

    /// Replaces a node over constants only by its value, unless that fails.
    fn fold(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        let operands = operands(&node.kind);
        let foldable = !matches!(node.kind, NodeKind::Column(_) | NodeKind::Constant(_))
            && node.purity == Purity::Pure
            && operands.iter().all(|id| self.constant(*id).is_some());
        if !foldable {
            return;
        }
        let context = EvalContext::default();
        let value = Frame::new(self, &context, &[], 1)
            .evaluate(id)
            .and_then(|value| value.into_array(1));
        if let Ok(array) = value {
            let data_type = self.nodes[id].data_type.clone();
            let (uses, function) = (self.nodes[id].uses, self.nodes[id].function);
            self.nodes[id] = Node {
                uses,
                function,
                ..constant_node(array, data_type)
            };
        }
    }

    /// Whether the node is the constant TRUE.
    pub(crate) fn is_true(&self, id: NodeId) -> bool {
        use arrow::array::AsArray as _;
        self.constant(id)
            .and_then(|array| array.as_boolean_opt().cloned())
            .is_some_and(|array| !array.is_null_at(0) && array.value(0))
    }
}

fn key(name: &str, args: &[NodeId], data_type: &DataType) -> String {
    format!("{name} {args:?} {data_type}")
}

fn node(kind: NodeKind, data_type: DataType) -> Node {
    let arrow_type = arrow_type(&data_type.logical);
    Node {
        kind,
        data_type,
        arrow_type,
        purity: Purity::Pure,
        can_fail: false,
        function: None,
        cost: 0,
        is_path: false,
        uses: 0,
    }
}

fn constant_node(array: ArrayRef, data_type: DataType) -> Node {
    node(NodeKind::Constant(array), data_type)
}

fn operands(kind: &NodeKind) -> Vec<NodeId> {
    match kind {
        NodeKind::Column(_) | NodeKind::Constant(_) => Vec::new(),
        NodeKind::Call { args, .. }
        | NodeKind::And(args)
        | NodeKind::Or(args)
        | NodeKind::Coalesce(args) => args.clone(),
        NodeKind::Case {
            branches,
            otherwise,
        } => branches
            .iter()
            .flat_map(|(condition, result)| [*condition, *result])
            .chain([*otherwise])
            .collect(),
    }
}
