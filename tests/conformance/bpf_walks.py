# SPDX-License-Identifier: MIT
"""What must hold: stacks that are walked in the kernel are those of the walk of a copied stack, and reach the start; in
programs without frame pointers, through exceptions, signals and alternate stacks, and of fibers, whose labels and names
come with them. bpf_walk.c makes both of each sample and compares them."""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["FSCOPE_SOURCE"], "tests/e2e"))
from harness import Skip, main  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
HERE = os.path.join(BUILD, "tests/conformance")
PYTHON = """
import hashlib, json, re
while True:
    t = json.dumps(sorted([{'k': i, 's': str(i) * 9} for i in range(300)], key=lambda x: -x['k']))
    hashlib.sha256(t.encode() * 40).digest()
    re.sub(r'(\\d+)0(\\d*)', lambda m: m.group(2), t)
"""
BASH = """
f() { local i=$1; (( i > 0 )) && f $((i - 1)); x=${x/a/b}; [[ $x =~ ^b+(a*)$ ]]; }
while :; do x=aaaaaaaaaaaaaaaa; f 12; done
"""
SAMPLES = 1200


def walks(*program):
    """What bpf_walk says: numbers by name, and the other lines."""
    run = subprocess.run([os.path.join(HERE, "bpf_walk"), "1999", str(SAMPLES), *program], timeout=90,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         check=False)
    if run.returncode == 77:
        raise Skip(run.stdout.replace("SKIP: ", "").strip())
    assert run.returncode == 0, run.stderr
    *others, last = run.stdout.splitlines()
    words = last.split()
    return dict(zip(words[::2], map(int, words[1::2]))), others


def judge(*program):
    n, others = walks(*program)
    text = "\n".join(others)
    assert n["samples"] >= SAMPLES, n
    # A stack that a signal handler's own stack hides from the copy cannot be compared to its end.
    assert n["equal"] + n["longer"] >= 0.999 * n["samples"], f"{n}\n{text}"
    assert n["complete"] >= 0.995 * n["samples"], f"{n}\n{text}"
    assert n["ring"] == 0 and n["busy"] == 0, n
    return n, others


def without_frame_pointers_through_exceptions_and_signals():
    n, _ = judge(os.path.join(BUILD, "tests/e2e/frameless"), "9999")
    assert n["equal"] >= 0.5 * n["samples"], n


def an_interpreter():
    judge("/usr/bin/python3", "-c", PYTHON)


def a_shell():
    judge("/bin/bash", "-c", BASH)


def in_the_kernel():
    n, _ = judge("/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=512")
    assert n["kernel"] > 0.3 * n["samples"], n


def fibers_with_labels_and_names():
    _, lines = judge(os.path.join(HERE, "bpf_fibers"))
    found = {}
    for line in lines:
        m = re.fullmatch(r"fiber (.*) samples (\d+) ends (\d+)", line)
        found[m.group(1)] = int(m.group(2))
        assert m.group(1) == "none" or m.group(2) == m.group(3), lines
    small, large = found["kind=small|"], found["kind=large|a large one"]
    assert found["none"] > 100, lines  # the plain thread
    assert 0.17 < small / (small + large) < 0.33, lines
    assert set(found) == {"none", "kind=small|", "kind=large|a large one"}, lines


def with_the_tables_of_the_collector():
    """Which bpf_fill.c's are not: packed, shared, kept by bpf/code.c."""
    os.environ["FSCOPE_BPF_TABLES"] = "1"
    without_frame_pointers_through_exceptions_and_signals()
    an_interpreter()
    _, lines = judge(os.path.join(HERE, "bpf_fibers"))
    text = "\n".join(lines)
    assert "fiber kind=small| " in text and "fiber kind=large|a large one " in text, text


if __name__ == "__main__":
    main([without_frame_pointers_through_exceptions_and_signals, an_interpreter, a_shell, in_the_kernel,
          fibers_with_labels_and_names, with_the_tables_of_the_collector])
