#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""TCP echo on one CPU: 1,000 connections, 64 bytes back and forth; fibers, a raw epoll loop, Go.

Usage: echo.py [ROUNDS [SECONDS]]. The server runs on one CPU with one processor, the load on another; each run has a
new server; the servers take turns. Medians of the rounds (five, of two seconds), and ratios within a
round. The Go program is built here, with the `go` that is found."""

import json
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402

BUILD = os.path.join(os.environ["FSCOPE_BUILD"], "bench")
SOURCE = os.environ["FSCOPE_SOURCE"]
CPUS = sorted(os.sched_getaffinity(0))
CONNECTIONS = 1000
RPS_TO_GO = 1.3     # at least
CPU_TO_EPOLL = 1.2  # at most


def build_go():
    if not pairs.program_exists("go"):
        return None
    env = dict(os.environ, GOFLAGS="-mod=mod", GOTOOLCHAIN="local", GOPROXY="off")
    out = os.path.join(BUILD, "echo_go")
    subprocess.run(["go", "build", "-o", out, "echo.go"], env=env, check=True,
                   cwd=os.path.join(SOURCE, "bench", "echo"))
    return subprocess.run(["go", "version"], env=env, check=True, capture_output=True,
                          text=True).stdout.split()[2]


def pinned(argv, cpu, **more):
    env = dict(os.environ, FIB_MAXPROCS="1", GOMAXPROCS="1")
    return subprocess.Popen(argv, env=env, text=True, stdout=subprocess.PIPE,
                            preexec_fn=lambda: os.sched_setaffinity(0, [cpu]), **more)


def run(server, seconds):
    """One run: requests per second, CPU us per request, p50 and p99 in us."""
    with pinned([os.path.join(BUILD, f"echo_{server}")], CPUS[0]) as s:
        try:
            line = s.stdout.readline().split()
            if len(line) != 2:
                sys.exit(f"echo_{server}: does not listen")
            argv = [os.path.join(BUILD, "echo_load"), line[1], str(s.pid), str(seconds),
                    str(CONNECTIONS)]
            with pinned(argv, CPUS[-1]) as load:
                out, _ = load.communicate(timeout=60)
            if load.returncode:
                sys.exit(f"echo_load with echo_{server}: status {load.returncode}")
        finally:
            s.kill()
    r = json.loads(out)
    return {"rps": r["requests"] / r["wall_ns"] * 1e9, "cpu": r["cpu_ns"] / r["requests"] / 1000,
            "p50": r["p50_us"], "p99": r["p99_us"]}


def column(runs, key, digits):
    v = [r[key] for r in runs]
    return f"{statistics.median(v):.{digits}f} ({min(v):.{digits}f}..{max(v):.{digits}f})"


def verdict(what, ratios, bound, at_least):
    m = statistics.median(ratios)
    ok = m >= bound if at_least else m <= bound
    print(f"{what}: {m:.3f} ({min(ratios):.3f}..{max(ratios):.3f}); "
          f"{'at least' if at_least else 'at most'} {bound}: {'reached' if ok else 'NOT REACHED'}")


def ratios(runs, server, peer, key):
    return [a[key] / b[key] for a, b in zip(runs[server], runs[peer])]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    go = build_go()
    servers = ["epoll", "fib"] + (["go"] if go else [])
    runs = {s: [] for s in servers}
    for i in range(rounds):
        for s in servers if i % 2 else reversed(servers):
            pairs.progress(f"round {i + 1} of {rounds}: {s}")
            runs[s].append(run(s, seconds))
    pairs.progress("")
    print(f"{'server':<8}{'requests/s':<26}{'CPU us/request':<24}{'p50 us':<22}p99 us")
    for s in servers:
        print(f"{go if s == 'go' else s:<8}{column(runs[s], 'rps', 0):<26}"
              f"{column(runs[s], 'cpu', 3):<24}{column(runs[s], 'p50', 0):<22}"
              f"{column(runs[s], 'p99', 0)}")
    if go:
        verdict("requests/s, fibers to Go", ratios(runs, "fib", "go", "rps"), RPS_TO_GO, True)
        print("requests/s, the epoll loop to Go, which is what the kernel's part allows: "
              f"{statistics.median(ratios(runs, 'epoll', 'go', 'rps')):.3f}")
        print(f"CPU per request, fibers to Go: "
              f"{statistics.median(ratios(runs, 'fib', 'go', 'cpu')):.3f}")
    else:
        print("no go on the PATH: not compared with it")
    verdict("CPU per request, fibers to the epoll loop", ratios(runs, "fib", "epoll", "cpu"),
            CPU_TO_EPOLL, False)
    if len(CPUS) == 1:
        print("one CPU only: the load ran on the server's")


if __name__ == "__main__":
    main()
