//! GROUP BY: keys, GROUPING SETS, ROLLUP and CUBE.

use sqlparser::ast::{self, Spanned as _};

use super::expr::ExprBinder;
use super::refuse::unsupported;
use crate::error::SqlError;
use crate::logical::{Expr, GroupingSet};

/// Grouping sets that a query may spell out.
const GROUPING_SETS_MAX: usize = 256;

/// Keys of grouping sets: one bit each, beside those that count up to [`GROUPING_SETS_MAX`] copies of a
/// set, in the BIGINT that tells sets apart.
const GROUPING_KEYS_MAX: usize = 50;

/// A bound GROUP BY.
#[derive(Default)]
pub(crate) struct GroupBy {
    /// There is a GROUP BY, if only an empty one.
    pub(crate) present: bool,
    pub(crate) keys: Vec<Expr>,
    pub(crate) sets: Option<Vec<GroupingSet>>,
}

/// What a GROUP BY lists, legacy windows taken out.
pub(crate) fn items(group_by: &ast::GroupByExpr) -> Result<&[ast::Expr], SqlError> {
    match group_by {
        ast::GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => Ok(exprs),
        ast::GroupByExpr::Expressions(exprs, _) => {
            let span = exprs
                .first()
                .map_or(sqlparser::tokenizer::Span::empty(), |e| e.span());
            Err(unsupported("GROUP BY … WITH", span).hint("write ROLLUP(…) or CUBE(…)"))
        }
        ast::GroupByExpr::All(_) => {
            Err(unsupported("GROUP BY ALL", group_by.span()).hint("list the keys"))
        }
    }
}

/// Binds the items of a GROUP BY.
pub(crate) fn bind(binder: &ExprBinder<'_>, items: &[&ast::Expr]) -> Result<GroupBy, SqlError> {
    let mut result = GroupBy {
        present: !items.is_empty(),
        ..GroupBy::default()
    };
    let mut sets: Vec<GroupingSet> = vec![Vec::new()];
    let mut several = false;
    for item in items {
        several |= matches!(
            item,
            ast::Expr::GroupingSets(_) | ast::Expr::Rollup(_) | ast::Expr::Cube(_)
        );
        let alternatives = result.alternatives(binder, item)?;
        if sets.len() * alternatives.len() > GROUPING_SETS_MAX {
            return Err(too_many(item));
        }
        sets = sets
            .iter()
            .flat_map(|set| alternatives.iter().map(move |more| union(set, more)))
            .collect();
    }
    if several && result.keys.len() > GROUPING_KEYS_MAX {
        let message = format!("more than {GROUPING_KEYS_MAX} keys in grouping sets");
        return Err(SqlError::validate(message).at_parser(items[0].span()));
    }
    result.sets = several.then_some(sets);
    Ok(result)
}

impl GroupBy {
    /// The sets that an item stands for.
    fn alternatives(
        &mut self,
        binder: &ExprBinder<'_>,
        item: &ast::Expr,
    ) -> Result<Vec<GroupingSet>, SqlError> {
        Ok(match item {
            ast::Expr::GroupingSets(lists) => {
                let mut sets = Vec::new();
                for list in lists {
                    match nested(list) {
                        Some(item) => sets.extend(self.alternatives(binder, &item)?),
                        None => sets.push(self.positions(binder, list)?),
                    }
                }
                sets
            }
            ast::Expr::Rollup(lists) => {
                let parts = self.parts(binder, lists)?;
                (0..=parts.len())
                    .rev()
                    .map(|n| parts[..n].concat())
                    .collect()
            }
            ast::Expr::Cube(lists) => {
                let parts = self.parts(binder, lists)?;
                if parts.len() > 8 {
                    return Err(too_many(item));
                }
                (0..1usize << parts.len())
                    .rev()
                    .map(|mask| {
                        let chosen = parts
                            .iter()
                            .enumerate()
                            .filter(|(i, _)| mask >> (parts.len() - 1 - i) & 1 == 1);
                        chosen.flat_map(|(_, part)| part.clone()).collect()
                    })
                    .collect()
            }
            ast::Expr::Tuple(list) => vec![self.positions(binder, list)?],
            other => vec![vec![self.position(binder, other)?]],
        })
    }

    fn position(&mut self, binder: &ExprBinder<'_>, expr: &ast::Expr) -> Result<usize, SqlError> {
        let bound = binder.bind(expr)?;
        if matches!(bound.data_type.logical, proto::types::LogicalType::Map(..)) {
            return Err(
                SqlError::validate("a MAP cannot be a key of GROUP BY").at_parser(expr.span())
            );
        }
        if let Some(position) = self.keys.iter().position(|key| *key == bound) {
            return Ok(position);
        }
        self.keys.push(bound);
        Ok(self.keys.len() - 1)
    }

    fn positions(
        &mut self,
        binder: &ExprBinder<'_>,
        list: &[ast::Expr],
    ) -> Result<GroupingSet, SqlError> {
        let mut set = GroupingSet::new();
        for expr in list {
            let position = self.position(binder, expr)?;
            set = union(&set, &[position]);
        }
        Ok(set)
    }

    fn parts(
        &mut self,
        binder: &ExprBinder<'_>,
        lists: &[Vec<ast::Expr>],
    ) -> Result<Vec<GroupingSet>, SqlError> {
        lists
            .iter()
            .map(|list| self.positions(binder, list))
            .collect()
    }

    /// Whether every set has the key.
    pub(crate) fn in_all_sets(&self, key: usize) -> bool {
        self.sets.iter().flatten().all(|set| set.contains(&key))
    }
}

/// ROLLUP or CUBE as one of several grouping sets, which the parser takes for a call.
fn nested(list: &[ast::Expr]) -> Option<ast::Expr> {
    let [ast::Expr::Function(call)] = list else {
        return None;
    };
    let ast::FunctionArguments::List(arguments) = &call.args else {
        return None;
    };
    let part = |argument: &ast::FunctionArg| match argument {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(match expr {
            ast::Expr::Tuple(list) => list.clone(),
            ast::Expr::Nested(inner) => vec![(**inner).clone()],
            other => vec![other.clone()],
        }),
        _ => None,
    };
    let parts = arguments.args.iter().map(part).collect::<Option<_>>()?;
    match call.name.to_string().to_ascii_uppercase().as_str() {
        "ROLLUP" => Some(ast::Expr::Rollup(parts)),
        "CUBE" => Some(ast::Expr::Cube(parts)),
        _ => None,
    }
}

fn union(set: &[usize], more: &[usize]) -> GroupingSet {
    let mut result = set.to_vec();
    result.extend(more.iter().filter(|key| !set.contains(key)));
    result
}

fn too_many(item: &ast::Expr) -> SqlError {
    SqlError::validate(format!("more than {GROUPING_SETS_MAX} grouping sets"))
        .at_parser(item.span())
}
