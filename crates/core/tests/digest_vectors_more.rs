//! The published test vectors of the types that `retrofill-digest-v1` learnt later.
//!
//! `docs/digest/vectors-more.json` stands beside `vectors.json`, which stays as it is;
//! `RETROFILL_BLESS=1` writes it anew. `docs/digest/digest.py` checks it in CI.

#![allow(clippy::unwrap_used, reason = "a test may stop where it cannot go on")]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use retrofill_core::columns::{Column, ColumnType, Columns, Element, Precision, Role};
use retrofill_core::digest::{Digest, Hasher, Sum};
use retrofill_core::id::hex;
use retrofill_core::memory::{Value as Cell, to_batch};
use serde_json::{Value, json};

const SALT: [u8; 16] = *b"retrofill vector";

const INSTANT: ColumnType = ColumnType::Instant { unit: Precision::Microsecond };

/// The value columns; in the order of their names.
fn types() -> Vec<(&'static str, ColumnType)> {
    let list = |of| ColumnType::Array { of };
    vec![
        ("a_time", ColumnType::Time),
        ("b_uuid", ColumnType::Uuid),
        ("c_json", ColumnType::Json),
        ("d_integers", list(Element::Integer { bits: 64 })),
        ("e_texts", list(Element::Text)),
        ("f_instants", list(Element::Instant { unit: Precision::Microsecond })),
        ("g_jsons", list(Element::Json)),
        ("h_floats", list(Element::Float { bits: 64 })),
    ]
}

fn columns() -> Columns {
    let column =
        |name: &str, ty, role| Column { name: name.into(), ty, role, position: 0, source: None };
    let mut list =
        vec![column("t", INSTANT, Role::Time), column("series", ColumnType::Uuid, Role::Key)];
    list.extend(types().into_iter().map(|(name, ty)| column(name, ty, Role::Value)));
    Columns::new(list).unwrap()
}

/// Documents of which some mean the same.
const DOCUMENTS: [&str; 16] = [
    "null",
    " { \"b\" : [ 1.0 , true,null ], \"a\":{} , \"b\": 2 } ",
    "{\"a\":{},\"b\":2}",
    "[\"\\u20ac$\\u000f\\nA'B\\\"\\\\\\\"\\/\"]",
    "{\"\u{10000}\":1,\"\u{e000}\":2,\"\":3}",
    "\"\\uD83D\\uDE00 \\ud83d\"",
    "[0,-0.0,1e0,4.50,2e-3,0.000001,0.0000001]",
    "[1E30,100000000000000000000,1000000000000000000000,-5e-324]",
    "[9007199254740993,1e400,333333333.33333329,333333333.3333333]",
    "[[],[[]],{}]",
    "\"\"",
    "false",
    "123456789012345678901234567890",
    "[1.7976931348623157e308,2.2250738585072014e-308,0.1,1e-400]",
    "{\"text\":\"e\u{301}\",\"tab\":\"\\t\"}",
    "-12.5e-1",
];

/// Hostile values of each type.
fn corners() -> Vec<Vec<Cell>> {
    let uuids = [[0; 16], [0xff; 16], *b"0123456789abcdef"];
    let list = |values: &[Cell]| Cell::Array(values.to_vec());
    let text = |t: &str| Cell::Text(t.into());
    let json = |t: &str| Cell::Json(t.into());
    let (one, null) = (Cell::Integer(1), Cell::Null);
    vec![
        [0, 1, 999_999, 43_200_000_000, 86_399_999_999, 86_400_000_000].map(Cell::Time).to_vec(),
        uuids.map(Cell::Uuid).to_vec(),
        DOCUMENTS.map(|d| Cell::Json(d.into())).to_vec(),
        vec![
            list(&[]),
            list(std::slice::from_ref(&null)),
            list(&[one.clone(), null.clone(), Cell::Integer(i64::MIN)]),
            list(&vec![one; 300]),
        ],
        vec![list(&[]), list(&[text("")]), list(&[text("a"), null.clone(), text("\u{1f980}")])],
        vec![list(&[Cell::Instant(-1), null]), list(&[Cell::Instant(1_356_998_400_123_456)])],
        vec![list(&[json("{ }"), json("1.0")]), list(&[json("{}"), json("1")])],
        vec![list(&[Cell::Float(f64::NAN), Cell::Float(-0.0)]), list(&[Cell::Float(0.0)])],
    ]
}

/// Each corner alone, then random mixtures of them.
fn rows() -> Vec<Vec<Cell>> {
    let corners = corners();
    let base = |n: usize| {
        let time = Cell::Instant(1_356_998_400_000_000 + n as i64 * 3_600_000_000);
        let mut row = vec![time, Cell::Uuid([n as u8 % 7; 16])];
        row.extend(std::iter::repeat_n(Cell::Null, corners.len()));
        row
    };
    let mut rows = vec![base(0)];
    for (i, list) in corners.iter().enumerate() {
        for cell in list {
            let mut row = base(rows.len());
            row[2 + i] = cell.clone();
            rows.push(row);
        }
    }
    let mut chance = ChaCha8Rng::seed_from_u64(2);
    while rows.len() < 120 {
        let mut row = base(rows.len());
        for (i, list) in corners.iter().enumerate() {
            let pick = chance.next_u32() as usize % (list.len() + 1);
            row[2 + i] = list.get(pick).cloned().unwrap_or(Cell::Null);
        }
        rows.push(row);
    }
    rows
}

fn show(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(v) => json!(v.to_string()),
        Cell::Instant(v) | Cell::Time(v) => json!(v.to_string()),
        Cell::Float(v) => json!(hex(&v.to_bits().to_be_bytes())),
        Cell::Text(v) | Cell::Json(v) => json!(v),
        Cell::Uuid(v) => json!(hex(v)),
        Cell::Array(list) => list.iter().map(show).collect(),
        other => panic!("{other:?} is no value of these vectors"),
    }
}

fn vectors() -> String {
    let (columns, rows) = (columns(), rows());
    let batch = to_batch(&columns, &rows.iter().collect::<Vec<_>>()).unwrap();
    let hashes = Hasher::new(&columns, &SALT).hash(&batch).unwrap();
    let mut digest = Digest::default();
    for hash in &hashes {
        digest.add_row(hash);
    }
    let line = |(row, h): (&Vec<Cell>, &retrofill_core::digest::RowHashes)| {
        let cells: Vec<_> = row.iter().map(show).collect();
        json!({ "row": cells, "key_hash": Sum(h.key).to_hex(), "row_hash": Sum(h.row).to_hex() })
    };
    let list: Vec<_> = rows.iter().zip(&hashes).map(line).collect();
    let unit = |ty| if ty == INSTANT { json!("us") } else { Value::Null };
    let column = |c: &Column| {
        let (ty, unit_of) = (c.ty.common_name(), unit(c.ty));
        let mut shown = json!({ "name": c.name, "type": ty, "role": c.role, "unit": unit_of });
        if let ColumnType::Array { of } = c.ty {
            let of = ColumnType::from(of);
            shown["unit"] = json!([of.common_name(), unit(of)]);
        }
        shown
    };
    let list_of: Vec<_> = columns.iter().map(column).collect();
    let all = json!({
        "encoding": "retrofill-digest-v1", "salt": hex(&SALT), "columns": list_of, "rows": list,
        "digest": { "count": digest.count, "keys": digest.keys.to_hex(),
            "rows": digest.rows.to_hex() },
    });
    serde_json::to_string(&all).unwrap().replace("{\"key_hash\"", "\n{\"key_hash\"") + "\n"
}

#[test]
fn the_published_vectors_hold() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/digest/vectors-more.json");
    let now = vectors();
    if std::env::var_os("RETROFILL_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap();
    assert!(published == now, "the digest of published rows changed: a new version is needed");
}

#[test]
fn values_that_mean_the_same_hash_the_same() {
    let columns = columns();
    let hash = |at: usize, cell: Cell| {
        let mut row = rows()[0].clone();
        row[at] = cell;
        Hasher::new(&columns, &SALT).hash(&to_batch(&columns, &[&row]).unwrap()).unwrap()[0].row
    };
    let json = |text: &str| Cell::Json(text.into());
    assert_eq!(hash(4, json(DOCUMENTS[1])), hash(4, json(DOCUMENTS[2])));
    assert_ne!(hash(4, json("1")), hash(4, json("\"1\"")));
    let jsons = &corners()[6];
    assert_eq!(hash(8, jsons[0].clone()), hash(8, jsons[1].clone()));
    assert_ne!(hash(5, Cell::Array(vec![])), hash(5, Cell::Array(vec![Cell::Null])));
    assert_ne!(hash(5, Cell::Array(vec![])), hash(5, Cell::Null));
}
