//! Lines that are no records, and records that look as if they were none.

use super::{Case, cases};

/// `row` between two good ones.
fn between(row: &str) -> String {
    format!("t,site,v\n2020-01-01,a,1\n{row}\n2020-01-01,c,3\n")
}

const AROUND: &str = "t,site,v\n2020-01-01,a,1\n2020-01-01,c,3\n";

fn long(bytes: usize) -> String {
    between(&format!("2020-01-01,{},2", "x".repeat(bytes)))
}

cases! {
    ragged_rows: Case::csv(between("2020-01-01,b\n2020-01-01,b,2,3")).loads(AROUND);
    nul_byte: Case::csv(between("2020-01-01,b\0,2")).loads(AROUND);
    open_quote: Case::csv(between("2020-01-01,\"b,2")).loads(AROUND);
    text_behind_a_quote: Case::csv(between("2020-01-01,\"b\"c,2")).loads(AROUND);
    crlf: Case::csv(between("2020-01-01,b,2").replace('\n', "\r\n"))
        .loads(between("2020-01-01,b,2"));
    mixed_line_ends: Case::csv("t,site,v\r\n2020-01-01,a,1\n2020-01-01,b,2\r\n2020-01-01,c,3")
        .loads(between("2020-01-01,b,2"));
    quoted_newline: Case::csv(between("2020-01-01,\"b\r\nb\",2\nsoon,d,4"))
        .loads(between("2020-01-01,\"b\r\nb\",2"));
    emoji: Case::csv(between("2020-01-01,\u{1f9ca}\u{fe0f},2"))
        .loads(between("2020-01-01,\u{1f9ca}\u{fe0f},2"));
    field_of_a_megabyte: Case::csv(long(1 << 20)).loads(long(1 << 20));
    line_beyond_16_mib: Case::csv(long(16 << 20)).loads(AROUND);
    objects_in_a_file_of_csv: Case::csv("{\"t\":\"2020-01-01\",\"site\":\"a\",\"v\":1}\n");
    avro_in_a_file_of_csv: Case::csv("Obj\u{1}\u{4}\u{14}avro.codec");
    null_key: Case::csv(between("2020-01-01,,2")).loads(AROUND);
    null_time: Case::csv(between(",b,2\nNA,b,2")).with("null: [NA]").loads(AROUND);
}
