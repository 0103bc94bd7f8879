#!/usr/bin/env python3
"""The job that this example stands beside, and what Spark reads afterwards (needs pyspark).

    spark.py make               writes archive/ and readings/ anew
    spark.py check RETROFILL    in a copy: Spark appends to a folder; RETROFILL is killed in the
                                middle of its work there, run, and run again; Spark appends once
                                more and reads everything. Prints one line of JSON: rows in the
                                folder after each step, and whether Spark reads all of it exactly.
"""
import csv
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from pyspark.sql import SparkSession

HERE = pathlib.Path(__file__).resolve().parent
SCHEMA = "ts timestamp, meter string, kwh double, quality string"
COLUMNS = ["ts", "meter", "kwh", "quality"]
UTC = datetime.timezone.utc
METERS = ["A-001", "A-002", "B-117"]
QUALITIES = ["measured", "measured", None, "estimated, by hand", 'read as "low"', "measured"]


def hours(first, last):
    start = datetime.datetime.fromisoformat(first).replace(tzinfo=UTC)
    end = datetime.datetime.fromisoformat(last).replace(tzinfo=UTC)
    count = int((end - start).total_seconds() // 3600)
    return [start + datetime.timedelta(hours=h) for h in range(count)]


def reading(ts, i, plain):
    hour = int(ts.timestamp()) // 3600
    kwh = round(0.35 + (hour * 7 + i * 13) % 41 / 17, 3)
    quality = QUALITIES[(hour + i) % len(QUALITIES)]
    # By default Spark writes quotes inside of a text as no other program reads them.
    return ts, METERS[i], kwh, quality.replace('"', "") if plain and quality else quality


def live(first, last):
    return [reading(ts, i, True) for ts in hours(first, last) for i in range(len(METERS))]


def history():
    rows = [list(reading(ts, i, ts >= datetime.datetime(2024, 3, 1, tzinfo=UTC)))
            for ts in hours("2024-02-26", "2024-03-01T12:00") for i in range(len(METERS))]
    # A value that was corrected after the day on which Spark got it.
    rows[-1][2] += 1
    return [tuple(row) for row in rows]


def session():
    spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
             .config("spark.sql.session.timeZone", "UTC").getOrCreate())
    spark.sparkContext.setLogLevel("OFF")
    return spark


def append(spark, folder, rows):
    frame = spark.createDataFrame(rows, SCHEMA).repartition(2)
    frame.write.mode("append").csv(str(folder), header=True)


def read(spark, folder):
    frame = spark.read.csv(str(folder), header=True, schema=SCHEMA, escape='"')
    rows = [(r.ts.astimezone(UTC), r.meter, r.kwh, r.quality) for r in frame.collect()]
    return sorted(rows, key=lambda r: r[:2])


def write_archive(to):
    to.mkdir(exist_ok=True)
    with open(to / "readings-2024-02.csv", "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for ts, meter, kwh, quality in history():
            writer.writerow([ts.strftime("%Y-%m-%dT%H:%M:%SZ"), meter, kwh, quality])


def make():
    spark = session()
    write_archive(HERE / "archive")
    shutil.rmtree(HERE / "readings", ignore_errors=True)
    append(spark, HERE / "readings", live("2024-03-01", "2024-03-04"))
    for name in os.listdir(HERE / "readings"):
        if name[0] in "._":
            os.remove(HERE / "readings" / name)
    spark.stop()


def kill(program, place):
    """Kills it between proof and commit of its second slice."""
    variables = dict(os.environ, RETROFILL_HOLD="commit:2")
    running = subprocess.Popen([program, "run"], cwd=place, env=variables, stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, text=True)
    for line in running.stderr:
        if "held at commit" in line:
            running.kill()
            running.wait()
            return
    sys.exit("it ended before it could be killed: is it a build for development?")


def check(program):
    program = os.path.abspath(program)
    spark = session()
    with tempfile.TemporaryDirectory() as tmp:
        place = pathlib.Path(tmp)
        shutil.copy(HERE / "backfill.yaml", place)
        shutil.copytree(HERE / "archive", place / "archive")
        folder = place / "readings"

        def run():
            subprocess.run([program, "run"], cwd=place, check=True, stdout=subprocess.DEVNULL)
            return len(read(spark, folder))

        there = live("2024-03-01", "2024-03-04")
        append(spark, folder, there[:100])
        append(spark, folder, there[100:])
        fact = {"archive": len(history()), "before": len(read(spark, folder))}
        kill(program, place)
        fact["killed"] = len(read(spark, folder))
        fact["loaded"] = run()
        fact["again"] = run()
        more = live("2024-03-04", "2024-03-05")
        append(spark, folder, more)
        fact["appended"] = run()
        wanted = {r[:2]: r for r in history()}
        wanted.update({r[:2]: r for r in there + more})
        found = read(spark, folder)
        fact["exact"] = found == [wanted[k] for k in sorted(wanted)]
        print(json.dumps(fact))
    spark.stop()


if __name__ == "__main__":
    if sys.argv[1:] == ["make"]:
        make()
    elif len(sys.argv) == 3 and sys.argv[1] == "check":
        check(sys.argv[2])
    else:
        sys.exit(__doc__)
