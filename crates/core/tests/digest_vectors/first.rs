//! The vectors of the types of the first version, `vectors.json`, and damage to their rows.

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use retrofill_core::columns::{ColumnType, Columns, Precision};
use retrofill_core::digest::Digest;
use retrofill_core::memory::{Row, Value as Cell};

use crate::published;

fn columns() -> Columns {
    let types = [
        ("a_bool", ColumnType::Bool),
        ("b_integer", ColumnType::Integer { bits: 64 }),
        ("c_decimal", ColumnType::Decimal { precision: 38, scale: 6 }),
        ("d_float", ColumnType::Float { bits: 64 }),
        ("e_text", ColumnType::Text),
        ("f_bytes", ColumnType::Bytes),
        ("g_date", ColumnType::Date),
        ("h_instant", ColumnType::Instant { unit: Precision::Microsecond }),
        ("i_nanos", ColumnType::Instant { unit: Precision::Nanosecond }),
    ];
    published::columns(ColumnType::Text, &types)
}

fn digest(rows: &[Row]) -> Digest {
    published::digest(&columns(), rows)
}

/// Hostile values of each type.
fn corners() -> [Vec<Cell>; 9] {
    let texts = ["", "NULL", " a ", "\u{e9}", "e\u{301}", "\u{1f980}", "a\u{0}b"];
    let mut texts: Vec<_> = texts.iter().map(|s| Cell::Text((*s).into())).collect();
    texts.push(Cell::Text("x".repeat(300)));
    let large = 123_456_789_012_345_678_901_234_567_890;
    [
        vec![Cell::Bool(false), Cell::Bool(true)],
        [0, 1, -1, 255, 256, -256, i64::from(i32::MIN), i64::MAX, i64::MIN]
            .map(Cell::Integer)
            .to_vec(),
        [0, 1, -1, 1_000_000, 10, 127, 128, -128, -129, large].map(Cell::Decimal).to_vec(),
        [0.0, -0.0, 1.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, 5e-324, 0.1]
            .map(Cell::Float)
            .to_vec(),
        texts,
        vec![Cell::Bytes(vec![]), Cell::Bytes(vec![0]), Cell::Bytes(vec![0xff, 0x00, 0x05])],
        [0, 1, -1, 19_000, i32::MIN, i32::MAX].map(Cell::Date).to_vec(),
        [0, 1, -1, 999_999, 1_000_000, -1_000_000, 1_356_998_400_123_456, i64::MIN, i64::MAX]
            .map(Cell::Instant)
            .to_vec(),
        [0, 1, -1, 999_999_999, 1_000_000_000, -1_000_000_001, i64::MAX]
            .map(Cell::Instant)
            .to_vec(),
    ]
}

fn vector_rows() -> Vec<Row> {
    published::rows(&corners(), |n| Cell::Text(format!("s{}", n % 7)), 1, 240)
}

#[test]
fn the_published_vectors_hold() {
    assert!(vector_rows().len() >= 200);
    published::check("vectors.json", &columns(), &vector_rows());
}

#[test]
fn values_that_mean_the_same_hash_the_same() {
    let with = |i: usize, cell: Cell| {
        let mut row = vector_rows()[0].clone();
        row[i] = cell;
        digest(&[row]).rows
    };
    assert_eq!(with(5, Cell::Float(0.0)), with(5, Cell::Float(-0.0)));
    let other_nan = f64::from_bits(0x7ff8_0000_0000_0001);
    assert_eq!(with(5, Cell::Float(f64::NAN)), with(5, Cell::Float(other_nan)));
    assert_ne!(with(6, Cell::Text(String::new())), with(6, Cell::Null));
    assert_ne!(with(6, Cell::Text("\u{e9}".into())), with(6, Cell::Text("e\u{301}".into())));
}

/// Damages the rows in one of the ways that happen; says which.
fn corrupt(rows: &mut Vec<Row>, chance: &mut ChaCha8Rng) -> &'static str {
    let mut pick = |n: usize| chance.next_u32() as usize % n;
    let (kind, at, other, cell) = (pick(8), pick(rows.len()), pick(rows.len()), 1 + pick(10));
    let (bit, sign) = (pick(1 << 30), if pick(2) == 0 { 1 } else { -1 });
    let shift = |row: &mut Row, by: i64| {
        if let Cell::Instant(t) = &mut row[0] {
            *t += by;
        }
    };
    match kind {
        0 => {
            flip(&mut rows[at][cell], bit);
            "bit flip"
        }
        1 => {
            rows.remove(at);
            "dropped"
        }
        2 => {
            rows.push(rows[at].clone());
            "doubled"
        }
        3 => {
            let (a, b) = (rows[at][cell].clone(), rows[other][cell].clone());
            rows[at][cell] = b;
            rows[other][cell] = a;
            "swapped"
        }
        4 => {
            shift(&mut rows[at], sign);
            "+-1 us"
        }
        5 => {
            shift(&mut rows[at], sign * 3_600_000_000);
            "+-1 h"
        }
        6 => {
            let empty = Cell::Text(String::new());
            rows[at][6] = if rows[at][6] == Cell::Null { empty } else { Cell::Null };
            "NULL <-> empty"
        }
        _ => {
            rows[at] = rows[other].clone();
            "replaced by another"
        }
    }
}

fn flip(cell: &mut Cell, bit: usize) {
    match cell {
        Cell::Null => {}
        Cell::Bool(v) => *v = !*v,
        Cell::Integer(v) | Cell::Instant(v) => *v ^= 1 << (bit % 63),
        Cell::Decimal(v) => *v ^= 1 << (bit % 90),
        Cell::Float(v) => *v = f64::from_bits(v.to_bits() ^ (1 << (bit % 64))),
        Cell::Text(v) => v.push('\u{1}'),
        Cell::Bytes(v) => v.push(bit as u8),
        Cell::Date(v) => *v ^= 1 << (bit % 31),
        other => panic!("{other:?} is no value of these vectors"),
    }
}

/// The rows as a sorted multiset of text: what "the same rows" means, without any hash. Floats
/// are taken as the encoding takes them.
fn multiset(rows: &[Row]) -> Vec<String> {
    let cell = |c: &Cell| match c {
        Cell::Float(v) if v.is_nan() => "NaN".to_owned(),
        Cell::Float(v) => format!("{:?}", v + 0.0),
        other => format!("{other:?}"),
    };
    let mut list: Vec<_> =
        rows.iter().map(|r| r.iter().map(cell).collect::<Vec<_>>().join("|")).collect();
    list.sort_unstable();
    list
}

#[test]
fn every_corruption_is_found() {
    let wanted: u32 =
        std::env::var("RETROFILL_CORRUPTIONS").ok().map_or(10_000, |n| n.parse().unwrap());
    let mut chance = ChaCha8Rng::seed_from_u64(7);
    let all = vector_rows();
    let (mut found, mut kinds) = (0, std::collections::BTreeMap::new());
    while found < wanted {
        let from = chance.next_u32() as usize % (all.len() - 12);
        let good = &all[from..from + 12];
        let mut bad = good.to_vec();
        let kind = corrupt(&mut bad, &mut chance);
        let same = multiset(good) == multiset(&bad);
        let equal = digest(good).matches(&digest(&bad));
        assert_eq!(same, equal, "{kind}: {good:?} became {bad:?}");
        if !same {
            found += 1;
            *kinds.entry(kind).or_insert(0_u32) += 1;
        }
    }
    println!("{found} corruptions, all found: {kinds:?}");
    assert!(kinds.len() == 8 && kinds.values().all(|n| *n > wanted / 40), "{kinds:?}");
}

proptest! {
    /// Neither the order of rows nor how they come in batches changes a digest.
    #[test]
    fn order_and_batches_do_not_matter(seed: u64, cut in 1_usize..239) {
        let mut rows = vector_rows();
        let whole = digest(&rows);
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        for i in (1..rows.len()).rev() {
            rows.swap(i, chance.next_u64() as usize % (i + 1));
        }
        let mut sum = digest(&rows[..cut]);
        sum.add(&digest(&rows[cut..]));
        prop_assert!(sum.matches(&whole));
    }
}
