-- The ledger, version 1. `entries` is the truth; `plans` and `slices` are projections of it that
-- are written in the same transaction. Times as (seconds rounded down, nanoseconds) where rows
-- are ordered by them, else RFC 3339 text.

-- The head of each plan's chain and, once the plan is frozen, what it is.
CREATE TABLE plans (
    plan TEXT NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL,
    name TEXT,
    spec_hash TEXT,
    frozen_at TEXT,
    unplaced INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE entries (
    plan TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at TEXT NOT NULL,
    json TEXT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (plan, sequence)
) STRICT;

-- Every slice and half. `changed` is the sequence of its last event; the columns from `loaded`
-- on are its last outcome, all NULL before the first.
CREATE TABLE slices (
    plan TEXT NOT NULL,
    start_s INTEGER NOT NULL,
    start_ns INTEGER NOT NULL,
    id TEXT NOT NULL,
    end_s INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    generation INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    reason TEXT,
    changed INTEGER NOT NULL,
    loaded INTEGER,
    read INTEGER,
    written INTEGER,
    updated INTEGER,
    already_present INTEGER,
    conflicting INTEGER,
    duplicate INTEGER,
    rejected INTEGER,
    filtered INTEGER,
    digest TEXT,
    proven INTEGER,
    at TEXT,
    PRIMARY KEY (plan, start_s, start_ns, id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX slices_by_id ON slices (plan, id);

CREATE INDEX slices_in_trouble ON slices (plan, changed) WHERE reason IS NOT NULL;

-- The last lease of each plan; `host` is NULL once it was given back. The token only grows.
CREATE TABLE leases (
    plan TEXT NOT NULL PRIMARY KEY,
    token INTEGER NOT NULL,
    host TEXT,
    boot TEXT,
    pid INTEGER,
    started TEXT,
    beat_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
