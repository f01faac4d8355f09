#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Profiles know fibers: fibers_target.c says what each of its fibers does, and the profiles must agree."""

import os
import subprocess

import harness

TARGET = os.path.join(harness.TESTS, "fibers_target")
STARTS = ("start_small", "start_large", "start_allocator", "start_receiver", "start_locker",
          "start_sleeper", "start_runner", "cpu_main", "heap_main", "parked_main")


def recorded(kind, case, work, *options):
    path = os.path.join(work, f"{case}.pb.gz")
    done = harness.record(*options, "-o", path, TARGET, case, cwd=work, check=0)
    want = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("want ")]
    profile = harness.Profile(path)
    assert [t[0] for t in profile.sample_types][-1] == kind, profile.sample_types
    return profile, want


def value_of(profile, name):
    return [t[0] for t in profile.sample_types].index(name)


def cpu_samples_carry_fiber_labels_and_end_at_the_start(work):
    profile, want = recorded("cpu", "cpu", work, "-F", "999")
    of_fibers = [s for s in profile.samples if "burn_step" in s.stack]
    total = sum(s.values[1] for s in of_fibers)
    assert total > 500e6, total
    ids = {int(w[1]) for w in want if w[0] == "id"}
    shares = {w[0]: float(w[1]) for w in want if w[0] != "id"}
    for s in of_fibers:
        assert s.stack[-1] in ("start_small", "start_large"), s.stack
        assert s.labels.get("fiber") in ids, s.labels
    for kind, share in shares.items():
        by_label = sum(s.values[1] for s in of_fibers if s.labels.get("kind") == kind)
        by_start = sum(s.values[1] for s in of_fibers if s.stack[-1] == f"start_{kind}")
        harness.close(by_label / total, share, 0.03, f"label {kind}")
        harness.close(by_start / total, share, 0.03, f"start function of {kind}")
    assert {s.labels["fiber"] for s in of_fibers} == ids, "each of them has samples"


def exact_heap_counts_by_the_fibers_labels(work):
    profile, want = recorded("inuse_space", "heap", work, "--heap=exact")
    index = value_of(profile, "alloc_objects")
    sums = {"none": 0}
    for s in profile.samples:
        if "make" not in s.stack:
            continue
        assert s.stack[-1] in STARTS, s.stack
        assert "fiber" not in s.labels, "one entry a fiber would be too many"
        kind = s.labels.get("kind", "none")
        sums[kind] = sums.get(kind, 0) + s.values[index]
    assert sums == {kind: int(n) for kind, n in want}, (sums, want)


if __name__ == "__main__":
    harness.main([cpu_samples_carry_fiber_labels_and_end_at_the_start,
                  exact_heap_counts_by_the_fibers_labels])
