use super::*;
use crate::error::Kind;

/// What may follow what. One line per state, one column per event of [`events`]; `.` is refused.
/// P planned, L loading, O loaded, V verified, E empty, F failed, M mismatched, S stale,
/// U unknown, X split.
const TABLE: &str = "
             leased split written proven  committed  recovered  unknown failed released mis stl und
                                          un full no un full no
planned      L      X     .       .       .  .    .  O  V    E  .       .      .        M   S   S
loading      L      X     L       L       O  V    E  O  V    E  U       F      P        M   S   S
loaded       L      .     .       V       .  .    .  O  V    E  .       F      .        M   S   S
verified     .      .     .       .       .  .    .  O  V    E  .       .      .        M   S   S
empty        .      .     .       .       .  .    .  O  V    E  .       .      .        M   S   S
failed       L      X     .       .       .  .    .  O  V    E  .       .      .        M   S   S
mismatched   L      .     .       .       .  .    .  O  V    E  .       .      .        M   S   S
stale        L      X     .       .       .  .    .  O  V    E  .       .      .        M   S   S
unknown      L      .     .       .       O  V    E  O  V    E  .       F      .        M   S   S
split        .      .     .       .       .  .    .  .  .    .  .       .      .        .   .   .
";

/// Every kind of event, outcomes unproven, with rows, and without.
fn events() -> [SliceEvent; 16] {
    let text = || "x".to_owned();
    let outcome = |proven, read| {
        let counts = Counts { read, written: read, ..Counts::default() };
        Outcome { generation: 1, counts, digest: text(), proven, at: Timestamp::UNIX_EPOCH }
    };
    [
        SliceEvent::Leased { generation: 1, attempt: 1 },
        SliceEvent::Split { at: Timestamp::UNIX_EPOCH },
        SliceEvent::Written { rows: 1 },
        SliceEvent::Proven { digest: text() },
        SliceEvent::Committed(outcome(false, 0)),
        SliceEvent::Committed(outcome(true, 1)),
        SliceEvent::Committed(outcome(true, 0)),
        SliceEvent::Recovered(outcome(false, 0)),
        SliceEvent::Recovered(outcome(true, 1)),
        SliceEvent::Recovered(outcome(true, 0)),
        SliceEvent::CommitUnknown { reason: text() },
        SliceEvent::Failed { kind: text(), reason: text() },
        SliceEvent::Released,
        SliceEvent::Mismatched { reason: text() },
        SliceEvent::Stale { reason: text() },
        SliceEvent::Undone { generation: 2, rows: 1 },
    ]
}

fn letter(state: State) -> char {
    match state {
        State::Planned => 'P',
        State::Loading => 'L',
        State::Loaded => 'O',
        State::Verified => 'V',
        State::Empty => 'E',
        State::Failed => 'F',
        State::Mismatched => 'M',
        State::Stale => 'S',
        State::Unknown => 'U',
        State::Split => 'X',
    }
}

/// Which events [`events`] must hold: adding a kind of event does not compile without a look
/// here, at `events` and at the table.
fn column(event: &SliceEvent) -> usize {
    match event {
        SliceEvent::Leased { .. } => 0,
        SliceEvent::Split { .. } => 1,
        SliceEvent::Written { .. } => 2,
        SliceEvent::Proven { .. } => 3,
        SliceEvent::Committed(_) => 4,
        SliceEvent::Recovered(_) => 7,
        SliceEvent::CommitUnknown { .. } => 10,
        SliceEvent::Failed { .. } => 11,
        SliceEvent::Released => 12,
        SliceEvent::Mismatched { .. } => 13,
        SliceEvent::Stale { .. } => 14,
        SliceEvent::Undone { .. } => 15,
    }
}

#[test]
fn the_table_of_states_is_this() {
    let rows: Vec<Vec<&str>> =
        TABLE.lines().skip(3).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), State::ALL.len());
    for (state, row) in State::ALL.into_iter().zip(rows) {
        assert_eq!((row[0], row.len()), (state.as_str(), 1 + events().len()));
        for (n, (event, expected)) in events().iter().zip(&row[1..]).enumerate() {
            assert!(n >= column(event) && n < column(event) + 3, "{event:?} is in column {n}");
            let found = match next(state, event) {
                Ok(to) => letter(to).to_string(),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Bug);
                    ".".to_owned()
                }
            };
            assert_eq!(found, *expected, "{} after {event:?}", state.as_str());
        }
    }
}

/// Whatever a crash leaves behind can still be brought to its end by loading, without help from
/// a receipt: only a halved slice, for which its halves stand, takes nothing any more.
#[test]
fn no_state_is_a_dead_end() {
    let by_loading: Vec<_> =
        events().into_iter().filter(|e| !matches!(e, SliceEvent::Recovered(_))).collect();
    for start in State::ALL.into_iter().filter(|s| *s != State::Split) {
        let mut reached = vec![start];
        let mut at = 0;
        while at < reached.len() {
            let next_states = by_loading.iter().filter_map(|event| next(reached[at], event).ok());
            let new: Vec<_> = next_states.filter(|s| !reached.contains(s)).collect();
            for state in new {
                if !reached.contains(&state) {
                    reached.push(state);
                }
            }
            at += 1;
        }
        for end in [State::Verified, State::Empty, State::Split, State::Loading] {
            assert!(reached.contains(&end), "{} never gets {}", start.as_str(), end.as_str());
        }
    }
}

fn record() -> SliceRecord {
    let interval = Interval::parse("1970-01-01T00:00:00Z", "1970-01-01T02:00:00Z").unwrap();
    SliceRecord::planned(SliceId::of(interval.start()), interval)
}

#[test]
fn a_record_keeps_its_last_result_and_drops_old_reasons() {
    let mut record = record();
    let [leased, _, _, _, _, committed, .., stale, undone] = events();
    record.apply(&leased).unwrap();
    record.apply(&committed).unwrap();
    record.apply(&stale).unwrap();
    assert_eq!((record.state, record.reason.as_deref()), (State::Stale, Some("x")));
    assert!(record.outcome.is_some());
    record.apply(&SliceEvent::Leased { generation: 2, attempt: 3 }).unwrap();
    assert_eq!((record.generation, record.attempt, record.reason.clone()), (2, 3, None));
    let mut other = record.clone();
    other.apply(&undone).unwrap();
    assert_eq!((other.state, other.generation, other.outcome), (State::Stale, 2, None));
    assert_eq!(other.reason.as_deref(), Some("undone: 1 rows were taken out"));

    let before = record.clone();
    let half = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(1);
    assert_eq!(record.split(half).unwrap().map(|r| r.state), [State::Planned; 2]);
    assert!(record.split(record.interval.end()).is_err());
    record.state = State::Verified;
    assert_eq!(record.apply(&leased).unwrap_err().kind(), Kind::Bug);
    assert_eq!(record, SliceRecord { state: State::Verified, ..before });
}
