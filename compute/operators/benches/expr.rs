//! The expressions that Nexmark's queries spend their time in, per batch of 4096 rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use divan::{Bencher, counter::ItemsCount};
use engine::{ChangeBatch, schema::arrow_schema};
use operators::{EvalContext, calc::Projector};
use proto::{
    plan::{Calc, Expr, ScalarFunction as F, literal::Value},
    types::{DataType, Field, LogicalType},
};

const ROWS: usize = 4096;

fn main() {
    divan::main();
}

fn fields() -> Vec<Field> {
    vec![
        Field::new("auction", LogicalType::BigInt.nullable()),
        Field::new("price", LogicalType::BigInt.nullable()),
        Field::new("channel", LogicalType::STRING.nullable()),
        Field::new("url", LogicalType::STRING.nullable()),
        Field::new("dateTime", LogicalType::Timestamp(3).nullable()),
        Field::new("extra", LogicalType::STRING.nullable()),
    ]
}

fn bids() -> ChangeBatch {
    let rows = 0..ROWS as i64;
    let channels = ["Google", "Facebook", "Baidu", "Apple", "channel-1234"];
    let texts = |f: &dyn Fn(i64) -> String| -> ArrayRef {
        Arc::new(
            rows.clone()
                .map(|row| Some(f(row)))
                .collect::<StringArray>(),
        )
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            rows.clone()
                .map(|row| 1000 + row * 7 % 501)
                .collect::<Int64Array>(),
        ),
        Arc::new(
            rows.clone()
                .map(|row| row * 7_919 % 9_000_000)
                .collect::<Int64Array>(),
        ),
        texts(&|row| channels[row as usize % channels.len()].to_owned()),
        texts(&|row| {
            format!("https://www.nexmark.com/abc_{row}/def/ghi/item.htm?query=1&channel_id={row}")
        }),
        Arc::new(
            rows.clone()
                .map(|row| 1_709_251_200_000 + row / 10)
                .map(Some)
                .collect::<TimestampMillisecondArray>(),
        ),
        texts(&|row| format!("{row}abcdefghijklmnopqrstuvwxyzcccc{row}")),
    ];
    let batch = RecordBatch::try_new(arrow_schema(&fields()), columns);
    ChangeBatch::inserts(batch.expect("the columns are of their fields' types"))
}

fn column(name: &str) -> Expr {
    let fields = fields();
    let index = fields
        .iter()
        .position(|field| field.name == name)
        .expect("a column of the batch");
    Expr::column(index, &fields[index].data_type)
}

fn decimal(precision: u8, scale: u8) -> DataType {
    LogicalType::Decimal { precision, scale }.nullable()
}

fn text(value: &str) -> Expr {
    Expr::literal(
        Value::String(value.to_owned()),
        &LogicalType::STRING.not_null(),
    )
}

fn int(value: i64) -> Expr {
    Expr::literal(Value::Integer(value), &LogicalType::Int.not_null())
}

fn long(value: i64) -> Expr {
    Expr::literal(Value::Integer(value), &LogicalType::BigInt.not_null())
}

fn boolean(function: F, args: Vec<Expr>) -> Expr {
    Expr::call(function, args, &LogicalType::Boolean.nullable())
}

fn string(function: F, args: Vec<Expr>) -> Expr {
    Expr::call(function, args, &LogicalType::STRING.nullable())
}

fn bigint(function: F, args: Vec<Expr>) -> Expr {
    Expr::call(function, args, &LogicalType::BigInt.nullable())
}

fn run(bencher: Bencher<'_, '_>, condition: Option<Expr>, projections: Vec<Expr>) {
    let calc = Calc {
        condition,
        projections,
    };
    let projector = Projector::compile(&calc, &fields(), &[]).expect("the plan is valid");
    let batch = bids();
    let context = EvalContext::default();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        projector
            .evaluate(&batch, &context)
            .expect("nothing can fail")
    });
}

fn discounted() -> Expr {
    let factor = Expr::literal(
        Value::Decimal("0.908".to_owned()),
        &decimal(3, 3).with_nullable(false),
    );
    let price = Expr::cast(column("price"), &decimal(19, 0), false);
    Expr::call(F::Multiply, vec![factor, price], &decimal(23, 3))
}

#[divan::bench]
fn q1_decimal_multiply(bencher: Bencher<'_, '_>) {
    run(bencher, None, vec![column("auction"), discounted()]);
}

#[divan::bench]
fn q2_modulo_filter(bencher: Bencher<'_, '_>) {
    let rest = bigint(F::Modulo, vec![column("auction"), long(123)]);
    let condition = boolean(F::Equal, vec![rest, long(0)]);
    run(
        bencher,
        Some(condition),
        vec![column("auction"), column("price")],
    );
}

#[divan::bench]
fn q14_calc(bencher: Bencher<'_, '_>) {
    let bound = |value: &str| Expr::literal(Value::Decimal(value.to_owned()), &decimal(23, 3));
    let condition = boolean(
        F::And,
        vec![
            boolean(F::Greater, vec![discounted(), bound("1000000")]),
            boolean(F::Less, vec![discounted(), bound("50000000")]),
        ],
    );
    let hour = || bigint(F::Extract, vec![text("HOUR"), column("dateTime")]);
    let day = boolean(
        F::And,
        vec![
            boolean(F::GreaterOrEqual, vec![hour(), long(8)]),
            boolean(F::LessOrEqual, vec![hour(), long(18)]),
        ],
    );
    let night = boolean(
        F::Or,
        vec![
            boolean(F::LessOrEqual, vec![hour(), long(6)]),
            boolean(F::GreaterOrEqual, vec![hour(), long(20)]),
        ],
    );
    let kind = Expr::case(
        vec![(day, text("dayTime")), (night, text("nightTime"))],
        text("otherTime"),
        &LogicalType::STRING.nullable(),
    );
    let count = bigint(F::CountChar, vec![column("extra"), text("c")]);
    run(
        bencher,
        Some(condition),
        vec![column("auction"), discounted(), kind, count],
    );
}

#[divan::bench]
fn q16_date_format(bencher: Bencher<'_, '_>) {
    let format = |pattern| string(F::DateFormat, vec![column("dateTime"), text(pattern)]);
    run(bencher, None, vec![format("yyyy-MM-dd"), format("HH:mm")]);
}

#[divan::bench]
fn q21_channel_id(bencher: Bencher<'_, '_>) {
    let lower = || string(F::Lower, vec![column("channel")]);
    let named = |name| boolean(F::Equal, vec![lower(), text(name)]);
    let extract = || {
        let regex = text("(&|^)channel_id=([^&]*)");
        string(F::RegexpExtract, vec![column("url"), regex, int(2)])
    };
    let branches = [
        ("apple", "0"),
        ("google", "1"),
        ("facebook", "2"),
        ("baidu", "3"),
    ];
    let id = Expr::case(
        branches
            .iter()
            .map(|(name, id)| (named(name), text(id)))
            .collect(),
        extract(),
        &LogicalType::STRING.nullable(),
    );
    let mut names = vec![lower()];
    names.extend(branches.iter().map(|(name, _)| text(name)));
    let condition = boolean(
        F::Or,
        vec![
            boolean(F::IsNotNull, vec![extract()]),
            boolean(F::In, names),
        ],
    );
    run(bencher, Some(condition), vec![column("auction"), id]);
}

#[divan::bench]
fn q22_split_index(bencher: Bencher<'_, '_>) {
    let part = |index| string(F::SplitIndex, vec![column("url"), text("/"), int(index)]);
    run(
        bencher,
        None,
        vec![column("auction"), part(3), part(4), part(5)],
    );
}
