#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The stock `go tool trace -http` opens traces of the examples and of bench/runtime's cases, at 1, 2 and 8 processors:
each of its pages answers without an error, and what they count is what `fiberscope trace` counts.

    trace_tool.py [WORD]      only programs whose name has WORD"""

import html
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import trace_go  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
EXAMPLES = os.path.join(BUILD, "examples")
BENCH = os.path.join(BUILD, "bench", "runtime_fib")
PAGES = ["/", "/trace", "/jsontrace", "/goroutines", "/sched", "/block", "/syscall", "/io", "/usertasks", "/userregions",
         "/mmu"]
PROFILES = {"sched": "/sched", "sync": "/block", "syscall": "/syscall", "net": "/io"}


def programs():
    """name -> (exit status, command)"""
    found = {
        "example skynet": (0, [os.path.join(EXAMPLES, "skynet"), "1000"]),
        "example forensics": (0, [os.path.join(EXAMPLES, "forensics"), "10", "2"]),
        "example leak": (None, [os.path.join(EXAMPLES, "leak")]),
        "example deadlock": (None, [os.path.join(EXAMPLES, "deadlock")]),
        "example contention": (0, [os.path.join(EXAMPLES, "contention"), "100"]),
        "example pipeline": (0, [os.path.join(EXAMPLES, "pipeline"), HERE]),
    }
    for case in ("yield", "pingpong", "select", "spawn_sequential", "spawn_batch", "buffered128"):
        found["bench " + case] = (0, [BENCH, case, "500"])
    return found


def record(path, command, status, procs):
    done = subprocess.run([FIBERSCOPE, "record", "--trace", "--no-inherit", "-o", path, *command], capture_output=True,
                          text=True, timeout=60, env=dict(os.environ, FIB_MAXPROCS=str(procs)))
    assert status is None or done.returncode == status, f"{command}: {done.returncode}: {done.stderr[-1000:]}"


class Tool:
    """go tool trace on one file."""

    def __init__(self, path):
        self.process = subprocess.Popen([trace_go.GO, "tool", "trace", "-http=127.0.0.1:0", path], text=True,
                                        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        env=dict(os.environ, BROWSER="true"), start_new_session=True)
        said = ""
        for line in self.process.stderr:
            said += line
            at = re.search(r"listening on (http://\S+)", line)
            if at:
                self.address = at.group(1)
                return
        raise AssertionError(f"{path}: {said}")

    def get(self, page):
        try:
            with urllib.request.urlopen(self.address + page, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as e:
            raise AssertionError(f"{page}: {e.code}: {e.read()[:500]}") from e

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)  # `go` and the tool that it started
        self.process.wait()


def report(*args):
    done = subprocess.run([FIBERSCOPE, "trace", "--json", *args], capture_output=True, text=True)
    assert done.returncode == 0, f"{args}: {done.stderr}"
    return json.loads(done.stdout)


def total_of(profile):
    """The sum of the last value of each sample, by Go's own pprof: an independent reader."""
    done = subprocess.run([trace_go.GO, "tool", "pprof", "-raw", profile], capture_output=True, text=True, check=True)
    samples = re.findall(r"^ +(\d+) +(\d+): ", done.stdout, re.M)
    return sum(int(n) for n, _ in samples), sum(int(ns) for _, ns in samples)


def compare_profiles(tool, path, folder):
    for kind, page in PROFILES.items():
        theirs, ours = os.path.join(folder, "theirs.pb.gz"), os.path.join(folder, "ours.pb.gz")
        with open(theirs, "wb") as f:
            f.write(tool.get(page + "?raw=1"))
        subprocess.run([FIBERSCOPE, "trace", kind, "-o", ours, path], check=True, capture_output=True)
        count, ns = total_of(theirs)
        assert total_of(ours) == (count, ns), f"{kind}: Go {(count, ns)}, ours {total_of(ours)}"


def compare_goroutines(tool, path):
    """Every start function with its number."""
    page = tool.get("/goroutines").decode()
    theirs = {}
    for name in re.findall(r'href="/goroutine\?name=([^"]*)"', page):
        name = urllib.parse.unquote_plus(html.unescape(name))
        one = tool.get("/goroutine?" + urllib.parse.urlencode({"name": name})).decode()
        count = re.search(r"Count:</td>\s*<td>(\d+)</td>", one)
        assert count, f"/goroutine?name={name}: no count"
        theirs[name] = theirs.get(name, 0) + int(count.group(1))
    assert theirs, "no goroutines"
    ours = {}
    for f in report("fibers", "-n", "0", path)["functions"]:
        ours[f["function"]] = f["fibers"]
    assert sum(ours.values()) == sum(theirs.values()), f"Go {theirs}, ours {ours}"
    named = {k: v for k, v in theirs.items() if k in ours}
    assert all(ours[k] == v for k, v in named.items()), f"Go {theirs}, ours {ours}"


def check(path, folder):
    tool = Tool(path)
    try:
        for page in PAGES:
            body = tool.get(page + "?raw=1" * (page in PROFILES.values()))  # else Graphviz is needed
            # /mmu and /trace are programs, which know these words.
            assert body and (page in ("/mmu", "/trace") or b"failed to" not in body), f"{page}: {body[:500]}"
        events = json.loads(tool.get("/jsontrace"))["traceEvents"]
        assert len(events) > 5
        compare_goroutines(tool, path)
        compare_profiles(tool, path, folder)
    finally:
        tool.close()


def main():
    if not trace_go.GO:
        print("SKIP: no Go here")
        return 77
    word, failed, done = (sys.argv + [""])[1], 0, 0
    for name, (status, command) in programs().items():
        for procs in (1, 2, 8) if word in name else ():
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
                path = os.path.join(folder, "t.trace")
                try:
                    record(path, command, status, procs)
                    check(path, folder)
                    print(f"ok    {name} at {procs}: {os.path.getsize(path)} bytes, {time.monotonic() - began:.1f} s")
                    done += 1
                except AssertionError as e:
                    failed += 1
                    print(f"FAIL  {name} at {procs}: {str(e)[:1500]}")
    assert done or failed, "no such program"
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
