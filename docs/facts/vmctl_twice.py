#!/usr/bin/env python3
"""vmctl_twice.py BIN: what `vmctl` leaves in VictoriaMetrics when the same import runs twice.

BIN is a directory with `victoria-metrics` and `vmctl` (Debian's package `victoria-metrics`). One
server holds 1,000 samples of one series; `vmctl vm-native` copies them to another one: without a
terminal, then twice with one. Prints one line of JSON: the samples there were, those in the copy
after each run, and vmctl's exit codes.
"""
import json
import os
import pty
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

START, STEP, SAMPLES = 1_577_836_800, 60, 1_000


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url, data=None):
    with urllib.request.urlopen(url, data=data, timeout=30) as answer:
        return answer.read().decode()


class Server:
    def __init__(self, bin_dir, data):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process = subprocess.Popen(
            [os.path.join(bin_dir, "victoria-metrics"), f"-storageDataPath={data}",
             "-retentionPeriod=100y", f"-httpListenAddr={self.url[7:]}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                get(self.url + "/health")
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("victoria-metrics does not start")

    def samples(self):
        get(self.url + "/internal/force_flush")
        query = urllib.parse.urlencode({"match[]": "fact", "start": START - STEP})
        lines = get(f"{self.url}/api/v1/export?{query}").splitlines()
        return sum(len(json.loads(line)["values"]) for line in lines)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def copy(bin_dir, source, target, terminal):
    command = [
        os.path.join(bin_dir, "vmctl"), "vm-native",
        f"--vm-native-src-addr={source.url}", f"--vm-native-dst-addr={target.url}",
        "--vm-native-filter-match={__name__=\"fact\"}",
        "--vm-native-filter-time-start=2020-01-01T00:00:00Z"]
    if not terminal:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode
    pid, screen = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    try:
        while os.read(screen, 4096):
            pass
    except OSError:
        pass  # The terminal is closed when the program ends.
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(bin_dir):
    with tempfile.TemporaryDirectory() as tmp:
        servers = []
        try:
            servers = [Server(bin_dir, f"{tmp}/{name}") for name in ("source", "target")]
            source, target = servers
            row = {"metric": {"__name__": "fact"}, "values": list(range(SAMPLES)),
                   "timestamps": [(START + i * STEP) * 1000 for i in range(SAMPLES)]}
            get(source.url + "/api/v1/import", json.dumps(row).encode())
            fact = {"source": source.samples()}
            for run in ("without_terminal", "first", "second"):
                fact[f"{run}_exit"] = copy(bin_dir, source, target, run != "without_terminal")
                fact[f"{run}_samples"] = target.samples()
            print(json.dumps(fact))
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    main(sys.argv[1])
