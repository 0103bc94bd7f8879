//! Files that are not there, or hold nothing.

use super::{Case, cases};

cases! {
    missing_file: Case::nothing().with("path: data/2020.csv");
    empty_pattern: Case::nothing().with("path: \"data/*.csv\"");
    a_directory: Case::nothing().with("path: data");
    empty_file: Case::csv("t,site,v\n2020-01-01,a,1\n").file("b.csv", "");
    only_blank_lines: Case::csv("\n\r\n\n");
    header_only: Case::csv("t,site,v\n");
    header_without_end: Case::csv("t,\"site,v\n2020-01-01,a,1\n");
    names_that_differ_in_case: Case::csv("t,site,Site,v\n2020-01-01,a,b,1\n");
    path_with_spaces: Case::nothing()
        .file("two words, and more.csv", "t,site,v\n2020-01-01,a,1\n")
        .with("path: \"data/two words, and more.csv\"")
        .loads("t,site,v\n2020-01-01,a,1\n");
    same_rows_in_two_files: Case::csv("t,site,v\n2020-01-01,a,1\n2020-01-01,b,2\n")
        .file("b.csv", "t,site,v\n2020-01-01,b,2\n2020-01-01,c,3\n2020-01-01,a,7\n")
        .loads("t,site,v\n2020-01-01,b,2\n2020-01-01,c,3\n");
}
