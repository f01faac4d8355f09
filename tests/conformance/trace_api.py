#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The leaf of an event's stack is the public function that the program called, and below it are the program's frames
as they are: in Go's reader, of programs that make known calls (trace_api_*.c), unoptimized and with tail calls, through
the procedure linkage table and without, with the runtime as a library and linked in."""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
import trace_go  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
TRIES = 3  # a call waits only if this machine lets the other side be late
PREFIXES = {"CALL": ["call"], "TAIL": ["tail", "from"], "THROUGH": ["through"]}
MAKERS = re.compile(r"(call|tail|from|through)_(\w+)$")


def stacks_of(path):
    """The stacks as Go prints them, leaf first, once each: ((function, line), ...)."""
    done = subprocess.run([GO_TRACE, "-d=parsed", path], capture_output=True, text=True, check=True)
    stacks, stack = set(), None
    for line in done.stdout.splitlines() + [""]:
        if line in ("Stack=", "TransitionStack="):
            stack = []
        elif stack is not None and line.startswith("\t\t"):
            stack[-1][1] = int(line.rpartition(":")[2])
        elif stack is not None and line.startswith("\t"):
            stack.append([line.strip().rpartition(" @ ")[0], 0])
        elif stack:
            stacks.add(tuple(map(tuple, stack)))
            stack = None
    return stacks


def makers_of(source):
    """Function -> the line that it is on."""
    lines = {}
    with open(os.path.join(HERE, source), encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            made = re.match(r"(CALL|CALL_VOID|TAIL|TAIL_VOID|THROUGH)\((?:(?:int|bool|ssize_t), )?(\w+),", line)
            for prefix in PREFIXES[made[1].removesuffix("_VOID")] if made else []:
                lines[f"{prefix}_{made[2]}"] = number
    return lines


def check(name, source, roots, silent, is_tail):
    program = os.path.join(BUILD, "tests", "conformance", name)
    prefix = "" if source == "trace_api_threads.c" else "runtime."
    makers = makers_of(source)
    assert len(makers) > 25, makers
    wanted = set(makers) - {f"tail_{m[2]}" for m in map(MAKERS.match, makers) if m[1] == "tail"} - silent
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory() as work:
            path = os.path.join(work, "t.trace")
            subprocess.run([FIBERSCOPE, "record", "--trace", "-o", path, program], cwd=work, check=True, timeout=60,
                           capture_output=True, env=dict(os.environ, FIB_MAXPROCS="1"))
            stacks = stacks_of(path)
        found = set()
        for stack in stacks:
            functions = [f for f, _ in stack]
            at = next((i for i, f in enumerate(functions) if MAKERS.match(f)), None)
            assert not [f for f in functions[1:] if f.startswith("runtime.") and f != "runtime.fib_main"], stack
            if at is None:
                continue
            maker, called = MAKERS.match(functions[at]).groups()
            # The leaf, then nothing but the makers, each at its line, and those who call them.
            assert at == 1 and functions[0] == prefix + called, stack
            assert stack[1][1] == makers[functions[1]], (stack, makers)
            below = 2
            if maker == "tail":
                assert not is_tail and stack[2] == (f"from_{called}", makers[f"from_{called}"]), stack
                below = 3
            assert tuple(functions[below:]) in roots, stack
            found.add(functions[below - 1])
            if maker == "from":
                assert is_tail, (stack, "compilers make no tail calls with -O0")
        if wanted <= found:
            break
        print(f"      {name}: not seen: {sorted(wanted - found)}")
    assert wanted <= found, sorted(wanted - found)
    leaves = {s[0][0] for s in stacks}
    print(f"  {name}: {len(found)} calls, {len(stacks)} stacks, leaves {len(leaves)}")
    return stacks


def main():
    for level in "02":
        for plt in ("plt", "no-plt"):
            name = f"trace_api_threads_{level}_{plt}"
            roots = {("waiter",), ("main",), ("fulfil", "main")}
            stacks = check(name, "trace_api_threads.c", roots, set(), level == "2")
            assert (("pthread_exit", 0),) in stacks, "the end of a thread that another one joins"
            for kind in ("fibers", "static"):
                name = f"trace_api_{kind}_{level}_{plt}"
                roots = {("waiter",), ("start",), ("fulfil", "start"), ("wait_for_locks", "waiter")}
                check(name, "trace_api_fibers.c", roots, {"call_fib_write"}, level == "2")


if not trace_go.GO:
    print("SKIP: Go is not installed, and its trace reader is what shows the stacks")
    sys.exit(77)
GO_TRACE = trace_go.tool("trace")
main()
