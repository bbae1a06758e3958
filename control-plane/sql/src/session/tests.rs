//! Whole scripts through a session.

use super::*;
use crate::parse::parse_script;

/// Executes a script; one line per statement, or the error, which ends it.
fn run(sql: &str) -> String {
    let mut session = Session::new(PlanOptions::default());
    let statements = match parse_script(sql) {
        Ok(statements) => statements,
        Err(error) => return format!("{:?}: {error}", error.stage),
    };
    let mut lines = Vec::new();
    for statement in &statements {
        match session.execute(statement) {
            Ok(outcome) => lines.push(shown(&outcome)),
            Err(error) => {
                lines.push(format!("{:?}: {error}", error.stage));
                break;
            }
        }
    }
    lines.join("\n")
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok(text) => text.clone(),
        Outcome::Rows { rows, .. } => {
            let cell = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "-".to_owned());
            let row =
                |row: &Vec<Option<String>>| row.iter().map(cell).collect::<Vec<_>>().join("|");
            rows.iter().map(row).collect::<Vec<_>>().join("\n")
        }
        Outcome::Job {
            kind: JobKind::Insert,
            ..
        } => "insert".to_owned(),
        Outcome::Job {
            kind:
                JobKind::Select {
                    columns,
                    upsert_key,
                },
            ..
        } => {
            let column = |field: &Field| format!("{} {}", field.name, field.data_type);
            let columns: Vec<String> = columns.iter().map(column).collect();
            match upsert_key {
                Some(key) => format!("select {} by {key:?}", columns.join(", ")),
                None => format!("select {}", columns.join(", ")),
            }
        }
    }
}

/// The last line of the script's output.
fn check(sql: &str, expected: &str) {
    let output = run(sql);
    assert_eq!(
        output.lines().last().unwrap_or_default(),
        expected,
        "{sql}\n{output}"
    );
}

/// All of the script's output.
fn check_all(sql: &str, expected: &[&str]) {
    assert_eq!(run(sql).lines().collect::<Vec<_>>(), expected, "{sql}");
}

const ORDERS: &str = "CREATE TABLE orders (
  id BIGINT NOT NULL, qty INT COMMENT 'pieces', tags ARRAY<STRING>, addr ROW<city STRING>, ms BIGINT,
  ts AS TO_TIMESTAMP_LTZ(ms, 3), twice AS qty * 2,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = '/data/orders.jsonl', 'format' = 'json');";

#[test]
fn tables_are_created_described_and_dropped() {
    check(ORDERS, "table `orders` created");
    check_all(
        &format!("{ORDERS} DESCRIBE orders; DROP TABLE orders; SHOW TABLES"),
        &[
            "table `orders` created",
            "id|BIGINT|FALSE|PRI(id)|-|-|-",
            "qty|INT|TRUE|-|-|-|pieces",
            "tags|ARRAY<STRING>|TRUE|-|-|-|-",
            "addr|ROW<`city` STRING>|TRUE|-|-|-|-",
            "ms|BIGINT|TRUE|-|-|-|-",
            "ts|TIMESTAMP_LTZ(3)|TRUE|-|AS TO_TIMESTAMP_LTZ(ms, 3)|ts - INTERVAL '5' SECOND|-",
            "twice|INT|TRUE|-|AS qty * 2|-|-",
            "table `orders` dropped",
        ],
    );
    check(
        &format!("{ORDERS} SHOW CREATE TABLE orders"),
        ") WITH ('connector' = 'filesystem', 'path' = '/data/orders.jsonl', 'format' = 'json')",
    );
    check(
        &format!("{ORDERS} {ORDERS}"),
        "Validate: line 5, column 101: `orders` exists already (DROP it first, or use IF NOT EXISTS)",
    );
    check(
        &format!("{ORDERS} CREATE TABLE IF NOT EXISTS orders (a INT)"),
        "`orders` exists already",
    );
    check(
        "DROP TABLE x",
        "Validate: line 1, column 12: table or view `x` does not exist (create it with CREATE TABLE or CREATE VIEW first)",
    );
    check("DROP TABLE IF EXISTS x", "table `x` does not exist");
    check(
        &format!("{ORDERS} DROP VIEW orders"),
        "Validate: line 5, column 98: `orders` is not a view (use DROP TABLE)",
    );
    check(
        &format!("{ORDERS} DESC default_catalog.default_database.order"),
        "Parse: line 5, column 126: `order` is a reserved word (as a name it needs backticks: `order`)",
    );
    check(
        &format!("{ORDERS} DESC other.orders"),
        "Validate: line 5, column 93: database `other` does not exist (the only database is `default_database`)",
    );
}

#[test]
fn what_a_table_cannot_be() {
    let check_table = |columns: &str, expected: &str| {
        check(
            &format!("CREATE TABLE t ({columns}) WITH ('connector' = 'datagen')"),
            expected,
        );
    };
    check_table(
        "a INT, WATERMARK FOR b AS b - INTERVAL '1' SECOND",
        "Validate: line 1, column 38: column `b` of the watermark does not exist (a watermark is declared for a column of the table)",
    );
    check_table(
        "a INT, WATERMARK FOR a AS a",
        "Validate: line 1, column 38: column `a` of type INT cannot have a watermark (event time is a TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p at most 3)",
    );
    check_table(
        "a TIMESTAMP(6), WATERMARK FOR a AS a",
        "Validate: line 1, column 47: column `a` of type TIMESTAMP(6) cannot have a watermark (event time is a TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p at most 3)",
    );
    check_table(
        "a TIMESTAMP(3), WATERMARK FOR a AS 5",
        "Validate: line 1, column 52: the watermark of `a` is INT, but the column is TIMESTAMP(3) (a watermark is a time of the column's own type, such as ts - INTERVAL '5' SECOND)",
    );
    check_table(
        "a INT, a INT",
        "Validate: line 1, column 24: column `a` is declared twice",
    );
    check_table(
        "a INT, PRIMARY KEY (b) NOT ENFORCED",
        "Validate: line 1, column 37: column `b` of the primary key does not exist (it must be a column of the table)",
    );
    check_table(
        "a INT, b AS a, PRIMARY KEY (b) NOT ENFORCED",
        "Validate: line 1, column 45: computed column `b` cannot be in the primary key",
    );
    check(
        "CREATE TABLE t WITH ('connector' = 'datagen')",
        "Validate: line 1, column 14: table `t` has no columns (list its columns in parentheses after the name)",
    );
    check(
        "CREATE TABLE t (a INT) WITH ('connector' = 'datagn')",
        "Validate: line 1, column 30: unknown connector 'datagn' (did you mean 'datagen'?)",
    );
    check(
        "CREATE TABLE t (a INT) WITH (\n 'connector' = 'datagen',\n 'rows-per-secnd' = '1')",
        "Validate: line 3, column 2: connector 'datagen' has no option 'rows-per-secnd' (did you mean 'rows-per-second'?)",
    );
}

#[test]
fn views_functions_and_options() {
    check_all(
        &format!(
            "{ORDERS} CREATE VIEW v (a, b) AS SELECT id, qty FROM orders; SHOW VIEWS; DESC v; SHOW CREATE VIEW v"
        ),
        &[
            "table `orders` created",
            "view `v` created",
            "v",
            "a|BIGINT|FALSE|-|-|-|-",
            "b|INT|TRUE|-|-|-|-",
            "CREATE VIEW `v` (`a`, `b`) AS",
            "SELECT id, qty FROM orders",
        ],
    );
    check(
        &format!("{ORDERS} CREATE VIEW v (a) AS SELECT id, qty FROM orders"),
        "Validate: line 5, column 100: the view names 1 columns, but its query has 2",
    );
    let broken = run(&format!(
        "{ORDERS} CREATE VIEW v AS SELECT nothing FROM orders; SELECT 1"
    ));
    assert!(
        broken.contains("column 112: column `nothing` does not exist"),
        "{broken}"
    );
    check(
        "CREATE TEMPORARY FUNCTION count_char AS 'org.example.CountChar'",
        "function `count_char` is built in: the built-in one is used",
    );
    check(
        "CREATE TEMPORARY FUNCTION my_function AS 'org.example.Mine'",
        "Validate: line 1, column 27: function `my_function` cannot be created (functions of the user are not supported; SHOW FUNCTIONS lists the built-in ones)",
    );
    check_all(
        "SET 'parallelism.default' = '4'; SET; RESET; SET",
        &[
            "'parallelism.default' is now '4'",
            "parallelism.default|4",
            "all options have their defaults again",
        ],
    );
    check(
        "USE CATALOG default_catalog; USE default_database",
        "using database `default_database`",
    );
    check(
        "USE x",
        "Validate: line 1, column 5: database `x` does not exist (the only database is `default_database`)",
    );
}

#[test]
fn views_keep_their_columns_and_temporary_tables_hide_others() {
    let t = |columns: &str| format!("CREATE TABLE t ({columns}) WITH ('connector' = 'datagen');");
    let view = format!(
        "{} CREATE VIEW v AS SELECT * FROM t; DROP TABLE t;",
        t("a INT, b INT")
    );
    check(
        &format!("{view} {} SELECT * FROM v", t("c INT, b INT, a INT")),
        "select a INT, b INT",
    );
    check(
        &format!("{view} {} SELECT\n* FROM v", t("a INT")),
        "Validate: line 2, column 8: view `v` is no longer valid: its column `b` does not exist any more (DROP the view and create it again)",
    );
    let both =
        format!("{ORDERS} CREATE TEMPORARY TABLE orders (a INT) WITH ('connector' = 'datagen');\n");
    check(&format!("{both} SELECT * FROM orders"), "select a INT");
    check(
        &format!("{both} DROP TABLE orders"),
        "Validate: line 6, column 13: `orders` is temporary, and may hide another (use DROP TEMPORARY TABLE)",
    );
    check(
        &format!("{both} DROP TEMPORARY TABLE orders; SELECT id FROM orders"),
        "select id BIGINT NOT NULL",
    );
    check(
        "CREATE TABLE t (a INT) WITH ('connector' = 'datagen'); DROP TEMPORARY TABLE t",
        "Validate: line 1, column 77: temporary table `t` does not exist",
    );
    check_all(
        &format!(
            "{ORDERS} CREATE VIEW v AS SELECT 1 AS a; SHOW TABLES LIKE 'or%s'; SHOW TABLES NOT LIKE 'o_ders'; SHOW COLUMNS FROM orders LIKE 'q%'"
        ),
        &[
            "table `orders` created",
            "view `v` created",
            "orders",
            "v",
            "qty|INT|TRUE|-|-|-|pieces",
        ],
    );
}

#[test]
fn queries_and_inserts_make_jobs() {
    let sink = "CREATE TABLE s (a BIGINT, b INT, c AS a + b) WITH ('connector' = 'blackhole');";
    check(
        &format!("{ORDERS} SELECT id, qty AS n, addr.city FROM orders"),
        "select id BIGINT NOT NULL, n INT, city STRING",
    );
    check(
        &format!("{ORDERS} {sink} INSERT INTO s SELECT id, qty FROM orders"),
        "insert",
    );
    check(
        &format!("{ORDERS} {sink} INSERT INTO s (b, a) SELECT qty, id FROM orders"),
        "insert",
    );
    check(
        &format!(
            "{ORDERS} {sink} BEGIN STATEMENT SET; INSERT INTO s SELECT id, qty FROM orders; INSERT INTO s SELECT id, 1 FROM orders; END"
        ),
        "insert",
    );
    check(
        &format!("{sink} INSERT INTO s (a, z) VALUES (1, 2)"),
        "Validate: line 1, column 98: table `s` has no column `z`",
    );
    check(
        &format!("{sink} INSERT INTO s (a, c) VALUES (1, 2)"),
        "Validate: line 1, column 98: column `c` is computed and cannot be inserted",
    );
    check(
        &format!("{sink} SELECT * FROM s"),
        "Validate: line 1, column 94: table `s` cannot be read (its connector 'blackhole' is a sink only)",
    );
    check(
        "CREATE TABLE g (a INT) WITH ('connector' = 'datagen'); INSERT INTO g VALUES (1)",
        "Validate: line 1, column 68: table `g` cannot be written (its connector 'datagen' is a source only)",
    );
    let error = run(&format!(
        "{ORDERS} SELECT * FROM orders /*+ OPTIONS('pth' = '/x') */"
    ));
    assert!(
        error.contains("has no option 'pth' (did you mean 'path'?)"),
        "{error}"
    );
    let explained = run(&format!("{ORDERS} EXPLAIN SELECT id FROM orders"));
    assert!(explained.len() > 100, "{explained}");
}

#[test]
fn queries_that_double_at_every_step_are_refused() {
    let table = "CREATE TABLE t (a INT) WITH ('connector' = 'datagen');";
    let mut with = String::from("WITH c0 AS (SELECT a FROM t)");
    let mut views = format!("{table}\nCREATE VIEW c0 AS SELECT a FROM t;");
    for step in 1..40 {
        let query = format!("SELECT a FROM c{0} UNION ALL SELECT a FROM c{0}", step - 1);
        with.push_str(&format!(", c{step} AS ({query})"));
        views.push_str(&format!("\nCREATE VIEW c{step} AS {query};"));
    }
    for script in [format!("{table} {with} SELECT a FROM c39"), views] {
        let answer = run(&script);
        let refused = "has more than 1000 parts once its views and WITH queries are put in";
        assert!(answer.contains(refused), "{answer}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_script() {
    let answer = run("\u{feff}SHOW x");
    assert!(answer.starts_with("Parse: line 1, column 6: "), "{answer}");
}

#[test]
fn what_is_written_down_makes_the_session_again() {
    let script = "
        CREATE TABLE gone (a INT) WITH ('connector' = 'datagen');
        CREATE TABLE t (a INT, b AS a + 1) WITH ('connector' = 'datagen');
        CREATE VIEW v AS SELECT b FROM t;
        DROP TABLE gone;
        CREATE TEMPORARY TABLE t (c STRING) WITH ('connector' = 'blackhole');
        CREATE TABLE IF NOT EXISTS t (x INT) WITH ('connector' = 'datagen');
        SET 'parallelism.default' = '2';
        SET 'parallelism.default' = '3';
        SET 'pipeline.name' = 'x';
        RESET 'pipeline.name';
        SHOW TABLES;
        SHOW VIEWS";
    let mut session = Session::new(PlanOptions::default());
    for statement in &parse_script(script).expect("a script") {
        session.execute(statement).expect("right");
    }
    let written = session.statements();
    assert_eq!(written.len(), 4, "{written:#?}");
    let again = Session::replay(PlanOptions::default(), &written).expect("right");
    assert_eq!(again.catalog, session.catalog);
    assert_eq!(again.settings, session.settings);
    assert_eq!(again.statements(), written);
    // What a view needs stays, though it is gone.
    for statement in &parse_script("DROP TEMPORARY TABLE t; DROP TABLE t").expect("a script") {
        session.execute(statement).expect("right");
    }
    let again = Session::replay(PlanOptions::default(), &session.statements()).expect("right");
    assert_eq!(again.catalog, session.catalog);
}
