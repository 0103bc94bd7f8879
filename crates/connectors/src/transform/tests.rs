use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
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
    .map(|(name, ty)| FieldType::new(name, ty, true))
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
    let options = RecordBatchOptions::new().with_row_count(Some(4));
    RecordBatch::try_new_with_options(bound.schema.clone(), arrays, &options).unwrap()
}

/// The values for all rows, in as many batches as memory asks for.
fn run(program: &Program, batch: &RecordBatch) -> Vec<String> {
    let Some(ran) = program.run(batch, &mut Room::default()).unwrap() else {
        let half = batch.num_rows() / 2;
        let rest = batch.slice(half, batch.num_rows() - half);
        return [run(program, &batch.slice(0, half)), run(program, &rest)].concat();
    };
    assert_eq!(*ran.values.data_type(), program.ty.arrow());
    let mut out: Vec<String> = (0..ran.values.len())
        .map(|row| {
            if ran.values.is_null(row) {
                "NULL".to_owned()
            } else {
                array_value_to_string(&ran.values, row).unwrap()
            }
        })
        .collect();
    for (row, reason) in ran.failed {
        out[row] = format!("! {reason}");
    }
    out
}

/// The values of one expression, or why there is none.
fn values(expr: &str) -> Vec<String> {
    let bound = bound(&format!("SELECT {expr} AS x FROM source")).unwrap();
    let Origin::Computed(program) = &bound.outputs[0].1 else { panic!("not computed: {expr}") };
    run(program, &batch(&bound))
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
        "abs(n - 9223372036854775807 - 1 + n - n)",
        "regexp_replace(\"Text\", '[0-9]', '<$0>', 'g')",
        "to_char(\"@t\", '%Y')",
        "concat_ws('-', \"Text\", n)",
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
        "SELECT arrow_cast(n, 'FixedSizeBinary(1000000000)') AS r FROM source",
        "SELECT regexp_like('a', \"Text\") AS r FROM source",
        "SELECT 'a' ~ \"Text\" AS r FROM source",
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
        let other = function.name() == "version" || function.name().contains("cast");
        assert_eq!(found, fixed && !other, "{}", function.name());
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
    let ran = |rows: usize, room: &mut Room| program.run(&batch.slice(0, rows), room).unwrap();
    assert!(ran(4, &mut Room::default()).is_none(), "12 and 6 MB together are too much");
    let mut room = Room::default();
    assert!(ran(1, &mut room).unwrap().failed.is_empty());
    // Of a second column there is no room for as much in the same row.
    let second = ran(1, &mut room).unwrap();
    assert_eq!(second.failed, [(0, "the row would be larger than 16 MiB".to_owned())]);
    assert!(second.values.is_null(0));
}

#[test]
fn a_long_chain_of_operators_is_refused_and_does_no_harm() {
    let chain = |n: usize| format!("SELECT n{} AS x FROM source", "+n".repeat(n));
    for (length, word) in [(16_000, "operators"), (1_400, "nested")] {
        let fault = &Transform::parse(&chain(length)).unwrap_err()[0];
        assert!(fault.message.contains(word), "{fault:?}");
    }
    assert!(Transform::parse(&chain(17_000)).is_err(), "longer than a transform may be");
    bound(&chain(90)).unwrap();
}

#[test]
fn what_is_written_out_does_not_double_with_each_level() {
    let nested = |n: usize| (0..n).fold("n".to_owned(), |x, _| format!("coalesce({x}, n)"));
    let error = bound(&format!("SELECT {} AS x FROM source", nested(30))).unwrap_err();
    assert!(error.message().contains("too large"), "{error}");
    bound(&format!("SELECT {} AS x FROM source", nested(5))).unwrap();
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
    // The bytes of a text are no UUID.
    assert!(check_kinds("x", ColumnType::Text, ColumnType::Uuid).is_err());
    assert!(check_kinds("x", ColumnType::Uuid, ColumnType::Uuid).is_ok());
}

/// What stands inside, how often, and what is put around it.
type Shape = (&'static str, usize, fn(String) -> String);

/// Expressions as deep as they may be, each around what it is asked for.
fn deepest(depth: usize) -> Vec<String> {
    let shapes: [Shape; 10] = [
        ("n", depth, |x| format!("{x} + n")),
        ("f", depth, |x| format!("{x} * 2 + n")),
        ("\"Text\"", depth, |x| format!("{x} || 'a'")),
        ("\"@t\"", depth, |x| format!("{x} + INTERVAL '1 hour'")),
        ("n > 1", depth, |x| format!("{x} AND n > 2")),
        // The parser itself ends before these are that deep.
        ("n", 45, |x| format!("abs({x})")),
        ("\"Text\"", 45, |x| format!("concat({x}, n)")),
        ("n > 1", 45, |x| format!("({x}) IS NOT TRUE")),
        ("n", 14, |x| format!("CASE WHEN {x} > 1 THEN n ELSE 0 END")),
        ("n", 12, |x| format!("coalesce({x}, n)")),
    ];
    let nested =
        |(inner, levels, around): Shape| (0..levels).fold(inner.to_owned(), |x, _| around(x));
    shapes.map(nested).to_vec()
}

#[test]
fn half_of_a_usual_stack_is_enough_for_the_deepest_expressions() {
    // Threads that compute have 2 MiB; 1 MiB is more than twice of what these take.
    for expr in deepest(refuse::DEEPEST - 2) {
        let compute = || values(&expr).len();
        let rows = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(1 << 20);
            thread.spawn_scoped(scope, compute).unwrap().join().unwrap()
        });
        assert_eq!(rows, 4, "{expr}");
    }
    for expr in &deepest(refuse::DEEPEST + 1)[..5] {
        let fault = &Transform::parse(&format!("SELECT {expr} AS x FROM source")).unwrap_err()[0];
        assert!(fault.message.contains("nested"), "{fault:?}");
    }
}

#[test]
fn a_text_that_is_wrong_deep_inside_is_refused_at_once() {
    let openings =
        ["CAST(", "CASE WHEN ", "substring(", "ceil(", "overlay(", "array[", "current_date("];
    for (open, most) in openings.map(|open| (open, 14)).into_iter().chain([("position(", 7)]) {
        let told = |depth: usize| {
            let sql = format!("SELECT {}n n n", open.repeat(depth));
            Transform::parse(&sql).unwrap_err()[0].message.clone()
        };
        assert!(told(most).contains("not SQL"), "{open}");
        // Without the limit the parser would be busy for hours.
        assert!(told(most + 1).contains("nested too deeply"), "{open}");
    }
}
