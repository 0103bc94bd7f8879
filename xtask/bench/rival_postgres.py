#!/usr/bin/env python3
"""rival_postgres.py sling|spark|spark-tuned CSV URL [JAR]: another way to fill the table `metrics`,
timed without imports and without the start of a Java machine."""
import json
import os
import subprocess
import sys
import tempfile
import time

SCHEMA = ("ts timestamp, hostname string, region string, usage_user double, usage_system double, "
          "usage_idle double, usage_nice double, usage_iowait double, usage_irq bigint, "
          "usage_steal bigint")


def sling(source, url):
    import sling_linux_amd64
    program = os.path.join(os.path.dirname(sling_linux_amd64.__file__), "bin/sling-linux-amd64")
    os.chmod(program, 0o755)
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | {"SLING_DISABLE_TELEMETRY": "true", "SLING_HOME_DIR": home}
        start = time.monotonic()
        subprocess.run([program, "run", "--src-stream", f"file://{source}",
                        "--tgt-conn", f"{url}?sslmode=disable", "--tgt-object", "public.metrics",
                        "--mode", "truncate"], env=env, check=True, stdout=sys.stderr)
        return time.monotonic() - start


def spark(source, url, jar, **tuned):
    from pyspark.sql import SparkSession
    session = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
               .config("spark.driver.memory", "4g").config("spark.jars", jar)
               .config("spark.sql.session.timeZone", "UTC").getOrCreate())
    session.sparkContext.setLogLevel("ERROR")
    start = time.monotonic()
    rows = session.read.csv(source, header=True, schema=SCHEMA)
    user, place = url.removeprefix("postgres://").split("@")
    options = {"driver": "org.postgresql.Driver", "user": user} | tuned
    rows.write.jdbc(f"jdbc:postgresql://{place}", "metrics", "append", options)
    seconds = time.monotonic() - start
    session.stop()
    return seconds


def spark_tuned(source, url, jar):
    """With what those use who know the driver: many rows in one INSERT."""
    return spark(source, url, jar, batchsize="10000", reWriteBatchedInserts="true")


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    ways = {"sling": sling, "spark": spark, "spark-tuned": spark_tuned}
    print(json.dumps({"seconds": ways[name](*rest)}))
