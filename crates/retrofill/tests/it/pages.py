#!/usr/bin/env python3
"""Parquet files whose pages have checksums or not, by pyarrow; and damage to them.

    pages.py write FILE FIRST SUMS TIME   2,000 hourly rows from the day FIRST on, in row groups of
                                          700, uncompressed and plain; SUMS is `sums` or `none`,
                                          TIME `time` or `text`. The column `tags` has lists.
                                          Prints the rows as CSV, without `unused` and `tags`.
    pages.py flip FILE GROUP COLUMN       flips a bit in the last value of a column in a row group,
                                          and fails unless pyarrow then reads one other value.
                                          Prints `seen` where it sees that by comparing checksums,
                                          else `unseen`.
"""
import datetime
import sys

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 2_000


def write(path, first, sums, time):
    start = datetime.datetime.fromisoformat(first).replace(tzinfo=datetime.timezone.utc)
    times = [start + datetime.timedelta(hours=i) for i in range(ROWS)]
    texts = [t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in times]
    site = [f"site {i % 3}" for i in range(ROWS)]
    used, unused = [i * 7 % 1_000 for i in range(ROWS)], [i / 3 for i in range(ROWS)]
    table = pa.table({
        "t": pa.array(texts) if time == "text" else pa.array(times, pa.timestamp("us", "UTC")),
        "site": site, "used": pa.array(used, pa.int64()), "unused": pa.array(unused, pa.float64()),
        "tags": [[{"n": i}, None][:i % 3] for i in range(ROWS)]})
    pq.write_table(table, path, row_group_size=700, data_page_size=1_500, write_batch_size=50,
                   use_dictionary=False, compression="none", write_page_checksum=sums == "sums")
    print("t,site,used")
    for row in zip(texts, site, used):
        print(*row, sep=",")


def flip(path, group, column):
    before = pq.read_table(path)
    metadata = pq.ParquetFile(path).metadata
    index = before.column_names.index(column)
    chunk = metadata.row_group(group).column(index)
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        at = chunk.data_page_offset + chunk.total_compressed_size
        # Numbers lie there with their lowest byte first, texts with their last letter last.
        at -= 1 if before.schema.field(column).type == pa.string() else 8
        data[at] ^= 1
        file.seek(0)
        file.write(data)
    after = pq.read_table(path)
    other = [name for name in before.column_names if before[name] != after[name]]
    pairs = zip(before[column].to_pylist(), after[column].to_pylist())
    if other != [column] or sum(a != b for a, b in pairs) != 1:
        sys.exit("not one value differs")
    try:
        pq.read_table(path, page_checksum_verification=True)
        print("unseen")
    except OSError:
        print("seen")


match sys.argv[1:]:
    case ["write", path, first, sums, time]:
        write(path, first, sums, time)
    case ["flip", path, group, column]:
        flip(path, int(group), column)
    case _:
        sys.exit(__doc__)
