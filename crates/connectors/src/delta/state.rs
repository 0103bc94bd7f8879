//! The table as of one version: its active files, found by time, and its transactions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use retrofill_core::connector::FieldType;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::PlanId;
use retrofill_core::interval::Interval;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::receipts;
use super::schema::{self, Metadata, Protocol};
use super::stats;

/// An active data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataFile {
    /// Its path below the table.
    pub(super) path: Arc<str>,
    /// Bytes, as recorded.
    pub(super) size: u64,
    /// Rows, where the writer said.
    pub(super) rows: Option<u64>,
    /// Lowest and highest time in microseconds, by column.
    times: Vec<(Arc<str>, i64, i64)>,
}

impl DataFile {
    /// A file that is in no log entry yet.
    pub(super) fn new(path: &str, size: u64, rows: Option<u64>) -> Self {
        DataFile { path: path.into(), size, rows, times: Vec::new() }
    }

    /// The range of a column of times; none where the statistics do not say.
    pub(super) fn times(&self, column: &str) -> Option<(i64, i64)> {
        self.times.iter().find(|(name, _, _)| &**name == column).map(|(_, low, high)| (*low, *high))
    }

    /// Whether it may hold rows of the interval: without statistics it may hold anything.
    pub(super) fn may_hold(&self, column: &str, interval: &Interval) -> bool {
        let (first, end) = micros(interval);
        self.rows != Some(0)
            && self.times(column).is_none_or(|(low, high)| low < end && first <= high)
    }
}

/// The interval's bounds in whole microseconds.
pub(super) fn micros(interval: &Interval) -> (i64, i64) {
    interval.bounds(arrow::datatypes::TimeUnit::Microsecond)
}

/// One line of a log entry or one row of a checkpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    pub(super) add: Option<AddLine>,
    pub(super) remove: Option<RemoveLine>,
    pub(super) meta_data: Option<Metadata>,
    pub(super) protocol: Option<Protocol>,
    pub(super) txn: Option<TxnLine>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddLine {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) stats: Option<String>,
    pub(super) deletion_vector: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RemoveLine {
    pub(super) path: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TxnLine {
    pub(super) app_id: String,
    pub(super) version: i64,
}

/// What one version changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) added: Vec<Arc<DataFile>>,
    pub(super) removed: Vec<Arc<DataFile>>,
}

/// The table as of one version.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The version.
    pub(super) version: u64,
    /// Counts up whenever what was known before cannot be continued: another table, other
    /// columns. A load that began in another epoch must begin anew.
    pub(super) epoch: u64,
    /// The version of the checkpoint this was read from; 0 where there was none.
    pub(super) checkpoint: u64,
    pub(super) protocol: Protocol,
    pub(super) metadata: Metadata,
    /// The table's columns.
    pub(super) fields: Vec<FieldType>,
    files: HashMap<Arc<str>, Arc<DataFile>>,
    txns: BTreeMap<String, i64>,
    /// By plan, the sum of its slices' generations.
    plans: BTreeMap<PlanId, i64>,
    changes: Vec<Change>,
    indexes: HashMap<String, TimeIndex>,
    names: HashSet<Arc<str>>,
}

impl State {
    /// Takes the lines of one log entry, or of a checkpoint.
    pub(super) fn apply(&mut self, version: u64, lines: Vec<Line>) -> Result<()> {
        let mut change = Change { version, ..Change::default() };
        let mut adds = Vec::new();
        let (mut metadata, mut protocol) = (None, None);
        for line in lines {
            if let Some(remove) = line.remove {
                change.removed.extend(self.remove(&decode(&remove.path)?));
            }
            adds.extend(line.add);
            metadata = line.meta_data.or(metadata);
            protocol = line.protocol.or(protocol);
            if let Some(txn) = line.txn {
                let plan = receipts::parse_app_id(&txn.app_id);
                let before = self.txns.insert(txn.app_id, txn.version).unwrap_or(0);
                if let Some((plan, _)) = plan {
                    *self.plans.entry(plan).or_default() += txn.version - before;
                }
            }
        }
        for add in adds {
            let file = self.file(add)?;
            change.removed.extend(self.remove(&file.path));
            self.insert(&file);
            change.added.push(file);
        }
        if metadata.is_some() || protocol.is_some() {
            self.metadata = metadata.unwrap_or(std::mem::take(&mut self.metadata));
            self.protocol = protocol.unwrap_or(std::mem::take(&mut self.protocol));
            self.fields = schema::fields(&self.protocol, &self.metadata)?;
            self.epoch += 1;
        }
        self.version = version;
        self.changes.push(change);
        Ok(())
    }

    fn file(&mut self, add: AddLine) -> Result<Arc<DataFile>> {
        if add.deletion_vector.is_some_and(|v| !v.is_null()) {
            return Err(Error::config(format!("file `{}` has a deletion vector", add.path))
                .hint("retrofill does not read such tables; purge the deleted rows first"));
        }
        let stats = stats::parse(add.stats.as_deref());
        let mut times = Vec::new();
        for name in stats.get("minValues").and_then(Value::as_object).iter().flat_map(|o| o.keys())
        {
            if let Some((low, high)) = stats::time_bounds(&stats, name) {
                times.push((self.intern(name), low, high));
            }
        }
        Ok(Arc::new(DataFile {
            path: decode(&add.path)?.into(),
            size: add.size,
            rows: stats.get("numRecords").and_then(Value::as_u64),
            times,
        }))
    }

    fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.names.insert(new.clone());
        new
    }

    fn insert(&mut self, file: &Arc<DataFile>) {
        self.files.insert(file.path.clone(), file.clone());
        for (column, index) in &mut self.indexes {
            index.insert(file, file.times(column));
        }
    }

    fn remove(&mut self, path: &str) -> Option<Arc<DataFile>> {
        let file = self.files.remove(path)?;
        for (column, index) in &mut self.indexes {
            index.remove(&file, file.times(column));
        }
        Some(file)
    }

    /// The active file of this path.
    pub(super) fn active(&self, path: &str) -> Option<&Arc<DataFile>> {
        self.files.get(path)
    }

    /// All active files, by path.
    pub(super) fn all(&self) -> Vec<Arc<DataFile>> {
        let mut list: Vec<_> = self.files.values().cloned().collect();
        list.sort_by(|a, b| a.path.cmp(&b.path));
        list
    }

    /// The active files that may hold rows of the interval, by path.
    pub(super) fn overlapping(&mut self, column: &str, interval: &Interval) -> Vec<Arc<DataFile>> {
        if !self.indexes.contains_key(column) {
            let mut index = TimeIndex::default();
            for file in self.files.values() {
                index.insert(file, file.times(column));
            }
            self.indexes.insert(column.to_owned(), index);
        }
        let mut found = self.indexes[column].overlapping(micros(interval));
        found.retain(|f| f.rows != Some(0));
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// The version of an application's last transaction.
    pub(super) fn txn(&self, app_id: &str) -> Option<i64> {
        self.txns.get(app_id).copied()
    }

    /// Every application's last transaction.
    pub(super) fn txns(&self) -> impl Iterator<Item = (&str, i64)> {
        self.txns.iter().map(|(app_id, version)| (app_id.as_str(), *version))
    }

    /// How many generations of slices other plans have committed.
    pub(super) fn commits_of_others(&self, plan: &PlanId) -> u64 {
        let others = self.plans.iter().filter(|(other, _)| *other != plan);
        others.map(|(_, sum)| *sum).sum::<i64>().max(0) as u64
    }

    /// Whether an application whose id begins so has a transaction.
    pub(super) fn has_txn_below(&self, prefix: &str) -> bool {
        let mut from = self.txns.range(prefix.to_owned()..);
        from.next().is_some_and(|(app_id, _)| app_id.starts_with(prefix))
    }

    /// What the versions after this one changed; none where that is no longer known.
    pub(super) fn since(&self, version: u64) -> Option<&[Change]> {
        let first = self.changes.first()?.version;
        if version + 1 < first {
            return None;
        }
        Some(&self.changes[self.changes.partition_point(|c| c.version <= version)..])
    }

    /// Forgets the changes up to here.
    pub(super) fn forget_changes(&mut self) {
        self.changes.clear();
        self.changes.push(Change { version: self.version, ..Change::default() });
    }
}

fn decode(path: &str) -> Result<String> {
    let decoded = percent_decode_str(path).decode_utf8().map_err(|e| {
        Error::config(format!("the path `{path}` in the log is not UTF-8")).because(e)
    })?;
    if decoded.starts_with('/') || decoded.contains("://") || decoded.split('/').any(|p| p == "..")
    {
        return Err(Error::config(format!("the file `{path}` lies outside the table"))
            .hint("shallow clones are not supported; copy the table"));
    }
    Ok(decoded.into_owned())
}

/// Files by time. Files are kept apart by the length of their range in powers of two, so that
/// one file over ten years does not make the search for an hour look at ten years.
#[derive(Debug, Default)]
struct TimeIndex {
    classes: BTreeMap<u32, Class>,
    unknown: HashMap<Arc<str>, Arc<DataFile>>,
}

/// By lowest time and path: the highest time and the file.
type Class = BTreeMap<(i64, Arc<str>), (i64, Arc<DataFile>)>;

fn class(low: i64, high: i64) -> u32 {
    64 - high.abs_diff(low).leading_zeros()
}

impl TimeIndex {
    fn insert(&mut self, file: &Arc<DataFile>, times: Option<(i64, i64)>) {
        match times {
            Some((low, high)) => {
                let class = self.classes.entry(class(low, high)).or_default();
                class.insert((low, file.path.clone()), (high, file.clone()));
            }
            None => {
                self.unknown.insert(file.path.clone(), file.clone());
            }
        }
    }

    fn remove(&mut self, file: &Arc<DataFile>, times: Option<(i64, i64)>) {
        match times {
            Some((low, high)) => {
                if let Some(class) = self.classes.get_mut(&class(low, high)) {
                    class.remove(&(low, file.path.clone()));
                }
            }
            None => {
                self.unknown.remove(&file.path);
            }
        }
    }

    fn overlapping(&self, (first, end): (i64, i64)) -> Vec<Arc<DataFile>> {
        let mut found: Vec<_> = self.unknown.values().cloned().collect();
        for (class, files) in &self.classes {
            let longest = 1_i64.checked_shl(*class).filter(|n| *n > 0).unwrap_or(i64::MAX);
            let from = (first.saturating_sub(longest), Arc::from(""));
            let to = (end, Arc::from(""));
            let hits = files.range(from..to).filter(|(_, (high, _))| first <= *high);
            found.extend(hits.map(|(_, (_, file))| file.clone()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(path: &str, low: i64, high: i64) -> Line {
        let text = |n| jiff::Timestamp::from_microsecond(n).unwrap().to_string();
        let stats = serde_json::json!({
            "numRecords": 1, "minValues": {"t": text(low)}, "maxValues": {"t": text(high)},
        });
        let add = AddLine {
            path: path.into(),
            size: 1,
            stats: Some(stats.to_string()),
            deletion_vector: None,
        };
        Line { add: Some(add), ..Line::default() }
    }

    proptest::proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(
            files in proptest::collection::vec((-5000_i64..5000, 0_u32..14), 0..60),
            gone in proptest::collection::vec(0_usize..60, 0..20),
            from in -6000_i64..6000,
            length in 1_i64..3000,
        ) {
            let mut state = State::default();
            let interval = Interval::new(
                jiff::Timestamp::from_microsecond(from).unwrap(),
                jiff::Timestamp::from_microsecond(from + length).unwrap(),
            ).unwrap();
            state.overlapping("t", &interval);
            let lines = files.iter().enumerate()
                .map(|(i, (low, bits))| add(&format!("f{i}"), *low, low + (1 << bits) - 1))
                .collect();
            state.apply(1, lines).unwrap();
            let removes = gone.iter()
                .map(|i| Line {
                    remove: Some(RemoveLine { path: format!("f{i}") }),
                    ..Line::default()
                })
                .collect();
            state.apply(2, removes).unwrap();
            let expected: Vec<_> =
                state.all().into_iter().filter(|f| f.may_hold("t", &interval)).collect();
            let found = state.overlapping("t", &interval);
            proptest::prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn changes_are_known_from_the_first_version_on() {
        let mut state = State { version: 4, ..State::default() };
        state.forget_changes();
        state.apply(5, vec![add("a", 0, 1)]).unwrap();
        state
            .apply(
                6,
                vec![Line { remove: Some(RemoveLine { path: "a".into() }), ..Line::default() }],
            )
            .unwrap();
        assert_eq!(state.since(4).unwrap().len(), 2);
        assert_eq!(state.since(5).unwrap()[0].removed.len(), 1);
        assert!(state.since(6).unwrap().is_empty());
        assert!(state.since(2).is_none());
    }

    #[test]
    fn files_outside_the_table_are_refused() {
        for path in ["/etc/x.parquet", "s3://b/x.parquet", "../x.parquet"] {
            assert!(State::default().apply(1, vec![add(path, 0, 1)]).is_err(), "{path}");
        }
        let mut state = State::default();
        state.apply(1, vec![add("a%20b%3D1.parquet", 0, 1)]).unwrap();
        assert!(state.active("a b=1.parquet").is_some());
    }
}
