#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope doctor says what is so, as root, as an ordinary user and under seccomp; where something is
missing it says what that costs and how to change it."""

import ctypes
import json
import os
import re
import subprocess

import harness
from harness import FIBERSCOPE, NOBODY, TESTS, Skip

NO_PERF = os.path.join(TESTS, "no_perf")
STATES = {"ok", "info", "limited", "no"}
with open(FIBERSCOPE, "rb") as program:
    WITH_BPF = b"libbpf.so" in program.read()  # what it is linked with


def doctor(*args, prefix=(), env=None):
    done = subprocess.run([*prefix, FIBERSCOPE, "doctor", *args], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60, check=False,
                          env={**os.environ, **(env or {})})
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(**more):
    out = {r["topic"]: r for r in json.loads(doctor("--json", **more))}
    for r in out.values():
        assert set(r) == {"topic", "state", "found", "cost", "change"}, r
        assert r["state"] in STATES and r["found"], r
        if r["state"] in ("limited", "no"):
            assert r["cost"] and r["change"], f"no cost or remedy: {r}"
        else:
            assert not r["cost"], r
    return out


def number(path):
    with open(path, encoding="ascii") as f:
        return int(f.read())


def bpf_loads(row):
    assert row["state"] == "ok", row
    said = re.search(r"load, in (\d+) ms; .* at most 256 MiB, of this program \((\d+) KiB of code\) (\d+) KiB", row["found"])
    # A thirtieth to a half of the code is what tables have been seen to take.
    ms, code, tables = (int(n) for n in said.groups())
    assert 0 < ms < 10000 and code > 1000 and code / 30 < tables < code / 2, row


def bpf_is_closed(row, why):
    """Who was built without it is not told of a right that would not help."""
    assert row["state"] == "limited" and "--method=ebpf" in row["cost"], row
    if WITH_BPF:
        assert why in row["found"], row
    else:
        assert row["found"] == "this fiberscope was made without libbpf" and "build it with" in row["change"], row


def root_may_do_everything_that_is_there(_):
    if os.geteuid() != 0:
        raise Skip("needs root")
    r = rows()
    assert r["perf events"]["state"] == "ok" and "kernel time" in r["perf events"]["found"], r
    assert r["sampling rate"]["state"] in ("ok", "limited")
    assert r["perf rings"]["state"] == "ok", r["perf rings"]
    assert r["ptrace"]["state"] == "ok", r["ptrace"]
    if WITH_BPF:
        bpf_loads(r["BPF"])
    else:
        bpf_is_closed(r["BPF"], None)
    paranoid = number("/proc/sys/kernel/perf_event_paranoid")
    assert f"paranoid {paranoid}" in r["perf events"]["found"], r["perf events"]
    maps = number("/proc/sys/vm/max_map_count")
    assert str(maps) in r["memory maps"]["found"]


def an_ordinary_user_is_told_what_is_closed(_):
    r = rows(prefix=NOBODY if os.geteuid() == 0 else ())
    paranoid = number("/proc/sys/kernel/perf_event_paranoid")
    if paranoid == 2:
        assert r["perf events"]["state"] == "limited", r["perf events"]
        assert "user time only" in r["perf events"]["found"]
        assert "perf_event_paranoid=1" in r["perf events"]["change"]
        assert r["perf rings"]["state"] in ("ok", "limited")
    if os.geteuid() == 0:
        assert "uid 65534" in r["user"]["found"] and "none" in r["user"]["found"]
        bpf_is_closed(r["BPF"], "CAP_BPF and CAP_PERFMON are missing")


def a_filter_is_recognised(_):
    r = rows(prefix=[NO_PERF])
    assert r["perf events"]["state"] == "no", r["perf events"]
    assert "refused" in r["perf events"]["found"] and "seccomp" in r["perf events"]["change"]
    assert r["sampling rate"]["state"] == "limited" and "timers" in r["sampling rate"]["found"]
    assert r["perf rings"]["state"] == "no"
    bpf_is_closed(r["BPF"], "no perf event")
    assert "filter" in r["seccomp"]["found"] and "no new privileges" in r["seccomp"]["found"]


def a_tracer_is_named(_):
    if subprocess.run(["which", "gdb"], stdout=subprocess.DEVNULL, check=False).returncode:
        raise Skip("needs gdb")
    done = subprocess.run(["gdb", "-q", "-batch", "-ex", "handle SIGPROF nostop noprint pass", "-ex",
                           "run doctor --json", FIBERSCOPE], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, timeout=60, check=False)
    assert '"being traced"' in done.stdout, done.stdout[-2000:]


def the_table_is_aligned_and_says_words(_):
    text = doctor()
    assert "\033" not in text, "colour although this is no terminal"
    starts = set()
    for line in text.splitlines():
        assert len(line) <= 100, line
        if not line.startswith(" "):
            state = line[19:28]
            assert state.strip() in STATES and line[18] == " " and line[27] == " ", line
            starts.add(len(line[:28]))
    assert starts == {28}, starts
    assert len(text.splitlines()) > 12


def nothing_is_left_behind(_):
    """Who loses a parent comes to us: what is left is our child."""
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    doctor()
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as f:
        left = f.read().split()
    assert not left, left


if __name__ == "__main__":
    harness.main([
        root_may_do_everything_that_is_there,
        an_ordinary_user_is_told_what_is_closed,
        a_filter_is_recognised,
        a_tracer_is_named,
        the_table_is_aligned_and_says_words,
        nothing_is_left_behind,
    ])
