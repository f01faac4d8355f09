#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The stock `go tool trace -http` opens traces of every program in examples/ and bench/ that has fibers or threads, at
1, 2 and 8 processors: each of its pages answers without an error, as a browser asks for it, and what they count is
what `fiberscope trace` counts: goroutines of each start function, the four profiles, tasks, regions and MMU.

    trace_tool.py [WORD [PROCS ...]]      only programs whose name has WORD, only with so many processors

Not here: what has one thread that waits for nothing, so
that there is nothing to trace: examples/ci, budgets_plain, bench_pprof, bench_segment, bench_unwind, trace_read."""

import html
import json
import os
import re
import shutil
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
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
sys.dont_write_bytecode = True
import trace_go  # noqa: E402
from harness import Profile  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
EXAMPLES = os.path.join(BUILD, "examples")
BENCH = os.path.join(BUILD, "bench")
PAGES = ["/", "/trace", "/jsontrace", "/goroutines", "/sched", "/block", "/syscall", "/io", "/usertasks", "/userregions",
         "/mmu", "/static/trace_viewer_full.html", "/static/webcomponents.min.js"]
HAS_DOT = shutil.which("dot") is not None  # Graphviz, which the tool draws its profiles with
# Cases of bench/runtime, with few operations each: the tool takes its time.
CASES = {"yield": 500, "spawn_sequential": 300, "spawn_batch": 300, "spawn_batch_again": 300, "spawn_group": 300,
         "pages": 300, "pingpong": 500, "buffered128": 500, "select": 500, "mutex": 500, "mutex2": 500, "mutex100": 500,
         "timers": 1000, "sleep_storm": 50000, "parked": 300, "skynet": 100, "preempt": 100}
PROFILES = {"sched": "/sched", "sync": "/block", "syscall": "/syscall", "net": "/io"}


def programs():
    """name -> (exit status, command)"""
    bench = {name: os.path.join(BENCH, name) for name in os.listdir(BENCH)}
    found = {
        "example skynet": (0, [os.path.join(EXAMPLES, "skynet"), "1000"]),
        "example forensics": (0, [os.path.join(EXAMPLES, "forensics"), "10", "2"]),
        "example leak": (None, [os.path.join(EXAMPLES, "leak")]),
        "example deadlock": (None, [os.path.join(EXAMPLES, "deadlock")]),
        "example contention": (0, [os.path.join(EXAMPLES, "contention"), "100"]),
        "example pipeline": (0, [os.path.join(EXAMPLES, "pipeline"), HERE]),
    }
    for name in ("budgets_googletest", "budgets_googlebenchmark"):
        command = os.path.join(EXAMPLES, "budgets", name)
        if os.path.exists(command):  # it needs what is not everywhere
            found["example " + name] = (0, [command] + ["--benchmark_min_time=0.01"] * ("benchmark" in name))
    if os.path.exists(os.path.join(EXAMPLES, "shorten")):
        found["example shorten"] = (0, shorten)
        found["example shorten_load"] = (0, shorten_load)
    for case, ops in CASES.items():
        found["bench " + case] = (0, [bench["runtime_fib"], case, str(ops)])
    for case in ("yield", "spawn_sequential", "pingpong", "pingpong_futex", "mutex", "mutex2", "mutex100"):
        found["bench threads " + case] = (0, [bench["runtime_threads"], case, "300"])
    # Tasks and regions: none of the others has them.
    found["suite trace_stress"] = (0, [os.path.join(BUILD, "tests", "runtime", "trace_stress"), "5", "60", "quiet"])
    found["bench echo_fib"] = (None, lambda path, procs: echo(path, procs, "echo_fib"))
    found["bench echo_epoll"] = (None, lambda path, procs: echo(path, procs, "echo_epoll"))
    found["bench preempt self"] = (0, [bench["runtime_preempt"], "300"])
    found["bench cpu_load"] = (0, [bench["cpu_load"], "1000", "4"])
    found["bench heap_load"] = (0, [bench["heap_load"], "20000", "4"])
    found["bench lock_load"] = (0, [bench["lock_load"], "contended", "2000"])
    return found


class Recorded:
    """A server under `fiberscope record`, from its first line on to the end."""

    def __init__(self, path, procs, *command):
        self.process = subprocess.Popen([FIBERSCOPE, "record", "--trace", "--no-inherit", "-o", path, *command],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=dict(os.environ, FIB_MAXPROCS=str(procs)))
        self.line = self.process.stdout.readline()
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
            self.pid = int(f.read().split()[0])

    def end(self, number, status):
        os.kill(self.pid, number)
        _, said = self.process.communicate(timeout=60)
        assert self.process.returncode == status and "report this" not in said, said


def ask(port, *prefix, procs=2):
    done = subprocess.run([*prefix, os.path.join(EXAMPLES, "shorten_load"), "-p", str(port), "-c", "4", "-n", "200"],
                          capture_output=True, text=True, timeout=60, env=dict(os.environ, FIB_MAXPROCS=str(procs)))
    assert done.returncode == 0, f"{done.stdout} {done.stderr}"


def shorten(path, procs):
    with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
        server = Recorded(path, procs, os.path.join(EXAMPLES, "shorten"), "-p", "0", "-d", os.path.join(folder, "links.db"))
        ask(server.line.rsplit(":", 1)[1].strip())
        server.end(signal.SIGTERM, 0)


def shorten_load(path, procs):
    with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
        server = subprocess.Popen([os.path.join(EXAMPLES, "shorten"), "-p", "0", "-d", os.path.join(folder, "links.db")],
                                  stdout=subprocess.PIPE, text=True)
        try:
            port = server.stdout.readline().rsplit(":", 1)[1].strip()
            ask(port, FIBERSCOPE, "record", "--trace", "-o", path, procs=procs)
        finally:
            server.kill()
            server.communicate()


def echo(path, procs, name):
    server = Recorded(path, procs, os.path.join(BENCH, name))
    done = subprocess.run([os.path.join(BENCH, "echo_load"), server.line.split()[1], str(server.pid), "0.1", "4"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    server.end(signal.SIGKILL, 128 + signal.SIGKILL)


def record(path, command, status, procs):
    if callable(command):
        command(path, procs)
        return
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
    """Events and nanoseconds, by the tests' own reader."""
    samples = Profile(profile).samples
    return sum(s.values[0] for s in samples), sum(s.values[1] for s in samples)


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


def compare_user(tool, path):
    """Tasks and regions of each name."""
    page = tool.get("/usertasks").decode()
    rows = re.findall(r'<td>([^<]*)</td>\s*<td><a href="/usertask\?type=[^"]*">(\d+)</a>', page)
    theirs = {html.unescape(name): int(n) for name, n in rows}
    theirs.pop("", None)  # those that others name as theirs, and that began before the trace, if ever
    ours = {t["name"]: t["instances"] for t in report("tasks", path)["tasks"] if t["name"]}
    assert ours == theirs, f"tasks: Go {theirs}, ours {ours}"
    page = tool.get("/userregions").decode()
    theirs = {}
    for name, n in re.findall(r'<pre>&#34;(.*?)&#34;<br>.*?<a href="/userregion\?type=[^"]*">(\d+)</a>', page, re.S):
        theirs[name] = theirs.get(name, 0) + int(n)
    ours = {r["name"]: r["instances"] for r in report("regions", path)["regions"]}
    assert {k: n for k, n in ours.items() if n} == {k: n for k, n in theirs.items() if n}, f"Go {theirs}, ours {ours}"
    return sum(theirs.values())


def compare_mmu(tool, path):
    """Nothing of ours collects garbage: all time is the mutator's, in every window (of 1 ns Go's says 0)."""
    plot = json.loads(tool.get("/mmu?mode=plot&flags=stw%7Cbackground%7Cassist%7Csweep"))
    assert len(plot["curve"]) == 100 and all(share == 1 for ns, share in plot["curve"] if ns > 2), plot
    ours = report("util", path)["mutator"]
    assert all(p["share"] == 1 for p in ours["minimum"]) and (ours["mean"] == 1 or not ours["minimum"]), ours


def check(path, folder, drawn):
    """drawn: the profiles to get as pictures, which take seconds each; the others as profiles."""
    tool = Tool(path)
    try:
        for page in PAGES:
            is_drawn = page in drawn and HAS_DOT
            body = tool.get(page + "?raw=1" * (page in PROFILES.values() and not is_drawn))
            # /mmu, /trace and what it loads are programs, which know these words.
            is_program = page in ("/mmu", "/trace") or page.startswith("/static/")
            assert body and (is_program or b"failed to" not in body), f"{page}: {body[:500]}"
            assert not is_drawn or b"<svg" in body, f"{page}: no picture: {body[:500]}"
        events = json.loads(tool.get("/jsontrace"))["traceEvents"]
        assert len(events) > 5
        compare_goroutines(tool, path)
        compare_profiles(tool, path, folder)
        compare_mmu(tool, path)
        return compare_user(tool, path)
    finally:
        tool.close()


def main():
    if not trace_go.GO:
        print("SKIP: no Go here")
        return 77
    word, failed, done, regions = (sys.argv + [""])[1], 0, 0, 0
    wanted = [int(n) for n in sys.argv[2:]] or [1, 2, 8]
    for name, (status, command) in programs().items():
        for procs in wanted if word in name else ():
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
                path = os.path.join(folder, "t.trace")
                try:
                    record(path, command, status, procs)
                    pages = list(PROFILES.values())  # all of them once, then each in turn
                    regions += check(path, folder, pages if not done else [pages[done % len(pages)]])
                    print(f"ok    {name} at {procs}: {os.path.getsize(path)} bytes, {time.monotonic() - began:.1f} s")
                    done += 1
                except AssertionError as e:
                    failed += 1
                    print(f"FAIL  {name} at {procs}: {str(e)[:1500]}")
    assert done or failed, "no such program"
    assert failed or regions or word not in "suite trace_stress", "no regions to compare"
    if not HAS_DOT:
        print("without the pictures, which need dot (graphviz)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
