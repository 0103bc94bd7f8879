//! A small world by chance: a source with every nuisance, a table with rows of others, a spec,
//! and a live writer. Also remembers which rows in the table are not ours.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::executor::block_on;
use jiff::Timestamp;
use retrofill_core::calendar::Every;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{FieldType, Source as _, SurveyRequest, Target as _};
use retrofill_core::memory::{Line, MemorySource, MemoryTable, Row, Value};
use retrofill_core::plan::{Frozen, Inputs, Plan, freeze, resolve_columns};
use retrofill_core::receipt::Receipt;
use retrofill_core::spec::{
    Endpoint, Limits, Mode, OnDuplicate, OnEmptySource, Order, RangeSpec, RejectsCap, Retry,
    RowsSpec, Scope, Spec, VerifySpec, WriteSpec,
};

use crate::dice::Dice;
use crate::others::Others;

/// Where the range starts, and the length of a slice, in seconds.
pub(crate) const BASE: i64 = 1_600_000_000;
pub(crate) const SLICE: i64 = 10;

/// How often which mode is played.
const MODES: [Mode; 7] = [
    Mode::Append,
    Mode::Append,
    Mode::FillMissing,
    Mode::FillMissing,
    Mode::FillMissing,
    Mode::Upsert,
    Mode::Replace,
];

/// The target refuses rows with this value.
pub(crate) const UNLUCKY: i64 = 13;

#[derive(Clone)]
pub(crate) struct Setting {
    pub spec: Spec,
    pub source: MemorySource,
    pub lines: Vec<Line>,
    pub table: MemoryTable,
    pub others: Others,
    pub slices: i64,
}

fn instant() -> ColumnType {
    ColumnType::Instant { unit: Precision::Second }
}

fn fields() -> Vec<FieldType> {
    let field = |name: &str, ty| FieldType::new(name, ty, true);
    vec![
        field("k", ColumnType::Text),
        field("v", ColumnType::Integer { bits: 64 }),
        field("t", instant()),
        field("s", ColumnType::Text),
    ]
}

/// The columns in plan order: t, k, s, v, with a key or without.
fn columns(mode: Mode) -> Columns {
    let column = |(position, field): (usize, FieldType)| Column {
        role: match (field.name.as_str(), mode) {
            ("t", _) => Role::Time,
            ("k", mode) if mode != Mode::Append => Role::Key,
            _ => Role::Value,
        },
        name: field.name,
        ty: field.ty,
        position: position as u32,
        source: None,
    };
    Columns::new(fields().into_iter().enumerate().map(column).collect()).unwrap()
}

/// From the source's order of columns to the plan's.
pub(crate) fn planned(line: &Row) -> Row {
    let [k, v, t, s] = &line[..] else { panic!("a line has four columns") };
    vec![t.clone(), k.clone(), s.clone(), v.clone()]
}

/// Time and key of a row in plan order, to be compared.
pub(crate) fn key(row: &Row) -> String {
    format!("{:?}", &row[..2])
}

fn text(dice: &mut Dice, of: &[Option<&str>]) -> Value {
    dice.pick(of).map_or(Value::Null, |s| Value::Text(s.into()))
}

/// A row in plan order.
fn row(dice: &mut Dice, slices: i64) -> Row {
    let slice = dice.between(-1, slices);
    let second = *dice.pick(&[0, 0, 1, 3, 4, 5, 5, 6, 8, 9, 9]);
    let key = text(dice, &[Some("a"), Some("b"), Some("c"), Some("a"), Some("b"), Some("")]);
    let key = if dice.permille(30) { Value::Null } else { key };
    let value = if dice.permille(30) { UNLUCKY } else { dice.between(0, 3) };
    vec![
        Value::Instant(BASE + slice * SLICE + second),
        key,
        text(dice, &[None, Some(""), Some("x")]),
        Value::Integer(value),
    ]
}

fn line(dice: &mut Dice, slices: i64, lines: &[Line]) -> Line {
    if dice.permille(30) {
        let at = dice.between(0, slices * SLICE - 1);
        return Line::Bad(Timestamp::from_second(BASE + at).unwrap(), "x;y".into());
    }
    if dice.permille(20) {
        return Line::Unplaced("no time".into());
    }
    if !lines.is_empty() && dice.permille(150) {
        let mut again = dice.pick(lines).clone();
        if let Line::Row(row) = &mut again
            && dice.permille(500)
        {
            row[1] = Value::Integer(dice.between(0, 3));
        }
        return again;
    }
    let [t, k, s, v] = &row(dice, slices)[..] else { panic!("a row has four columns") };
    Line::Row(vec![k.clone(), v.clone(), t.clone(), s.clone()])
}

/// The rows of others at the start: some equal to the source's, some in conflict, some their own.
fn initial(dice: &mut Dice, slices: i64, lines: &[Line]) -> Vec<Row> {
    let mut rows = Vec::new();
    for _ in 0..dice.below(12) {
        let mut one = match dice.pick(lines) {
            Line::Row(line) if dice.permille(600) => planned(line),
            _ => row(dice, slices),
        };
        if dice.permille(400) || is_unlucky(&one) {
            one[3] = Value::Integer(dice.between(4, 5));
        }
        rows.push(one.clone());
        if dice.permille(50) {
            one[3] = Value::Integer(6);
            rows.push(one);
        }
    }
    rows
}

impl Setting {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 0);
        let slices = dice.between(3, 12);
        let mode = *dice.pick(&MODES);
        let mut lines = Vec::new();
        for _ in 0..dice.below(61) {
            let next = line(&mut dice, slices, &lines);
            lines.push(next);
        }
        // A source without a row in time makes no plan.
        let mut first = row(&mut dice, slices);
        first[1] = Value::Text("a".into());
        let [t, k, s, v] = &first[..] else { panic!("a row has four columns") };
        lines.push(Line::Row(vec![k.clone(), v.clone(), t.clone(), s.clone()]));
        let mut spec = spec(&mut dice, mode, slices);
        spec.verify.manifest = Dice::new(seed, 7).permille(600);
        if mode == Mode::FillMissing && Dice::new(seed, 8).permille(400) {
            spec.rows.compare = Some(vec!["v".into()]);
        }
        if mode == Mode::Replace {
            lines = lines.into_iter().filter_map(|line| clean(line, &spec)).collect();
        }
        let per_block = dice.between(1, 9) as usize;
        let source = MemorySource::new(fields(), "t", per_block, lines.clone()).unwrap();
        let others = Others::default();
        let table = if dice.permille(600) {
            let mut rows = initial(&mut dice, slices, &lines);
            if spec.rows.compare.is_some() {
                let mut dice = Dice::new(seed, 9);
                for row in &mut rows {
                    make_alike(&mut dice, row);
                }
            }
            let table = MemoryTable::with(columns(mode), rows.clone());
            others.set(table.version(), rows);
            table
        } else {
            MemoryTable::default()
        };
        let unlucky =
            |row: &Row| (row[3] == Value::Integer(UNLUCKY)).then(|| "an unlucky value".to_owned());
        let table = table.refusing(unlucky);
        // From dice of their own: what a seed means besides stays the same.
        let yields = Dice::new(seed, 8).permille(300);
        let table = if yields { table.yielding() } else { table };
        Setting { spec, source, lines, table, others, slices }
    }

    pub(crate) fn keyed(&self) -> bool {
        self.spec.write.mode != Mode::Append
    }

    /// Whether mode replace may take this row out, wherever it stands.
    pub(crate) fn in_scope(&self, row: &Row) -> bool {
        self.spec.write.mode == Mode::Replace && lies_in(&self.spec, row)
    }

    /// Plans as the command does: a plan that the target knows keeps its salt.
    pub(crate) fn plan(&self, salt: [u8; 16]) -> Plan {
        let survey = block_on(self.source.survey(&SurveyRequest::default())).unwrap();
        let table = block_on(self.table.table()).unwrap();
        let (columns, notes) = resolve_columns(
            (&self.spec.rows, &self.spec.write),
            &survey.columns,
            table.as_deref(),
            &self.table,
        )
        .unwrap();
        let inputs = Inputs {
            spec: self.spec.clone(),
            as_written: serde_json::Value::Null,
            base_dir: String::new(),
            survey,
            columns,
            notes,
            most: 1_000_000,
            cuts: Vec::new(),
            now: Timestamp::from_second(BASE + 1_000_000).unwrap(),
            salt,
        };
        let Frozen::Plan(mut plan) = freeze(inputs).unwrap() else { panic!("there are rows") };
        let newest = self.table.newest();
        let known = newest.receipts.iter().map(Receipt::latest).find(|r| r.plan == plan.id);
        if let Some(receipt) = known {
            plan.salt = receipt.salt;
        }
        *plan
    }

    /// What the live writer does each time it gets a turn.
    pub(crate) fn live_writer(&self, seed: u64) -> Box<dyn FnMut() + Send> {
        let (table, others) = (self.table.clone(), self.others.clone());
        let (slices, keyed) = (self.slices, self.keyed());
        let rows: Vec<_> = self.lines.iter().filter_map(as_row).collect();
        let mut dice = Dice::new(seed, 4);
        let mut alike = self.spec.rows.compare.is_some().then(|| Dice::new(seed, 10));
        Box::new(move || {
            if table.newest().columns.is_none() {
                return;
            }
            match dice.below(20) {
                0 => table.rewrite(|_| {}),
                1 if !others.is_gentle() => vandal(&mut dice, &table, &others, keyed),
                _ => insert((&mut dice, &mut alike), &table, &others, &rows, (slices, keyed)),
            }
        })
    }
}

fn lies_in(spec: &Spec, row: &Row) -> bool {
    match &spec.write.scope {
        Some(Scope::Where(_)) => row[2] == Value::Text("x".into()),
        _ => true,
    }
}

/// Mode replace commits nothing with a reject: its source has none.
fn clean(line: Line, spec: &Spec) -> Option<Line> {
    let Line::Row(mut row) = line else { return None };
    if row[0] == Value::Null {
        row[0] = Value::Text("a".into());
    }
    if row[1] == Value::Integer(UNLUCKY) {
        row[1] = Value::Integer(2);
    }
    if matches!(spec.write.scope, Some(Scope::Where(_))) {
        row[3] = Value::Text("x".into());
    }
    Some(Line::Row(row))
}

fn as_row(line: &Line) -> Option<Row> {
    match line {
        Line::Row(row) => Some(planned(row)),
        _ => None,
    }
}

/// Gives some rows another value where it is not compared.
fn make_alike(dice: &mut Dice, row: &mut Row) {
    if dice.permille(300) {
        row[2] = Value::Text("y".into());
    }
}

/// Whether a row of others stands for this one of the source, which has its key.
pub(crate) fn alike(spec: &Spec, others: &Row, row: &Row) -> bool {
    others == row || (spec.rows.compare.is_some() && others[3] == row[3])
}

fn is_unlucky(row: &Row) -> bool {
    row[3] == Value::Integer(UNLUCKY)
}

/// Another writer inserts a row, unless its key is there already.
fn insert(
    (dice, alike): (&mut Dice, &mut Option<Dice>),
    table: &MemoryTable,
    others: &Others,
    rows: &[Row],
    (slices, keyed): (i64, bool),
) {
    let mut new = if dice.permille(600) { dice.pick(rows).clone() } else { row(dice, slices) };
    // Without a key, a row of others that equals a lost one of ours cannot be told from it.
    if !keyed || dice.permille(600) || is_unlucky(&new) {
        new[3] = Value::Integer(dice.between(7, 9));
    }
    if let Some(dice) = alike {
        make_alike(dice, &mut new);
    }
    let unlucky: BTreeSet<_> = rows.iter().filter(|r| is_unlucky(r)).map(key).collect();
    let taken = table.rows().iter().any(|r| key(r) == key(&new));
    if keyed && (taken || unlucky.contains(&key(&new))) {
        return;
    }
    table.insert(vec![new.clone()]);
    if rows.contains(&new) && was_loaded(table, &new) {
        others.twin(&new);
    }
    others.add(table.version(), [new]);
}

/// Whether a load of ours was committed where this row stands.
fn was_loaded(table: &MemoryTable, row: &Row) -> bool {
    let (newest, at) = (table.newest(), crate::oracle::time(row));
    let known = newest.receipts.iter().any(|r| r.latest().interval.contains(at));
    known || !newest.lost.is_empty()
}

/// Another hand changes or removes any row. A changed row is no longer ours.
pub(crate) fn vandal(dice: &mut Dice, table: &MemoryTable, others: &Others, keyed: bool) {
    let rows = table.rows();
    if rows.is_empty() {
        return;
    }
    let at = dice.below(rows.len());
    let old = rows[at].clone();
    let new = (keyed && dice.permille(500)).then(|| {
        let mut new = old.clone();
        new[3] = Value::Integer(dice.between(20, 22));
        new
    });
    table.rewrite(|rows| {
        // A changed row is a new one to whoever counts rows by number.
        let next = rows.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        rows.remove(at);
        rows.extend(new.clone().map(|new| (next, new)));
    });
    let mut all = others.now();
    if let Some(ours) = all.iter().position(|row| *row == old) {
        all.remove(ours);
    }
    all.extend(new);
    others.set(table.version(), all);
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        connector: "memory".into(),
        settings: serde_json::Value::Null,
        identity: serde_json::json!({ "name": name }),
        label: name.into(),
    }
}

fn write(dice: &mut Dice, mode: Mode) -> WriteSpec {
    use OnEmptySource::{Clear, Fail, Skip};
    let some = Scope::Where([("s".to_owned(), vec!["x".to_owned()])].into());
    let replaces = mode == Mode::Replace;
    WriteSpec {
        mode,
        on_empty_source: if replaces { *dice.pick(&[Clear, Skip]) } else { Fail },
        scope: replaces.then(|| dice.pick(&[Scope::All, some.clone(), some]).clone()),
        min_keep: replaces.then_some(0.0),
        live_writers: None,
        lock: None,
    }
}

fn spec(dice: &mut Dice, mode: Mode, slices: i64) -> Spec {
    use OnDuplicate::{Fail, First, Last, Reject};
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    Spec {
        name: "sim".into(),
        source: endpoint("source"),
        target: endpoint("target"),
        transform: None,
        rows: RowsSpec {
            time: "t".into(),
            key: (mode != Mode::Append).then(|| vec!["k".into()]),
            compare: None,
            on_duplicate: match mode {
                Mode::Replace => *dice.pick(&[First, Last, Fail]),
                _ => *dice.pick(&[Reject, Reject, First, First, Last, Last, Fail]),
            },
        },
        range: RangeSpec {
            from: at(BASE),
            to: at(BASE + slices * SLICE),
            every: Some(Every::Seconds(SLICE as u32)),
            timezone: "UTC".into(),
            order: *dice.pick(&[Order::OldestFirst, Order::NewestFirst]),
            settle: Duration::ZERO,
        },
        write: write(dice, mode),
        limits: Limits {
            concurrency: Some(dice.between(1, 4) as usize),
            rows_per_second: *dice.pick(&[None, None, Some(5)]),
            memory: *dice.pick(&[384 << 20, 384 << 20, 1_000]),
            max_runtime: None,
            max_transaction: None,
        },
        retry: Retry {
            attempts: 3,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(5),
        },
        rejects: RejectsCap::Rows(0),
        verify: VerifySpec::default(),
    }
}
