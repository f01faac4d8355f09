# SPDX-License-Identifier: MIT
"""perf record --call-graph dwarf: stacks of fibers reach where they began, from loops and from within the switch."""
import os
import re
import subprocess
import sys
import tempfile

from target import TARGET, check, finish, same


def samples(where, mode):
    """[[function...]] leaf first, of the samples in fibers."""
    data = os.path.join(where, mode)
    p = subprocess.run(["perf", "record", "-q", "-e", "cpu-clock:u", "-F", "1999", "--call-graph", "dwarf,4096",
                        "-o", data, TARGET, mode], capture_output=True, text=True, timeout=60, check=False,
                       env={**os.environ, "FIB_MAXPROCS": "1"})
    if p.returncode:
        print("SKIP: perf cannot record here:", p.stderr.strip()[-200:])
        sys.exit(77)
    p = subprocess.run(["perf", "script", "-i", data, "-F", "ip,sym", "--no-inline"], capture_output=True,
                       text=True, timeout=100, check=True)
    stacks = []
    for block in p.stdout.strip().split("\n\n"):
        stacks.append([re.split(r"\s+", l.strip(), maxsplit=1)[1] for l in block.split("\n") if l.strip()])
    return stacks


with tempfile.TemporaryDirectory() as directory:
    found = [s for s in samples(directory, "stall") if "busy_loop" in s]
    check(len(found) > 50, "samples of the loop:", len(found))
    same({tuple(s[s.index("busy_loop"):]) for s in found},
         {("busy_loop", "main_of_stall", "fib_root_")}, "the loop's stacks")
    found = samples(directory, "yield-long")
    inside = [s for s in found if s[0] == "arch_switch"]
    check(len(inside) > 20, "samples in the switch:", len(inside), "of", len(found))
    same({tuple(s[-2:]) for s in inside if "schedule_loop" not in s}, {("yielder", "fib_root_")},
         "stacks from within the switch")
finish()
