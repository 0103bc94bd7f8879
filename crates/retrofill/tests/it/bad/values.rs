//! Values that do not fit their column.

use super::{Case, cases};

fn column(values: &[&str]) -> String {
    let rows = values.iter().enumerate().map(|(n, v)| format!("2020-01-01,s{n},{v}\n"));
    format!("t,site,v\n{}", rows.collect::<String>())
}

/// Everything in it is right but for the row of each type.
const TYPED: &str = "\
t,site,i,f,d,b,day,at,x
2020-01-01,a,127,0.5,12.34,true,2020-02-29,2020-01-01T00:00:00Z,007
2020-01-01,b,128,0.5,12.34,true,2020-02-29,2020-01-01T00:00:00Z,007
2020-01-01,c,1,0.1234567890123456789,12.34,true,2020-02-29,2020-01-01T00:00:00Z,007
2020-01-01,d,1,0.5,12.345,true,2020-02-29,2020-01-01T00:00:00Z,007
2020-01-01,e,1,0.5,1234567.8,true,2020-02-29,2020-01-01T00:00:00Z,007
2020-01-01,f,1,0.5,12.34,yes,2020-02-29,2020-01-01T00:00:00Z,007
2020-01-01,g,1,0.5,12.34,true,2019-02-29,2020-01-01T00:00:00Z,007
2020-01-01,h,1,0.5,12.34,true,2020-02-29,1577836800,007
2020-01-01,i,,,,,,,
";

cases! {
    unparsable_number: Case::csv(column(&["1", "2", "one", "1 000", "0x10", "1,5"]))
        .with("types: { v: int64 }")
        .loads("t,site,v\n2020-01-01,s0,1\n2020-01-01,s1,2\n");
    beyond_64_bits: Case::csv(column(&["9223372036854775807", "9223372036854775808"]))
        .with("types: { v: int64 }")
        .loads("t,site,v\n2020-01-01,s0,9223372036854775807\n");
    beyond_64_bits_stays_text: Case::csv(column(&["1", "18446744073709551615"]))
        .loads(column(&["1", "18446744073709551615"]));
    the_largest_float: Case::csv(column(&["1e308", "-1e308", "0.5"]))
        .loads(column(&["1e308", "-1e308", "0.5"]));
    beyond_floats: Case::csv(column(&["1e308", "1e309", "1e-400"]))
        .with("types: { v: float64 }")
        .loads(column(&["1e308"]));
    not_a_number: Case::csv(column(&["0.5", "NaN"])).loads(column(&["0.5", "NaN"]));
    not_a_number_as_float: Case::csv(column(&["0.5", "NaN", "nil"]))
        .with("types: { v: float64 }")
        .loads(column(&["0.5", "NaN"]));
    types_are_kept: Case::csv(TYPED)
        .with(
            "types: { i: int8, f: float64, d: \"decimal(6,2)\", b: bool, day: date, \
             at: timestamp, x: text }",
        )
        .loads(
            "t,site,i,f,d,b,day,at,x\n\
             2020-01-01,a,127,0.5,12.34,true,2020-02-29,2020-01-01T00:00:00Z,007\n\
             2020-01-01,i,,,,,,,\n",
        );
    types_of_no_column: Case::csv(column(&["1"])).with("types: { vv: int64 }");
    types_of_the_time: Case::csv(column(&["1"])).with("types: { t: text }");
    decimal_comma: Case::csv("t;site;v;n\n2020-01-01;a;-1,5;1\n2020-01-01;b;,25;2\n")
        .with("delimiter: \";\", decimal: \",\"")
        .loads("t,site,v,n\n2020-01-01,a,-1.5,1\n2020-01-01,b,0.25,2\n");
    thousands_are_not_separated: Case::csv(
        "t;site;v\n2020-01-01;a;1,5\n2020-01-01;b;1.234,5\n2020-01-01;c;1.234\n",
    )
        .with("delimiter: \";\", decimal: \",\", types: { v: float64 }")
        .loads("t,site,v\n2020-01-01,a,1.5\n");
}
