//! Keys that are given beside the spec.

use retrofill_core::calendar::Every;
use serde_json::json;

use super::*;

/// Loads a spec with flags `--set`.
pub(super) fn load_given(text: &str, sets: &[&str]) -> Result<Loaded, Problems> {
    let sets: Vec<_> = sets.iter().map(|s| (*s).to_owned()).collect();
    let given = Given { sets: &sets, env: &env };
    understand("backfill.yaml", text, Some("backfill"), Path::new("base"), given)
}

#[test]
fn a_given_key_wins_and_is_kept() {
    let sets = [
        "range.every=1mo",
        "rows.key=[origin, dest]",
        "source.csv.time_format=%d.%m.%Y",
        "limits={ concurrency: 2 }",
        "name=other",
        "write.mode=${MODE:-upsert}",
    ];
    let loaded = load_given(SMALLEST, &sets).unwrap();
    let spec = &loaded.spec;
    assert_eq!((spec.name.as_str(), spec.range.every), ("other", Some(Every::Months(1))));
    assert_eq!(spec.rows.key.as_deref(), Some(&["origin".to_owned(), "dest".into()][..]));
    assert_eq!(spec.source.settings["time_format"], "%d.%m.%Y");
    assert_eq!((spec.limits.concurrency, spec.write.mode), (Some(2), Mode::Upsert));
    assert_eq!(loaded.raw["range"]["every"], "1mo");
    assert_eq!(loaded.raw["write"]["mode"], "${MODE:-upsert}");
    let again = load_text(&loaded.raw.to_string()).unwrap();
    assert_eq!(again.spec, loaded.spec);
    assert_eq!(loaded.places["rows.key"], "--set");
    assert_eq!(loaded.places["rows.time"], "backfill.yaml:3:9");
}

#[test]
fn each_item_of_a_list_has_a_place() {
    let places = load_text(SMALLEST).unwrap().places;
    assert_eq!(places["rows.key.0"], "backfill.yaml:3:32");
}

#[test]
fn a_problem_points_to_its_flag_and_shows_no_address() {
    let sets = [
        "range.evry=1d",
        "range.every=1m",
        "source.csv.types={ a: int46 }",
        "rows.time.x=1",
        "limits",
        "notify=[{ url: 'https://example.org/sesame', on: never }]",
    ];
    let found = load_given(&format!("{SMALLEST}nam: x\n"), &sets).unwrap_err();
    insta::assert_snapshot!(found);
    let json = found.json();
    assert_eq!(json[0]["line"], 4);
    let flag = json.as_array().unwrap().iter().find(|p| p["set"] == "range.every=1m").unwrap();
    assert_eq!((&flag["line"], &flag["column"]), (&json!(null), &json!(null)));
    assert!(!json.to_string().contains("sesame"), "{json}");
}
