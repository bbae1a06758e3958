//! Random queries.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    grouping::grouping,
    over::over,
    ranked::ranked,
    relation::{Aggregate, Function, JoinKind, Predicate, Relation, Scalar, SetOperation, Type},
    subquery::subquery,
};

pub(super) fn relation() -> impl Strategy<Value = Relation> {
    leaf().prop_recursive(3, 8, 2, |inner| {
        let one = inner.clone().prop_map(Box::new).boxed();
        let two = [one.clone(), one.clone()];
        let three = [one.clone(), one.clone(), one.clone()];
        prop_oneof![
            2 => (one.clone(), predicate()).prop_map(|(r, p)| Relation::Filter(r, p)),
            2 => (one.clone(), vec(scalar(), 1..4)).prop_map(|(r, s)| Relation::Project(r, s)),
            4 => (one.clone(), vec(any::<u8>(), 0..3), aggregates(), option::weighted(0.3, 0..3_u8))
                .prop_map(|(input, keys, aggregates, having)| Relation::Group {
                    input, keys, aggregates, having,
                }),
            4 => (kind(), two.clone(), any::<[u8; 2]>(), option::weighted(0.3, any::<[u8; 2]>()))
                .prop_map(|(kind, sides, keys, residual)| Relation::Join {
                    kind, sides, keys, residual,
                }),
            2 => (three, any::<[u8; 3]>(), any::<bool>())
                .prop_map(|(inputs, keys, second)| by_one_key(inputs, keys, second)),
            1 => one.clone().prop_map(Relation::Distinct),
            1 => (set_operation(), two.clone()).prop_map(|(of, sides)| Relation::Set(of, sides)),
            2 => subquery(two.clone(), aggregate(), predicate()).prop_map(Relation::Subquery),
            2 => grouping(one.clone(), aggregates()).prop_map(Relation::Grouping),
            1 => ranked(one).prop_map(Relation::Ranked),
            1 => (two, any::<[u8; 2]>(), any::<bool>())
                .prop_map(|(sides, keys, negated)| Relation::Exists { sides, keys, negated }),
        ]
    })
}

/// An inner join of three, the last by the key column of the first or of the second one.
fn by_one_key([a, b, c]: [Box<Relation>; 3], [x, y, z]: [u8; 3], second: bool) -> Relation {
    let numbers = |of: &Relation| {
        let columns = of.columns().into_iter();
        columns.filter(|column| *column == Type::Int).count() as u8
    };
    let (in_a, in_b) = (numbers(&a).max(1), numbers(&b).max(1));
    let key = if second { in_a + y % in_b } else { x % in_a };
    let join = |sides, keys| Relation::Join {
        kind: JoinKind::Inner,
        sides,
        keys,
        residual: None,
    };
    let pair = join([a, b], [x, y]);
    join([Box::new(pair), c], [key, z])
}

fn leaf() -> impl Strategy<Value = Relation> {
    prop_oneof![
        4 => select(&['a', 'b', 'u'][..]).prop_map(Relation::Table),
        2 => window(),
        2 => over(aggregate(), predicate()).prop_map(Relation::Over),
        1 => (kind(), 1..30_i64, any::<[u8; 2]>())
            .prop_map(|(kind, size_s, keys)| Relation::WindowJoin { kind, size_s, keys }),
    ]
}

fn window() -> impl Strategy<Value = Relation> {
    (
        select(&['a', 'b'][..]),
        option::weighted(0.3, predicate()),
        (1..20_i64, 1..5_i64),
        vec(0..3_u8, 0..3),
        aggregates(),
    )
        .prop_map(
            |(table, filter, (slide_s, slides), keys, aggregates)| Relation::Window {
                table,
                filter,
                slide_s,
                slides,
                keys,
                aggregates,
            },
        )
}

fn kind() -> impl Strategy<Value = JoinKind> {
    prop_oneof![
        3 => select(&[JoinKind::Inner, JoinKind::Left][..]),
        1 => select(&[JoinKind::Right, JoinKind::Full][..]),
    ]
}

fn set_operation() -> impl Strategy<Value = SetOperation> {
    let operations = [
        SetOperation::UnionAll,
        SetOperation::Union,
        SetOperation::Intersect,
        SetOperation::Except,
    ];
    select(operations.to_vec())
}

fn predicate() -> impl Strategy<Value = Predicate> + Clone {
    let number = -60..60_i8;
    prop_oneof![
        (any::<u8>(), number.clone()).prop_map(|(a, n)| Predicate::Less(a, n)),
        any::<(u8, u8)>().prop_map(|(a, b)| Predicate::Equal(a, b)),
        any::<u8>().prop_map(Predicate::IsNull),
        any::<u8>().prop_map(Predicate::Like),
        (any::<u8>(), number.clone(), any::<u8>())
            .prop_map(|(a, n, b)| Predicate::Between(a, n, b)),
        (any::<u8>(), number, any::<u8>()).prop_map(|(a, n, b)| Predicate::Not(a, n, b)),
    ]
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        2 => any::<u8>().prop_map(Scalar::Column),
        2 => any::<u8>().prop_map(Scalar::Int),
        1 => any::<(u8, u8)>().prop_map(|(a, b)| Scalar::Sum(a, b)),
        1 => (any::<u8>(), -9..9_i8).prop_map(|(a, n)| Scalar::Scaled(a, n)),
        1 => (any::<u8>(), 1..9_u8).prop_map(|(a, n)| Scalar::Modulo(a, n)),
        1 => (any::<u8>(), 1..9_u8).prop_map(|(a, n)| Scalar::Quotient(a, n)),
        1 => (predicate(), any::<u8>(), -9..9_i8).prop_map(|(p, a, n)| Scalar::Case(p, a, n)),
        1 => (any::<u8>(), -9..9_i8).prop_map(|(a, n)| Scalar::Coalesce(a, n)),
        1 => any::<u8>().prop_map(Scalar::Length),
        1 => any::<u8>().prop_map(Scalar::Joined),
    ]
}

fn aggregates() -> impl Strategy<Value = Vec<Aggregate>> {
    vec(aggregate(), 1..4)
}

fn aggregate() -> impl Strategy<Value = Aggregate> + Clone {
    let functions = [
        Function::Count,
        Function::CountDistinct,
        Function::Sum,
        Function::SumDistinct,
        Function::Average,
        Function::Min,
        Function::Max,
    ];
    let aggregate = (
        select(functions.to_vec()),
        any::<u8>(),
        option::weighted(0.3, predicate()),
    );
    aggregate.prop_map(|(function, argument, filter)| Aggregate {
        function,
        argument,
        filter,
    })
}
