//! The vectors of the types that `retrofill-digest-v1` learnt later, `vectors-more.json`: it stands
//! beside `vectors.json`, which stays as it is.

use retrofill_core::columns::{ColumnType, Columns, Element, Precision};
use retrofill_core::memory::{Row, Value as Cell};

use crate::published;

fn columns() -> Columns {
    let list = |of| ColumnType::Array { of };
    let types = [
        ("a_time", ColumnType::Time),
        ("b_uuid", ColumnType::Uuid),
        ("c_json", ColumnType::Json),
        ("d_integers", list(Element::Integer { bits: 64 })),
        ("e_texts", list(Element::Text)),
        ("f_instants", list(Element::Instant { unit: Precision::Microsecond })),
        ("g_jsons", list(Element::Json)),
        ("h_floats", list(Element::Float { bits: 64 })),
    ];
    published::columns(ColumnType::Uuid, &types)
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

fn rows() -> Vec<Row> {
    published::rows(&corners(), |n| Cell::Uuid([n as u8 % 7; 16]), 2, 120)
}

#[test]
fn the_published_vectors_hold() {
    published::check("vectors-more.json", &columns(), &rows());
}

#[test]
fn values_that_mean_the_same_hash_the_same() {
    let columns = columns();
    let hash = |at: usize, cell: Cell| {
        let mut row = rows()[0].clone();
        row[at] = cell;
        published::hashes(&columns, &[row])[0].row
    };
    let json = |text: &str| Cell::Json(text.into());
    assert_eq!(hash(4, json(DOCUMENTS[1])), hash(4, json(DOCUMENTS[2])));
    assert_ne!(hash(4, json("1")), hash(4, json("\"1\"")));
    let jsons = &corners()[6];
    assert_eq!(hash(8, jsons[0].clone()), hash(8, jsons[1].clone()));
    assert_ne!(hash(5, Cell::Array(vec![])), hash(5, Cell::Array(vec![Cell::Null])));
    assert_ne!(hash(5, Cell::Array(vec![])), hash(5, Cell::Null));
}
