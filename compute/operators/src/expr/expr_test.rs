//! Expressions as a whole: laziness, sharing, folding, casts.

use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};

use super::testing::{Table, check};

fn numbers() -> Table {
    Table::new(vec![
        (
            "a",
            "INT",
            Arc::new(Int32Array::from(vec![Some(1), Some(0), None, Some(-7)])),
        ),
        (
            "b",
            "INT",
            Arc::new(Int32Array::from(vec![Some(2), Some(0), Some(5), Some(2)])),
        ),
        (
            "l",
            "BIGINT",
            Arc::new(Int64Array::from(vec![Some(10), None, Some(30), Some(40)])),
        ),
        (
            "t",
            "BOOLEAN",
            Arc::new(BooleanArray::from(vec![
                Some(true),
                Some(false),
                None,
                Some(true),
            ])),
        ),
        (
            "d",
            "DOUBLE",
            Arc::new(Float64Array::from(vec![
                Some(1.5),
                Some(f64::NAN),
                None,
                Some(-0.0),
            ])),
        ),
        (
            "s",
            "STRING",
            Arc::new(StringArray::from(vec![
                Some("x"),
                Some("7"),
                None,
                Some(""),
            ])),
        ),
    ])
}

#[test]
fn arithmetic_wraps_and_keeps_null() {
    let table = numbers();
    table.check("ADD(a, 1)::INT", "2|1|\\N|-6");
    table.check(
        "ADD(a, 2147483647)::INT",
        "-2147483648|2147483647|\\N|2147483640",
    );
    table.check("DIVIDE(a, 2)::INT", "0|0|\\N|-3");
    table.check("MODULO(a, -2)::INT", "1|0|\\N|-1");
    table.check("MODULO(b, a)::INT", "division by zero in %");
    table.check("DIVIDE(d, 0)::DOUBLE", "Infinity|NaN|\\N|NaN");
    table.check("NEGATE(l)::BIGINT", "-10|\\N|-30|-40");
    table.check(
        "MULTIPLY(a, 1.5::DECIMAL(2,1))::DECIMAL(13,1)",
        "1.5|0.0|\\N|-10.5",
    );
    table.check(
        "MULTIPLY(0.908::DECIMAL(3,3), CAST(l)::DECIMAL(19,0))::DECIMAL(22,3)",
        "9.080|\\N|27.240|36.320",
    );
    check(
        "DIVIDE(1::DECIMAL(1,0), 3::DECIMAL(1,0))::DECIMAL(8,6)",
        "0.333333",
    );
    check(
        "DIVIDE(-2::DECIMAL(1,0), 3::DECIMAL(1,0))::DECIMAL(8,6)",
        "-0.666667",
    );
    check(
        "MULTIPLY(99::DECIMAL(2,0), 99::DECIMAL(2,0))::DECIMAL(3,0)",
        "\\N",
    );
    check(
        "SUBTRACT(1.5::DECIMAL(2,1), 0.25::DECIMAL(3,2))::DECIMAL(4,2)",
        "1.25",
    );
    check(
        "MODULO(-7.5::DECIMAL(2,1), 2::DECIMAL(1,0))::DECIMAL(2,1)",
        "-1.5",
    );
    check("SIGN(-7.5::DECIMAL(2,1))::DECIMAL(2,1)", "-1.0");
    check("DIVIDE(1, 0)::INT", "division by zero in /");
}

#[test]
fn branches_are_lazy() {
    let table = numbers();
    table.check(
        "CASE(NOT_EQUAL(b, 0)::BOOLEAN, DIVIDE(a, b)::INT, -1)::INT",
        "0|-1|\\N|-3",
    );
    table.check(
        "AND(NOT_EQUAL(b, 0)::BOOLEAN, EQUAL(DIVIDE(a, b)::INT, 0)::BOOLEAN)::BOOLEAN",
        "true|false|\\N|false",
    );
    table.check(
        "OR(EQUAL(b, 0)::BOOLEAN, EQUAL(DIVIDE(a, b)::INT, 0)::BOOLEAN)::BOOLEAN",
        "true|true|\\N|false",
    );
    table.check("COALESCE(a, DIVIDE(5, b)::INT)::INT", "1|0|1|-7");
    table.check("CASE(t, 'yes', 'no')::STRING", "yes|no|no|yes");
    table.check("CASE(t, s)::STRING", "x|\\N|\\N|");
    table.check("CASE(FALSE, DIVIDE(1, 0)::INT, a)::INT", "1|0|\\N|-7");
    table.check(
        "CASE(t, UPPER(s)::STRING, CONCAT(s, '!')::STRING)::STRING",
        "X|7!|\\N|",
    );
    table.check("CASE(TRUE, 1, 2)::INT", "1|1|1|1");
    table.check("AND(t, NULL::BOOLEAN)::BOOLEAN", "\\N|false|\\N|\\N");
    table.check("OR(t, NULL::BOOLEAN)::BOOLEAN", "true|\\N|\\N|true");
}

#[test]
fn comparisons() {
    let table = numbers();
    table.check("LESS(a, l)::BOOLEAN", "true|\\N|\\N|true");
    table.check("EQUAL(d, d)::BOOLEAN", "true|false|\\N|true");
    table.check("EQUAL(d, 0.0)::BOOLEAN", "false|false|\\N|true");
    table.check("IS_DISTINCT_FROM(a, 1)::BOOLEAN", "false|true|true|true");
    table.check(
        "IS_NOT_DISTINCT_FROM(a, NULL::INT)::BOOLEAN",
        "false|false|true|false",
    );
    table.check("IN(a, 1, 2)::BOOLEAN", "true|false|\\N|false");
    table.check("IN(a, 1, NULL::INT)::BOOLEAN", "true|\\N|\\N|\\N");
    table.check("IN(s, 'x', 'y')::BOOLEAN", "true|false|\\N|false");
    table.check("IN(a, b, 0)::BOOLEAN", "false|true|\\N|false");
    table.check("GREATEST(a, b, 1)::INT", "2|1|\\N|2");
    table.check("LEAST(a, b)::INT", "1|0|\\N|-7");
    table.check("NULL_IF(b, 2)::INT", "\\N|0|5|\\N");
    table.check("IS_NOT_TRUE(t)::BOOLEAN", "false|true|true|false");
    table.check("IS_FALSE(t)::BOOLEAN", "false|true|false|false");
    table.check("NOT(t)::BOOLEAN", "false|true|\\N|false");
    table.check("IS_NULL(t)::BOOLEAN", "false|false|true|false");
}

#[test]
fn casts() {
    let table = numbers();
    table.check("CAST(s)::INT", "failed to cast `x` to INT");
    table.check("TRY_CAST(s)::INT", "\\N|7|\\N|\\N");
    table.check("CAST(t)::STRING", "TRUE|FALSE|\\N|TRUE");
    table.check("CAST(d)::STRING", "1.5|NaN|\\N|-0.0");
    table.check("CAST(a)::CHAR(3)", "1  |0  |\\N|-7 ");
    table.check("CAST(l)::DECIMAL(3,1)", "10.0|\\N|30.0|40.0");
    table.check("CAST(l)::DECIMAL(2,1)", "\\N|\\N|\\N|\\N");
    check("CAST(300)::TINYINT", "44");
    check("CAST(-2.5::DECIMAL(2,1))::INT", "-2");
    check("CAST(2.45)::DECIMAL(2,1)", "2.5");
    check("CAST(1e20)::BIGINT", "9223372036854775807");
    check("CAST('trail')::VARCHAR(3)", "tra");
    check("CAST('2024-02-29')::DATE", "2024-02-29");
    check(
        "CAST(CAST('1969-12-31 23:59:58.5')::TIMESTAMP(3))::TIMESTAMP(0)",
        "1969-12-31 23:59:59.000",
    );
    check(
        "CAST(CAST('1969-12-30 23:59:58.5')::TIMESTAMP(3))::DATE",
        "1969-12-31",
    );
    check(
        "CAST(CAST('2024-01-02 03:04:05.123456')::TIMESTAMP(6))::STRING",
        "2024-01-02 03:04:05.123456",
    );
    check(
        "CAST(CAST('2024-01-02 03:04:05')::TIMESTAMP(3))::STRING",
        "2024-01-02 03:04:05.000",
    );
    check("CAST(CAST('10:11:12.5')::TIME(0))::STRING", "10:11:12");
}
