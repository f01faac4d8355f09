#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Memory, locks and fibers from outside, by BPF: what programs say that they did is found, and what the agent inside finds is
found outside; nothing is left in the process."""

import collections
import os
import re
import signal
import subprocess
import time

import harness
from ebpf import begun, ended
from harness import FIBERSCOPE, TESTS, Profile, close, record

SITES = os.path.join(TESTS, "sites_target")
FIBERS = os.path.join(TESTS, "sites_fibers")
MIB = 1 << 20


class Target:
    """A program that waits to be told to begin, and to end; under `inside`, a recorder of its own, if there is one."""

    def __init__(self, *argv, inside=(), **more):
        self.process = subprocess.Popen([*inside, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE if inside else None, text=True, **more)
        self.pid = int(self.process.stdout.readline().split()[1])
        self.truth = []

    def __enter__(self):
        return self

    def run(self):
        """Has it do its work; (kind, [words]) for each line of truth."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        lines = iter(self.process.stdout.readline, "")
        for line in lines:
            self.truth.append(line.split()[1:])
            if self.truth[-1][0] == self.last:
                break
        return self.truth

    last = None

    def end(self):
        self.process.stdin.write("end\n")
        self.process.stdin.close()
        self.process.stdin = None
        out, err = self.process.communicate(timeout=60)
        return out, err

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def outside(work, pid, *args):
    r = subprocess.Popen([FIBERSCOPE, "record", "--method=ebpf", "-p", str(pid), "-o", os.path.join(work, "out/"), *args],
                         stderr=subprocess.PIPE, text=True)
    begun(r)
    return r


def stop(r):
    r.send_signal(signal.SIGINT)
    return ended(r)


def profiles(work, folder="out"):
    found = {}
    for name in os.listdir(os.path.join(work, folder)):
        found[name.split(".")[-3]] = Profile(os.path.join(work, folder, name))
    return found


def value(profile, name, function, where=lambda s: True):
    i = [t[0] for t in profile.sample_types].index(name)
    return sum(s.values[i] for s in profile.samples if function in s.stack and where(s))


# --- How a process grows.

def growth_is_found_where_it_happens(work):
    with Target(SITES, "grow") as t:
        t.last = "unmapped"
        r = outside(work, t.pid, "--heap")
        truth = t.run()
        said = stop(r)
    assert "allocations need the agent" in said and "--malloc" in said, said
    p = profiles(work)["heap"]
    assert p.sample_types == [("faults", "count"), ("fault_space", "bytes"), ("returned_space", "bytes"),
                              ("mmaps", "count"), ("mmap_space", "bytes"), ("munmap_space", "bytes")], p.sample_types
    types = {"resident": "fault_space", "returned": "returned_space", "mapped": "mmap_space", "unmapped": "munmap_space"}
    for kind, function, want in truth:
        got = value(p, types[kind], function)
        print(f"      {kind} {function}: {got}, truly {want}")
        # A page of the stack or of tables may be among them; the kernel counts in batches of at most 64 pages.
        close(got, int(want), 64 * 4096 if kind in ("resident", "returned") else 0, f"{kind} {function}")


if __name__ == "__main__":
    harness.skip_without_bpf()
    harness.main([
        growth_is_found_where_it_happens,
    ])
