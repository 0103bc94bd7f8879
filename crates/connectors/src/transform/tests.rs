use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use retrofill_core::columns::{ColumnType, Precision};
use retrofill_core::connector::FieldType;
use retrofill_core::error::Error;

use super::*;

fn fields() -> Vec<FieldType> {
    let instant = ColumnType::Instant { unit: Precision::Microsecond };
    [
        ("n", ColumnType::Integer { bits: 64 }),
        ("f", ColumnType::Float { bits: 64 }),
        ("Text", ColumnType::Text),
        ("@t", instant),
        ("unused", ColumnType::Text),
    ]
    .into_iter()
    .map(|(name, ty)| FieldType { name: name.into(), ty, nullable: true })
    .collect()
}

fn names() -> Vec<String> {
    fields().into_iter().map(|f| f.name).collect()
}

fn bound(sql: &str) -> Result<Bound, Error> {
    let transform = Transform::parse(sql).map_err(|f| f[0].clone().into_error())?;
    let wiring = transform.wire(&names())?;
    bind(&transform, &wiring, &fields())
}

fn batch(bound: &Bound) -> RecordBatch {
    let arrays: [ArrayRef; 5] = [
        Arc::new(Int64Array::from(vec![Some(6), Some(0), None, Some(i64::MAX)])),
        Arc::new(Float64Array::from(vec![Some(1.5), Some(-0.5), None, Some(1e300)])),
        Arc::new(StringArray::from(vec![Some("12"), Some("x"), None, Some("")])),
        Arc::new(
            TimestampMicrosecondArray::from(vec![Some(0), Some(1_500_000), None, Some(-1)])
                .with_timezone("UTC"),
        ),
        Arc::new(StringArray::from(vec!["", "", "", ""])),
    ];
    let arrays = bound.inputs.iter().map(|i| arrays[*i].clone()).collect();
    RecordBatch::try_new(bound.schema.clone(), arrays).unwrap()
}

/// The values of one expression, or why there is none.
fn values(expr: &str) -> Vec<String> {
    let bound = bound(&format!("SELECT {expr} AS x FROM source")).unwrap();
    let Origin::Computed(program) = &bound.outputs[0].1 else { panic!("not computed: {expr}") };
    let ran = program.run(&batch(&bound)).unwrap().unwrap();
    assert_eq!(*ran.values.data_type(), program.ty.arrow(), "{expr}");
    let mut out: Vec<String> = (0..ran.values.len())
        .map(|row| match ran.values.is_null(row) {
            true => "NULL".to_owned(),
            false => array_value_to_string(&ran.values, row).unwrap(),
        })
        .collect();
    for (row, reason) in ran.failed {
        out[row] = format!("! {reason}");
    }
    out
}

#[test]
fn expressions_are_computed_row_by_row() {
    let shown: Vec<String> = [
        "n + 1",
        "n - -1",
        "-n",
        "n * 2",
        "12 / n",
        "12 % n",
        "f / 0",
        "n <> 0 AND 12 / n > 1",
        "CASE WHEN n = 0 THEN 0 ELSE 12 / n END",
        "CAST(\"Text\" AS INT)",
        "TRY_CAST(\"Text\" AS INT)",
        "CAST(f AS SMALLINT)",
        "CAST(n AS DECIMAL(10, 2))",
        "coalesce(\"Text\", 'none')",
        "nullif(n, 0)",
        "nvl(n, 7)",
        "\"Text\" || '-' || n",
        "upper(\"Text\")",
        "substring(\"Text\" FROM 1 FOR 1)",
        "lpad(\"Text\", 4, '0')",
        "\"Text\" IN ('x', '12')",
        "n BETWEEN 1 AND 10",
        "\"Text\" LIKE '1%'",
        "extract(second FROM \"@t\")",
        "date_trunc('second', \"@t\")",
        "\"@t\" + INTERVAL '1 hour'",
        "to_timestamp_seconds(n)",
        "CAST(\"@t\" AS DATE)",
        "CAST(n AS BIGINT UNSIGNED) * 3",
        "'2024-03-31 02:30:00'::timestamp AT TIME ZONE 'Europe/Berlin'",
        "'2024-07-01 02:30:00'::timestamp AT TIME ZONE 'Europe/Berlin'",
    ]
    .into_iter()
    .map(|expr| format!("{expr}\n    {}", values(expr).join(" | ")))
    .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_is_left_out_is_what_is_not_true() {
    let bound = bound("SELECT n FROM source WHERE 12 / n > 1").unwrap();
    let stays = bound.stays(&batch(&bound)).unwrap();
    let failed = Err("`WHERE` fails: divide by zero error".to_owned());
    assert_eq!(stays, [Ok(true), failed, Ok(false), Ok(false)]);
}

#[test]
fn everything_else_is_refused_with_its_place_and_reason() {
    let shown: Vec<String> = [
        "",
        "SELEC n FROM source",
        "SELECT n FROM source WHERE",
        "SELECT 'n FROM source",
        "SELECT n FROM source; SELECT f FROM source",
        "DELETE FROM source",
        "COPY source TO '/tmp/x'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc'",
        "VALUES (1)",
        "SELECT 1 AS x",
        "SELECT n FROM other",
        "SELECT n FROM public.source",
        "SELECT n FROM '/etc/passwd'",
        "SELECT n FROM read_csv('/etc/passwd')",
        "SELECT n FROM source, source s",
        "SELECT s.n FROM source s JOIN source t ON s.n = t.n",
        "SELECT n FROM (SELECT n FROM source)",
        "WITH a AS (SELECT n FROM source) SELECT n FROM source",
        "SELECT n FROM source UNION ALL SELECT n FROM source",
        "SELECT n FROM source EXCEPT SELECT n FROM source",
        "SELECT DISTINCT n FROM source",
        "SELECT n, count(*) AS c FROM source GROUP BY n",
        "SELECT n FROM source GROUP BY ALL",
        "SELECT n FROM source GROUP BY n HAVING n > 1",
        "SELECT n FROM source ORDER BY n",
        "SELECT n FROM source LIMIT 10",
        "SELECT n FROM source OFFSET 10",
        "SELECT TOP 3 n FROM source",
        "SELECT n FROM source FETCH FIRST 3 ROWS ONLY",
        "SELECT n FROM source QUALIFY n > 1",
        "SELECT n FROM source FOR UPDATE",
        "SELECT n INTO t FROM source",
        "SELECT sum(n) AS s FROM source",
        "SELECT max(n) FILTER (WHERE n > 1) AS s FROM source",
        "SELECT row_number() OVER (ORDER BY n) AS r FROM source",
        "SELECT lag(n) OVER () AS r FROM source",
        "SELECT unnest(make_array(n)) AS r FROM source",
        "SELECT now() AS t FROM source",
        "SELECT CURRENT_TIMESTAMP AS t FROM source",
        "SELECT current_date AS t FROM source",
        "SELECT random() AS r FROM source",
        "SELECT uuid() AS r FROM source",
        "SELECT version() AS r FROM source",
        "SELECT uper(\"Text\") AS r FROM source",
        "SELECT pg_read_file('/etc/passwd') AS r FROM source",
        "SELECT n FROM source WHERE n = (SELECT max(n) FROM source)",
        "SELECT n FROM source WHERE n IN (SELECT f FROM source)",
        "SELECT n FROM source WHERE EXISTS (SELECT 1 FROM source)",
        "SELECT n + 1 FROM source",
        "SELECT n AS x, f AS x FROM source",
        "SELECT *, f AS n FROM source",
        "SELECT * RENAME (n AS m) FROM source",
        "SELECT other.* FROM source",
        "SELECT other.n FROM source",
        "SELECT N FROM source",
        "SELECT text AS x FROM source",
        "SELECT * EXCLUDE (m) FROM source",
        "SELECT n + $1 AS x FROM source",
        "SELECT [n, f] AS x FROM source",
        "SELECT (n, f) AS x FROM source",
        "SELECT n AS x FROM source WHERE n",
        "SELECT n + 'abc' AS x FROM source WHERE \"Text\" + 1",
        "SELECT NULL AS x FROM source",
        "SELECT struct(n, f) AS x FROM source",
        "SELECT \"@t\" - \"@t\" AS x FROM source",
        "SELECT upper(n, f) AS x FROM source",
    ]
    .into_iter()
    .map(|sql| {
        let told = match Transform::parse(sql) {
            Err(faults) => faults.into_iter().map(Fault::into_error).collect(),
            Ok(_) => vec![bound(sql).map(|_| ()).expect_err(sql)],
        };
        let told = told.iter().map(|e| {
            let place = e.setting().unwrap_or_default().trim_start_matches("transform");
            let hint = e.hint_text().map_or(String::new(), |h| format!("\n        hint: {h}"));
            format!("\n    {} {}{hint}", place.trim_start_matches(':'), e.message())
        });
        format!("{sql}{}", told.collect::<String>())
    })
    .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn every_function_that_changes_by_itself_is_refused() {
    for function in datafusion_functions::all_default_functions() {
        let fixed = function.signature().volatility == datafusion_expr::Volatility::Immutable;
        let found = functions::find(function.name()).is_ok();
        assert_eq!(found, fixed && function.name() != "version", "{}", function.name());
    }
}

#[test]
fn no_value_grows_without_end() {
    for expr in [
        "repeat(\"Text\", 1000000000)",
        "repeat(repeat(\"Text\", 16000000), 16000000)",
        "lpad(\"Text\", 2000000000, 'x')",
        "repeat(\"Text\", 16000000) || repeat(\"Text\", 16000000)",
        "replace(repeat(\"Text\", 4000000), '1', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')",
        "regexp_replace(repeat(\"Text\", 4000000), '1', 'aaaaaaaaaaaaaaaaaaaaaaa', 'g')",
    ] {
        let got = values(expr);
        assert_eq!(got[0], "! the value would be larger than 16 MiB", "{expr}");
        assert_eq!(got[2], "NULL", "{expr}");
    }
    let got = values("repeat('x', 100000) || \"Text\"");
    assert_eq!(got[0], "! a constant would be larger than 1024 bytes");
    let long = format!("SELECT '{}' AS x FROM source", "x".repeat(1025));
    assert!(Transform::parse(&long).is_err());
}

#[test]
fn large_values_come_in_smaller_batches() {
    let bound = bound("SELECT repeat(\"Text\", 6000000) AS x FROM source").unwrap();
    let Origin::Computed(program) = &bound.outputs[0].1 else { panic!("not computed") };
    let batch = batch(&bound);
    assert!(program.run(&batch.slice(0, 1)).unwrap().unwrap().failed.is_empty());
    assert!(program.run(&batch).unwrap().is_none(), "12 and 6 MB together are too much");
}

#[test]
fn a_long_chain_of_operators_is_refused_and_does_no_harm() {
    let chain = |n: usize| format!("SELECT n{} AS x FROM source", "+n".repeat(n));
    for (length, word) in [(16_000, "operators"), (1_400, "nested")] {
        let fault = &Transform::parse(&chain(length)).unwrap_err()[0];
        assert!(fault.message.contains(word), "{fault:?}");
    }
    assert!(Transform::parse(&chain(17_000)).is_err(), "longer than a transform may be");
    bound(&chain(150)).unwrap();
}

#[test]
fn names_are_taken_byte_for_byte() {
    let bound = bound("SELECT source.n AS \"A b\", (\"Text\"), s.\"@t\" AS \"@T\" FROM source s")
        .map(|_| ());
    assert!(bound.is_err(), "`source` has another name here");
    let sql = "SELECT s.n AS \"A b\", (\"Text\"), s.\"@t\" AS \"@T\" FROM source s";
    let transform = Transform::parse(sql).unwrap();
    let wiring = transform.wire(&names()).unwrap();
    assert_eq!(wiring.names(), ["A b", "Text", "@T"]);
    assert_eq!(wiring.passed_on("@T"), Some(3));
    assert_eq!(transform.passed_on("@T").as_deref(), Some("@t"));
    let all = Transform::parse("SELECT * EXCLUDE (n) REPLACE (f + 1 AS f) FROM source").unwrap();
    assert_eq!(all.wire(&names()).unwrap().names(), ["f", "Text", "@t", "unused"]);
    assert_eq!(all.passed_on("@t").as_deref(), Some("@t"));
    assert_eq!(all.passed_on("f"), None);
    assert_eq!(all.passed_on("n"), None);
}

#[test]
fn values_fit_exactly_or_are_refused() {
    let ran = |values: ArrayRef| Ran { values, failed: Vec::new() };
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None, Some(300), Some(1 << 53)]));
    let bits = |bits| ColumnType::Integer { bits };
    let refused = |ran: Ran| ran.failed.iter().map(|(row, _)| *row).collect::<Vec<_>>();
    assert_eq!(refused(fit(ran(ints.clone()), bits(8)).unwrap()), [2, 3]);
    assert_eq!(refused(fit(ran(ints), ColumnType::Float { bits: 32 }).unwrap()), [0_usize; 0]);
    let odd: ArrayRef = Arc::new(Int64Array::from(vec![(1_i64 << 53) + 1]));
    assert_eq!(refused(fit(ran(odd), ColumnType::Float { bits: 64 }).unwrap()), [0]);
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 1.5, f64::NAN, 1e300]));
    assert_eq!(refused(fit(ran(floats), bits(64)).unwrap()), [1, 2, 3]);
    assert!(check_kinds("x", ColumnType::Text, bits(64)).is_err());
    assert!(check_kinds("x", bits(8), ColumnType::Float { bits: 64 }).is_ok());
}
