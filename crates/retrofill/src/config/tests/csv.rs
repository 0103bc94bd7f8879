//! What a CSV source is told.

use super::{FULL, SMALLEST, load_text};

#[test]
fn every_csv_setting_decides_which_rows_are_meant() {
    let with = |more: &str| {
        let text = SMALLEST.replace("null: [\"NA\"]", &format!("delimiter: \";\"{more}"));
        load_text(&text).unwrap().spec.hash()
    };
    let plain = with("");
    for (given, is_default) in [
        (", encoding: utf-8, decimal: \".\", schema: strict, types: {}", true),
        (", encoding: latin-1", false),
        (", decimal: \",\"", false),
        (", schema: union", false),
        (", types: { a: text }", false),
        (", compression: zstd", false),
    ] {
        assert_eq!(with(given) == plain, is_default, "{given}");
    }
}

#[test]
fn each_key_knows_its_place() {
    let places = load_text(FULL).unwrap().places;
    assert_eq!(places["source.csv.types.phase"], "backfill.yaml:18:36");
}
