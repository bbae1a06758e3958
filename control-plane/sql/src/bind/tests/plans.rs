//! What queries bind to, with types.

use super::bind;
use crate::logical::dump;

/// The dump of what `sql` binds to; of tables only the name.
fn check(sql: &str, expected: &str) {
    let plan = match bind(sql) {
        Ok(plan) => dump(&plan),
        Err(error) => format!("error: {error}"),
    };
    let shown: Vec<&str> = plan
        .lines()
        .map(|line| match line.trim_start().starts_with("Scan ") {
            true => line.split(" [").next().unwrap(),
            false => line,
        })
        .collect();
    let expected: Vec<&str> = expected.lines().map(str::trim_end).collect();
    let margin = expected
        .get(1)
        .map_or(0, |line| line.len() - line.trim_start().len());
    let expected: Vec<&str> = expected
        .iter()
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(|line| &line[margin..])
        .collect();
    assert_eq!(shown, expected, "{sql}");
}

#[test]
fn projection() {
    check(
        "SELECT id, qty + 1 AS q, amount * 2, -qty FROM orders WHERE qty > 3 AND amount > 3",
        r"
          Project [id := $0 BIGINT, q := ADD($4, 1) INT, EXPR$2 := MULTIPLY($3, 2) DECIMAL(21, 2), EXPR$3 := NEGATE($4) INT]
            Filter AND(GREATER($4, 3), GREATER($3, 3.00))
              Scan orders
        ",
    );
    check(
        "SELECT 1, 1.5, 1E0, 'ab', '', TRUE, NULL, X'0A', DATE '1970-01-02', TIME '00:00:01', TIMESTAMP '1970-01-01 00:00:00.5', INTERVAL '1' DAY, INTERVAL '1-2' YEAR TO MONTH",
        r"
          Project [EXPR$0 := 1 INT NOT NULL, EXPR$1 := 1.5 DECIMAL(2, 1) NOT NULL, EXPR$2 := 1e0 DOUBLE NOT NULL, EXPR$3 := 'ab' CHAR(2) NOT NULL, EXPR$4 := '' VARCHAR(1) NOT NULL, EXPR$5 := true BOOLEAN NOT NULL, EXPR$6 := NULL::NULL NULL, EXPR$7 := x'0a' BINARY(1) NOT NULL, EXPR$8 := 1::DATE DATE NOT NULL, EXPR$9 := 1000::TIME(0) TIME(0) NOT NULL, EXPR$10 := 500::TIMESTAMP(1) TIMESTAMP(1) NOT NULL, EXPR$11 := 86400000::INTERVAL DAY TO SECOND INTERVAL DAY TO SECOND NOT NULL, EXPR$12 := 14::INTERVAL YEAR TO MONTH INTERVAL YEAR TO MONTH NOT NULL]
            Values () []
        ",
    );
    check(
        "SELECT addr.geo.lat, (addr).zip, tags[1], attrs['k'], o.addr.city FROM orders AS o",
        r"
          Project [lat := $10.2.0 DOUBLE, zip := $10.1 STRING, EXPR$2 := ELEMENT_AT($8, 1) STRING, EXPR$3 := ELEMENT_AT($9, 'k') STRING, city := $10.0 STRING]
            Scan orders
        ",
    );
    check(
        "SELECT * FROM v",
        r"
          Project [a := $0 BIGINT, b := $1 INT]
            Project [a := $0 BIGINT, b := $1 INT]
              Project [id := $0 BIGINT, qty := $4 INT]
                Scan orders
        ",
    );
    check(
        "SELECT id, id FROM v AS w(id, b)",
        r"
          Project [id := $0 BIGINT, id0 := $0 BIGINT]
            Project [a := $0 BIGINT, b := $1 INT]
              Project [id := $0 BIGINT, qty := $4 INT]
                Scan orders
        ",
    );
}

#[test]
fn types_of_expressions() {
    check(
        "SELECT COALESCE(product, 'n/a'), NULLIF(qty, 0), IF(gift, 'gift', 'plain'), CASE WHEN gift THEN 'a' ELSE 'bcd' END FROM orders",
        r"
          Project [EXPR$0 := COALESCE($2, 'n/a') STRING NOT NULL, EXPR$1 := NULL_IF($4, 0) INT, EXPR$2 := CASE WHEN $6 THEN 'gift' ELSE 'plain' END VARCHAR(5), EXPR$3 := CASE WHEN $6 THEN 'a' ELSE 'bcd' END VARCHAR(3) NOT NULL]
            Scan orders
        ",
    );
    check(
        "SELECT i16 / 7, i16 / 7.0, f32 / 3, i16 % 7, MOD(ms, 7), ms % i16 FROM clicks",
        r"
          Project [EXPR$0 := DIVIDE(CAST($2 AS INT), 7) INT, EXPR$1 := DIVIDE(CAST($2 AS DECIMAL(5, 0)), 7.0) DECIMAL(12, 6), EXPR$2 := DIVIDE($3, 3e0) FLOAT, EXPR$3 := MODULO(CAST($2 AS INT), 7) INT, EXPR$4 := CAST(MODULO($1, 7) AS INT) INT, EXPR$5 := CAST(MODULO($1, CAST($2 AS BIGINT)) AS SMALLINT) SMALLINT]
            Scan clicks
        ",
    );
    check(
        "SELECT id IN (1, NULL), qty BETWEEN 1 AND 2, gift IS TRUE, qty IS DISTINCT FROM 3 FROM orders",
        r"
          Project [EXPR$0 := IN($0, 1, NULL::BIGINT) BOOLEAN, EXPR$1 := AND(GREATER_OR_EQUAL($4, 1), LESS_OR_EQUAL($4, 2)) BOOLEAN, EXPR$2 := IS_TRUE($6) BOOLEAN NOT NULL, EXPR$3 := IS_DISTINCT_FROM($4, 3) BOOLEAN NOT NULL]
            Scan orders
        ",
    );
    check(
        "SELECT FALSE IS NOT DISTINCT FROM gift AND gift, qty IS DISTINCT FROM 1 + 1 OR gift, product LIKE 'b%' = TRUE, \
         qty NOT BETWEEN 1 AND 2 IS TRUE, gift = product LIKE 'a' || 'b' FROM orders",
        r"
          Project [EXPR$0 := AND(IS_NOT_DISTINCT_FROM(false, $6), $6) BOOLEAN, EXPR$1 := OR(IS_DISTINCT_FROM($4, ADD(1, 1)), $6) BOOLEAN, EXPR$2 := EQUAL(LIKE($2, 'b%'), true) BOOLEAN, EXPR$3 := IS_TRUE(NOT(AND(GREATER_OR_EQUAL($4, 1), LESS_OR_EQUAL($4, 2)))) BOOLEAN NOT NULL, EXPR$4 := EQUAL($6, LIKE($2, CONCAT('a', 'b'))) BOOLEAN]
            Scan orders
        ",
    );
    check(
        "SELECT ts + INTERVAL '1' HOUR, bought + INTERVAL '1' MONTH, ts - ts, EXTRACT(YEAR FROM ts), FLOOR(ts TO DAY), TIMESTAMPDIFF(DAY, ts, bought) FROM orders",
        r"
          Project [EXPR$0 := ADD_INTERVAL($11, 3600000::INTERVAL DAY TO SECOND) TIMESTAMP(3), EXPR$1 := ADD_INTERVAL($7, 1::INTERVAL YEAR TO MONTH) DATE, EXPR$2 := SUBTRACT_TIMESTAMPS($11, $11) INTERVAL DAY TO SECOND, EXPR$3 := EXTRACT('YEAR', $11) BIGINT, EXPR$4 := FLOOR_TIME($11, 'DAY') TIMESTAMP(3), EXPR$5 := TIMESTAMP_DIFF('DAY', $11, CAST($7 AS TIMESTAMP(3))) INT]
            Scan orders
        ",
    );
    check(
        "SELECT ARRAY[1, 2.5], MAP['a', 1], ROW(1, 'x'), ARRAY_CONCAT(tags, ARRAY['x']) FROM orders",
        r"
          Project [EXPR$0 := ARRAY_CONSTRUCTOR(1.0, 2.5) ARRAY<DECIMAL(11, 1) NOT NULL> NOT NULL, EXPR$1 := MAP_CONSTRUCTOR('a', 1) MAP<CHAR(1) NOT NULL, INT NOT NULL> NOT NULL, EXPR$2 := ROW_CONSTRUCTOR(1, 'x') ROW<`EXPR$0` INT NOT NULL, `EXPR$1` CHAR(1) NOT NULL> NOT NULL, EXPR$3 := ARRAY_CONCAT($8, ARRAY_CONSTRUCTOR('x')) ARRAY<STRING>]
            Scan orders
        ",
    );
    check(
        "SELECT JSON_VALUE(product, '$.a' RETURNING INT DEFAULT 1 ON EMPTY), JSON_OBJECT('k' VALUE qty ABSENT ON NULL), product IS JSON FROM orders",
        r"
          Project [EXPR$0 := JSON_VALUE($2, '$.a', 'DEFAULT', '1', 'NULL', NULL::STRING) INT, EXPR$1 := JSON_OBJECT('ABSENT', 'k', $4) STRING NOT NULL, EXPR$2 := IS_JSON($2, 'VALUE') BOOLEAN NOT NULL]
            Scan orders
        ",
    );
}

#[test]
fn aggregation() {
    check(
        "SELECT product, COUNT(*), SUM(amount) + 1, COUNT(DISTINCT qty) FILTER (WHERE gift) FROM orders GROUP BY product HAVING COUNT(*) > 2",
        r"
          Project [product := $0 STRING, EXPR$1 := $1 BIGINT NOT NULL, EXPR$2 := ADD($2, 1) DECIMAL(38, 2), EXPR$3 := $3 BIGINT NOT NULL]
            Filter GREATER($1, 2)
              Aggregate keys ($2) calls (COUNT(), SUM($3), COUNT(DISTINCT $4) FILTER $6) [product STRING, COUNT(*) BIGINT NOT NULL, SUM(amount) DECIMAL(38, 2), COUNT(DISTINCT qty) FILTER (WHERE gift) BIGINT NOT NULL]
                Scan orders
        ",
    );
    check(
        "SELECT SUM(qty) FROM orders",
        r"
          Project [EXPR$0 := $0 INT]
            Aggregate keys () calls (SUM($4)) [SUM(qty) INT]
              Scan orders
        ",
    );
    check(
        "SELECT MOD(user_id, 3), gift, GROUPING(gift), COUNT(*) FROM orders GROUP BY CUBE (MOD(user_id, 3), gift)",
        r"
          Project [EXPR$0 := $0 INT, gift := $1 BOOLEAN, EXPR$2 := MODULO(DIVIDE($3, 1), 2) BIGINT NOT NULL, EXPR$3 := $2 BIGINT NOT NULL]
            Aggregate keys (MODULO($1, 3), $6) sets [[0, 1], [0], [1], []] calls (COUNT()) [EXPR$0 INT, gift BOOLEAN, COUNT(*) BIGINT NOT NULL, $grouping_id BIGINT NOT NULL]
              Scan orders
        ",
    );
    check(
        "SELECT DISTINCT product FROM orders GROUP BY product, qty ORDER BY product LIMIT 5 OFFSET 2",
        r"
          Sort by ($0) offset 2 limit 5
            Distinct
              Project [product := $0 STRING]
                Aggregate keys ($2, $4) calls () [product STRING, qty INT]
                  Scan orders
        ",
    );
}

#[test]
fn windows() {
    check(
        "SELECT window_start, window_time, COUNT(*) FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)) GROUP BY window_start, window_end, window_time",
        r"
          Project [window_start := $0 TIMESTAMP(3) NOT NULL, window_time := $2 TIMESTAMP(3) NOT NULL *rowtime*, EXPR$2 := $3 BIGINT NOT NULL]
            Aggregate keys ($12, $13, $14) calls (COUNT()) [window_start TIMESTAMP(3) NOT NULL, window_end TIMESTAMP(3) NOT NULL, window_time TIMESTAMP(3) NOT NULL *rowtime*, COUNT(*) BIGINT NOT NULL]
              Window Hop time $11 size 300000 step 60000 offset 0 partition []
                Scan orders
        ",
    );
    check(
        "SELECT * FROM TUMBLE(DATA => TABLE pays, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' DAY, OFFSET => INTERVAL -'8' HOUR)",
        r"
          Project [id := $0 BIGINT, paid := $1 DECIMAL(10, 2), ts := $2 TIMESTAMP(3) *rowtime*, window_start := $3 TIMESTAMP(3) NOT NULL, window_end := $4 TIMESTAMP(3) NOT NULL, window_time := $5 TIMESTAMP(3) NOT NULL *rowtime*]
            Window Tumble time $2 size 86400000 step 0 offset -28800000 partition []
              Scan pays
        ",
    );
    check(
        "SELECT id, TUMBLE_START(ts, INTERVAL '10' MINUTE), TUMBLE_ROWTIME(ts, INTERVAL '10' MINUTE), COUNT(*) FROM pays GROUP BY id, TUMBLE(ts, INTERVAL '10' MINUTE)",
        r"
          Project [id := $0 BIGINT, EXPR$1 := $1 TIMESTAMP(3) NOT NULL, EXPR$2 := $3 TIMESTAMP(3) *rowtime*, EXPR$3 := $4 BIGINT NOT NULL]
            Aggregate keys ($0, $3, $4, $5) calls (COUNT()) [id BIGINT, window_start TIMESTAMP(3) NOT NULL, window_end TIMESTAMP(3) NOT NULL, window_time TIMESTAMP(3) NOT NULL *rowtime*, COUNT(*) BIGINT NOT NULL]
              Window Tumble time $2 size 600000 step 0 offset 0 partition []
                Scan pays
        ",
    );
    check(
        "SELECT id + 1, SESSION_END(ts, INTERVAL '10' SECOND) FROM pays GROUP BY id + 1, SESSION(ts, INTERVAL '10' SECOND)",
        r"
          Project [EXPR$0 := $0 BIGINT, EXPR$1 := $2 TIMESTAMP(3) NOT NULL]
            Aggregate keys ($3, $4, $5, $6) calls () [$key0 BIGINT, window_start TIMESTAMP(3) NOT NULL, window_end TIMESTAMP(3) NOT NULL, window_time TIMESTAMP(3) NOT NULL *rowtime*]
              Window Session time $2 size 10000 step 0 offset 0 partition [3]
                Project [id := $0 BIGINT, paid := $1 DECIMAL(10, 2), ts := $2 TIMESTAMP(3) *rowtime*, $key0 := ADD($0, 1) BIGINT]
                  Scan pays
        ",
    );
    check(
        "SELECT id, SUM(paid) OVER w, ROW_NUMBER() OVER (PARTITION BY id ORDER BY ts) FROM pays WINDOW w AS (PARTITION BY id ORDER BY ts RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW)",
        r"
          Project [id := $0 BIGINT, EXPR$1 := $3 DECIMAL(38, 2), EXPR$2 := $4 BIGINT NOT NULL]
            Over SUM($1) over (partition by $0 order by $2 range from 60000), ROW_NUMBER() over (partition by $0 order by $2 rows from unbounded)
              Scan pays
        ",
    );
    check(
        "SELECT id FROM pays QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY paid DESC NULLS FIRST) <= 2",
        r"
          Project [id := $0 BIGINT]
            Filter LESS_OR_EQUAL($3, 2)
              Over ROW_NUMBER() over (partition by $0 order by $1 DESC NULLS FIRST rows from unbounded)
                Scan pays
        ",
    );
}

#[test]
fn joins() {
    check(
        "SELECT o.id, p.paid, p.ts FROM orders o LEFT JOIN pays p ON o.id = p.id AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' HOUR",
        r"
          Project [id := $0 BIGINT, paid := $13 DECIMAL(10, 2), ts := $14 TIMESTAMP(3) *rowtime*]
            LeftJoin on AND(EQUAL($0, $12), AND(GREATER_OR_EQUAL($14, $11), LESS_OR_EQUAL($14, ADD_INTERVAL($11, 3600000::INTERVAL DAY TO SECOND))))
              Scan orders
              Scan pays
        ",
    );
    check(
        "SELECT * FROM pays FULL JOIN v ON pays.id = v.a",
        r"
          Project [id := $0 BIGINT, paid := $1 DECIMAL(10, 2), ts := $2 TIMESTAMP(3) *rowtime*, a := $3 BIGINT, b := $4 INT]
            FullJoin on EQUAL($0, $3)
              Scan pays
              Project [a := $0 BIGINT, b := $1 INT]
                Project [id := $0 BIGINT, qty := $4 INT]
                  Scan orders
        ",
    );
    check(
        "SELECT id, paid FROM v AS w(id, b) FULL JOIN pays USING (id)",
        r"
          Project [id := COALESCE($0, $2) BIGINT, paid := $3 DECIMAL(10, 2)]
            FullJoin on EQUAL($0, $2)
              Project [a := $0 BIGINT, b := $1 INT]
                Project [id := $0 BIGINT, qty := $4 INT]
                  Scan orders
              Scan pays
        ",
    );
    check(
        "SELECT o.id, u.name FROM orders o JOIN users FOR SYSTEM_TIME AS OF o.ts AS u ON o.user_id = u.user_id",
        r"
          Project [id := $0 BIGINT, name := $13 STRING]
            InnerTemporalJoin as of $11 on EQUAL($1, $12)
              Scan orders
              Scan users
        ",
    );
    check(
        "SELECT id, t, n FROM orders LEFT JOIN UNNEST(tags) WITH ORDINALITY AS x(t, n) ON TRUE",
        r"
          Project [id := $0 BIGINT, t := $12 STRING, n := $13 INT]
            Unnest left $8 with ordinality [t STRING, n INT]
              Scan orders
        ",
    );
    check(
        "SELECT id, k, x FROM orders, UNNEST(attrs) AS m(k, x), v WHERE v.a = id",
        r"
          Project [id := $0 BIGINT, k := $12 STRING, x := $13 STRING]
            Filter EQUAL($14, $0)
              InnerJoin
                Unnest $9 [k STRING, x STRING]
                  Scan orders
                Project [a := $0 BIGINT, b := $1 INT]
                  Project [id := $0 BIGINT, qty := $4 INT]
                    Scan orders
        ",
    );
}

#[test]
fn subqueries() {
    check(
        "SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM pays p WHERE p.id = o.id) AND qty NOT IN (SELECT b FROM v)",
        r"
          Project [id := $0 BIGINT]
            Filter AND(EXISTS(Project [EXPR$0 := 1 INT NOT NULL] <- Filter EQUAL($0, $outer1.0) <- Scan pays [id BIGINT, paid DECIMAL(10, 2), ts TIMESTAMP(3) *rowtime*]), NOT(($4) IN (Project [b := $1 INT] <- Project [a := $0 BIGINT, b := $1 INT] <- Project [id := $0 BIGINT, qty := $4 INT] <- Scan orders [id BIGINT, user_id INT, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, gift BOOLEAN, bought DATE, tags ARRAY<STRING>, attrs MAP<STRING, STRING>, addr ROW<`city` STRING, `zip` STRING, `geo` ROW<`lat` DOUBLE>>, ts TIMESTAMP(3) *rowtime*])))
              Scan orders
        ",
    );
    check(
        "SELECT product, SUM(qty) FROM orders o GROUP BY product HAVING SUM(qty) > (SELECT MAX(b) FROM v WHERE v.a > 1)",
        r"
          Project [product := $0 STRING, EXPR$1 := $1 INT]
            Filter GREATER($1, SCALAR(Project [EXPR$0 := $0 INT] <- Aggregate keys () calls (MAX($1)) [MAX(b) INT] <- Filter GREATER($0, 1) <- Project [a := $0 BIGINT, b := $1 INT] <- Project [id := $0 BIGINT, qty := $4 INT] <- Scan orders [id BIGINT, user_id INT, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, gift BOOLEAN, bought DATE, tags ARRAY<STRING>, attrs MAP<STRING, STRING>, addr ROW<`city` STRING, `zip` STRING, `geo` ROW<`lat` DOUBLE>>, ts TIMESTAMP(3) *rowtime*]))
              Aggregate keys ($2) calls (SUM($4)) [product STRING, SUM(qty) INT]
                Scan orders
        ",
    );
    check(
        "WITH a AS (SELECT 1 AS x), b(y) AS (SELECT x + 1 FROM a) SELECT * FROM a, b",
        r"
          Project [x := $0 INT NOT NULL, y := $1 INT NOT NULL]
            InnerJoin
              Project [x := 1 INT NOT NULL]
                Values () []
              Project [y := $0 INT NOT NULL]
                Project [EXPR$0 := ADD($0, 1) INT NOT NULL]
                  Project [x := 1 INT NOT NULL]
                    Values () []
        ",
    );
    check(
        "SELECT id FROM v AS w(id, b) UNION ALL SELECT qty FROM orders",
        r"
          Union all [id BIGINT]
            Project [id := $0 BIGINT]
              Project [a := $0 BIGINT, b := $1 INT]
                Project [id := $0 BIGINT, qty := $4 INT]
                  Scan orders
            Project [qty := CAST($0 AS BIGINT) BIGINT]
              Project [qty := $4 INT]
                Scan orders
        ",
    );
    check(
        "SELECT * FROM (VALUES (1, 'a'), (2, 'bcd')) AS t(n, s) ORDER BY s DESC, 1",
        r"
          Sort by ($1 DESC, $0)
            Project [n := $0 INT NOT NULL, s := $1 VARCHAR(3) NOT NULL]
              Values (1, 'a'), (2, 'bcd') [EXPR$0 INT NOT NULL, EXPR$1 VARCHAR(3) NOT NULL]
        ",
    );
}
