#!/usr/bin/env python3
"""rival.py duckdb|polars|deltalake FILE OUT: another way to load a file, timed without imports."""
import json
import sys
import time


def duckdb_parquet(source, out):
    import duckdb
    con = duckdb.connect()
    read = "read_parquet" if source.endswith(".parquet") else "read_csv"
    start = time.monotonic()
    con.execute(f"COPY (SELECT * FROM {read}('{source}')) TO '{out}' "
                "(FORMAT parquet, COMPRESSION snappy)")
    return start


def polars_delta(source, out):
    import polars
    start = time.monotonic()
    polars.read_csv(source, try_parse_dates=True).write_delta(out)
    return start


def deltalake_delta(source, out):
    import deltalake
    import pyarrow.csv
    start = time.monotonic()
    deltalake.write_deltalake(out, pyarrow.csv.open_csv(source))
    return start


if __name__ == "__main__":
    name, source, out = sys.argv[1:]
    start = {"duckdb": duckdb_parquet, "polars": polars_delta,
             "deltalake": deltalake_delta}[name](source, out)
    print(json.dumps({"seconds": time.monotonic() - start}))
