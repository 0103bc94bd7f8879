#!/usr/bin/env python3
"""Judges a folder of files that retrofill added to, with none of its code.

    folder.py make FORMAT DIR COUNT WHERE NULL CSV...   rows of the files as COUNT files of a folder
    folder.py equal FORMAT DIR BEFORE KEY NULL CSV...   the folder holds what the folder BEFORE
                                                        holds, and the rows of the files whose KEY
                                                        that lacks
    folder.py source FILE                               a Parquet file with every type and awkward
                                                        values
    folder.py same FORMAT DIR FILE                      the folder holds exactly its rows, read by
                                                        DuckDB, and Parquet by pyarrow too

Only files that readers of folders see are read: none whose name begins with `.` or `_`.
Exit code 0 when all is as it should be, 1 with the difference when not.
"""
import datetime
import decimal
import json
import math
import os
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + str(text).replace("'", "''") + "'"


def listed(paths):
    return "[" + ", ".join(literal(p) for p in paths) + "]"


def seen(directory):
    """What Spark, pyarrow and a glob see."""
    if not os.path.isdir(directory):
        return []
    names = sorted(n for n in os.listdir(directory) if n[0] not in "._")
    return [os.path.join(directory, n) for n in names]


def connect():
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    return con


def described(con, name):
    rows = con.execute(f"DESCRIBE {name}").fetchall()
    return [(r[0], r[1]) for r in rows]


def read(kind, paths, columns):
    """The rows of a folder in these types, as SQL."""
    if not paths:
        empty = ", ".join(f"CAST(NULL AS {t}) AS {quoted(n)}" for n, t in columns)
        return f"(SELECT {empty} WHERE false)"
    if kind == "parquet":
        cells = ", ".join(quoted(n) for n, _ in columns)
        return f"(SELECT {cells} FROM read_parquet({listed(paths)}, union_by_name = true))"
    if kind == "csv":
        # A text in quotes is one, even an empty one; what is empty without them is NULL.
        names = "{" + ", ".join(f"{literal(n)}: 'VARCHAR'" for n, _ in columns) + "}"
        cells = ", ".join(f"CAST({quoted(n)} AS {t}) AS {quoted(n)}" for n, t in columns)
        return (f"(SELECT {cells} FROM read_csv({listed(paths)}, header = true, types = {names}, "
                "delim = ',', quote = '\"', escape = '\"', allow_quoted_nulls = false, "
                "union_by_name = true, parallel = false, strict_mode = true))")
    names = "{" + ", ".join(f"{literal(n)}: {literal(t)}" for n, t in columns) + "}"
    cells = ", ".join(quoted(n) for n, _ in columns)
    return (f"(SELECT {cells} FROM read_json({listed(paths)}, columns = {names}, "
            "format = 'newline_delimited'))")


def source(con, null, files):
    con.execute(f"CREATE TABLE source AS SELECT * FROM read_csv({listed(files)}, header = true, "
                f"nullstr = {literal(null)}, sample_size = -1)")
    for name, kind in described(con, "source"):
        if kind == "TIMESTAMP":
            con.execute(f"ALTER TABLE source ALTER {quoted(name)} TYPE TIMESTAMPTZ")
        elif kind not in ("TIMESTAMP WITH TIME ZONE", "VARCHAR", "BIGINT", "BOOLEAN"):
            con.execute(f"ALTER TABLE source ALTER {quoted(name)} TYPE DOUBLE")
    return described(con, "source")


def make(kind, directory, count, where, null, files):
    con = connect()
    source(con, null, files)
    os.makedirs(directory, exist_ok=True)
    form = {"csv": "FORMAT csv, HEADER", "ndjson": "FORMAT json", "parquet": "FORMAT parquet"}[kind]
    ending = "json" if kind == "ndjson" else kind
    for i in range(int(count)):
        to = os.path.join(directory, f"part-{i:05}.{ending}")
        con.execute("COPY (SELECT * EXCLUDE n FROM (SELECT *, row_number() OVER () AS n FROM "
                    f"source WHERE {where}) WHERE n % {count} = {i}) TO {literal(to)} ({form})")
    # What Spark leaves beside its files.
    open(os.path.join(directory, "_SUCCESS"), "w").close()
    open(os.path.join(directory, "._SUCCESS.crc"), "w").close()


def same(con, left, right):
    for what, one, other in [("missing from the folder", left, right),
                             ("too many in the folder", right, left)]:
        rest = con.execute(f"SELECT CAST(rest AS VARCHAR) FROM (SELECT * FROM {one} "
                           f"EXCEPT ALL SELECT * FROM {other}) rest").fetchall()
        if rest:
            sys.exit(f"{len(rest)} rows {what}, such as {rest[0]}")
    print(json.dumps({"rows": con.execute(f"SELECT count(*) FROM {right}").fetchone()[0]}))


def equal(kind, directory, before, key, null, files):
    con = connect()
    columns = source(con, null, files)
    con.execute(f"CREATE TABLE live AS SELECT * FROM {read(kind, seen(before), columns)}")
    con.execute(f"CREATE TABLE held AS SELECT * FROM {read(kind, seen(directory), columns)}")
    on = " AND ".join(f"live.{quoted(k)} = source.{quoted(k)}" for k in key.split(","))
    con.execute("CREATE TABLE wanted AS SELECT * FROM live UNION ALL SELECT * FROM source "
                f"WHERE NOT EXISTS (SELECT 1 FROM live WHERE {on})")
    same(con, "wanted", "held")


TEXTS = ["", " ", "a", " lead", "trail ", "a,b", "say \"hi\"", "\"", "two\nlines", "a\r\nb",
         "tab\t", "back\\slash", "NULL", "null", "NaN", "\\N", "#no comment", "\u00e4\U0001f980",
         "'", "a;b",
         "1,5", "007", "true", "2020-01-01", "\ufefffirst", "{\"a\": 1}", "[1]", "\\\"", "x" * 5000]
FLOATS = [0.1, -0.0, 1e308, 5e-324, 1 / 3, 1e15, 123456789012345680.0, math.inf, -math.inf,
          math.nan]


def every_type():
    rows = 200
    utc = datetime.timezone.utc
    first = datetime.datetime(2020, 1, 1, tzinfo=utc)

    def column(ty, values):
        value = [None if i % 11 == 10 else values[i % len(values)] for i in range(rows)]
        return pa.array(value, ty)

    times = [first + datetime.timedelta(hours=i, microseconds=i % 3) for i in range(rows)]
    digits = ("0.00", "-12345678901234.56", "99999999999999.99", "0.01")
    money = [decimal.Decimal(d) for d in digits]
    days = [datetime.date(1970, 1, 1), datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]
    seen_at = [datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, utc),
               datetime.datetime(2020, 2, 29, 12, tzinfo=utc)]
    return pa.table({
        "ts": pa.array(times, pa.timestamp("us", "UTC")),
        "k": pa.array([f"k{i % 7}" for i in range(rows)]),
        "flag": column(pa.bool_(), [True, False]),
        "small": column(pa.int16(), [0, -32768, 32767]),
        "whole": column(pa.int64(), [0, -2**63, 2**63 - 1, 9007199254740993]),
        "single": column(pa.float32(), [0.1, 16777216.0, -1.5e-45, 3.4028235e38]),
        "level": column(pa.float64(), FLOATS),
        "money": column(pa.decimal128(16, 2), money),
        "note": column(pa.string(), TEXTS),
        "day": column(pa.date32(), days),
        "seen": column(pa.timestamp("us", "UTC"), seen_at),
    })


def judged(kind, directory, file):
    con = connect()
    con.execute(f"CREATE TABLE wanted AS SELECT * FROM read_parquet({literal(file)})")
    columns = described(con, "wanted")
    if kind == "ndjson":
        # JSON has no numbers for some floats and for large decimals: they are read as texts.
        shown = [(n, "VARCHAR" if n in ("level", "money") else t) for n, t in columns]
        cells = ", ".join(f"CAST({quoted(n)} AS {t}) AS {quoted(n)}" for n, t in columns)
        rows = read(kind, seen(directory), shown)
        con.execute(f"CREATE TABLE held AS SELECT {cells} FROM {rows}")
    else:
        con.execute(f"CREATE TABLE held AS SELECT * FROM {read(kind, seen(directory), columns)}")
    same(con, "wanted", "held")
    if kind == "parquet":
        held = pa.concat_tables(pq.read_table(p) for p in seen(directory)).sort_by("ts")
        wanted = pq.read_table(file).sort_by("ts")
        if held.schema.names != wanted.schema.names or held.schema.types != wanted.schema.types:
            sys.exit(f"pyarrow sees {held.schema}")
        for name in wanted.schema.names:
            pairs = zip(held[name].to_pylist(), wanted[name].to_pylist())
            wrong = [p for p in pairs if p[0] != p[1] and not (p[0] != p[0] and p[1] != p[1])]
            if wrong:
                sys.exit(f"pyarrow reads another `{name}`: {wrong[0]}")


def main():
    what, args = sys.argv[1], sys.argv[2:]
    if what == "make":
        make(*args[:5], args[5:])
    elif what == "equal":
        equal(*args[:5], args[5:])
    elif what == "source":
        pq.write_table(every_type(), args[0])
    elif what == "same":
        judged(*args)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
