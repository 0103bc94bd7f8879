#!/usr/bin/env python3
"""measure.py COMMAND...: runs it, prints one JSON line: wall seconds, CPU seconds, peak MiB."""
import json
import os
import sys
import time

start = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
_, status, used = os.wait4(pid, 0)
print(json.dumps({
    "seconds": time.monotonic() - start,
    "cpu": used.ru_utime + used.ru_stime,
    "peak_mib": used.ru_maxrss / 1024,
    "code": os.waitstatus_to_exitcode(status),
}))
