#!/usr/bin/env python3
"""tally.py TABLE: what a Delta table holds of the stream of `bench/stream.rs`, a line for each hour
that has rows: the hour since 1970, how many, least, greatest and sum of `a`, and a sum to which
each row adds a product of its cells."""
import sys
import urllib.parse

import duckdb
from deltalake import DeltaTable

uris = DeltaTable(sys.argv[1]).file_uris()
files = [urllib.parse.unquote(uri.removeprefix("file://")) for uri in uris]
lines = duckdb.execute("""
    SELECT second // 3600, count(*), min(a), max(a), sum(a),
           sum(((second % 99991) * (host + 1) * (a + 1) + b * (state + 1))::HUGEINT)
    FROM (SELECT epoch_us(ts) // 1000000 AS second, a, b,
                 CAST(regexp_extract(hostname, '^host_([0-9]{4})$', 1) AS BIGINT) AS host,
                 CAST(regexp_extract(state, '^state ([0-9]): ', 1) AS BIGINT) AS state
          FROM read_parquet($files))
    GROUP BY ALL ORDER BY ALL
""", {"files": files}).fetchall() if files else []
for line in lines:
    print(*line)
