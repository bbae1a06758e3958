//! Whether a plan can go on with the state of another one. Operators are matched by their ids, which
//! say what an operator does and what it reads; what keeps state must be the same to the last type.
//!
//! State is found by the numbers of its tables. The new plan's matched tables take the old ones'
//! numbers; others get numbers that no table of this state ever had, for its rows may still be there.

use std::collections::{BTreeMap, BTreeSet};

use proto::plan::{
    AggregateCall, BestPair, Exchange, Join, JoinType, Node, Partitioning, Plan, WindowAggregate,
    WindowSpec, input, node::Operator, state_bound::Kind, window_aggregate::Windowing,
};

use crate::meta::JobSpec;

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

/// A node by its fragment, and its place there.
fn node_at(plan: &Plan, (fragment, index): (u32, u32)) -> Option<&Node> {
    let nodes = &plan.fragments.get(fragment as usize)?.nodes;
    nodes.get(index as usize)
}

/// Where the inputs of a node are.
fn inputs_of(plan: &Plan, at: (u32, u32)) -> Vec<(u32, u32)> {
    let inputs = node_at(plan, at).map_or(&[][..], |node| &node.inputs);
    let places = inputs.iter().filter_map(|input| match input.from? {
        input::From::Node(index) => Some((at.0, index)),
        input::From::Exchange(id) => {
            let exchange = plan.exchanges.get(id as usize)?;
            Some((exchange.from_fragment, exchange.from_node))
        }
    });
    places.collect()
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

/// An operator with state, and where it stands.
struct Place<'a> {
    node: &'a Node,
    /// Its fragment, and its place there.
    at: (u32, u32),
    /// Whether it runs as one task, which then has all keys in one group.
    singleton: bool,
    inputs: Vec<(&'a Node, Option<&'a Partitioning>)>,
}

impl Place<'_> {
    /// What makes the state of one unusable for the other.
    fn differs(&self, other: &Place<'_>) -> Option<&'static str> {
        let names = |place: &Place<'_>| -> Vec<String> {
            place
                .node
                .tables
                .iter()
                .map(|table| table.name.clone())
                .collect()
        };
        if names(self) != names(other) {
            return Some("it keeps other tables");
        }
        if let (Some(Operator::Source(was)), Some(Operator::Source(is))) =
            (&self.node.operator, &other.node.operator)
        {
            // Which columns it makes is of no interest to how far it has read.
            return (was.connector != is.connector).then_some("its table is read otherwise");
        }
        if let Some(was) = best_of_key(self.node)
            && best_of_key(other.node) != Some(was)
        {
            return Some(
                "it has kept of each key what may become the best pair only, and whoever reads it now wants \
                 others",
            );
        }
        if what_it_does(self.node) != what_it_does(other.node) {
            let is_same = self.singleton == other.singleton && aggregates_alike(self, other);
            return (!is_same).then_some("it does something else with its columns");
        }
        if expiring(self.node) != expiring(other.node) {
            return Some(
                "rows have the time of their last change where they expire, and only there: change how \
                 long they live, but not whether they do (one that never ends is '36500 d')",
            );
        }
        if self.singleton != other.singleton || self.inputs.len() != other.inputs.len() {
            return Some("its keys are spread otherwise");
        }
        for ((was, was_cut), (is, is_cut)) in self.inputs.iter().zip(&other.inputs) {
            let types = |node: &Node| -> Vec<String> {
                let output = node.output.iter().flat_map(|output| &output.fields);
                output.map(|field| field.r#type.clone()).collect()
            };
            if types(was) != types(is) {
                return Some("its input has other types");
            }
            if was.upsert_keys != is.upsert_keys || was.changelog != is.changelog {
                return Some("its input changes otherwise, or has other keys");
            }
            if was_cut != is_cut {
                return Some("its keys are spread otherwise");
            }
        }
        None
    }
}

/// What an operator does, as far as its state is concerned. Which pairs a join leaves out depends on who
/// reads it.
fn what_it_does(node: &Node) -> Option<Operator> {
    match &node.operator {
        Some(Operator::Join(join)) => Some(Operator::Join(Join {
            best_pair: None,
            ..join.clone()
        })),
        other => other.clone(),
    }
}

/// By which order a join keeps rows only if they may become the best of their key.
fn best_of_key(node: &Node) -> Option<&BestPair> {
    match &node.operator {
        Some(Operator::Join(join)) => join.best_pair.as_ref().filter(|best| best.per_key),
        _ => None,
    }
}

/// Whether two operators of one id aggregate the same windows by the same keys, the one rows and the other
/// their partial results: the accumulators are the same then.
fn aggregates_alike(was: &Place<'_>, is: &Place<'_>) -> bool {
    let (Some(Operator::WindowAggregate(one)), Some(Operator::WindowAggregate(other))) =
        (&was.node.operator, &is.node.operator)
    else {
        return false;
    };
    let key_types = |place: &Place<'_>, keys: &[u32]| -> Option<Vec<String>> {
        let (input, _) = place.inputs.first()?;
        let columns = &input.output.as_ref()?.fields;
        let types = keys.iter().map(|key| columns.get(*key as usize));
        types.map(|field| Some(field?.r#type.clone())).collect()
    };
    // Of rows, calls that are the same are computed once.
    let is_repeated = |aggregate: &WindowAggregate| {
        let calls: Vec<AggregateCall> = aggregate.calls.iter().map(unnamed).collect();
        let mut calls = calls.iter().enumerate();
        let all = calls.clone();
        let is_again = |(at, call)| all.clone().take(at).any(|(_, other)| other == call);
        !aggregate.from_partial && calls.any(is_again)
    };
    one.from_partial != other.from_partial
        && whatever_it_reads(one) == whatever_it_reads(other)
        && key_types(was, &one.keys) == key_types(is, &other.keys)
        && !is_repeated(one)
        && !is_repeated(other)
}

fn unnamed(call: &AggregateCall) -> AggregateCall {
    AggregateCall {
        name: String::new(),
        ..call.clone()
    }
}

/// A window aggregate but for the columns of its input.
fn whatever_it_reads(aggregate: &WindowAggregate) -> WindowAggregate {
    let call = |call: &AggregateCall| AggregateCall {
        args: Vec::new(),
        filter: None,
        ..unnamed(call)
    };
    let windowing = aggregate
        .windowing
        .clone()
        .map(|windowing| match windowing {
            Windowing::Window(window) => Windowing::Window(WindowSpec {
                time_column: 0,
                ..window
            }),
            Windowing::Attached(window) => Windowing::Attached(window),
        });
    WindowAggregate {
        keys: (0..).take(aggregate.keys.len()).collect(),
        calls: aggregate.calls.iter().map(call).collect(),
        windowing,
        properties: aggregate.properties.clone(),
        from_partial: false,
    }
}

/// Which of its inputs' rows an operator keeps with the time of their last change.
fn expiring(node: &Node) -> Vec<bool> {
    let bound = node
        .state_bound
        .as_ref()
        .and_then(|bound| bound.kind.as_ref());
    let of_input = |input: usize| match bound {
        Some(Kind::Ttl(ttl)) => ttl.input_ms.get(input).is_some_and(|ms| *ms > 0),
        _ => false,
    };
    (0..node.inputs.len()).map(of_input).collect()
}

/// Operators with state, by their ids.
fn stateful(plan: &Plan) -> BTreeMap<&str, Place<'_>> {
    let mut places = BTreeMap::new();
    for fragment in &plan.fragments {
        for (index, node) in (0..).zip(&fragment.nodes) {
            if node.tables.is_empty() {
                continue;
            }
            let exchange = |id: u32| -> Option<&Exchange> { plan.exchanges.get(id as usize) };
            let inputs = node.inputs.iter().filter_map(|input| match input.from? {
                input::From::Node(index) => Some((fragment.nodes.get(index as usize)?, None)),
                input::From::Exchange(id) => {
                    let exchange = exchange(id)?;
                    let from = plan.fragments.get(exchange.from_fragment as usize)?;
                    let from = from.nodes.get(exchange.from_node as usize)?;
                    Some((from, exchange.partitioning.as_ref()))
                }
            });
            let place = Place {
                node,
                at: (fragment.id, index),
                singleton: fragment.singleton,
                inputs: inputs.collect(),
            };
            places.insert(node.id.as_str(), place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::{
        control::JobOptions,
        plan::{
            Field, Fragment, GroupAggregate, HashPartitioning, Input, MultiJoin, RowType, Source,
            StateBound, StateTable, TtlBound, partitioning::Kind, state_bound::Kind as Bound,
        },
    };

    use super::*;

    fn tables(names: &[(u32, &str)]) -> Vec<StateTable> {
        let table = |(id, name): &(u32, &str)| StateTable {
            id: *id,
            name: (*name).to_owned(),
        };
        names.iter().map(table).collect()
    }

    fn source(table: u32, columns: &[&str]) -> Node {
        let field = |r#type: &&str| Field {
            name: "c".into(),
            r#type: (*r#type).into(),
        };
        Node {
            id: "source-1".into(),
            tables: tables(&[(table, "offsets")]),
            output: Some(RowType {
                fields: columns.iter().map(field).collect(),
            }),
            operator: Some(Operator::Source(Source {
                table: "t".into(),
                ..Source::default()
            })),
            ..Node::default()
        }
    }

    fn aggregate(id: &str, first: u32, keys: Vec<u32>) -> Node {
        Node {
            id: id.into(),
            description: format!("Aggregate({id})"),
            tables: tables(&[(first, "accumulators"), (first + 1, "distinct")]),
            inputs: vec![Input {
                from: Some(input::From::Exchange(0)),
            }],
            operator: Some(Operator::GroupAggregate(GroupAggregate {
                keys,
                ..GroupAggregate::default()
            })),
            ..Node::default()
        }
    }

    fn spec(source: Node, others: Vec<Node>) -> JobSpec {
        let plan = Plan {
            key_groups: 256,
            hash_version: 1,
            fragments: vec![
                Fragment {
                    id: 0,
                    nodes: vec![source],
                    singleton: false,
                },
                Fragment {
                    id: 1,
                    nodes: others,
                    singleton: false,
                },
            ],
            exchanges: vec![Exchange {
                to_fragment: 1,
                partitioning: Some(Partitioning {
                    kind: Some(Kind::Hash(HashPartitioning { columns: vec![0] })),
                }),
                ..Exchange::default()
            }],
            ..Plan::default()
        };
        JobSpec {
            name: "job".into(),
            sql: String::new(),
            plan: Arc::new(plan),
            options: JobOptions::default(),
            select: None,
            origin: None,
            tables_max: 0,
        }
    }

    fn numbers(spec: &JobSpec) -> Vec<u32> {
        let nodes = spec
            .plan
            .fragments
            .iter()
            .flat_map(|fragment| &fragment.nodes);
        nodes
            .flat_map(|node| &node.tables)
            .map(|table| table.id)
            .collect()
    }

    #[test]
    fn operators_keep_their_tables_whatever_else_changes() {
        let old = spec(
            source(1, &["INT"]),
            vec![aggregate("a", 2, vec![0]), aggregate("b", 4, vec![0])],
        );
        // Another one comes first, and more columns are read.
        let new = || {
            spec(
                source(1, &["INT"]),
                vec![aggregate("new", 2, vec![0]), aggregate("b", 4, vec![0])],
            )
        };
        assert_eq!(
            fit(&old, new(), false),
            Err(Misfit::Unclaimed {
                operators: vec!["Aggregate(a)".into()],
                multi_joins: None,
            })
        );
        let fitted = fit(&old, new(), true).expect("it fits");
        assert_eq!(numbers(&fitted), [1, 6, 7, 4, 5]);
        assert_eq!(fitted.tables_max, 7);
        // What was left alone is still there, and its number is never used again.
        let third = spec(source(1, &["INT"]), vec![aggregate("a", 2, vec![0])]);
        let third = fit(&fitted, third, true).expect("it fits");
        assert_eq!(numbers(&third), [1, 8, 9]);
    }

    /// A window aggregate of rows, whose keys are the second column, or of their partial results.
    fn windowed(from_partial: bool, size_ms: u64, repeated: bool) -> JobSpec {
        let call = |args: Vec<u32>, name: &str| AggregateCall {
            function: "SUM".into(),
            args,
            name: name.into(),
            ..AggregateCall::default()
        };
        let calls = match (from_partial, repeated) {
            (true, _) => vec![call(vec![1], "a"), call(vec![2], "b")],
            (false, false) => vec![call(vec![0], "a"), call(vec![2], "b")],
            (false, true) => vec![call(vec![0], "a"), call(vec![0], "b")],
        };
        let mut node = aggregate("a", 2, Vec::new());
        node.operator = Some(Operator::WindowAggregate(WindowAggregate {
            keys: vec![u32::from(!from_partial)],
            calls,
            windowing: Some(Windowing::Window(WindowSpec {
                size_ms,
                time_column: if from_partial { 3 } else { 2 },
                ..WindowSpec::default()
            })),
            from_partial,
            ..WindowAggregate::default()
        }));
        let columns = match from_partial {
            true => ["INT", "BIGINT", "BIGINT"],
            false => ["BIGINT", "INT", "TIMESTAMP(3)"],
        };
        spec(source(1, &columns), vec![node])
    }

    #[test]
    fn which_pairs_a_join_leaves_out_is_no_state() {
        let joined = |best_pair| {
            let mut node = aggregate("a", 2, Vec::new());
            node.operator = Some(Operator::Join(Join {
                left_keys: vec![0],
                best_pair,
                ..Join::default()
            }));
            spec(source(1, &["INT"]), vec![node])
        };
        let (all, best) = (joined(None), joined(Some(BestPair::default())));
        assert!(fit(&all, best.clone(), false).is_ok());
        assert!(fit(&best, all.clone(), false).is_ok());
        // But rows that cannot be of the best pair of their key any more are not there.
        let per_key = |per_right| {
            joined(Some(BestPair {
                per_key: true,
                per_right,
                ..BestPair::default()
            }))
        };
        assert!(fit(&all, per_key(true), false).is_ok());
        assert!(fit(&per_key(true), per_key(true), false).is_ok());
        for other in [all, best, per_key(false)] {
            let error = fit(&per_key(true), other, false).expect_err("it does not fit");
            let error = error.to_string();
            assert!(
                error.contains("what may become the best pair only"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_new_reader_of_best_pairs_is_sent_all_that_may_be_its_best() {
        let ranked = |per_key: bool, reader: &str| {
            let mut join = aggregate("join", 2, Vec::new());
            let best_pair = per_key.then(|| BestPair {
                per_key,
                ..BestPair::default()
            });
            join.operator = Some(Operator::Join(Join {
                best_pair,
                ..Join::default()
            }));
            let calc = Node {
                inputs: vec![Input {
                    from: Some(input::From::Node(0)),
                }],
                ..Node::default()
            };
            let mut reader = aggregate(reader, 4, vec![0]);
            reader.inputs[0].from = Some(input::From::Node(1));
            spec(source(1, &["INT"]), vec![join, calc, reader])
        };
        let keeps_all = |spec: &JobSpec| best_of_key(&spec.plan.fragments[1].nodes[0]).is_none();
        for was in [false, true] {
            let same = fit(&ranked(was, "a"), ranked(true, "a"), true);
            assert!(!keeps_all(&same.expect("it fits")));
        }
        let other = fit(&ranked(false, "a"), ranked(true, "b"), true);
        assert!(keeps_all(&other.expect("it fits")));
        let error = fit(&ranked(true, "a"), ranked(true, "b"), true).expect_err("rows are missing");
        let error = error.to_string();
        assert!(error.contains("whoever reads it now"), "{error}");
    }

    #[test]
    fn joins_that_are_one_here_and_several_there_are_told() {
        let one = |id: &str| {
            let mut node = aggregate(id, 2, vec![0]);
            node.operator = Some(Operator::MultiJoin(MultiJoin::default()));
            node
        };
        let several = |id: &str, r#type: JoinType| {
            let mut node = aggregate(id, 2, vec![0]);
            node.operator = Some(Operator::Join(Join {
                r#type: r#type.into(),
                ..Join::default()
            }));
            node
        };
        let inner = |id: &str| several(id, JoinType::Inner);
        let check = |old: Vec<Node>, new: Vec<Node>, wanted: Option<bool>| {
            let job = |nodes: Vec<Node>| spec(source(1, &["INT"]), nodes);
            match fit(&job(old), job(new), false) {
                Err(Misfit::Unclaimed { multi_joins, .. }) => assert_eq!(multi_joins, wanted),
                other => panic!("{other:?}"),
            }
        };
        check(vec![inner("a"), inner("b")], vec![one("c")], Some(false));
        check(vec![one("c")], vec![inner("a"), inner("b")], Some(true));
        check(vec![one("c")], vec![one("d")], None);
        check(vec![one("c")], vec![several("a", JoinType::Left)], None);
        check(vec![inner("a")], vec![inner("b")], None);
        // A join that goes on with its state is not what the other one is made of.
        check(vec![inner("a"), one("c")], vec![inner("a")], None);
        check(vec![inner("a"), one("c")], vec![inner("b"), one("d")], None);
    }

    #[test]
    fn windows_of_rows_go_on_with_those_of_partial_results() {
        let (rows, partials) = (windowed(false, 5, false), windowed(true, 5, false));
        assert!(fit(&rows, partials.clone(), false).is_ok());
        assert!(fit(&partials, rows.clone(), false).is_ok());
        for other in [windowed(false, 6, false), windowed(false, 5, true)] {
            let error = fit(&partials, other, false).expect_err("it does not fit");
            assert_eq!(
                error.to_string(),
                "Aggregate(a) cannot use its state: it does something else with its columns"
            );
        }
    }

    #[test]
    fn a_plan_that_does_not_fit_is_refused_with_the_reason() {
        let old = spec(source(1, &["INT"]), vec![aggregate("a", 2, vec![0])]);
        let check = |new: JobSpec, wanted: &str| {
            let error = fit(&old, new, true).expect_err("it does not fit");
            assert_eq!(error.to_string(), wanted);
        };
        let changed = |why| format!("Aggregate(a) cannot use its state: {why}");
        check(
            spec(source(1, &["BIGINT"]), vec![aggregate("a", 2, vec![0])]),
            &changed("its input has other types"),
        );
        check(
            spec(source(1, &["INT"]), vec![aggregate("a", 2, vec![1])]),
            &changed("it does something else with its columns"),
        );
        let mut other = aggregate("a", 2, vec![0]);
        other.tables.pop();
        check(
            spec(source(1, &["INT"]), vec![other]),
            &changed("it keeps other tables"),
        );
        let expiring = |ms: u64| {
            let mut node = aggregate("a", 2, vec![0]);
            node.state_bound = Some(StateBound {
                kind: Some(Bound::Ttl(TtlBound {
                    input_ms: vec![ms],
                    event_time: false,
                })),
            });
            spec(source(1, &["INT"]), vec![node])
        };
        let error = fit(&old, expiring(5), true).expect_err("it does not fit");
        assert!(
            error.to_string().contains("but not whether they do"),
            "{error}"
        );
        assert!(fit(&expiring(5), expiring(9), true).is_ok());
        let mut moved = source(1, &["INT"]);
        moved.id = "source-2".into();
        check(
            spec(moved, vec![aggregate("a", 2, vec![0])]),
            "Aggregate(a) would go on with its state and read table `t` from the beginning, of which \
             the state knows nothing",
        );
        let mut plan = (*old.plan).clone();
        plan.key_groups = 128;
        let cut = JobSpec {
            plan: Arc::new(plan),
            ..old.clone()
        };
        check(
            cut,
            "the state is cut into 256 key groups and the plan needs 128: that is fixed for good",
        );
        let mut plan = (*old.plan).clone();
        plan.exchanges[0].partitioning = None;
        let spread = JobSpec {
            plan: Arc::new(plan),
            ..old.clone()
        };
        check(spread, &changed("its keys are spread otherwise"));
    }
}
