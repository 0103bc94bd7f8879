#!/usr/bin/env python3
"""Judges a table that retrofill wrote, with none of its code.

    judge.py equal TABLE NULL CSV...     the table holds exactly the rows of the files
    judge.py sql TABLE SQL CSV...        the table holds exactly what SQL makes of `source`
    judge.py live TABLE LOG CSV...            the same beside a live writer, whose rows all stay
    judge.py append TABLE LOG STOP CSV        be that writer, until the file STOP exists
    judge.py restore TABLE VERSION            put the table back to an older version
    judge.py compact TABLE                    put small files of the table together
    judge.py update TABLE WHERE COLUMN SQL    another writer changes rows
    judge.py delete TABLE WHERE               another writer deletes rows
    judge.py thin TABLE FILE                  rewrite a data file of the table without some rows
    judge.py types TABLE                      the columns with their types, as JSON
    judge.py pack DIR ORDER GROUP CSV...      the rows as Parquet files of that order, in row groups
                                              of so many rows, each file compressed in another way
    judge.py objects DIR ORDER CSV...         the same as NDJSON files, every second one packed
    judge.py spread DIR KIND CSV              the rows of a file, in a directory for each value of
                                              its last two columns, as Hive does it: by pyarrow
                                              (`parquet`), or by hand (`csv`, `csv.gz`, `ndjson`)
    judge.py typed DIR KIND ORDER CSV...      the same as Arrow (`arrow`) or Avro (`avro`) files of
                                              many batches or blocks, compressed in all ways
    judge.py lite FILE ORDER KEPT CSV...      the same as table `weather` of an SQLite database, its
                                              times as text (`local`, `zoned`) or as numbers
                                              (`epoch`, `real`)
    judge.py execute FILE SQL                 another program changes an SQLite database

The log is replayed here from its JSON entries, beside what the `deltalake` package makes of it.
Exit code 0 when all is as it should be, 1 with the difference when not.
"""
import csv
import gzip
import json
import os
import pathlib
import random
import sqlite3
import sys
import time
import urllib.parse

import duckdb
import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.feather as feather
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + str(text).replace("'", "''") + "'"


def data_files(table):
    """The live data files, by replaying every entry of the log."""
    live = {}
    log = pathlib.Path(table, "_delta_log")
    for version, entry in enumerate(sorted(log.glob("[0-9]*[0-9].json"))):
        if int(entry.stem) != version:
            sys.exit(f"the log has a gap at version {version}")
        for line in entry.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                live[urllib.parse.unquote(action["add"]["path"])] = action["add"]["size"]
            elif "remove" in action:
                live.pop(urllib.parse.unquote(action["remove"]["path"]), None)
    return live


def rows(table):
    """All rows as Arrow; the two ways to find the data files must agree."""
    ours = data_files(table)
    root = pathlib.Path(table).resolve()
    theirs = {os.path.relpath(urllib.parse.unquote(u.removeprefix("file://")), root)
              for u in DeltaTable(table).file_uris()}
    if set(ours) != theirs:
        sys.exit(f"data files differ: {sorted(set(ours) ^ theirs)[:4]}")
    for path, size in ours.items():
        if os.path.getsize(root / path) != size:
            sys.exit(f"{path} has not the size that the log says")
    parts = [pq.read_table(root / path, partitioning=None) for path in sorted(ours)]
    if not parts:
        return DeltaTable(table).to_pyarrow_table()
    parts = [plain(part.select(parts[0].column_names)) for part in parts]
    return pa.concat_tables(parts, promote_options="permissive")


def plain(part):
    """Without views of text, which other writers leave in the schema of a file."""
    fields = [pa.field(f.name, pa.string() if f.type == pa.string_view() else f.type)
              for f in part.schema]
    return part.cast(pa.schema(fields))


def database(table, null, files):
    """A database with `held` (the table) and `source` (the files, in the table's types)."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    held = rows(table)
    con.register("held", held)
    names = [d[0] for d in con.execute("DESCRIBE held").fetchall()]
    types = [d[1] for d in con.execute("DESCRIBE held").fetchall()]
    cells = ", ".join(f"CAST(NULLIF({quoted(n)}, {literal(null)}) AS {t}) AS {quoted(n)}"
                      for n, t in zip(names, types))
    paths = "[" + ", ".join(literal(f) for f in files) + "]"
    con.execute(f"CREATE TABLE source AS SELECT {cells} FROM "
                f"read_csv({paths}, all_varchar = true, header = true)")
    return con, names


def difference(con, left, right, columns):
    """The rows of `left` that `right` lacks, as text, repeated rows counted."""
    return con.execute(f"SELECT CAST(rest AS VARCHAR) FROM (SELECT {columns} FROM {left} "
                       f"EXCEPT ALL SELECT {columns} FROM {right}) rest").fetchall()


def same(con, expected, names):
    """Fails unless `expected` and `held` are equal as multisets of rows."""
    columns = ", ".join(quoted(n) for n in names)
    for what, left, right in [("missing from the table", expected, "held"),
                              ("too many in the table", "held", expected)]:
        rest = difference(con, left, right, columns)
        if rest:
            sys.exit(f"{len(rest)} rows {what}, such as {rest[0]}")
    count = con.execute("SELECT count(*) FROM held").fetchone()[0]
    print(json.dumps({"rows": count}))


def equal(table, null, files):
    con, names = database(table, null, files)
    same(con, "source", names)


def pack(directory, order, group, files):
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    ways = ["snappy", "zstd", "gzip", "lz4_raw", "brotli", "uncompressed"]
    os.makedirs(directory, exist_ok=True)
    paths = "[" + ", ".join(literal(f) for f in files) + "]"
    con.execute("CREATE TABLE source AS SELECT * REPLACE (CAST(time_hour AS TIMESTAMPTZ) AS "
                f"time_hour) FROM read_csv({paths}, header = true, nullstr = 'NA', "
                "sample_size = -1, filename = true)")
    for i, path in enumerate(files):
        to = os.path.join(directory, pathlib.Path(path).stem + ".parquet")
        con.execute(f"COPY (SELECT * EXCLUDE filename FROM source WHERE filename = {literal(path)} "
                    f"ORDER BY {order}) TO {literal(to)} (FORMAT parquet, ROW_GROUP_SIZE {group}, "
                    f"COMPRESSION {ways[i % len(ways)]})")
        print(json.dumps({"file": to, "groups": pq.ParquetFile(to).num_row_groups}))


def objects(directory, order, files):
    """The rows of the files as NDJSON, every second file packed."""
    con = duckdb.connect()
    os.makedirs(directory, exist_ok=True)
    for i, path in enumerate(files):
        packed = ".gz" if i % 2 else ""
        to = os.path.join(directory, pathlib.Path(path).stem + ".ndjson" + packed)
        kind = ", COMPRESSION gzip" if packed else ""
        con.execute(f"COPY (SELECT * FROM read_csv({literal(path)}, header = true, nullstr = 'NA', "
                    "sample_size = -1, types = {'time_hour': 'VARCHAR'}) "
                    f"ORDER BY {order}) TO {literal(to)} (FORMAT json{kind})")


def lite(path, order, kept, files):
    """The rows of the files, written by SQLite itself."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    paths = "[" + ", ".join(literal(f) for f in files) + "]"
    time = {"local": "strftime(time_hour, '%Y-%m-%d %H:%M:%S')",
            "zoned": "strftime(time_hour, '%Y-%m-%dT%H:%M:%SZ')",
            "epoch": "CAST(epoch(time_hour) AS BIGINT)",
            "real": "CAST(epoch(time_hour) AS DOUBLE)"}[kept]
    con.execute("CREATE TABLE source AS SELECT * REPLACE (CAST(time_hour AS TIMESTAMP) AS "
                f"time_hour) FROM read_csv({paths}, header = true, nullstr = 'NA', "
                "sample_size = -1)")
    con.execute(f"CREATE VIEW weather AS SELECT * REPLACE ({time} AS time_hour) FROM source "
                f"ORDER BY {order}")
    words = {"BIGINT": "INTEGER", "DOUBLE": "REAL", "VARCHAR": "TEXT"}
    columns = ", ".join(f"{quoted(d[0])} {words[d[1]]}"
                        for d in con.execute("DESCRIBE weather").fetchall())
    rows = con.execute("SELECT * FROM weather").fetchall()
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE weather ({columns})")
        marks = ", ".join("?" * len(rows[0]))
        database.executemany(f"INSERT INTO weather VALUES ({marks})", rows)
    database.close()


def execute(path, text):
    with sqlite3.connect(path) as database:
        database.executescript(text)
    database.close()


def spread(directory, kind, path):
    """The last columns are a text, which may be NULL, and a whole number."""
    with open(path, newline="", encoding="utf-8") as file:
        names, *lines = csv.reader(file)
    if kind == "parquet":
        columns = dict(zip(names, zip(*lines)))
        place, level = names[-2:]
        columns[place] = [value or None for value in columns[place]]
        columns[level] = [int(value) for value in columns[level]]
        table = pa.table({name: list(values) for name, values in columns.items()})
        fields = pa.schema([(place, pa.string()), (level, pa.int64())])
        parts = dataset.partitioning(fields, flavor="hive")
        dataset.write_dataset(table, directory, format="parquet", partitioning=parts)
        return
    files = {}
    for *cells, place, level in lines:
        place = urllib.parse.quote(place, safe="") or "__HIVE_DEFAULT_PARTITION__"
        to = pathlib.Path(directory, f"{names[-2]}={place}", f"{names[-1]}={level}")
        files.setdefault(to, []).append(cells)
    for to, rows in files.items():
        to.mkdir(parents=True)
        write = gzip.open if kind.endswith(".gz") else open
        with write(to / f"part-0.{kind}", "wt", newline="", encoding="utf-8") as file:
            if kind == "ndjson":
                file.writelines(json.dumps(dict(zip(names, cells))) + "\n" for cells in rows)
            else:
                csv.writer(file, lineterminator="\n").writerows([names[:-2], *rows])


def typed(directory, kind, order, files):
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    os.makedirs(directory, exist_ok=True)
    for i, path in enumerate(files):
        held = con.execute(
            "SELECT * REPLACE (CAST(time_hour AS TIMESTAMPTZ) AS time_hour) FROM "
            f"read_csv({literal(path)}, header = true, nullstr = 'NA', sample_size = -1) "
            f"ORDER BY {order}").to_arrow_table()
        to = os.path.join(directory, f"{pathlib.Path(path).stem}.{kind}")
        {"arrow": arrow_file, "avro": avro_file}[kind](held, to, i)


def arrow_file(held, to, number):
    at = held.schema.get_field_index("origin")
    held = held.set_column(at, "origin", held.column(at).combine_chunks().dictionary_encode())
    ways = ["lz4", "zstd", "uncompressed"]
    feather.write_feather(held, to, compression=ways[number % len(ways)], chunksize=700)


def avro_file(held, to, number):
    import fastavro
    kinds = {"int64": "long", "double": "double", "string": "string",
             "timestamp[us, tz=UTC]": {"type": "long", "logicalType": "timestamp-micros"}}
    fields = [{"name": f.name, "type": ["null", kinds[str(f.type)]]} for f in held.schema]
    places = {"type": "enum", "name": "Place", "symbols": ["LGA", "JFK", "EWR"]}
    fields = [f | {"type": places} if f["name"] == "origin" else f for f in fields]
    ways = ["null", "deflate", "bzip2", "xz"]
    with open(to, "wb") as out:
        fastavro.writer(out, {"type": "record", "name": "Row", "fields": fields},
                        held.to_pylist(), codec=ways[number % len(ways)], sync_interval=20_000)


def doubled(table, column):
    values = rows(table).column(column).to_pylist()
    print(json.dumps({"doubled": len(values) - len(set(values))}))


def sql(table, text, files):
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    held = rows(table)
    con.register("held", held)
    names = [d[0] for d in con.execute("DESCRIBE held").fetchall()]
    types = [d[1] for d in con.execute("DESCRIBE held").fetchall()]
    paths = "[" + ", ".join(literal(f) for f in files) + "]"
    con.execute(f"CREATE VIEW source AS SELECT * FROM read_csv({paths}, header = true)")
    cells = ", ".join(f"CAST({quoted(n)} AS {t}) AS {quoted(n)}" for n, t in zip(names, types))
    con.execute(f"CREATE TABLE expected AS SELECT {cells} FROM ({text})")
    same(con, "expected", names)


KEY = ["ts", "hostname"]


def live(table, log, files):
    con, names = database(table, "", files)
    written = [json.loads(line) for line in open(log, encoding="utf-8")]
    schema = con.sql("SELECT * FROM held LIMIT 0").to_arrow_table().schema
    wrote = pa.Table.from_pylist([row for batch in written for row in parsed(batch)], schema)
    con.register("wrote", wrote)
    key = " AND ".join(f"s.{k} = w.{k}" for k in KEY)
    con.execute(f"CREATE TABLE expected AS SELECT * FROM wrote UNION ALL SELECT * FROM source s "
                f"WHERE NOT EXISTS (SELECT 1 FROM wrote w WHERE {key})")
    twice = con.execute("SELECT CAST(ts AS VARCHAR), hostname, count(*) FROM held GROUP BY ALL "
                        "HAVING count(*) > 1").fetchall()
    if twice:
        sys.exit(f"{len(twice)} keys stand twice in the table, such as {twice[0]}")
    conflicts = con.execute(
        f"SELECT count(*) FROM source s WHERE EXISTS (SELECT 1 FROM wrote w WHERE {key})"
    ).fetchone()[0]
    columns = ", ".join(quoted(n) for n in names)
    changed = difference(con, "wrote", "held", columns)
    if changed:
        sys.exit(f"{len(changed)} live rows are gone or changed, such as {changed[0]}")
    print(json.dumps({"conflicts": conflicts, "live": wrote.num_rows, "batches": len(written)}))
    same(con, "expected", names)


def parsed(batch):
    import datetime
    for row in batch:
        yield {**row, "ts": datetime.datetime.fromisoformat(row["ts"])}


SCHEMA = pa.schema([("ts", pa.timestamp("us", "UTC")), ("hostname", pa.string()),
                    ("region", pa.string()), ("usage_user", pa.float64()),
                    ("usage_system", pa.float64()), ("usage_idle", pa.float64()),
                    ("usage_nice", pa.float64()), ("usage_iowait", pa.float64()),
                    ("usage_irq", pa.int64()), ("usage_steal", pa.int64())])


def append(table, log, stop, source):
    """A writer that respects keys: it looks whether they are free in one version of the table
    and commits exactly the next, or looks again. Every second batch has keys of the source."""
    dice = random.Random(7)
    con = duckdb.connect()
    keys = con.execute("SELECT replace(ts, 'Z', '+00:00'), hostname, region "
                       f"FROM read_csv({literal(source)}, all_varchar = true)").fetchall()
    if not DeltaTable.is_deltatable(table):
        write_deltalake(table, pa.Table.from_pylist([], SCHEMA))
    print("ready", flush=True)
    out = open(log, "a", encoding="utf-8")
    number = 0
    while not os.path.exists(stop):
        number += 1
        picked = dice.sample(keys, 20)
        if number % 2:
            picked = [(ts, f"live_{number}_{i}", region)
                      for i, (ts, _, region) in enumerate(picked)]
        batch = [{"ts": ts, "hostname": host, "region": region, "usage_user": -1.0,
                  "usage_system": -1.5, "usage_idle": float(number), "usage_nice": None,
                  "usage_iowait": 0.25, "usage_irq": -number, "usage_steal": i}
                 for i, (ts, host, region) in enumerate(picked)]
        while not os.path.exists(stop):
            at = DeltaTable(table)
            con.register("now", at.to_pyarrow_table(columns=KEY))
            con.register("new", pa.Table.from_pylist(list(parsed(batch)), SCHEMA))
            taken = con.execute("SELECT new.usage_steal FROM new JOIN now USING (ts, hostname)")
            taken = {number for number, in taken.fetchall()}
            batch = [row for row in batch if row["usage_steal"] not in taken]
            if not batch:
                break
            try:
                write_deltalake(at, pa.Table.from_pylist(list(parsed(batch)), SCHEMA),
                                mode="append",
                                commit_properties=CommitProperties(max_commit_retries=0))
            except DeltaError:
                continue
            out.write(json.dumps(batch) + "\n")
            out.flush()
            break
        time.sleep(0.01)


def thin(table, path):
    """Drops every seventh row of a data file, keeping its name and the log as they are."""
    place = pathlib.Path(table, path)
    whole = pq.read_table(place, partitioning=None)
    kept = whole.take([i for i in range(whole.num_rows) if i % 7 != 3])
    pq.write_table(kept, place)
    print(json.dumps({"dropped": whole.num_rows - kept.num_rows}))


def types(table):
    schema = rows(table).schema
    print(json.dumps({field.name: str(field.type) for field in schema}))


def main(args):
    if len(args) >= 4 and args[0] == "equal":
        equal(args[1], args[2], args[3:])
    elif len(args) >= 4 and args[0] == "sql":
        sql(args[1], args[2], args[3:])
    elif len(args) >= 4 and args[0] == "live":
        live(args[1], args[2], args[3:])
    elif len(args) == 5 and args[0] == "append":
        append(*args[1:])
    elif len(args) == 3 and args[0] == "restore":
        DeltaTable(args[1]).restore(int(args[2]))
    elif len(args) == 2 and args[0] == "compact":
        DeltaTable(args[1]).optimize.compact()
    elif len(args) == 5 and args[0] == "update":
        DeltaTable(args[1]).update(updates={args[3]: args[4]}, predicate=args[2])
    elif len(args) == 3 and args[0] == "delete":
        DeltaTable(args[1]).delete(args[2])
    elif len(args) == 3 and args[0] == "thin":
        thin(args[1], args[2])
    elif len(args) >= 5 and args[0] == "pack":
        pack(args[1], args[2], int(args[3]), args[4:])
    elif len(args) >= 5 and args[0] == "lite":
        lite(args[1], args[2], args[3], args[4:])
    elif len(args) == 3 and args[0] == "execute":
        execute(*args[1:])
    elif len(args) >= 4 and args[0] == "objects":
        objects(args[1], args[2], args[3:])
    elif len(args) == 4 and args[0] == "spread":
        spread(*args[1:])
    elif len(args) >= 5 and args[0] == "typed":
        typed(args[1], args[2], args[3], args[4:])
    elif len(args) == 3 and args[0] == "doubled":
        doubled(args[1], args[2])
    elif len(args) == 2 and args[0] == "types":
        types(args[1])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
