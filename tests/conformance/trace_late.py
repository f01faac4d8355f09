#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Traces that begin or advance at moments that are rare by themselves (tests/runtime/trace_late.c) are accepted by Go's
own reader and by `fiberscope trace validate`. Where nobody can tell what happened at such a moment, the trace is cut."""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import trace_go  # noqa: E402
import trace_stress  # noqa: E402

PROGRAM = os.path.join(trace_stress.RUNTIME, "trace_late")


def late(moment, folder):
    done = subprocess.run([trace_stress.FIBERSCOPE, "record", "--trace", "-o", os.path.join(folder, "t.%k"), PROGRAM, moment],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{moment}: {done.stderr}"
    paths = sorted(os.path.join(folder, f) for f in os.listdir(folder) if f.startswith("t.trace"))
    assert paths, f"{moment}: {done.stderr}"
    for path in paths:
        trace_stress.validate(path)
    assert (moment != "start") == ("was cut" in done.stderr), f"{moment}: {done.stderr}"
    if moment == "start":
        said = subprocess.run([trace_stress.FIBERSCOPE, "trace", "events", "--kind=StateTransition", paths[-1]],
                              capture_output=True, text=True, check=True).stdout
        assert 'Undetermined -> Runnable in "late"' in said, said


def main():
    if not trace_go.GO:
        print("SKIP: no Go here")
        return 77
    trace_stress.ORACLE = trace_go.oracle()
    for moment in ("start", "create", "created", "ready"):
        with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
            late(moment, folder)
    trace_stress.ORACLE.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
