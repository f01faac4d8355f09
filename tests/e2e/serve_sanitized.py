#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`fiberscope serve` of a sanitizer's build (FSCOPE_SANITIZED, a build folder) beside programs of the ordinary one
(FSCOPE_BUILD): every page with every parameter, clients that mean no good, and requests with bytes changed, by turns and at
once. Each case ends with the server told to stop, or with its program killed; no report, and exit status 0. For ./dev soak."""

import glob
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.environ["FSCOPE_SOURCE"], "tests", "conformance"))
import serve  # noqa: E402
import serve_limits  # noqa: E402
from harness import BUILD, main  # noqa: E402

SERVER = os.path.join(os.environ["FSCOPE_SANITIZED"], "cli", "fiberscope")
AGENT = os.path.join(BUILD, "agent", "libfiberscope.so")
P = "/debug/pprof/"
TOKEN = "0123456789abcdefghij"
SORTS = "id name start site state since busy runnable waiting switches wakes self preempted on holder count x".split()
NAMES = "heap allocs block mutex goroutine threadcreate threads nothing".split()
# What lasts comes last, so that it falls together with the others' requests.
PATHS = [P, "/debug/pprof", P + "cmdline", P + "symbol?0x1+0x401000", P + "flight", "/metrics", "//metrics", "/",
         *(P + n + q for n in NAMES for q in ("", "?debug=1", "?debug=2", "?debug=-1", "?gc=1", "?seconds=x", "?seconds=1")),
         *(f"/debug/fibers?sort={s}&order={o}" for s in SORTS for o in ("asc", "desc")),
         *("/debug/fibers?" + q for q in ("group=start", "group=site&sort=count", "of=threads", "rows=1", "rows=99999",
                                          "refresh=0", "format=json", "format=json&group=start", "debug=1",
                                          "debug=1&of=threads", "format=json&of=threads", "sort=%00&rows=-1")),
         *("/debug/requests" + q for q in ("", "?seconds=0.2", "?format=json", "?seconds=0.2&format=json",
                                           "?family=request&b=active", "?family=request&b=3", "?b=errors&family=")),
         P + "trace?seconds=0.3", "/debug/trace?seconds=0.2", P + "wall?seconds=1", P + "profile?seconds=1"]


class Sanitized:
    """A program and the server of it; when the block ends, no report may be there."""

    def __init__(self, work, command, *options, env=None):
        self.reports = os.path.join(work, "report")
        self.target = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                       env=dict(os.environ, **(env or {})))
        self.first = self.target.stdout.readline()
        log = f"log_path={self.reports}:exitcode=99"
        self.server = subprocess.Popen([SERVER, "serve", "-p", str(self.target.pid), "-l", "127.0.0.1:0", *options],
                                       cwd=work, stderr=subprocess.PIPE, text=True,
                                       env=dict(os.environ, ASAN_OPTIONS=log, UBSAN_OPTIONS=log))
        line = self.server.stderr.readline()
        assert " at http://" in line, line + self.server.stderr.read()
        host, port = line.split(" at http://")[1].split("/")[0].split(":")
        self.address = host, int(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.send_signal(signal.SIGTERM)
        status = self.server.wait(60)
        self.target.kill()
        self.target.wait()
        self.check(status)

    def check(self, status):
        said = "".join(open(f, encoding="utf-8", errors="replace").read() for f in glob.glob(self.reports + "*"))
        assert not said and status == 0, (status, said[:6000])

    def get(self, path, body=None, **headers):
        request = urllib.request.Request(f"http://{self.address[0]}:{self.address[1]}{path}", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as r:
                return r.status, r.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()


def shorten(work, *options):
    return Sanitized(work, [serve.SHORTEN, "-r", "-p", "0", "-d", "links.db"], *options)


def ask_all(server, statuses, headers=()):
    for path in PATHS:
        try:
            statuses.append((path, server.get(path, **dict(headers))[0]))
        except (OSError, ValueError) as e:
            statuses.append((path, e))


def every_page_by_three_at_once(work):
    """Of a fiber program under load, and of one with threads and the agent."""
    late = [serve.TARGET, "work", "60"]
    for server in (shorten(work, "--block", "--mutex"),
                   Sanitized(work, late, "--block", "--heap=4096", env={"LD_PRELOAD": AGENT})):
        with server:
            over, statuses = threading.Event(), []
            is_shorten = server.target.args[0] == serve.SHORTEN

            def load():
                while is_shorten and not over.is_set():
                    serve.latency_us(server.first.strip().rsplit(":", 1)[1], 2000)

            threads = [threading.Thread(target=ask_all, args=(server, statuses)) for _ in range(3)]
            working = threading.Thread(target=load)
            for t in (*threads, working):
                t.start()
            for t in threads:
                t.join()
            over.set()
            working.join()
            assert server.get(P + "symbol", b"0x1+" * 5000)[0] == 200
            wrong = [s for s in statuses if s[1] not in (200, 400, 404, 500, 501, 503)]
            assert not wrong and sum(s[1] == 200 for s in statuses) > len(statuses) / 2, (wrong, statuses)


def abused_and_asked(work):
    with open(f"{work}/token", "w", encoding="ascii") as f:
        f.write(TOKEN + "\n")
    with shorten(work, "--token-file", "token", "--allow", "127.0.0.1") as server:
        over, counts = threading.Event(), serve.collections.Counter()
        abuser = threading.Thread(target=serve.abuse, args=(server.address, over, counts))
        abuser.start()
        begin = time.monotonic()
        answered = 0
        try:
            for path in itertools.cycle(PATHS[:-4]):
                spent = time.monotonic() - begin
                if spent > 60 or (spent > 5 and counts["slow"] >= 1000):
                    break  # what the sanitizer makes slow has its time
                try:
                    answered += server.get(path, Authorization="Bearer " + TOKEN)[0] == 200
                except OSError:
                    pass  # one of many that were cut off
        finally:
            over.set()
            abuser.join()
        print(f"  {answered} answered; {dict(counts)}")
        assert answered > 10 and counts["slow"] >= 1000, (answered, counts)


def requests_with_bytes_changed(work):
    rng = random.Random(19)
    seeds = [f"GET {p} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Og==\r\n\r\n".encode() for p in PATHS[:-4]]
    seeds += [b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n0x1+0x2+0x3"] * 20
    seeds += [b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0x1+2\r\n0\r\n\r\n"] * 20
    with shorten(work) as server:
        until, asked, answered = time.monotonic() + 5, 0, 0
        while time.monotonic() < until:
            try:
                with socket.create_connection(server.address, 5) as s:
                    s.sendall(serve_limits.mutated(rng, rng.choice(seeds)))
                    s.settimeout(0.02)
                    asked += 1
                    answered += asked % 4 and serve_limits.read_all(s).startswith(b"HTTP/")
            except OSError:
                pass
        print(f"  {answered} of {asked} answered")
        assert answered > asked / 4 and asked > 100, (asked, answered)


def its_program_is_killed_while_it_is_asked(work):
    with shorten(work) as server:
        threads = [threading.Thread(target=ask_all, args=(server, [])) for _ in range(3)]
        for t in threads:
            t.start()
        time.sleep(1)
        server.target.kill()
        server.target.wait()
        server.check(server.server.wait(60))
        for t in threads:
            t.join()


if __name__ == "__main__":
    main([every_page_by_three_at_once, abused_and_asked, requests_with_bytes_changed,
          its_program_is_killed_while_it_is_asked])
