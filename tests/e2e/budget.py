#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Budgets: what is forbidden is told with its stack, and by SIGABRT; what is not is left alone."""

import os
import re
import signal
import shutil
import subprocess

import harness

TARGET = os.path.join(harness.TESTS, "budget_target")
HEADER = os.path.join(harness.TESTS, "api_header")
FRAME = re.compile(r"^#(\d+) (\S+?)(?:\+0x([0-9a-f]+))? \((\S+)\+0x([0-9a-f]+)\)$")


def run(binary, *args, check=0, **more):
    done = subprocess.run([binary, *args], capture_output=True, text=True, timeout=60,
                          check=False, **more)
    assert done.returncode == check, (args, done.returncode, done.stdout, done.stderr)
    return done


def passes(case, **more):
    done = run(TARGET, case, **more)
    assert done.stdout.endswith("ok\n"), done.stdout
    return done


def stack_of(text):
    frames = [FRAME.match(line) for line in text.splitlines() if line.startswith("#")]
    assert frames and all(frames), text
    assert [int(f[1]) for f in frames] == list(range(len(frames)))
    return frames


def aborts(case, first, functions, binary=TARGET):
    done = run(binary, case, check=-signal.SIGABRT)
    lines = done.stderr.splitlines()
    assert re.fullmatch(first, lines[0]), lines[0]
    frames = stack_of(done.stderr)
    assert [f[2] for f in frames[:len(functions)]] == functions, done.stderr
    assert "fscope_forbid(" in lines[-1] and "addr2line" in lines[-1], lines[-1]
    return frames


def allocations_are_counted(work):
    passes("counts")


def an_allocation_aborts_with_its_stack(work):
    frames = aborts("alloc", r"fiberscope: forbidden: an allocation of 24 bytes, in thread \d+ "
                    r"\(budget_target\)", ["offender_alloc", "in_forbidden_alloc", "main"])
    assert frames[0][4] == "budget_target"
    assert frames[-1][2] in ("_start", "__libc_start_main", "?"), frames[-1][0]
    # What addr2line is told to be given leads to the line of the malloc.
    got = subprocess.run(["addr2line", "-Cfie", TARGET, "0x" + frames[0][5]],
                         capture_output=True, text=True, check=True).stdout.split()
    path, _, number = got[1].partition(":")
    with open(path, encoding="utf-8") as f:
        line = f.read().splitlines()[int(number) - 1]
    assert got[0] == "offender_alloc" and "malloc(size)" in line, (got, line)


def static_functions_have_names_too(work):
    aborts("static", r"fiberscope: forbidden: an allocation of 1 byte, in thread .*",
           ["static_offender", "in_forbidden_static", "main"])


def a_stripped_program_shows_what_it_can(work):
    stripped = os.path.join(work, "budget_stripped")
    shutil.copy(TARGET, stripped)
    subprocess.run(["strip", stripped], check=True)
    frames = aborts("static", r"fiberscope: forbidden: .*", [], stripped)
    assert frames[0][2] == "?" and frames[0][4] == "budget_stripped"
    # .dynsym of libc still names what called main.
    assert any(f[4].startswith("libc.so") and f[2] != "?" for f in frames), frames


def a_wait_aborts_with_its_stack(work):
    aborts("lock", r"fiberscope: forbidden: waiting for a mutex that is held, 0x[0-9a-f]+, in "
           r"thread .*", ["offender_lock", "forbidden_lock", "main"])


def a_forked_child_inherits_the_budget(work):
    passes("fork")


def a_function_is_told_instead(work):
    passes("callback")
    out = passes("callback", env=dict(os.environ, PRINT="1")).stdout
    last = stack_of("#0 " + out.split("#0 ")[-1])
    assert [f[2] for f in last[:2]] == ["static_offender", "callback"], out


def real_waits_are_told_and_no_others(work):
    passes("waits")


def threads_have_their_own_budgets(work):
    passes("threads")


def cpp_has_scopes_and_operator_new(work):
    done = run(HEADER)
    assert done.stdout == "ok\n", done.stdout
    assert re.fullmatch(r"BenchmarkMakeUnique(-\d+)?\t    1000\t *[0-9.]+ ns/op\t       4 B/op\t"
                        r"       1 allocs/op\n", done.stderr), done.stderr


def a_budget_that_cannot_be_watched_fails(work):
    """Another allocator is loaded before us: forbidding allocations would forbid nothing."""
    jemalloc = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
    if not os.path.exists(jemalloc):
        raise harness.Skip("no libjemalloc.so.2 (package libjemalloc2)")
    env = dict(os.environ, LD_PRELOAD=jemalloc)
    done = run(TARGET, "alloc", check=-signal.SIGABRT, env=env)
    assert "cannot be watched" in done.stderr and "jemalloc" in done.stderr, done.stderr
    assert not passes("blind", env=env).stderr


if __name__ == "__main__":
    harness.main([f for name, f in list(globals().items())
                  if callable(f) and getattr(f, "__module__", None) == "__main__" and
                  name not in ("run", "passes", "stack_of", "aborts")])
