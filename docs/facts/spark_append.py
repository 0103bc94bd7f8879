#!/usr/bin/env python3
"""spark_append.py: what the classic append job of Spark leaves when it runs twice (needs pyspark).

The job reads CSV files with a header and appends them, as CSV, to a folder. It runs, and runs
again. Then the source gets a second file whose columns stand in another order. Prints one line
of JSON: rows of the source, rows in the folder after each run, and how many rows of the two
files Spark reads with values in the wrong column.
"""
import json
import os
import tempfile

from pyspark.sql import SparkSession

ROWS = 1_000


def write(path, header, rows):
    with open(path, "w", encoding="utf-8") as out:
        out.write(",".join(header) + "\n")
        out.writelines(",".join(row) + "\n" for row in rows)


def main():
    spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
             .config("spark.sql.shuffle.partitions", "1").getOrCreate())
    spark.sparkContext.setLogLevel("OFF")
    with tempfile.TemporaryDirectory() as tmp:
        data, out = f"{tmp}/data", f"{tmp}/out"
        os.mkdir(data)

        def job():
            spark.read.csv(data, header=True).write.mode("append").csv(out, header=True)
            return spark.read.csv(out, header=True).count()

        times = [f"2020-01-01T{i // 60:02}:{i % 60:02}:00Z" for i in range(ROWS)]
        write(f"{data}/a.csv", ["t", "site", "v"], ([t, "a", "1"] for t in times))
        fact = {"source": ROWS, "first_rows": job(), "second_rows": job()}
        # Another order of columns in one file of the same folder.
        write(f"{data}/b.csv", ["site", "t", "v"], (["b", t, "1"] for t in times))
        read = spark.read.csv(data, header=True)
        fact["misplaced"] = read.where("t in ('a', 'b')").count()
        print(json.dumps(fact))
    spark.stop()


if __name__ == "__main__":
    main()
