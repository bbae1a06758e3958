//! Statements of every kind, and what is said of those that are none.

use super::*;

/// One line per statement: its kind and the essence of its AST; or the error.
fn shown(sql: &str) -> String {
    match parse_script(sql) {
        Err(error) => format!("{:?}: {error}", error.stage),
        Ok(statements) => {
            let lines: Vec<String> = statements
                .iter()
                .map(|parsed| show(&parsed.statement))
                .collect();
            lines.join(" | ")
        }
    }
}

fn show(statement: &Statement) -> String {
    let insert = |insert: &Insert| match &insert.columns {
        Some(columns) => {
            let columns: Vec<&str> = columns.iter().map(|name| name.value.as_str()).collect();
            format!("insert {} {columns:?}: {}", insert.table, insert.query)
        }
        None => format!("insert {}: {}", insert.table, insert.query),
    };
    match statement {
        Statement::Query(query) => query.to_string(),
        Statement::Insert(one) => insert(one),
        Statement::Inserts(all) => format!(
            "set[{}]",
            all.iter().map(insert).collect::<Vec<_>>().join(" + ")
        ),
        Statement::CreateTable(table) => show_table(table),
        Statement::CreateView(view) => format!(
            "view {} {}: {}",
            view.name,
            view.columns.is_some(),
            view.text
        ),
        Statement::CreateFunction { name, .. } => format!("function {name}"),
        Statement::Drop {
            kind,
            temporary,
            name,
            if_exists,
        } => {
            let word = if *temporary { "temporary " } else { "" };
            format!("drop {word}{kind:?} {name} {if_exists}")
        }
        Statement::Explain { format, statement } => {
            format!("explain {format:?} {}", show(statement))
        }
        Statement::Describe(name) => format!("describe {name}"),
        Statement::Set(set) => {
            format!("set {:?}", set.as_ref().map(|(key, value, _)| (key, value)))
        }
        Statement::Reset(key) => format!("reset {:?}", key.as_ref().map(|(key, _)| key)),
        Statement::Show(target) => format!("show {target:?}"),
        Statement::Use(UseTarget::Catalog(name)) => format!("use catalog {name}"),
        Statement::Use(UseTarget::Database(name)) => format!("use {name}"),
    }
}

fn show_table(table: &CreateTable) -> String {
    let column = |column: &ColumnDef| match &column.kind {
        ColumnDefKind::Physical(data_type, _) => format!("{} {data_type}", column.name),
        ColumnDefKind::Computed(expr) => format!("{} AS {expr}", column.name),
    };
    let columns: Vec<String> = table.columns.iter().map(column).collect();
    let mut text = format!("table {} ({})", table.name, columns.join(", "));
    if let Some(watermark) = &table.watermark {
        text += &format!(" watermark {} {}", watermark.column, watermark.expr);
    }
    if let Some((key, _)) = &table.primary_key {
        text += &format!(
            " key {}",
            key.iter()
                .map(|name| name.value.as_str())
                .collect::<Vec<_>>()
                .join(",")
        );
    }
    for (key, value, _) in &table.options {
        text += &format!(" {key}={value}");
    }
    text
}

fn check(sql: &str, expected: &str) {
    assert_eq!(shown(sql), expected, "{sql}");
}

#[test]
fn scripts_split_at_semicolons() {
    check("", "");
    check(" ;; -- nothing\n ; /* ; */", "");
    check(
        "SELECT 'a;b' AS x; SELECT 1 -- ;\n ;",
        "SELECT 'a;b' AS x | SELECT 1",
    );
    let statements = parse_script("SELECT 1;\n  SELECT `ü;` FROM t ;").expect("parses");
    let last = statements.last().expect("two statements");
    assert_eq!(last.text, "SELECT `ü;` FROM t");
    assert_eq!(
        (last.span.line, last.span.column, last.span.end_column),
        (2, 3, 21)
    );
}

#[test]
fn errors_stand_where_they_are_in_the_script() {
    check(
        "SELECT 1;\nSELECT FROM t WHERE",
        "Parse: line 2, column 8: expected an expression, found FROM",
    );
    check(
        "SELECT a b c FROM t",
        "Parse: line 1, column 12: expected `;` or the end of the script, found c",
    );
    check(
        "SELECT a FROM t WHERE",
        "Parse: line 1, column 22: expected an expression, found EOF",
    );
    check(
        "SELECT 'open",
        "Parse: line 1, column 8: unterminated string literal",
    );
    check(
        "SELCT 1",
        "Parse: line 1, column 1: expected a statement, found `SELCT` (did you mean SELECT?)",
    );
    check(
        "ALTER TABLE t RENAME TO u",
        "Parse: line 1, column 1: ALTER is not supported",
    );
    check(
        &format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500)),
        "Parse: line 1, column 1009: the statement is nested too deeply (split it into views, or flatten long chains of nested expressions)",
    );
}

#[test]
fn long_chains_are_refused_before_they_use_up_the_stack() {
    let too_deep = |sql: String| {
        let shown = shown(&sql);
        assert!(shown.contains("nested too deeply"), "{shown}");
    };
    too_deep(format!("SELECT 1{}", " + 1".repeat(100_000)));
    too_deep(format!(
        "SELECT a FROM t WHERE {} b",
        "NOT ".repeat(100_000)
    ));
    too_deep(format!("SELECT {}1", "- ".repeat(100_000)));
    too_deep(format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(1_000)));
    too_deep(format!("SELECT {}", "(".repeat(100_000)));
    too_deep(format!("SELECT {}", "CASE WHEN ".repeat(100_000)));
    too_deep(format!("SELECT CAST(a AS {}INT", "ARRAY<".repeat(100_000)));
    let long = format!(
        "SELECT a IN (1{}), b{} FROM t",
        ", 1".repeat(10_000),
        " OR c".repeat(400)
    );
    assert_eq!(shown(&long), long);
}

#[test]
fn what_flink_does_not_have_is_refused() {
    check(
        "SELECT \"a\"",
        "Parse: line 1, column 8: double quotes are not part of the language (write strings as 'text' and names as `name`)",
    );
    check(
        "SELECT a::INT",
        "Parse: line 1, column 9: `::` is not part of the language (write CAST(x AS type))",
    );
    check(
        "SELECT a == b",
        "Parse: line 1, column 10: `==` is not part of the language (write `=`)",
    );
    check(
        "SELECT E'a'",
        "Parse: line 1, column 8: the string 'a' is not a name (write names as `a`)",
    );
    check(
        "SELECT a AS 'x'",
        "Parse: line 1, column 8: the string 'x' is not a name (write names as `x`)",
    );
    check(
        "SELECT qty AS value FROM t",
        "Parse: line 1, column 15: `value` is a reserved word (as a name it needs backticks: `value`)",
    );
    check(
        "SELECT t.order FROM t",
        "Parse: line 1, column 10: `order` is a reserved word (as a name it needs backticks: `order`)",
    );
    check(
        "SELECT 1 FROM t AS `value`, u `user`",
        "SELECT 1 FROM t AS `value`, u `user`",
    );
    check(
        "SELECT TIMESTAMPADD(DAY, 1, d) AS n FROM t",
        "SELECT TIMESTAMPADD(DAY, 1, d) AS n FROM t",
    );
}

#[test]
fn queries() {
    check(
        "SELECT CAST(a AS ROW<x INT, y MAP<STRING, ARRAY<INT>>>)",
        "SELECT CAST(a AS ROW<`x` INT, `y` MAP<STRING, ARRAY<INT>>>)",
    );
    check(
        "SELECT CAST(a AS VARCHAR), CAST(a AS ROW<v CHAR VARYING, b VARBINARY(3)>)",
        "SELECT CAST(a AS STRING), CAST(a AS ROW<`v` STRING, `b` VARBINARY(3)>)",
    );
    check(
        "SELECT TRY_CAST(a AS TIMESTAMP(3) WITH LOCAL TIME ZONE)",
        "SELECT TRY_CAST(a AS TIMESTAMP_LTZ(3))",
    );
    check(
        "SELECT CAST(a AS DECIMAL(39, 1))",
        "Parse: line 1, column 18: DECIMAL needs 1 <= precision <= 38 and 0 <= scale <= precision",
    );
    check(
        "SELECT CAST(a AS WORD)",
        "Parse: line 1, column 18: unknown type WORD",
    );
    check(
        "SELECT CAST(a AS ARRAY<INT)",
        "Parse: line 1, column 27: expected `>`",
    );
    check("SELECT MAP['a', 1]['a']", "SELECT MAP('a', 1)['a']");
    check(
        "SELECT x IS NOT JSON OBJECT",
        "SELECT NOT IS_JSON(x, 'OBJECT')",
    );
    check(
        "SELECT x NOT BETWEEN SYMMETRIC 2 AND 1 AND b",
        "SELECT NOT BETWEEN_SYMMETRIC(x, 2, 1) AND b",
    );
    check(
        "SELECT JSON_VALUE(x, '$.a' RETURNING INT NULL ON EMPTY DEFAULT 5 ON ERROR)",
        "SELECT JSON_VALUE(x, '$.a', RETURNING => CAST(NULL AS INT), ON_EMPTY => 'NULL', DEFAULT_ON_ERROR => 5)",
    );
    check(
        "SELECT JSON_QUERY(x, '$' WITH WRAPPER EMPTY ARRAY ON EMPTY)",
        "SELECT JSON_QUERY(x, '$', WRAPPER => 'WITH UNCONDITIONAL', ON_EMPTY => 'EMPTY ARRAY')",
    );
    check(
        "SELECT JSON_OBJECT('k' VALUE v, KEY 'n' VALUE w ABSENT ON NULL)",
        "SELECT JSON_OBJECT('k', v, 'n', w, ON_NULL => 'ABSENT')",
    );
    check(
        "SELECT JSON_ARRAY(1, 'z' NULL ON NULL), JSON_ARRAY()",
        "SELECT JSON_ARRAY(1, 'z', ON_NULL => 'NULL'), JSON_ARRAY()",
    );
    check(
        "SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTES))",
        "SELECT * FROM TABLE(TUMBLE(TABLE(t), DESCRIPTOR(ts), INTERVAL '1' MINUTES))",
    );
    check(
        "SELECT * FROM SESSION(TABLE t PARTITION BY (a, b), DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
        "SELECT * FROM SESSION((TABLE(t), a, b), DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
    );
    check(
        "SELECT * FROM t JOIN v FOR SYSTEM_TIME AS OF t.ts AS w ON t.k = w.k",
        "SELECT * FROM t JOIN v AS w FOR SYSTEM_TIME AS OF t.ts ON t.k = w.k",
    );
    check(
        "(SELECT 1) UNION ALL (VALUES (2))",
        "(SELECT 1) UNION ALL (VALUES (2))",
    );
    check(
        "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts MEASURES A.x AS x PATTERN (A B) WITHIN INTERVAL '1' HOUR DEFINE A AS A.y > 0) AS m",
        "SELECT * FROM t MATCH_RECOGNIZE(ORDER BY ts MEASURES A.x AS x PATTERN (A B) DEFINE `$WITHIN` AS INTERVAL '1' HOUR, A AS A.y > 0) AS m",
    );
}

#[test]
fn hints() {
    let statements = parse_script(
        "SELECT * FROM t /*+ OPTIONS('a' = 'b', 'c' = 'd') */ AS x; \
         INSERT INTO s /*+ OPTIONS('e' = 'f') */ SELECT * FROM t; \
         SELECT * FROM TUMBLE(TABLE a.b /*+ OPTIONS('g' = 'h') */, DESCRIPTOR(ts), INTERVAL '1' DAY)",
    )
    .expect("parses");
    let options: Vec<_> = statements
        .iter()
        .map(|parsed| {
            parsed
                .hints
                .hints
                .iter()
                .map(|hint| hint.options.len())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(options, [[2], [1], [1]]);
    check(
        "SELECT a /*+ OPTIONS('a' = 'b') */ FROM t",
        "Parse: line 1, column 10: this hint does not stand after a table name (OPTIONS hints follow a table in FROM, JOIN or INSERT INTO)",
    );
    check(
        "SELECT * FROM t /*+ NO_INDEX(a) */",
        "Parse: line 1, column 17: unknown table hint NO_INDEX (the one table hint is /*+ OPTIONS('key' = 'value') */)",
    );
    check(
        "SELECT /*+ STATE_TTL('t' = '1d') */ a FROM t",
        "SELECT /*+ STATE_TTL('t' = '1d') */ a FROM t",
    );
    assert!(parse_script("SELECT /*+ BROADCAST(t), SHUFFLE_HASH(u) */ a FROM t").is_ok());
}

#[test]
fn tables() {
    check(
        "CREATE TEMPORARY TABLE IF NOT EXISTS t (id BIGINT NOT NULL PRIMARY KEY NOT ENFORCED COMMENT 'x', n ROW<a INT 'of n'>, \
         ts AS TO_TIMESTAMP_LTZ(id, 3) COMMENT 'c', WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) \
         COMMENT 'all' PARTITIONED BY (id) WITH ('connector' = 'x', 'a.b' = 'it''s')",
        "table t (id BIGINT NOT NULL, n ROW<`a` INT>, ts AS TO_TIMESTAMP_LTZ(id, 3)) watermark ts ts - INTERVAL '1' SECOND key id connector=x a.b=it's",
    );
    check(
        "CREATE TABLE t (a INT, b STRING, CONSTRAINT k PRIMARY KEY (a, b) NOT ENFORCED)",
        "table t (a INT, b STRING) key a,b",
    );
    check(
        "CREATE TABLE t (a INT, PRIMARY KEY (a))",
        "Validate: line 1, column 24: a primary key cannot be enforced (write PRIMARY KEY (…) NOT ENFORCED: the table's data is trusted to be unique)",
    );
    check(
        "CREATE TABLE t (a INT METADATA FROM 'x' VIRTUAL)",
        "Validate: line 1, column 23: column `a`: METADATA is not supported (none of the connectors has metadata columns)",
    );
    check(
        "CREATE TABLE t (value INT)",
        "Parse: line 1, column 17: `value` is a reserved word (as a name it needs backticks: `value`)",
    );
    check(
        "CREATE TABLE t (a INT,)",
        "Parse: line 1, column 23: expected identifier, found )",
    );
    check(
        "CREATE TABLE t (a STRING(5))",
        "Parse: line 1, column 25: unexpected Symbol('(')",
    );
    check(
        "CREATE TABLE t LIKE u",
        "Parse: line 1, column 16: LIKE of CREATE TABLE is not supported (repeat the columns)",
    );
    check(
        "CREATE TABLE t WITH ('connector' = 'x') AS SELECT 1",
        "Parse: line 1, column 41: AS of CREATE TABLE is not supported (write CREATE TABLE with columns, then INSERT INTO it)",
    );
    check(
        "CREATE TABLE t (a INT) WITH ('k' = 'v', 'k' = 'w')",
        "Validate: line 1, column 41: option 'k' is given twice",
    );
}

#[test]
fn other_statements() {
    check(
        "CREATE VIEW v (a, b) AS SELECT 1, 2 ;",
        "view v true: SELECT 1, 2",
    );
    check(
        "CREATE TEMPORARY FUNCTION count_char AS 'x.Y'",
        "function count_char",
    );
    check(
        "DROP TABLE IF EXISTS t; DROP TEMPORARY VIEW v",
        "drop Table t true | drop temporary View v false",
    );
    check(
        "SET; SET 'a' = 'b'; RESET; RESET 'a'",
        "set None | set Some((\"a\", \"b\")) | reset None | reset Some(\"a\")",
    );
    check(
        "SET a = b",
        "Parse: line 1, column 5: expected an option name in single quotes, found a (write SET 'key' = 'value')",
    );
    check(
        "USE CATALOG default_catalog; USE default_database",
        "use catalog default_catalog | use default_database",
    );
    check(
        "DESC t; DESCRIBE EXTENDED u; DESCRIBE extended",
        "describe t | describe u | describe extended",
    );
    check(
        "DESC t; DESCRIBE a.b; SHOW TABLES; SHOW JOBS",
        "Parse: line 1, column 41: SHOW JOBS is not supported (SHOW knows TABLES, VIEWS, COLUMNS FROM, FUNCTIONS, CATALOGS, DATABASES, CREATE TABLE and CREATE VIEW)",
    );
    check(
        "INSERT INTO t SELECT 1; INSERT INTO t (SELECT 1); INSERT INTO a.b.t (x) VALUES (1)",
        "insert t: SELECT 1 | insert t: (SELECT 1) | insert a.b.t [\"x\"]: VALUES (1)",
    );
    check(
        "INSERT OVERWRITE t SELECT 1",
        "Parse: line 1, column 8: INSERT OVERWRITE is not supported (use INSERT INTO)",
    );
    for begin in [
        "EXECUTE STATEMENT SET BEGIN",
        "BEGIN STATEMENT SET;",
        "STATEMENT SET BEGIN",
    ] {
        check(
            &format!("{begin} INSERT INTO t SELECT 1; INSERT INTO u SELECT 2; END; SELECT 3"),
            "set[insert t: SELECT 1 + insert u: SELECT 2] | SELECT 3",
        );
    }
    check(
        "BEGIN STATEMENT SET; SELECT 1; END",
        "Parse: line 1, column 22: expected INSERT INTO or END, found SELECT (a statement set holds INSERT statements only, and ends with END)",
    );
    check(
        "EXPLAIN SELECT 1; EXPLAIN PLAN FOR INSERT INTO t SELECT 1; EXPLAIN CHANGELOG_MODE, JSON_EXECUTION_PLAN SELECT 1",
        "explain Text SELECT 1 | explain Text insert t: SELECT 1 | explain Json SELECT 1",
    );
    check(
        "EXPLAIN DROP TABLE t",
        "Parse: line 1, column 9: only queries and INSERT statements can be explained",
    );
}

#[test]
fn lifetimes_of_state() {
    let statements = parse_script(
        "SELECT /*+ BROADCAST(t)\n STATE_TTL('t' = '1d', 'u' = '12 h') */ a FROM t; SELECT a FROM t",
    )
    .expect("parses");
    let said: Vec<Vec<(String, u64)>> = statements
        .iter()
        .map(|parsed| {
            let entries = parsed.hints.state_ttl.iter().flat_map(|hint| &hint.entries);
            entries
                .map(|entry| (entry.relation.clone(), entry.ms))
                .collect()
        })
        .collect();
    let expected = [("t".to_owned(), 86_400_000), ("u".to_owned(), 43_200_000)];
    assert_eq!(said, [expected.to_vec(), Vec::new()]);
    check(
        "SELECT /*+ STATE_TTL('t' = '1 fortnight') */ a FROM t",
        "Parse: line 1, column 28: '1 fortnight' is no duration (write such as '1 d', '12 h' or '30 min'; '0' is for ever)",
    );
    check(
        "SELECT /*+ STATE_TTL('t' = '1 d',\n 't' = '2 d') */ a FROM t",
        "Parse: line 2, column 2: STATE_TTL names 't' twice",
    );
    check(
        "SELECT /*+ STATE_TTL(t = '1 d') */ a FROM t",
        "Parse: line 1, column 22: expected the name of a table in single quotes, found t",
    );
    check(
        "SELECT /*+ LOOKUP('table' = 't', 'async' = 'true') */ a FROM t",
        "Parse: line 1, column 8: the hint LOOKUP is not supported (options of the table say how it is looked up, also after its name: /*+ OPTIONS('lookup.…' = '…') */)",
    );
    check(
        "SELECT /*+ STATE_TTI('t' = '1 d') */ a FROM t",
        "Parse: line 1, column 8: the hint STATE_TTI is not supported (hints after SELECT are STATE_TTL, BROADCAST, MULTI_JOIN, NEST_LOOP, SHUFFLE_HASH, SHUFFLE_MERGE)",
    );
}
