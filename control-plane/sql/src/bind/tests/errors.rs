//! What is refused, where and with which hint.

use super::bind;

/// `sql` is refused; the position is that in the query.
fn check(sql: &str, expected: &str) {
    let first_line = super::TABLES.lines().count() as u64;
    let shown = match bind(&format!("\n{sql}")) {
        Ok(plan) => format!("accepted:\n{}", crate::logical::dump(&plan)),
        Err(mut error) => {
            if let Some(span) = &mut error.span {
                span.line -= first_line + 1;
            }
            error.to_string()
        }
    };
    assert_eq!(shown, expected, "{sql}");
}

#[test]
fn names() {
    check(
        "SELECT amuont FROM orders",
        "line 1, column 8: column `amuont` does not exist (did you mean `amount`?)",
    );
    check(
        "SELECT o.amuont FROM orders o",
        "line 1, column 10: column `amuont` does not exist (did you mean `amount`?)",
    );
    check(
        "SELECT oo.amount FROM orders o",
        "line 1, column 8: `oo` is neither a table of this query nor a column",
    );
    check(
        "SELECT id FROM orders, pays",
        "line 1, column 8: column `id` is ambiguous (write `orders.id` or `pays.id`)",
    );
    check(
        "SELECT addr.town FROM orders",
        "line 1, column 13: the row has no field `town`",
    );
    check(
        "SELECT * FROM order",
        "line 1, column 15: `order` is a reserved word (as a name it needs backticks: `order`)",
    );
    check(
        "SELECT * FROM oders",
        "line 1, column 15: table or view `oders` does not exist (did you mean `orders`?)",
    );
    check(
        "SELECT foo(1)",
        "line 1, column 8: function `FOO` does not exist (SHOW FUNCTIONS lists those that exist)",
    );
    check(
        "SELECT ROW()",
        "line 1, column 8: `ROW` does not take these arguments",
    );
    check(
        "SELECT UPER(product) FROM orders",
        "line 1, column 8: function `UPER` does not exist (did you mean `UPPER`?)",
    );
}

#[test]
fn types() {
    check(
        "SELECT DATE_FORMAT(ts, 'yyyy-jj') FROM orders",
        "line 1, column 8: letter `j` of the pattern 'yyyy-jj' is not supported (a pattern is like 'yyyy-MM-dd HH:mm:ss'; text in it stands between two '')",
    );
    check(
        "SELECT product LIKE 'a!b' ESCAPE '!' FROM orders",
        "line 1, column 21: `!` escapes nothing in the pattern 'a!b' (the escape character may stand only before %, _ and itself)",
    );
    check(
        "SELECT EXTRACT(YEAR FROM TIME '10:00:00')",
        "line 1, column 31: TIME(0) has no YEAR (take it of a timestamp, or of what has it)",
    );
    check(
        "SELECT EXTRACT(MICROSECOND FROM bought) FROM orders",
        "line 1, column 33: DATE has no MICROSECOND (take it of a timestamp, or of what has it)",
    );
    check(
        "SELECT UPPER(qty) FROM orders",
        "line 1, column 8: cannot apply `UPPER` to (INT) (it takes UPPER(STRING))",
    );
    check(
        "SELECT AVG(INTERVAL '1' DAY) FROM orders",
        "line 1, column 8: cannot apply `AVG` to (INTERVAL DAY TO SECOND) (it takes one number)",
    );
    check(
        "SELECT * FROM orders WHERE gift > bought",
        "line 1, column 28: cannot apply `>` to BOOLEAN and DATE (cast one side to the other's type)",
    );
    check(
        "SELECT product + 1 FROM orders",
        "line 1, column 8: cannot apply `+` to STRING and INT (cast one side to the other's type)",
    );
    check(
        "SELECT CASE WHEN gift THEN 1 ELSE 'a' END FROM orders",
        "line 1, column 8: the results of CASE have no common type: INT, CHAR(1) (cast them to one type)",
    );
    check(
        "SELECT CAST(qty AS TIMESTAMP(3)) FROM orders",
        "line 1, column 13: cannot cast INT to TIMESTAMP(3) (TO_TIMESTAMP_LTZ(x, 0) reads seconds, TO_TIMESTAMP_LTZ(x, 3) milliseconds)",
    );
    check(
        "SELECT * FROM orders WHERE qty",
        "line 1, column 28: WHERE must be a condition, not a value of type INT (compare it with something)",
    );
    check(
        "SELECT qty[1] FROM orders",
        "line 1, column 12: INT has no elements (subscripts are for ARRAY and MAP)",
    );
    check(
        "SELECT id FROM orders UNION ALL SELECT tags FROM orders",
        "line 1, column 33: column 1 of UNION ALL is BIGINT on one side and ARRAY<STRING> on the other (cast one of them)",
    );
    check(
        "SELECT INTERVAL '300' SECOND FROM orders",
        "line 1, column 17: interval value 300 exceeds the precision of SECOND(2) (write SECOND(3), or a larger unit)",
    );
    check(
        "SELECT DATE '2023-02-29'",
        "line 1, column 13: `2023-02-29` is not a date (write it as 'yyyy-mm-dd')",
    );
}

#[test]
fn aggregates() {
    check(
        "SELECT product FROM orders WHERE SUM(qty) > 5 GROUP BY product",
        "line 1, column 34: the aggregate `SUM` cannot stand in WHERE (filter groups with HAVING)",
    );
    check(
        "SELECT SUM(COUNT(*)) FROM orders",
        "line 1, column 12: aggregates cannot be nested (aggregate in a subquery first)",
    );
    check(
        "SELECT product, qty FROM orders GROUP BY product",
        "line 1, column 17: column `qty` is neither grouped nor aggregated (add it to GROUP BY or put it into an aggregate)",
    );
    check(
        "SELECT MOD(id, 3) AS m, COUNT(*) FROM clicks GROUP BY m",
        "line 1, column 55: column `m` does not exist (did you mean `ms`?)",
    );
    check(
        "SELECT COUNT(DISTINCT id, qty) FROM orders",
        "line 1, column 8: COUNT of more than one column is not supported (count a concatenation or a ROW of them)",
    );
    check(
        "SELECT LISTAGG(product, ',') WITHIN GROUP (ORDER BY id) FROM orders",
        "line 1, column 8: WITHIN GROUP is not supported",
    );
    check(
        "SELECT LEAD(qty) OVER (ORDER BY ts) FROM orders",
        "line 1, column 8: `LEAD` is not supported on a stream (it would need rows that are yet to come)",
    );
    check(
        "SELECT SUM(qty) OVER (ORDER BY ts DESC) FROM orders",
        "line 1, column 8: an aggregate over time runs in ascending order only (drop DESC)",
    );
    check(
        "SELECT SUM(qty) OVER (ORDER BY id RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) FROM orders",
        "line 1, column 8: RANGE with an INTERVAL needs ORDER BY one TIMESTAMP (RANGE UNBOUNDED PRECEDING takes any order, as ROWS does)",
    );
    check(
        "SELECT SUM(qty) OVER (ORDER BY ts ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM orders",
        "line 1, column 8: an OVER frame must end at CURRENT ROW (a stream does not know the rows that follow)",
    );
}

#[test]
fn windows() {
    check(
        "SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(bought), INTERVAL '10' MINUTES))",
        "line 1, column 53: the time column of `TUMBLE` must be a time attribute, not a plain DATE (declare it with WATERMARK FOR column AS …)",
    );
    check(
        "SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '0' MINUTES))",
        "line 1, column 21: the size of `TUMBLE` must be positive, not 0 ms",
    );
    check(
        "SELECT * FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '4' MINUTES, INTERVAL '10' MINUTES))",
        "line 1, column 21: the size of `HOP` must be a multiple of its slide: 600000 ms, 240000 ms",
    );
    check(
        "SELECT * FROM TABLE(TUMBLE(DATA => TABLE orders, TIME => DESCRIPTOR(ts), SIZE => INTERVAL '1' DAY))",
        "line 1, column 50: `TUMBLE` has no parameter `TIME` (its parameters are DATA, TIMECOL, SIZE, OFFSET)",
    );
    check(
        "SELECT TUMBLE_START(ts, INTERVAL '5' MINUTE) FROM orders GROUP BY TUMBLE(ts, INTERVAL '10' MINUTE)",
        "line 1, column 8: `TUMBLE_START` needs the same `TUMBLE` in GROUP BY (its arguments must be equal to those in GROUP BY)",
    );
    check(
        "SELECT * FROM orders o JOIN pays FOR SYSTEM_TIME AS OF o.ts AS p ON o.id = p.id",
        "line 1, column 29: the versioned table `pays` has no primary key (declare PRIMARY KEY (…) NOT ENFORCED)",
    );
    check(
        "SELECT * FROM clicks c JOIN names FOR SYSTEM_TIME AS OF c.pt AS n ON c.id < n.id",
        "line 1, column 70: a lookup join needs an equality with a column of `names` (write ON left.column = table.column; other conditions may follow with AND)",
    );
    check(
        "SELECT * FROM clicks c JOIN names FOR SYSTEM_TIME AS OF c.pt AS n ON c.id = n.id OR n.name = 'x'",
        "line 1, column 70: a lookup join needs an equality with a column of `names` (write ON left.column = table.column; other conditions may follow with AND)",
    );
    check(
        "SELECT * FROM clicks c JOIN pays FOR SYSTEM_TIME AS OF c.pt AS p ON c.id = p.id",
        "line 1, column 29: table `pays` cannot be looked up (only tables of connector 'filesystem' can; join it as a stream instead)",
    );
    check(
        "SELECT * FROM clicks c JOIN names FOR SYSTEM_TIME AS OF c.ms AS n ON c.id = n.id",
        "line 1, column 57: FOR SYSTEM_TIME AS OF needs a time attribute of the left side (declare it with WATERMARK FOR column AS …, or select PROCTIME() AS column there)",
    );
}

#[test]
fn constructs() {
    check(
        "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM a) SELECT * FROM a",
        "line 1, column 1: WITH RECURSIVE is not supported (a stream has no fixed point)",
    );
    check(
        "SELECT * FROM orders MATCH_RECOGNIZE (ORDER BY ts MEASURES A.id AS x PATTERN (A B) DEFINE A AS A.qty > 5) AS m",
        "line 1, column 15: MATCH_RECOGNIZE is not supported",
    );
    check(
        "SELECT * FROM orders JOIN pays",
        "line 1, column 27: a join needs a condition (write ON, USING, or CROSS JOIN)",
    );
    check(
        "SELECT id FROM orders GROUP BY ALL",
        "line 1, column 1: GROUP BY ALL is not supported (list the keys)",
    );
    check(
        "SELECT id FROM orders WHERE qty > ANY (SELECT 1)",
        "line 1, column 29: a comparison with ANY, SOME or ALL is not supported (use IN or EXISTS)",
    );
    check(
        "SELECT (SELECT id, qty FROM pays) FROM orders",
        "line 1, column 9: a subquery that stands for a value must have one column, not 2",
    );
    check(
        "SELECT * FROM LATERAL (SELECT 1) AS t",
        "line 1, column 24: LATERAL (query) is not supported",
    );
    check(
        "SELECT id FROM orders LIMIT qty",
        "line 1, column 29: LIMIT and OFFSET take a constant number of rows",
    );
    check(
        "SELECT * FROM v WHERE c > 1",
        "line 1, column 23: column `c` does not exist (there are `a`, `b`)",
    );
}
