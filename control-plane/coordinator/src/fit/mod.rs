//! Whether a plan can go on with the state of another one. Operators are matched by their ids, which
//! say what an operator does and what it reads; what keeps state must be the same to the last type.
//!
//! State is found by the numbers of its tables. The new plan's matched tables take the old ones'
//! numbers; others get numbers that no table of this state ever had, for its rows may still be there.

use std::collections::{BTreeMap, BTreeSet};

use proto::plan::{JoinType, Node, Plan, node::Operator};

use crate::meta::JobSpec;

mod place;

#[cfg(test)]
mod fit_test;

use place::{Place, best_of_key, inputs_of, node_at, stateful};

/// Sources of a plan of which the state of another one knows nothing: they begin with what there is to
/// read.
#[must_use]
pub fn new_sources(old: &Plan, new: &Plan) -> Vec<String> {
    let known = stateful(old);
    let sources = stateful(new).into_iter().filter(|(id, place)| {
        matches!(place.node.operator, Some(Operator::Source(_))) && !known.contains_key(id)
    });
    sources.map(|(id, _)| id.to_owned()).collect()
}

/// Why a plan cannot go on with the state of another one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misfit {
    /// Keys are cut or hashed in another way.
    #[error(
        "the state is cut into {old} key groups and the plan needs {new}: that is fixed for good"
    )]
    KeyGroups {
        /// Those of the state.
        old: u32,
        /// Those of the plan.
        new: u32,
    },
    /// Keys are hashed in another way.
    #[error("the state's keys are hashed by version {old} of the function, the plan's by {new}")]
    Hash {
        /// That of the state.
        old: u32,
        /// That of the plan.
        new: u32,
    },
    /// An operator is the same, and its state is not.
    #[error("{operator} cannot use its state: {why}")]
    Changed {
        /// The operator, for people.
        operator: String,
        /// What is different.
        why: &'static str,
    },
    /// What it has of one table would be added to what it has of another.
    #[error(
        "{operator} would go on with its state and read table `{table}` from the beginning, of which the \
         state knows nothing"
    )]
    NewSource {
        /// The operator, for people.
        operator: String,
        /// The table.
        table: String,
    },
    /// There is state that the plan does not use.
    #[error("the plan has nothing for the state of {}", operators.join(", "))]
    Unclaimed {
        /// Whose it is, for people.
        operators: Vec<String>,
        /// Inner joins by one key are one operator here and several there: whether the plan must have one,
        /// to go on with the state.
        multi_joins: Option<bool>,
    },
}

/// The spec with a plan that goes on with the state of `old`. With `allow_unclaimed`, state that it
/// does not use is left alone.
///
/// # Errors
/// When it does not fit.
pub fn fit(old: &JobSpec, mut new: JobSpec, allow_unclaimed: bool) -> Result<JobSpec, Misfit> {
    let (was, mut plan) = (&*old.plan, (*new.plan).clone());
    if was.key_groups != plan.key_groups {
        return Err(Misfit::KeyGroups {
            old: was.key_groups,
            new: plan.key_groups,
        });
    }
    if was.hash_version != plan.hash_version {
        return Err(Misfit::Hash {
            old: was.hash_version,
            new: plan.hash_version,
        });
    }
    let (before, after) = (stateful(was), stateful(&plan));
    let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
    let mut next = old.tables_max.max(highest(was)) + 1;
    let mut claimed: BTreeSet<&str> = BTreeSet::new();
    for (id, place) in &after {
        let Some(known) = before.get(id) else {
            for table in &place.node.tables {
                numbers.insert(table.id, next);
                next += 1;
            }
            continue;
        };
        if let Some(why) = known.differs(place) {
            let operator = place.node.description.clone();
            return Err(Misfit::Changed { operator, why });
        }
        check_sources(&plan, place, &before)?;
        claimed.insert(*id);
        let pairs = known.node.tables.iter().zip(&place.node.tables);
        numbers.extend(pairs.map(|(known, table)| (table.id, known.id)));
    }
    if claimed.len() < before.len() && !allow_unclaimed {
        let rest = |places: &BTreeMap<&str, Place<'_>>| -> Vec<Node> {
            let rest = places.iter().filter(|(id, _)| !claimed.contains(*id));
            rest.map(|(_, place)| place.node.clone()).collect()
        };
        return Err(unclaimed(&rest(&before), &rest(&after)));
    }
    let sent_before = sent_to_new_readers(&plan, &before, &after)?;
    for (fragment, index) in sent_before {
        keep_all_rows(&mut plan, (fragment, index));
    }
    let nodes = plan
        .fragments
        .iter_mut()
        .flat_map(|fragment| &mut fragment.nodes);
    for table in nodes.flat_map(|node| &mut node.tables) {
        table.id = numbers.get(&table.id).copied().unwrap_or(table.id);
    }
    new.tables_max = next - 1;
    new.plan = plan.into();
    Ok(new)
}

/// The refusal of a plan that has `new` operators, and does not have those that are `left`.
fn unclaimed(left: &[Node], new: &[Node]) -> Misfit {
    let is_inner = |node: &Node| match &node.operator {
        Some(Operator::Join(join)) => join.r#type() == JoinType::Inner,
        _ => false,
    };
    let is_multi = |node: &Node| matches!(node.operator, Some(Operator::MultiJoin(_)));
    let wants_one = left.iter().any(is_multi) && new.iter().any(is_inner);
    let wants_several = left.iter().any(is_inner) && new.iter().any(is_multi);
    Misfit::Unclaimed {
        operators: left.iter().map(|node| node.description.clone()).collect(),
        multi_joins: (wants_one != wants_several).then_some(wants_one),
    }
}

/// Whether all that an operator reads, whose state is known, was read before.
fn check_sources(
    plan: &Plan,
    place: &Place<'_>,
    known: &BTreeMap<&str, Place<'_>>,
) -> Result<(), Misfit> {
    let mut rest = vec![place.at];
    let mut seen = BTreeSet::new();
    while let Some(at) = rest.pop() {
        if !seen.insert(at) {
            continue;
        }
        let Some(node) = node_at(plan, at) else {
            continue;
        };
        if let Some(Operator::Source(source)) = &node.operator
            && !known.contains_key(node.id.as_str())
        {
            return Err(Misfit::NewSource {
                operator: place.node.description.clone(),
                table: source.table.clone(),
            });
        }
        rest.extend(inputs_of(plan, at));
    }
    Ok(())
}

/// Joins that keep of each key what may become the best pair only, and are read by somebody who begins with
/// nothing: whoever read them before has the pairs that others do not come up to.
///
/// # Errors
/// When such a join has kept no more than that already.
fn sent_to_new_readers(
    plan: &Plan,
    before: &BTreeMap<&str, Place<'_>>,
    after: &BTreeMap<&str, Place<'_>>,
) -> Result<Vec<(u32, u32)>, Misfit> {
    let mut joins = Vec::new();
    for (_, reader) in after.iter().filter(|(id, _)| !before.contains_key(*id)) {
        let mut rest = inputs_of(plan, reader.at);
        while let Some(at) = rest.pop() {
            let Some(node) = node_at(plan, at) else {
                continue;
            };
            if node.tables.is_empty() {
                rest.extend(inputs_of(plan, at));
                continue;
            }
            let known = before.get(node.id.as_str());
            if let Some(known) = known.filter(|_| best_of_key(node).is_some()) {
                if best_of_key(known.node).is_some() {
                    return Err(Misfit::Changed {
                        operator: node.description.clone(),
                        why: "it has kept of each key what may become the best pair only, and whoever reads \
                              it now has not got the others",
                    });
                }
                joins.push(at);
            }
        }
    }
    Ok(joins)
}

/// Of a join's pairs all are put out that may be the best of their rows from now on.
fn keep_all_rows(plan: &mut Plan, (fragment, index): (u32, u32)) {
    let nodes = plan.fragments.get_mut(fragment as usize);
    let node = nodes.and_then(|fragment| fragment.nodes.get_mut(index as usize));
    if let Some(Operator::Join(join)) = node.and_then(|node| node.operator.as_mut())
        && let Some(best) = &mut join.best_pair
    {
        best.per_key = false;
    }
}

/// The highest number of a plan's tables.
fn highest(plan: &Plan) -> u32 {
    let nodes = plan.fragments.iter().flat_map(|fragment| &fragment.nodes);
    let tables = nodes.flat_map(|node| &node.tables);
    tables.map(|table| table.id).max().unwrap_or_default()
}
