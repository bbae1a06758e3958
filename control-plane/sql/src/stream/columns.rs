//! Keys and arguments of an aggregate as columns of the Calc below it.

use proto::plan as wire;
use proto::types::Field;

use crate::logical::{AggregateCall, Expr};
use crate::optimize::expr::as_column;

/// Expressions that become columns, each once.
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) exprs: Vec<Expr>,
    pub(crate) names: Vec<String>,
    /// Columns before this one are not shared with later requests.
    sealed: usize,
}

impl Columns {
    pub(crate) fn get(&mut self, expr: &Expr, name: &str) -> usize {
        match self.exprs[self.sealed..].iter().position(|e| e == expr) {
            Some(known) => known + self.sealed,
            None => self.push(expr, name),
        }
    }

    pub(crate) fn push(&mut self, expr: &Expr, name: &str) -> usize {
        self.exprs.push(expr.clone());
        self.names.push(name.to_owned());
        self.exprs.len() - 1
    }

    /// The calls with their arguments as columns.
    pub(crate) fn calls(
        &mut self,
        calls: &[AggregateCall],
        input: &[Field],
    ) -> Vec<wire::AggregateCall> {
        let name = |e: &Expr| as_column(e).map_or("$arg", |c| input[c].name.as_str());
        calls
            .iter()
            .map(|call| wire::AggregateCall {
                function: call.function.to_string(),
                args: call
                    .args
                    .iter()
                    .map(|arg| self.get(arg, name(arg)) as u32)
                    .collect(),
                distinct: call.distinct,
                filter: call.filter.as_ref().map(|f| self.get(f, "$filter") as u32),
                r#type: call.data_type.to_string(),
                name: call.name.clone(),
            })
            .collect()
    }

    pub(crate) fn seal(&mut self) {
        self.sealed = self.exprs.len();
    }
}
