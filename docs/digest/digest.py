#!/usr/bin/env python3
"""retrofill-digest-v1, written a second time and independently.

    digest.py vectors vectors.json
    digest.py parquet RECEIPT.json TIME KEY[,KEY...] FILE.parquet...

The first checks the published vectors. The second computes the digest of the rows of Parquet
files under the salt of a receipt and compares it with the receipt's `written` digest; it needs
pyarrow. Exit code 0 when all is equal.
"""
import hashlib
import json
import struct
import sys
from decimal import Decimal

MASK = (1 << 64) - 1


def rotl(x, b):
    return ((x << b) | (x >> (64 - b))) & MASK


def sip128(key, data):
    """SipHash-2-4 with 128-bit output (Aumasson, Bernstein: SipHash, 2012)."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE,
         k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(n):
        v0, v1, v2, v3 = v
        for _ in range(n):
            v0 = (v0 + v1) & MASK; v1 = rotl(v1, 13) ^ v0; v0 = rotl(v0, 32)
            v2 = (v2 + v3) & MASK; v3 = rotl(v3, 16) ^ v2
            v0 = (v0 + v3) & MASK; v3 = rotl(v3, 21) ^ v0
            v2 = (v2 + v1) & MASK; v1 = rotl(v1, 17) ^ v2; v2 = rotl(v2, 32)
        v[:] = [v0, v1, v2, v3]

    whole = len(data) // 8 * 8
    tail = data[whole:] + bytes(7 - len(data) % 8) + bytes([len(data) & 255])
    for (word,) in struct.iter_unpack("<Q", data[:whole] + tail):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xEE
    rounds(4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    rounds(4)
    second = v[0] ^ v[1] ^ v[2] ^ v[3]
    return int.from_bytes(struct.pack("<QQ", first, second), "big")


class Number(str):
    """A number of a JSON document, as it is written there."""


def number(text):
    """As ECMAScript writes it; with all its digits and an exponent where no 64-bit float is it."""
    exact = Decimal(text)
    sign, digits, power = exact.as_tuple()
    shown = "".join(map(str, digits)).lstrip("0")
    power += len(shown) - len(shown.rstrip("0"))
    shown = shown.rstrip("0")
    if not shown:
        return "0"
    minus, count = "-" if sign else "", len(shown)
    point, near = count + power, float(text)
    if abs(near) < float("inf") and Decimal(repr(near)) == exact and -5 <= point <= 21:
        if point <= 0:
            return minus + "0." + "0" * -point + shown
        if point >= count:
            return minus + shown + "0" * (point - count)
        return minus + shown[:point] + "." + shown[point:]
    rest = "." + shown[1:] if count > 1 else ""
    return f"{minus}{shown[0]}{rest}e{point - 1:+d}"


def quoted(text):
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r",
             "\t": "\\t"}
    plain = lambda c: short.get(c) or (
        f"\\u{ord(c):04x}" if c < " " or 0xD800 <= ord(c) < 0xE000 else c)
    return '"' + "".join(map(plain, text)) + '"'


def canonical(text):
    """The one text of a JSON document: RFC 8785, and what `number` says."""
    def write(value):
        if isinstance(value, Number):
            return number(value)
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, dict):
            units = lambda name: name.encode("utf-16-be", "surrogatepass")
            return "{" + ",".join(
                quoted(n) + ":" + write(value[n]) for n in sorted(value, key=units)) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(write, value)) + "]"
        return {None: "null", True: "true", False: "false"}[value]
    return write(json.loads(text, parse_int=Number, parse_float=Number))


def encode(kind, value, unit):
    if value is None:
        return b"\x00"
    if kind == "bool":
        return b"\x01" + bytes([value])
    if kind == "integer":
        return b"\x02" + int(value).to_bytes(16, "big", signed=True)
    if kind == "decimal":
        number, scale = int(value), int(unit)
        while number and number % 10 == 0:
            number, scale = number // 10, scale - 1
        if number == 0:
            scale = 0
        size = 1
        while not -(1 << (8 * size - 1)) <= number < 1 << (8 * size - 1):
            size += 1
        return b"\x03" + struct.pack(">hB", scale, size) + number.to_bytes(size, "big", signed=True)
    if kind == "float":
        bits = 0x7FF8000000000000 if value != value else struct.unpack(
            ">Q", struct.pack(">d", value + 0.0))[0]
        return b"\x04" + bits.to_bytes(8, "big")
    if kind == "text":
        raw = value.encode()
        return b"\x05" + struct.pack(">I", len(raw)) + raw
    if kind == "bytes":
        return b"\x06" + struct.pack(">I", len(value)) + value
    if kind == "time":
        return b"\x09" + struct.pack(">q", int(value) * 1000)
    if kind == "uuid":
        return b"\x0a" + value
    if kind == "json":
        raw = canonical(value).encode()
        return b"\x0b" + struct.pack(">I", len(raw)) + raw
    if kind == "array":
        return b"\x0c" + struct.pack(">I", len(value)) + b"".join(
            encode(unit[0], item, unit[1]) for item in value)
    if kind == "date":
        return b"\x07" + struct.pack(">i", value)
    if kind == "instant":
        per = {"us": 10**6, "ns": 10**9}[unit]
        seconds, rest = divmod(int(value), per)
        return b"\x08" + struct.pack(">qI", seconds, rest * (10**9 // per))
    raise ValueError(kind)


def hash_key(columns, salt):
    """Columns are (name, type, role) in plan order: time, keys, the others by name."""
    text = json.dumps([[n, t, r] for n, t, r in columns], separators=(",", ":"),
                      ensure_ascii=False)
    fingerprint = hashlib.sha256(text.encode()).digest()
    return hashlib.sha256(b"retrofill-digest-v1" + fingerprint + salt).digest()[:16]


def row_hashes(key, columns, cells):
    parts = [encode(t, cell, unit) for (t, unit), cell in zip(columns, cells)]
    width = row_hashes.key_width
    return sip128(key, b"K" + b"".join(parts[:width])), sip128(key, b"R" + b"".join(parts))


def vectors(path):
    book = json.load(open(path, encoding="utf-8"))
    columns = book["columns"]
    key = hash_key([(c["name"], c["type"], c["role"]) for c in columns],
                   bytes.fromhex(book["salt"]))
    row_hashes.key_width = sum(c["role"] in ("time", "key") for c in columns)
    types = [(c["type"], c["unit"]) for c in columns]

    def cell(kind, value, unit):
        if value is None:
            return None
        if kind == "array":
            return [cell(unit[0], item, unit[1]) for item in value]
        if kind == "float":
            return struct.unpack(">d", bytes.fromhex(value))[0]
        return bytes.fromhex(value) if kind in ("bytes", "uuid") else value

    keys = rows = 0
    for line in book["rows"]:
        cells = [cell(t, v, u) for (t, u), v in zip(types, line["row"])]
        k, r = row_hashes(key, types, cells)
        if (f"{k:032x}", f"{r:032x}") != (line["key_hash"], line["row_hash"]):
            sys.exit(f"row {line['row']}: {k:032x} {r:032x}, published {line['key_hash']} "
                     f"{line['row_hash']}")
        keys, rows = (keys + k) % 2**128, (rows + r) % 2**128
    digest = book["digest"]
    if (len(book["rows"]), f"{keys:032x}", f"{rows:032x}") != (
            digest["count"], digest["keys"], digest["rows"]):
        sys.exit("the sum of the rows is not the published digest")
    print(f"{digest['count']} vectors hold")


def parquet(receipt_path, time, key_list, files):
    import pyarrow as pa
    import pyarrow.parquet as pq
    receipt = json.load(open(receipt_path, encoding="utf-8"))
    table = pa.concat_tables([pq.read_table(f, partitioning=None) for f in files])
    keys = [k for k in key_list.split(",") if k]

    def kind(ty):
        if pa.types.is_timestamp(ty):
            return "instant", ty.unit
        if pa.types.is_decimal(ty):
            return "decimal", ty.scale
        tests = [("bool", pa.types.is_boolean), ("integer", pa.types.is_integer),
                 ("float", pa.types.is_floating), ("date", pa.types.is_date),
                 ("text", lambda t: pa.types.is_string(t) or pa.types.is_large_string(t)),
                 ("bytes", pa.types.is_binary)]
        return next(name for name, test in tests if test(ty)), None

    def values(name):
        column = table.column(name)
        if pa.types.is_timestamp(column.type):
            return column.cast(pa.int64()).to_pylist()
        if pa.types.is_date32(column.type):
            return column.cast(pa.int32()).to_pylist()
        if pa.types.is_decimal(column.type):
            scale = column.type.scale
            return [None if v is None else int(v.scaleb(scale)) for v in column.to_pylist()]
        return column.to_pylist()

    others = sorted((n for n in table.column_names if n != time and n not in keys),
                    key=lambda n: n.encode())
    names = [time, *keys, *others]
    types = [kind(table.schema.field(n).type) for n in names]
    roles = ["time"] + ["key"] * len(keys) + ["value"] * len(others)
    key = hash_key([(n, t[0], r) for n, t, r in zip(names, types, roles)],
                   bytes.fromhex(receipt["salt"]))
    row_hashes.key_width = 1 + len(keys)
    keys_sum = rows_sum = count = 0
    for cells in zip(*(values(n) for n in names)):
        k, r = row_hashes(key, types, cells)
        keys_sum, rows_sum, count = (keys_sum + k) % 2**128, (rows_sum + r) % 2**128, count + 1
    written = receipt["digests"]["written"]
    found = {"count": count, "keys": f"{keys_sum:032x}", "rows": f"{rows_sum:032x}"}
    if any(written[field] != found[field] for field in found):
        sys.exit(f"{found}, the receipt says {written}")
    print(f"{count} rows, digest {found['rows']}: as the receipt says")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "vectors":
        vectors(sys.argv[2])
    elif len(sys.argv) >= 6 and sys.argv[1] == "parquet":
        parquet(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
    else:
        sys.exit(__doc__)
