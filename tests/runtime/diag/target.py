# SPDX-License-Identifier: MIT
"""Runs the target and takes its words apart; counts checks that failed."""
import os
import re
import subprocess
import sys

TARGET = sys.argv[1]
failed = 0


def check(condition, *what):
    global failed
    if not condition:
        failed += 1
        print("FAILED:", *what)


def same(got, want, what):
    check(got == want, f"{what}:\n  got  {got}\n  want {want}")


def finish():
    sys.exit(1 if failed else 0)


def run(mode, debug="", env=None, timeout=60):
    """(status, stdout, stderr); the status of a death by signal is negative."""
    environment = {"PATH": "/usr/bin:/bin", "FIB_MAXPROCS": "2", "FIB_DEBUG": debug, **(env or {})}
    if "TSAN_OPTIONS" in os.environ:
        environment["TSAN_OPTIONS"] = os.environ["TSAN_OPTIONS"]
    p = subprocess.run([TARGET, mode], env=environment, capture_output=True, text=True,
                       timeout=timeout, check=False)
    return p.returncode, p.stdout, p.stderr


def goroutines(text):
    """{id: (state, [function...], creator or None)} of a dump in Go's shape; every line has to fit."""
    found = {}
    for block in text.strip("\n").split("\n\n"):
        lines = block.split("\n")
        head = re.fullmatch(r"goroutine (\d+) \[([^\]]+)\]:", lines[0])
        if not head:
            continue
        functions, creator = [], None
        check(len(lines) % 2 == 1, "a frame has two lines:", block)
        for name, place in zip(lines[1::2], lines[2::2]):
            check(re.fullmatch(r"\t(/\S+|linux-vdso.so.1) \+0x[0-9a-f]+", place), "place:", place)
            made = re.fullmatch(r"created by (\S+)( in goroutine (\d+))?", name)
            frame = re.fullmatch(r"(\S+)\(\.\.\.\)", name)
            check(made or frame, "frame:", name)
            if made:
                creator = (made[1], int(made[3] or 0))
            elif frame and frame[1] != "fib_join" or functions[-1:] != ["fib_join"]:
                # Optimised, fib_join is a jump to fib_join_for; else a call.
                functions.append(frame[1].replace("fib_join_for", "fib_join"))
        check(int(head[1]) not in found, "twice:", head[0])
        found[int(head[1])] = (head[2], functions, creator)
    return found
