#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope record with several kinds: which files there are, what is refused before anything starts, and
that the command runs as it would have without."""

import os
import subprocess

from harness import BURN, FIBERSCOPE, TESTS, Profile, main, record

TYPES = {
    "cpu": ["samples", "cpu"],
    "wall": ["samples", "wall"],
    "heap": ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"],
    "block": ["contentions", "delay"],
    "mutex": ["contentions", "delay"],
}


def files(work):
    return sorted(os.listdir(work))


def refused(work, status, text, *args):
    done = record(*args, cwd=work)
    assert done.returncode == status and text in done.stderr, (args, done.returncode, done.stderr)
    assert files(work) == [], files(work)


def each_kind_has_its_file(work):
    done = record("--all", "-o", "%k.pb.gz", BURN, "split", "200", cwd=work, check=0)
    assert files(work) == sorted(k + ".pb.gz" for k in TYPES), files(work)
    for kind, types in TYPES.items():
        p = Profile(f"{work}/{kind}.pb.gz")
        assert [t for t, _ in p.sample_types] == types, (kind, p.sample_types)
        assert any("split 200" in c for c in p.comments), (kind, p.comments)
    assert "fiberscope: heap: " in done.stderr and "fiberscope: block: " in done.stderr, done.stderr


def a_named_kind_replaces_the_default(work):
    record("--mutex", BURN, "split", "50", cwd=work, check=0)
    name, = files(work)
    assert name.startswith("burn.") and name.endswith(".mutex.pb.gz"), name


def an_exact_heap_has_its_lifetimes_beside(work):
    record("--heap=exact", "-o", "h.pb.gz", BURN, "split", "50", cwd=work, check=0)
    assert {"h.pb.gz", "h.lifetime.pb.gz"} <= set(files(work)), files(work)
    p = Profile(f"{work}/h.pb.gz")
    assert [t for t, _ in p.sample_types] == ["alloc_objects", "alloc_space", "temporary_objects", "peak_objects",
                                              "peak_space", "inuse_objects", "inuse_space"], p.sample_types
    p = Profile(f"{work}/h.lifetime.pb.gz")
    assert p.sample_types == [("freed_objects", "count")], p.sample_types
    assert any(c.startswith("lifetime: the longest") for c in p.comments), p.comments


def one_file_is_not_enough_for_two(work):
    refused(work, 1, "fiberscope flame", "-o", "one.svg", BURN, "split", "50")
    refused(work, 1, "nothing was recorded", "-o", "missing/p.pb.gz", "-p", str(os.getpid()))
    refused(work, 1, "2 profiles need 2 files", "--heap", "--cpu", "-o", "one.pb.gz", BURN, "split", "50")


def a_folder_that_is_named_as_one_is_made(work):
    record("--heap", "--cpu", "-o", "new/", BURN, "split", "50", cwd=work, check=0)
    assert files(work) == ["new"] and len(files(f"{work}/new")) == 2, files(work)
    record("-o", "new/", BURN, "split", "50", cwd=work, check=0)
    assert len(files(f"{work}/new")) == 3, files(f"{work}/new")
    done = record("-o", "no/such/", "touch", "started", cwd=work)
    assert done.returncode == 1 and "no/such: No such file" in done.stderr, done.stderr
    assert files(work) == ["new"], files(work)


def what_is_told_to_do_next_works(work):
    done = record("--heap=exact", "-o", "h.pb.gz", "sh", "-c", "true; ls / | cat", cwd=work, check=0)
    env = dict(os.environ, PATH=os.path.dirname(FIBERSCOPE) + ":" + os.environ["PATH"])
    commands = [line.split("next: ")[1] for line in done.stderr.splitlines() if "next: " in line]
    assert len(commands) == 2, done.stderr
    shown = [subprocess.run(["sh", "-c", c], cwd=work, env=env, capture_output=True, text=True, timeout=60,
                            check=True).stdout for c in commands]
    assert "inuse_space" in shown[0], shown[0]
    # Values of the label, which a table of functions alone would not show.
    assert any(line.split()[-1].endswith(("ns", "us", "ms")) for line in shown[1].splitlines()), shown[1]
    # Each process has its own peak, and they are not to be added.
    assert " in one process after " in done.stderr and " processes" in done.stderr, done.stderr


def allocations_belong_to_who_made_them(work):
    """Not to operator new, which is where they all are."""
    record("--heap=exact", "-o", "h.pb.gz", os.path.join(TESTS, "heap_target_cc"), cwd=work, check=0)

    def top(*options):
        return subprocess.run([FIBERSCOPE, "top", "-sample_index=alloc_objects", "--no-trim", *options, "h.pb.gz"],
                              cwd=work, capture_output=True, text=True, timeout=60, check=True).stdout
    rows = [line.split(maxsplit=5) for line in top().splitlines()]
    flat = {r[5]: int(r[0]) for r in rows if len(r) == 6 and r[0].isdigit()}
    assert flat["site_new"] == 51 and flat["site_new_array_aligned"] == 50, flat
    assert not any(name.startswith("operator new") for name in flat), flat
    assert "operator new" in top("--all_frames")


def what_makes_no_sense_is_said(work):
    for option, text in (("--heap=x", "or `exact` is needed"), ("--heap=0", "or `exact` is needed"),
                         ("--heap=2TiB", "or `exact` is needed"), ("--block=fast", "a time (10us"),
                         ("--block=0", "a time (10us"), ("--block=2h", "a time (10us"),
                         ("--mutex=0", "from 1"), ("--mutex=1x", "from 1"), ("--mmap", "needs --heap")):
        refused(work, 2, text, option, BURN, "split", "50")


def a_running_process_is_left_alone(work):
    p = subprocess.Popen(["sleep", "30"])
    try:
        for option in ("--heap", "--block", "--mutex"):
            refused(work, 1, f"record {option} COMMAND", option, "-p", str(p.pid))
        assert p.poll() is None
    finally:
        p.kill()
        p.wait()


def a_static_program_is_refused_before_it_runs(work):
    static = os.path.join(TESTS, "burn_static")
    refused(work, 126, "need the agent inside", "--heap", static, "page", f"{work}/page")


if __name__ == "__main__":
    main([each_kind_has_its_file, a_named_kind_replaces_the_default, an_exact_heap_has_its_lifetimes_beside,
          one_file_is_not_enough_for_two, a_folder_that_is_named_as_one_is_made,
          what_is_told_to_do_next_works, allocations_belong_to_who_made_them, what_makes_no_sense_is_said, a_running_process_is_left_alone,
          a_static_program_is_refused_before_it_runs])
