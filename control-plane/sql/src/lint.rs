//! Invariants of a compiled plan. Run on every plan that the planner makes: a broken one is
//! refused before it is stored or run.

use std::collections::BTreeSet;

use proto::plan::{
    Changelog, Expand, Expr, Fragment, JoinType, LookupJoin, MultiJoin, Node, OverAggregate,
    OverOrder, Plan, RowType, Source, WindowAggregate, data_type, expr::Kind, input,
    node::Operator, partitioning, state_bound, window_aggregate::Windowing,
};

/// What is wrong with the plan; empty for a sound one.
#[must_use]
pub fn check(plan: &Plan) -> Vec<String> {
    let mut lint = Lint {
        plan,
        problems: Vec::new(),
        where_: String::new(),
    };
    lint.plan();
    lint.problems
}

struct Lint<'a> {
    plan: &'a Plan,
    problems: Vec<String>,
    where_: String,
}

impl Lint<'_> {
    fn problem(&mut self, text: impl AsRef<str>) {
        self.problems
            .push(format!("{}{}", self.where_, text.as_ref()));
    }

    fn require(&mut self, holds: bool, text: &str) {
        if !holds {
            self.problem(text);
        }
    }

    fn plan(&mut self) {
        let plan = self.plan;
        let groups = plan.key_groups;
        self.require(
            groups.is_power_of_two() && groups <= 32_768,
            "key groups are not a power of two up to 32768",
        );
        let (mut ids, mut tables) = (BTreeSet::new(), BTreeSet::new());
        for (i, fragment) in plan.fragments.iter().enumerate() {
            self.where_ = format!("fragment {i}: ");
            self.require(fragment.id as usize == i, "its id is not its index");
            self.require(!fragment.nodes.is_empty(), "it has no nodes");
            for (n, node) in fragment.nodes.iter().enumerate() {
                self.where_ = format!("fragment {i}, node {n} ({}): ", node.description);
                self.require(ids.insert(&node.id), "its id is not unique");
                for table in &node.tables {
                    self.require(tables.insert(table.id), "a state table id is not unique");
                }
                self.node(fragment, n, node);
            }
        }
        for (i, exchange) in plan.exchanges.iter().enumerate() {
            self.where_ = format!("exchange {i}: ");
            self.require(exchange.id as usize == i, "its id is not its index");
            self.exchange(i);
        }
    }

    fn exchange(&mut self, index: usize) {
        let plan = self.plan;
        let exchange = &plan.exchanges[index];
        let sender = plan
            .fragments
            .get(exchange.from_fragment as usize)
            .and_then(|fragment| fragment.nodes.get(exchange.from_node as usize));
        let Some(sender) = sender else {
            return self.problem("its sender does not exist");
        };
        let Some(receiver) = plan.fragments.get(exchange.to_fragment as usize) else {
            return self.problem("its receiver does not exist");
        };
        self.require(
            exchange.from_fragment < exchange.to_fragment,
            "it does not go forward",
        );
        let read = receiver
            .nodes
            .iter()
            .flat_map(|node| &node.inputs)
            .filter(|i| i.from == Some(input::From::Exchange(index as u32)))
            .count();
        self.require(read == 1, "it is not read exactly once");
        let width = width(sender);
        match exchange.partitioning.as_ref().and_then(|p| p.kind.as_ref()) {
            Some(partitioning::Kind::Hash(hash)) => {
                self.require(!hash.columns.is_empty(), "it hashes no columns");
                self.require(
                    hash.columns.iter().all(|c| (*c as usize) < width),
                    "it hashes a column that does not exist",
                );
                self.require(!receiver.singleton, "it hashes into a singleton fragment");
            }
            Some(partitioning::Kind::Single(_)) => {
                self.require(receiver.singleton, "its receiver is not a singleton");
            }
            Some(_) => {}
            None => self.problem("it has no partitioning"),
        }
    }

    fn node(&mut self, fragment: &Fragment, index: usize, node: &Node) {
        let mut inputs = Vec::new();
        for input in &node.inputs {
            match resolve(self.plan, fragment, index, input) {
                Some(found) => inputs.push(found),
                None => return self.problem("an input does not exist or comes later"),
            }
        }
        let Some(output) = &node.output else {
            return self.problem("it has no output type");
        };
        self.require(!output.fields.is_empty(), "it has no columns");
        for field in &output.fields {
            if data_type(&field.r#type).is_err() {
                self.problem(format!("type `{}` cannot be read", field.r#type));
            }
        }
        let width = output.fields.len();
        let fits = |columns: &[u32]| columns.iter().all(|c| (*c as usize) < width);
        let keys_fit = node.upsert_keys.iter().all(|key| fits(&key.columns));
        self.require(keys_fit, "an upsert key is out of range");
        self.require(
            fits(&node.rowtime_columns),
            "a rowtime column is out of range",
        );
        self.bound(node);
        self.changelog(node, &inputs);
        self.operator(node, &inputs, width);
        self.routing(fragment, node);
        if let Some(Operator::LateRows(op)) = &node.operator {
            self.late_rows(fragment, node, op.of as usize);
        }
    }

    /// Late rows of an input have its columns, and leave where they are found.
    fn late_rows(&mut self, fragment: &Fragment, node: &Node, of: usize) {
        let Some(input::From::Node(at)) = node.inputs.first().and_then(|input| input.from) else {
            return self.problem("it takes late rows from another fragment");
        };
        let dropper = fragment.nodes.get(at as usize);
        let from = dropper.and_then(|dropper| {
            let input = dropper.inputs.get(of)?;
            resolve(self.plan, fragment, at as usize, input)
        });
        let Some(from) = from else {
            return self.problem("it takes late rows of an input that does not exist");
        };
        let fits = width(from) + 2 == width(node);
        self.require(fits, "its columns are not those of late rows");
        let others = fragment.nodes.iter().filter(|other| {
            matches!(&other.operator, Some(Operator::LateRows(op)) if op.of as usize == of)
                && other.inputs == node.inputs
        });
        self.require(others.count() == 1, "others take the same late rows");
    }

    fn bound(&mut self, node: &Node) {
        let kind = node.state_bound.as_ref().and_then(|b| b.kind.as_ref());
        match kind {
            None => self.problem("it states no bound of its state"),
            Some(state_bound::Kind::Stateless(_)) => {
                self.require(node.tables.is_empty(), "it is stateless but has tables");
            }
            Some(state_bound::Kind::Ttl(ttl)) => {
                self.require(!node.tables.is_empty(), "it has state but no table");
                let fits = ttl.input_ms.len() == node.inputs.len();
                self.require(fits, "its lifetimes are not one per input");
                let expires = ttl.input_ms.iter().any(|ms| *ms > 0);
                self.require(expires, "it has lifetimes of which none ends");
            }
            Some(_) => self.require(!node.tables.is_empty(), "it has state but no table"),
        }
    }

    fn changelog(&mut self, node: &Node, inputs: &[&Node]) {
        let Some(own) = &node.changelog else {
            return self.problem("it has no changelog");
        };
        let of = |node: &&Node| node.changelog.unwrap_or_default();
        let updates = |c: &Changelog| c.update_after;
        let complete = inputs
            .iter()
            .map(of)
            .all(|c| !c.update_after || c.update_before);
        let append = inputs.iter().map(of).all(|c| c.is_append());
        match &node.operator {
            Some(
                Operator::GroupAggregate(_)
                | Operator::WindowAggregate(_)
                | Operator::Join(_)
                | Operator::MultiJoin(_)
                | Operator::Rank(_)
                | Operator::Unnest(_)
                | Operator::Expand(_)
                | Operator::WindowAssign(_),
            ) => self.require(complete, "it needs the old rows of updates"),
            Some(Operator::OverAggregate(op)) if op.order() == OverOrder::Kept => {
                self.require(complete, "it needs the old rows of updates");
            }
            Some(
                Operator::LocalAggregate(_)
                | Operator::WindowJoin(_)
                | Operator::IntervalJoin(_)
                | Operator::Sort(_)
                | Operator::OverAggregate(_)
                | Operator::LookupJoin(_)
                | Operator::TieFilter(_)
                | Operator::Deduplicate(_),
            ) => self.require(append, "it takes inserts only"),
            // Old rows of the right side say nothing.
            Some(Operator::TemporalJoin(_)) => {
                let left = inputs.first().map(of).is_some_and(|c| c.is_append());
                self.require(left, "its left input takes rows back");
                self.require(own.is_append(), "what it puts out is final");
            }
            Some(Operator::Calc(_) | Operator::Union(_) | Operator::Sink(_)) => {
                let any = inputs.iter().map(of).any(|c| updates(&c));
                self.require(own.update_after == any, "it loses or invents updates");
            }
            _ => {}
        }
        self.require(
            !own.update_before || own.update_after,
            "it has old rows without new ones",
        );
    }

    fn operator(&mut self, node: &Node, inputs: &[&Node], own: usize) {
        let arity = match &node.operator {
            None => return self.problem("it has no operator"),
            Some(Operator::Source(_) | Operator::Values(_)) => 0..=0,
            Some(
                Operator::Join(_)
                | Operator::WindowJoin(_)
                | Operator::IntervalJoin(_)
                | Operator::TemporalJoin(_),
            ) => 2..=2,
            Some(Operator::MultiJoin(_)) => 3..=usize::MAX,
            Some(Operator::Union(_)) => 1..=usize::MAX,
            Some(_) => 1..=1,
        };
        if !arity.contains(&inputs.len()) {
            return self.problem("it has a wrong number of inputs");
        }
        let input = inputs.first().map_or(0, |node| width(node));
        match &node.operator {
            Some(Operator::Source(op)) => self.source(op, own),
            Some(Operator::Values(op)) => {
                let fits = op.rows.iter().all(|row| row.values.len() == own);
                self.require(fits, "a row has another number of columns");
                self.exprs(op.rows.iter().flat_map(|row| &row.values), 0);
            }
            Some(Operator::Calc(op)) => {
                self.require(op.projections.len() == own, "its width is wrong");
                self.exprs(op.projections.iter().chain(&op.condition), input);
            }
            Some(Operator::GroupAggregate(op)) => {
                self.require(op.keys.len() + op.calls.len() == own, "its width is wrong");
                self.aggregate(&op.keys, &op.calls, input);
            }
            Some(Operator::LocalAggregate(op)) => self.aggregate(&op.keys, &op.calls, input),
            Some(Operator::WindowAggregate(op)) => self.window_aggregate(op, input, own),
            Some(
                Operator::Join(_)
                | Operator::WindowJoin(_)
                | Operator::IntervalJoin(_)
                | Operator::TemporalJoin(_),
            ) => self.join(node, inputs),
            Some(Operator::MultiJoin(op)) => self.multi_join(op, inputs, own),
            Some(Operator::LookupJoin(op)) => self.lookup_join(op, input, own),
            Some(Operator::Rank(op)) => {
                self.columns(&op.partition_by, input);
                let order: Vec<u32> = op.order_by.iter().map(|key| key.column).collect();
                self.columns(&order, input);
            }
            Some(Operator::Deduplicate(op)) => self.columns(&op.keys, input),
            Some(Operator::Expand(op)) => self.expand(op, input),
            Some(Operator::Unnest(op)) => self.columns(&[op.column], input),
            Some(Operator::Sort(op)) => {
                self.columns(&[op.time_column], input);
                self.columns(&op.partition_by, input);
            }
            Some(Operator::OverAggregate(op)) => self.over(op, input, own),
            Some(Operator::TieFilter(op)) => {
                let time = op.window.as_ref().map_or(0, |window| window.time_column);
                self.columns(&[op.value, time], input);
                self.require(input == own, "its width is wrong");
            }
            Some(Operator::Union(_) | Operator::DropUpdateBefore(_) | Operator::Sink(_)) => {
                let same = inputs.iter().all(|node| width(node) == own);
                self.require(same, "its inputs have another number of columns");
            }
            _ => {}
        }
    }

    fn expand(&mut self, op: &Expand, input: usize) {
        self.columns(&op.columns, input);
        self.require(op.sets.len() == op.grouping_ids.len(), "a set has no id");
        let ids: BTreeSet<u64> = op.grouping_ids.iter().copied().collect();
        self.require(ids.len() == op.sets.len(), "two sets have one id");
    }

    fn join(&mut self, node: &Node, inputs: &[&Node]) {
        let (left, right) = (width(inputs[0]), width(inputs[1]));
        let condition = match &node.operator {
            Some(Operator::Join(op)) => {
                self.join_keys(&op.left_keys, &op.right_keys, &op.null_safe, inputs);
                self.exprs(op.left_until.iter().flat_map(|until| &until.time), left);
                self.exprs(op.right_until.iter().flat_map(|until| &until.time), right);
                let goes = op.left_until.len() + op.right_until.len() > 0;
                let append = |node: &&Node| node.changelog.unwrap_or_default().is_append();
                let fits = !goes || inputs.iter().all(append);
                self.require(fits, "its rows go by time though they may be taken back");
                if let Some(best) = &op.best_pair {
                    let other = if best.per_right { left } else { right };
                    let order: Vec<u32> = best.order_by.iter().map(|key| key.column).collect();
                    self.columns(&order, other);
                    let fits = inputs.iter().all(append) && op.r#type() == JoinType::Inner;
                    self.require(fits, "it leaves out pairs though they may be taken back");
                }
                &op.condition
            }
            Some(Operator::WindowJoin(op)) => {
                self.join_keys(&op.left_keys, &op.right_keys, &op.null_safe, inputs);
                &op.condition
            }
            Some(Operator::IntervalJoin(op)) => {
                self.join_keys(&op.left_keys, &op.right_keys, &op.null_safe, inputs);
                self.columns(&[op.left_time], left);
                self.columns(&[op.right_time], right);
                &op.condition
            }
            Some(Operator::TemporalJoin(op)) => {
                self.join_keys(&op.left_keys, &op.right_keys, &op.null_safe, inputs);
                self.columns(&[op.left_time], left);
                self.columns(&[op.right_time], right);
                &op.condition
            }
            _ => return,
        };
        self.exprs(condition.iter(), left + right);
    }

    fn multi_join(&mut self, op: &MultiJoin, inputs: &[&Node], own: usize) {
        let count = op.null_safe.len();
        let pairs = op.inputs.iter().all(|input| input.keys.len() == count);
        self.require(pairs, "its keys do not pair up");
        let fits = op.inputs.len() == inputs.len();
        self.require(fits, "it has a wrong number of inputs");
        for (keys, input) in op.inputs.iter().zip(inputs) {
            self.columns(&keys.keys, width(input));
        }
        self.columns(&op.columns, inputs.iter().map(|input| width(input)).sum());
        self.require(op.columns.len() == own, "its width is wrong");
    }

    fn lookup_join(&mut self, op: &LookupJoin, left: usize, own: usize) {
        let Some(table) = &op.table else {
            return self.problem("it looks nothing up");
        };
        let width = |row: &Option<RowType>| row.as_ref().map_or(0, |row| row.fields.len());
        let (made, right) = (width(&table.produced), width(&table.columns));
        self.require(made > 0, "it reads no column");
        let calc = table.calc.iter();
        self.exprs(
            calc.flat_map(|c| c.projections.iter().chain(&c.condition)),
            made,
        );
        let projected = table.calc.as_ref().map_or(0, |c| c.projections.len());
        self.require(
            projected == right,
            "its table has another number of columns",
        );
        self.require(left + right == own, "its width is wrong");
        let count = op.left_keys.len();
        self.require(
            count == op.right_keys.len() && count == op.null_safe.len(),
            "its keys are not pairs",
        );
        self.columns(&op.left_keys, left);
        self.columns(&op.right_keys, right);
        self.exprs(op.condition.iter(), left + right);
    }

    fn source(&mut self, op: &Source, own: usize) {
        let made = op.produced.as_ref().map_or(0, |row| row.fields.len());
        self.require(made > 0, "it produces no column");
        self.exprs(op.calc.iter().flat_map(|c| &c.projections), made);
        let watermark = op.watermark.iter();
        let exists = watermark.clone().all(|w| (w.column as usize) < own);
        self.require(exists, "its watermark's column does not exist");
        self.exprs(watermark.flat_map(|w| &w.expr), own);
    }

    fn window_aggregate(&mut self, op: &WindowAggregate, input: usize, own: usize) {
        let all = op.keys.len() + op.calls.len() + op.properties.len();
        self.require(all == own, "its width is wrong");
        self.aggregate(&op.keys, &op.calls, input);
        match &op.windowing {
            Some(Windowing::Window(w)) => self.columns(&[w.time_column], input),
            Some(Windowing::Attached(w)) => self.columns(&[w.window_start, w.window_end], input),
            None => self.problem("it has no windows"),
        }
    }

    fn over(&mut self, op: &OverAggregate, input: usize, own: usize) {
        use proto::plan::over_call::Function;
        self.require(input + op.calls.len() == own, "its width is wrong");
        self.columns(&op.partition_by, input);
        let order: Vec<u32> = op.order_by.iter().map(|key| key.column).collect();
        self.columns(&order, input);
        let by_arrival = op.order() == OverOrder::ByArrival;
        self.require(order.is_empty() == by_arrival, "it has no order, or two");
        let kept = op.order() == OverOrder::Kept;
        let frame = op.frame.unwrap_or_default();
        for call in &op.calls {
            match &call.function {
                Some(Function::Aggregate(call)) => {
                    self.aggregate(&[], std::slice::from_ref(call), input);
                }
                Some(Function::Number(_)) => {
                    let fits = kept || frame.preceding.is_none();
                    self.require(fits, "a number goes with a frame that has a start");
                }
                Some(Function::Lag(lag)) => {
                    let columns: Vec<u32> = [lag.column].into_iter().chain(lag.default).collect();
                    self.columns(&columns, input);
                    let fits = kept || !frame.range && frame.preceding.is_some();
                    self.require(fits, "LAG goes with a frame that is not of so many rows");
                }
                None => self.problem("a call has no function"),
            }
        }
    }

    fn columns(&mut self, columns: &[u32], width: usize) {
        self.require(
            columns.iter().all(|c| (*c as usize) < width),
            "a column is out of range",
        );
    }

    fn aggregate(&mut self, keys: &[u32], calls: &[proto::plan::AggregateCall], width: usize) {
        self.columns(keys, width);
        for call in calls {
            self.columns(&call.args, width);
            let filter: Vec<u32> = call.filter.into_iter().collect();
            self.columns(&filter, width);
            let known = call.function.parse::<proto::plan::AggregateFunction>();
            self.require(known.is_ok(), "it calls an unknown aggregate function");
            self.require(
                data_type(&call.r#type).is_ok(),
                "a call's type cannot be read",
            );
        }
    }

    fn join_keys(&mut self, left: &[u32], right: &[u32], null_safe: &[bool], inputs: &[&Node]) {
        self.require(
            left.len() == right.len() && left.len() == null_safe.len(),
            "its keys do not pair up",
        );
        self.columns(left, width(inputs[0]));
        self.columns(right, width(inputs[1]));
    }

    fn exprs<'e>(&mut self, exprs: impl Iterator<Item = &'e Expr>, width: usize) {
        for expr in exprs {
            self.expr(expr, width);
        }
    }

    fn expr(&mut self, expr: &Expr, width: usize) {
        if expr.data_type().is_err() {
            self.problem(format!("type `{}` cannot be read", expr.r#type));
        }
        match &expr.kind {
            None => self.problem("an expression has no plan (a subquery was left)"),
            Some(Kind::Column(column)) => self.columns(&[*column], width),
            Some(Kind::Literal(_)) => {}
            Some(Kind::Call(call)) => {
                let known = call.function.parse::<proto::plan::ScalarFunction>();
                self.require(known.is_ok(), "it calls an unknown function");
                self.exprs(call.args.iter(), width);
            }
            Some(Kind::Cast(cast)) => self.exprs(cast.input.as_deref().into_iter(), width),
            Some(Kind::Case(case)) => {
                for when in &case.branches {
                    self.exprs(when.condition.iter().chain(&when.result), width);
                }
                self.exprs(case.otherwise.as_deref().into_iter(), width);
            }
            Some(Kind::Field(field)) => self.exprs(field.input.as_deref().into_iter(), width),
        }
    }

    /// Keyed state must lie where the key's hash says: the exchange hashes the operator's keys.
    fn routing(&mut self, fragment: &Fragment, node: &Node) {
        let keys: Vec<&Vec<u32>> = match &node.operator {
            Some(Operator::GroupAggregate(op)) => vec![&op.keys],
            Some(Operator::WindowAggregate(op)) => vec![&op.keys],
            Some(Operator::Rank(op)) => vec![&op.partition_by],
            Some(Operator::Sort(op)) => vec![&op.partition_by],
            Some(Operator::OverAggregate(op)) => vec![&op.partition_by],
            Some(Operator::Deduplicate(op)) => vec![&op.keys],
            Some(Operator::Join(op)) => vec![&op.left_keys, &op.right_keys],
            Some(Operator::MultiJoin(op)) => op.inputs.iter().map(|input| &input.keys).collect(),
            Some(Operator::WindowJoin(op)) => vec![&op.left_keys, &op.right_keys],
            Some(Operator::IntervalJoin(op)) => vec![&op.left_keys, &op.right_keys],
            Some(Operator::TemporalJoin(op)) => vec![&op.left_keys, &op.right_keys],
            _ => return,
        };
        for (keys, input) in keys.into_iter().zip(&node.inputs) {
            self.require(
                keys.is_empty() == fragment.singleton,
                "it has no keys but is not a singleton, or the other way round",
            );
            if let Some(input::From::Exchange(e)) = input.from {
                let exchange = self.plan.exchanges.get(e as usize);
                let kind = exchange
                    .and_then(|e| e.partitioning.as_ref())
                    .and_then(|p| p.kind.as_ref());
                let right = match kind {
                    Some(partitioning::Kind::Hash(hash)) => hash.columns == *keys,
                    Some(partitioning::Kind::Single(_)) => keys.is_empty(),
                    _ => false,
                };
                self.require(right, "its exchange does not hash its keys");
            }
        }
    }
}

fn resolve<'p>(
    plan: &'p Plan,
    fragment: &'p Fragment,
    index: usize,
    input: &proto::plan::Input,
) -> Option<&'p Node> {
    match input.from.as_ref()? {
        input::From::Node(n) => ((*n as usize) < index)
            .then(|| fragment.nodes.get(*n as usize))
            .flatten(),
        input::From::Exchange(e) => {
            let exchange = plan.exchanges.get(*e as usize)?;
            if exchange.to_fragment != fragment.id {
                return None;
            }
            plan.fragments
                .get(exchange.from_fragment as usize)?
                .nodes
                .get(exchange.from_node as usize)
        }
    }
}

fn width(node: &Node) -> usize {
    node.output.as_ref().map_or(0, |row| row.fields.len())
}
