//! What both lists of vectors share. Other implementations check themselves against them;
//! `RETROFILL_BLESS=1` writes them anew. `docs/digest/digest.py` checks them in CI.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::digest::{Digest, Hasher, RowHashes, Sum};
use retrofill_core::id::hex;
use retrofill_core::memory::{Row, Value as Cell, to_batch};
use serde_json::{Value, json};

pub(super) const SALT: [u8; 16] = *b"retrofill vector";
pub(super) const INSTANT: ColumnType = ColumnType::Instant { unit: Precision::Microsecond };

/// Time, a key of this type, and these values, which are in the order of their names.
pub(super) fn columns(key: ColumnType, values: &[(&str, ColumnType)]) -> Columns {
    let column =
        |name: &str, ty, role| Column { name: name.into(), ty, role, position: 0, source: None };
    let mut list = vec![column("t", INSTANT, Role::Time), column("series", key, Role::Key)];
    list.extend(values.iter().map(|(name, ty)| column(name, *ty, Role::Value)));
    Columns::new(list).unwrap()
}

pub(super) fn hashes(columns: &Columns, rows: &[Row]) -> Vec<RowHashes> {
    let batch = to_batch(columns, &rows.iter().collect::<Vec<_>>()).unwrap();
    Hasher::new(columns, &SALT).hash(&batch).unwrap()
}

pub(super) fn digest(columns: &Columns, rows: &[Row]) -> Digest {
    let mut digest = Digest::default();
    for hash in &hashes(columns, rows) {
        digest.add_row(hash);
    }
    digest
}

/// As many rows as wanted: each of the hostile values alone, then random mixtures of them.
pub(super) fn rows(
    corners: &[Vec<Cell>],
    key: impl Fn(usize) -> Cell,
    seed: u64,
    wanted: usize,
) -> Vec<Row> {
    let base = |n: usize| {
        let time = Cell::Instant(1_356_998_400_000_000 + n as i64 * 3_600_000_000);
        let mut row = vec![time, key(n)];
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
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    while rows.len() < wanted {
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
        Cell::Bool(v) => json!(v),
        Cell::Integer(v) | Cell::Instant(v) | Cell::Time(v) => json!(v.to_string()),
        Cell::Decimal(v) => json!(v.to_string()),
        Cell::Float(v) => json!(hex(&v.to_bits().to_be_bytes())),
        Cell::Text(v) | Cell::Json(v) => json!(v),
        Cell::Bytes(v) => json!(hex(v)),
        Cell::Uuid(v) => json!(hex(v)),
        Cell::Date(v) => json!(v),
        Cell::Array(list) => list.iter().map(show).collect(),
    }
}

/// What a reader must know of a type besides its name.
fn unit(ty: ColumnType) -> Value {
    match ty {
        ColumnType::Instant { unit: Precision::Nanosecond } => json!("ns"),
        ColumnType::Instant { .. } => json!("us"),
        ColumnType::Decimal { scale, .. } => json!(scale),
        ColumnType::Array { of } => {
            let of = ColumnType::from(of);
            json!([of.common_name(), unit(of)])
        }
        _ => Value::Null,
    }
}

/// Fails where these rows do not hash as the file in `docs/digest` says.
pub(super) fn check(file: &str, columns: &Columns, rows: &[Row]) {
    let line = |(row, h): (&Row, &RowHashes)| {
        let cells: Vec<_> = row.iter().map(show).collect();
        json!({ "row": cells, "key_hash": Sum(h.key).to_hex(), "row_hash": Sum(h.row).to_hex() })
    };
    let list: Vec<_> = rows.iter().zip(&hashes(columns, rows)).map(line).collect();
    let column = |c: &Column| {
        let ty = c.ty.common_name();
        json!({ "name": c.name, "type": ty, "role": c.role, "unit": unit(c.ty) })
    };
    let d = digest(columns, rows);
    let all = json!({
        "encoding": "retrofill-digest-v1", "salt": hex(&SALT),
        "columns": columns.iter().map(column).collect::<Vec<_>>(), "rows": list,
        "digest": { "count": d.count, "keys": d.keys.to_hex(), "rows": d.rows.to_hex() },
    });
    let now = serde_json::to_string(&all).unwrap();
    let now = now.replace("{\"key_hash\"", "\n{\"key_hash\"") + "\n";
    let path = format!("{}/../../docs/digest/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("RETROFILL_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap();
    assert!(published == now, "the digest of published rows changed: a new version is needed");
}
