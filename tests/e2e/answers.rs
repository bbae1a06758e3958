//! Answers that the SQL standard gives where the suites of others ask nothing: grouping sets that repeat
//! or leave a window out, subqueries that aggregate no rows, and what others refuse of rows that change.

use std::{fs, path::Path};

use tempfile::TempDir;
use tests::{RunConfig, rows, run};

/// Two tables in files: orders, and payments of some of them.
fn tables(folder: &Path) -> String {
    let orders = [
        (1, "a", "x", 10, "00:00:01"),
        (2, "a", "y", 20, "00:00:02"),
        (3, "b", "x", 30, "00:01:03"),
        (4, "b", "x", 40, "00:01:04"),
        (5, "a", "x", 50, "00:02:05"),
    ];
    let orders = orders.map(|(id, k, l, v, time)| {
        format!(
            "{{\"id\":{id},\"k\":\"{k}\",\"l\":\"{l}\",\"v\":{v},\"ts\":\"2026-01-01 {time}\"}}\n"
        )
    });
    let payments = [(1, 5), (1, 6), (2, 0), (3, 7)];
    let payments = payments.map(|(id, paid)| format!("{{\"order_id\":{id},\"paid\":{paid}}}\n"));
    let table = |name: &str, columns: &str, rows: String| {
        let path = folder.join(name);
        fs::write(&path, rows).expect("written");
        format!(
            "CREATE TABLE {name} ({columns}) WITH ('connector' = 'filesystem', 'path' = '{}',
               'format' = 'json', 'json.timestamp-format.standard' = 'SQL');\n",
            path.display()
        )
    };
    let columns = "id BIGINT, k STRING, l STRING, v BIGINT, ts TIMESTAMP(3),
        WATERMARK FOR ts AS ts - INTERVAL '1' SECOND";
    table("orders", columns, orders.concat())
        + &table(
            "payments",
            "order_id BIGINT, paid BIGINT",
            payments.concat(),
        )
}

/// Whether the query has these rows, on one task and on several.
#[track_caller]
fn check(query: &str, expected: &str) {
    let folder = TempDir::new().expect("a folder");
    let script = format!("{}{query};", tables(folder.path()));
    let mut expected: Vec<String> = expected
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join("\t"))
        .filter(|line| !line.is_empty())
        .collect();
    expected.sort_unstable();
    for (parallelism, batch_rows) in [(1, 100), (3, 1)] {
        let config = RunConfig {
            parallelism,
            batch_rows,
            ..RunConfig::default()
        };
        let output = run(&script, &config).unwrap_or_else(|error| panic!("{query}: {error}"));
        let found = rows::sorted_rows(&output.text, 1);
        let same = rows::compare(&found, &expected, &[]);
        same.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

#[test]
fn a_grouping_set_that_is_there_twice_gives_its_groups_twice() {
    check(
        "SELECT k, l, COUNT(*), SUM(v), GROUPING_ID(k, l), GROUPING(l) FROM orders
         GROUP BY k, ROLLUP(k, l)",
        r"
        a x  2 60  0 0
        a y  1 20  0 0
        b x  2 70  0 0
        a \N 3 80  1 1
        a \N 3 80  1 1
        b \N 2 70  1 1
        b \N 2 70  1 1
        ",
    );
    check(
        "SELECT COUNT(*), SUM(v) FROM orders GROUP BY GROUPING SETS ((), ())",
        "5 150\n5 150",
    );
}

#[test]
fn grouping_sets_may_hold_rollups_and_grouping_takes_several_keys() {
    check(
        "SELECT k, l, COUNT(*), GROUPING(k, l), GROUPING(l, k) FROM orders
         GROUP BY GROUPING SETS (ROLLUP(k, l), (l), CUBE((k, l)))",
        r"
        a x  2 0 0
        a y  1 0 0
        b x  2 0 0
        a \N 3 1 2
        b \N 2 1 2
        \N \N 5 3 3
        \N x 4 2 1
        \N y 1 2 1
        a x  2 0 0
        a y  1 0 0
        b x  2 0 0
        \N \N 5 3 3
        ",
    );
}

#[test]
fn a_grouping_set_without_the_window_is_over_all_windows() {
    let windows = "TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))";
    check(
        &format!(
            "SELECT DATE_FORMAT(window_start, 'mm'), k, COUNT(*), SUM(v) FROM {windows}
             GROUP BY GROUPING SETS ((window_start, window_end, k), (k))"
        ),
        r"
        00 a 2 30
        01 b 2 70
        02 a 1 50
        \N a 3 80
        \N b 2 70
        ",
    );
    check(
        &format!(
            "SELECT DATE_FORMAT(window_start, 'mm'), DATE_FORMAT(window_end, 'mm'), k, COUNT(*)
             FROM {windows} GROUP BY ROLLUP (window_start, window_end, k)"
        ),
        r"
        00 01 a 2
        00 01 \N 2
        00 \N \N 2
        01 02 b 2
        01 02 \N 2
        01 \N \N 2
        02 03 a 1
        02 03 \N 1
        02 \N \N 1
        \N \N \N 5
        ",
    );
    // Of windows that rows carry already.
    check(
        &format!(
            "SELECT DATE_FORMAT(window_start, 'mm'), k, COUNT(*), SUM(s)
             FROM (SELECT window_start, window_end, k, l, SUM(v) AS s FROM {windows}
               GROUP BY window_start, window_end, k, l)
             GROUP BY GROUPING SETS ((window_start, window_end, k), (k))"
        ),
        r"
        00 a 2 30
        01 b 1 70
        02 a 1 50
        \N a 3 80
        \N b 1 70
        ",
    );
    check(
        &format!(
            "SELECT DATE_FORMAT(window_time, 'ss'), k, COUNT(*) FROM {windows}
             GROUP BY window_start, window_end, k, GROUPING SETS ((window_time), ())"
        ),
        r"
        59 a 2
        59 b 2
        59 a 1
        \N a 2
        \N b 2
        \N a 1
        ",
    );
}

/// The orders that a condition keeps.
#[track_caller]
fn check_where(condition: &str, expected: &str) {
    let query = format!("SELECT o.id FROM orders AS o WHERE {condition}");
    check(&query, &expected.replace(' ', "\n"));
}

/// What an aggregate over the payments of an order gives. Two orders have none.
fn of_payments(select: &str) -> String {
    format!("(SELECT {select} FROM payments AS p WHERE p.order_id = o.id)")
}

#[test]
fn a_scalar_subquery_gives_what_aggregates_give_over_no_rows() {
    let values = [
        ("COALESCE(SUM(p.paid), 0)", r"1 11 2 0 3 7 4 0 5 0"),
        (
            "MAX(p.paid) IS NULL",
            r"1 false 2 false 3 false 4 true 5 true",
        ),
        (
            "CASE WHEN SUM(p.paid) > 5 THEN 'lots' ELSE 'some' END",
            "1 lots 2 some 3 lots 4 some 5 some",
        ),
        ("COUNT(*) + 1", "1 3 2 2 3 2 4 1 5 1"),
        ("MAX(p.paid) + 1", r"1 7 2 1 3 8 4 \N 5 \N"),
    ];
    let lines = |rows: &str| -> String {
        let cells: Vec<&str> = rows.split(' ').collect();
        cells.chunks(2).map(|row| row.join(" ") + "\n").collect()
    };
    for (select, expected) in values {
        let query = format!("SELECT o.id, {} FROM orders AS o", of_payments(select));
        check(&query, &lines(expected));
    }
    let having = |having: &str, select: &str| {
        let of = format!(
            "{} HAVING {having})",
            of_payments(select).trim_end_matches(')')
        );
        format!("SELECT o.id, {of} FROM orders AS o")
    };
    check(
        &having("COUNT(*) < 2", "COUNT(*)"),
        &lines(r"1 \N 2 1 3 1 4 0 5 0"),
    );
    check(
        &having("COUNT(*) > 1", "COUNT(*)"),
        &lines(r"1 2 2 \N 3 \N 4 \N 5 \N"),
    );
    check(
        "SELECT o.id, (SELECT s.n FROM (SELECT COUNT(*) AS n FROM payments AS p
           WHERE p.order_id = o.id) AS s) FROM orders AS o",
        &lines("1 2 2 1 3 1 4 0 5 0"),
    );
}

#[test]
fn conditions_hold_for_what_aggregates_give_over_no_rows() {
    let count = of_payments("COUNT(*)");
    let most = of_payments("MAX(p.paid)");
    check_where(&format!("0 IN {count}"), "4 5");
    check_where(&format!("0 NOT IN {count}"), "1 2 3");
    check_where(&format!("0 IN {count} OR o.id = 1"), "1 4 5");
    check_where(&format!("0 NOT IN {count} OR o.id = 5"), "1 2 3 5");
    check_where(&format!("7 IN {most}"), "3");
    // Of NULL nobody knows.
    check_where(&format!("7 NOT IN {most}"), "1 2");
    check_where(&format!("EXISTS {count}"), "1 2 3 4 5");
    check_where(&format!("NOT EXISTS {count}"), "");
    check_where(
        &format!("EXISTS {count} AND NOT EXISTS {most} OR o.id = 2"),
        "2",
    );
    let having = |having: &str| format!("{} HAVING {having})", count.trim_end_matches(')'));
    let count_is = |n: u8| {
        format!(
            "EXISTS {} HAVING COUNT(*) = {n})",
            of_payments("1").trim_end_matches(')')
        )
    };
    check_where(&count_is(0), "4 5");
    check_where(&format!("NOT {}", count_is(0)), "1 2 3");
    check_where(&count_is(1), "2 3");
    check_where(&format!("NOT {}", count_is(1)), "1 4 5");
    check_where(&format!("{} OR o.id = 3", count_is(0)), "3 4 5");
    check_where(
        &format!("o.id - 4 IN {}", having("SUM(p.paid) IS NULL")),
        "4",
    );
    check_where(
        &format!("o.id - 4 NOT IN {}", having("SUM(p.paid) IS NULL")),
        "1 2 3 5",
    );
    check_where(
        &format!("o.id - 4 NOT IN {}", having("SUM(p.paid) > 0")),
        "1 2 3 4 5",
    );
    check_where(&format!("EXISTS {}", having("COUNT(*) = o.id - 4")), "4");
}

/// The latest order of each value of a column, which changes as orders come.
fn latest(per: &str) -> String {
    format!(
        "(SELECT id, k, l, v, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {per} ORDER BY ts DESC) AS rn
           FROM orders) WHERE rn = 1)"
    )
}

#[test]
fn rows_that_change_are_seen_in_the_order_of_their_time() {
    let sum = |frame: &str| {
        format!(
            "SELECT id, SUM(v) OVER (PARTITION BY k ORDER BY ts {frame}) FROM {}",
            latest("k, l")
        )
    };
    let rows = "ROWS BETWEEN 9 PRECEDING AND CURRENT ROW";
    check(&sum(rows), "2 20\n5 70\n4 40");
    let range = "RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW";
    check(&sum(range), "2 20\n5 50\n4 40");
}

#[test]
fn rows_that_change_are_joined_and_ranked_by_their_times_and_windows() {
    let each = latest("k, l");
    check(
        &format!(
            "SELECT a.id, o.id FROM {each} AS a JOIN orders AS o
             ON a.k = o.k AND o.ts BETWEEN a.ts - INTERVAL '1' MINUTE AND a.ts"
        ),
        "5 5\n2 1\n2 2\n4 3\n4 4",
    );
    let views = format!(
        "CREATE VIEW changing AS SELECT * FROM {each};
         CREATE VIEW of_changing AS SELECT * FROM TABLE(TUMBLE(TABLE changing, DESCRIPTOR(ts), INTERVAL '1' MINUTE));
         CREATE VIEW of_orders AS SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE));\n"
    );
    check(
        &format!(
            "{views} SELECT o.id, c.id FROM of_orders AS o LEFT JOIN of_changing AS c ON o.k = c.k AND
             o.l = c.l AND o.window_start = c.window_start AND o.window_end = c.window_end"
        ),
        r"
        1 \N
        2 2
        3 4
        4 4
        5 5
        ",
    );
    check(
        &format!(
            "{views} SELECT id, rn FROM (SELECT *, ROW_NUMBER() OVER (
               PARTITION BY window_start, window_end ORDER BY v DESC) AS rn FROM of_changing) WHERE rn <= 2"
        ),
        "2 1\n4 1\n5 1",
    );
}

#[test]
fn in_is_a_value_of_three() {
    let lines = |rows: &str| rows.replace(", ", "\n");
    let of = |value: &str| format!("SELECT o.id, {value} FROM orders AS o");
    let paid = "(SELECT paid + 35 FROM payments)";
    check(
        &of(&format!("v IN {paid}")),
        &lines("1 false, 2 false, 3 false, 4 true, 5 false"),
    );
    let with_null = "(SELECT NULLIF(paid, 7) + 35 FROM payments)";
    check(
        &of(&format!("v NOT IN {with_null}")),
        &lines(r"1 \N, 2 \N, 3 \N, 4 false, 5 \N"),
    );
    check(
        &of(&format!("NULLIF(v, 10) IN {paid}")),
        &lines(r"1 \N, 2 false, 3 false, 4 true, 5 false"),
    );
    let none = "(SELECT paid FROM payments WHERE paid > 100)";
    check(
        &of(&format!("NULLIF(v, 10) NOT IN {none}")),
        &lines("1 true, 2 true, 3 true, 4 true, 5 true"),
    );
    let own = "(SELECT NULLIF(p.paid, 5) FROM payments AS p WHERE p.order_id = o.id)";
    check(
        &of(&format!("6 IN {own}")),
        &lines("1 true, 2 false, 3 false, 4 false, 5 false"),
    );
    check(
        &of(&format!("7 NOT IN {own}")),
        &lines(r"1 \N, 2 true, 3 false, 4 true, 5 true"),
    );
    check_where(&format!("v NOT IN {paid} OR o.id = 4"), "1 2 3 4 5");
    check_where(&format!("v NOT IN {with_null} OR o.id = 2"), "2");
}

#[test]
fn a_subquery_of_no_rows_is_one() {
    let none = "(SELECT order_id FROM payments LIMIT 0)";
    check(
        &format!("SELECT id FROM orders WHERE id NOT IN {none}"),
        "1\n2\n3\n4\n5",
    );
    check(
        &format!("SELECT id FROM orders WHERE NOT EXISTS {none}"),
        "1\n2\n3\n4\n5",
    );
    check(&format!("SELECT id FROM orders WHERE id IN {none}"), "");
    check(
        &format!("SELECT id, {none} AS paid FROM orders WHERE id < 3"),
        "1 \\N\n2 \\N",
    );
}
