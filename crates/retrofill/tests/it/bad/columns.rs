//! Columns that are doubled, missing, too many, or in another order.

use super::{Case, cases};

const TWO: &str = "t,site,v\n2020-01-01,a,1\n2020-01-02,b,2\n";

fn wide(columns: usize) -> String {
    let names: Vec<_> = (0..columns - 2).map(|n| format!("c{n}")).collect();
    let values: Vec<_> = (0..columns - 2).map(|n| n.to_string()).collect();
    format!("t,site,{}\n2020-01-01,a,{}\n", names.join(","), values.join(","))
}

cases! {
    doubled_column: Case::csv("t,site,v,v\n2020-01-01,a,1,2\n");
    nameless_column: Case::csv("t,site,\n2020-01-01,a,1\n");
    time_that_is_not_there: Case::csv("T,site,v\n2020-01-01,a,1\n");
    too_many_columns: Case::csv(wide(5_000));
    as_many_columns_as_possible: Case::csv(wide(4_096)).loads(wide(4_096));
    another_order: Case::csv("t,site,v\n2020-01-01,a,1\n")
        .file("b.csv", "v,t,site\n2,2020-01-02,b\n")
        .loads(TWO);
    strict_with_less: Case::csv("t,site,v\n2020-01-01,a,1\n")
        .file("b.csv", "site,t\nb,2020-01-02\n");
    strict_with_more: Case::csv("t,site\n2020-01-01,a\n").file("b.csv", TWO);
    union: Case::csv("t,site,v\n2020-01-01,a,1\n")
        .file("b.csv", "w,site,t\nx,b,2020-01-02\n")
        .file("c.csv", "v,t,site,w\n3,2020-01-03,c,\n4,2020-01-04,c\n")
        .with("schema: union")
        .loads("t,site,v,w\n2020-01-01,a,1,\n2020-01-02,b,,x\n2020-01-03,c,3,\n");
    union_without_time: Case::csv("t,site,v\n2020-01-01,a,1\n")
        .file("b.csv", "site,v\nb,2\n")
        .with("schema: union");
    union_without_key: Case::csv("t,site,v\n2020-01-01,a,1\n")
        .file("b.csv", "t,v\n2020-01-02,2\n")
        .with("schema: union")
        .loads("t,site,v\n2020-01-01,a,1\n");
}
