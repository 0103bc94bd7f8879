//! Some neighbouring rows, read by one statement: SQLite shows one state of the table to it, and
//! keeps nobody waiting once it is done.

use retrofill_core::error::Result;
use retrofill_core::survey::Block;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::Shared;
use super::cells::{Cells, Reading};
use super::table::Table;

/// The first number there is.
pub(super) const FIRST: u64 = 0;

/// A row's number in an order of unsigned ones.
fn place(number: i64) -> u64 {
    (number as u64) ^ (1 << 63)
}

/// The last place of a block. One that spans all places there are has the length 0.
pub(super) fn end(block: &Block) -> u64 {
    block.offset + block.length.wrapping_sub(1)
}

/// The number of a place.
fn number(place: u64) -> i64 {
    (place ^ (1 << 63)) as i64
}

/// What a person calls the place.
pub(super) fn line(table: &Table, place: u64) -> Option<u64> {
    if table.is_numbered() { u64::try_from(number(place)).ok() } else { Some(place + 1) }
}

/// Reads some columns of a table.
pub(super) struct Eye<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    pub(super) table: &'a Table,
    sql: String,
    width: usize,
    seed: u64,
}

/// Where to begin and where to end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stretch {
    /// At this place, as far as a block goes.
    From(u64),
    /// From this place to that, both of them.
    Between(u64, u64),
}

/// Rows, in their order.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The place of each.
    pub(super) places: Vec<u64>,
    /// The columns that were asked for.
    pub(super) columns: Vec<Cells>,
    /// Bytes of all values.
    pub(super) bytes: u64,
    /// Hash of all values, hex.
    pub(super) hash: String,
}

impl<'a> Eye<'a> {
    /// `names` are columns that the table has.
    pub(super) fn new(
        shared: &'a Shared,
        connection: &'a Connection,
        table: &'a Table,
        names: &[&str],
    ) -> Self {
        let declared = names.iter().map(|name| {
            let words = table.column(name).map_or("", |c| c.words.as_str());
            format!("{name}\0{words}\0")
        });
        // Other columns would give the same values another meaning.
        let seed = xxh3_64(declared.collect::<String>().as_bytes());
        let sql = table.stretch_sql(names.iter().copied());
        Eye { shared, connection, table, sql, width: names.len(), seed }
    }

    /// The rows of a stretch.
    pub(super) fn read(&self, stretch: Stretch) -> Result<Chunk> {
        self.shared.had(self.rows(stretch))
    }

    fn rows(&self, stretch: Stretch) -> rusqlite::Result<Chunk> {
        let sizes = &self.shared.sizes;
        let numbered = self.table.is_numbered();
        let parameters = match stretch {
            Stretch::From(at) if numbered => [number(at), i64::MAX],
            Stretch::From(at) => [at as i64, sizes.rows as i64],
            Stretch::Between(from, to) if numbered => [number(from), number(to)],
            Stretch::Between(from, to) => [from as i64, (to - from + 1) as i64],
        };
        let open = matches!(stretch, Stretch::From(_));
        let mut statement = self.connection.prepare_cached(&self.sql)?;
        let mut rows = statement.query(parameters)?;
        let mut hash = Xxh3::with_seed(self.seed);
        let mut columns: Vec<Reading> = (0..self.width).map(|_| Reading::default()).collect();
        let (mut places, mut bytes) = (Vec::new(), 0);
        while !open || (places.len() < sizes.rows && bytes < sizes.bytes) {
            let Some(row) = rows.next()? else { break };
            let at = match stretch {
                _ if numbered => place(row.get(0)?),
                Stretch::From(at) | Stretch::Between(at, _) => at + places.len() as u64,
            };
            hash.update(&at.to_le_bytes());
            for (i, column) in columns.iter_mut().enumerate() {
                let value = row.get_ref(i + 1)?;
                bytes += stir(&mut hash, value);
                column.push(value);
            }
            places.push(at);
        }
        let columns = columns.into_iter().map(Reading::finish).collect();
        Ok(Chunk { places, columns, bytes, hash: format!("{:032x}", hash.digest128()) })
    }
}

/// Adds a value to a hash, so that no two lists of values give the same bytes; tells its length.
fn stir(hash: &mut Xxh3, value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Null => {
            hash.update(&[0]);
            1
        }
        ValueRef::Integer(n) => {
            hash.update(&[1]);
            hash.update(&n.to_le_bytes());
            8
        }
        ValueRef::Real(n) => {
            hash.update(&[2]);
            hash.update(&n.to_bits().to_le_bytes());
            8
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            hash.update(&[if matches!(value, ValueRef::Text(_)) { 3 } else { 4 }]);
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
            bytes.len() as u64
        }
    }
}

impl Chunk {
    /// A row as comma-separated values.
    pub(super) fn text(&self, row: usize) -> String {
        let values = self.columns.iter().map(|c| c.text(row).unwrap_or_default());
        values.collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_numbers() {
        let numbers = [i64::MIN, -1, 0, 1, i64::MAX];
        let places = numbers.map(place);
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(places.map(number), numbers);
        assert_eq!(places[0], FIRST);
    }

    #[test]
    fn other_values_are_other_bytes() {
        use ValueRef as V;
        let of = |values: &[V<'_>]| {
            let mut hash = Xxh3::new();
            for value in values {
                stir(&mut hash, *value);
            }
            hash.digest128()
        };
        let lists: [&[V<'_>]; 6] = [
            &[V::Text(b"ab"), V::Text(b"c")],
            &[V::Text(b"a"), V::Text(b"bc")],
            &[V::Text(b"a"), V::Blob(b"bc")],
            &[V::Integer(1)],
            &[V::Real(1.0)],
            &[V::Null],
        ];
        let mut hashes = lists.map(of).to_vec();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), lists.len());
    }
}
