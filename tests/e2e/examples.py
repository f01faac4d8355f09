#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples of the fiber runtime do what they say, and show what they are there to show. What they compute is
compared with programs that know it: cksum, SQLite, Python's HTTP client."""

import http.client
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import threading
import time

import harness

EXAMPLES = os.path.join(harness.BUILD, "examples")
SOURCE = os.environ["FSCOPE_SOURCE"]


def run(name, *args, check=0, procs=None, timeout=60, **more):
    env = dict(os.environ)
    if procs:
        env["FIB_MAXPROCS"] = str(procs)
    done = subprocess.run([os.path.join(EXAMPLES, name), *args], capture_output=True, text=True,
                          timeout=timeout, check=False, env=env, **more)
    assert done.returncode == check, (name, args, done.returncode, done.stdout, done.stderr)
    return done


# --- Forensics.

def forensics_rows(text):
    """(what, Ps, [preempted, first, 10 %, half, 90 %, last, CPU]) of each row; the third has the default of Ps."""
    rows = []
    for line in text.splitlines()[2:]:
        name, numbers = line[:20].strip(), line[20:].split()
        rows.append((name, int(numbers[0]), [float(n) for n in numbers[1:]]))
    return rows


def forensics_shows_who_ends_when():
    work_ms = 60 * 10
    rows = forensics_rows(run("forensics", "60", "10").stdout)
    assert len(rows) == 8, rows
    cpus = len(os.sched_getaffinity(0))
    assert [r[1] for r in rows] == [1, 2, rows[2][1], 1, 1, 2, 1, 2] and 1 <= rows[2][1] <= cpus
    for name, procs, (preempted, first, tenth, half, ninety, last, cpu) in rows:
        row = (name, procs, first, tenth, half, ninety, last, cpu)
        assert first <= tenth <= half <= ninety <= last, row
        # None gets its work done without a processor. (The calibration takes the fastest try.)
        assert cpu >= 0.8 * work_ms and last >= 0.8 * work_ms / procs, row
        if name == "preemption off":
            # One after the other: the half of them have ended in half of the time.
            assert preempted == 0 and 0.3 * last < half < 0.7 * last and first < 0.2 * last, row
        elif name != "left alone":
            # All together: the first ends when nearly all is done. With two Ps each has its own circle, and
            # one fiber that was alone in its own for a while may be done early.
            assert half > 0.65 * last and (procs > 1 or first > 0.6 * last), row


def forensics_preempts_what_runs_long():
    """Three fibers of 150 ms on one P: left alone they end together by force, with preemption off in turn."""
    rows = forensics_rows(run("forensics", "3", "150").stdout)
    alone = rows[0][2]
    off = rows[3][2]
    assert alone[0] >= 9 and alone[1] > 0.6 * alone[5], rows[0]
    assert off[0] == 0 and off[1] < 0.5 * off[5], rows[3]


# --- Pipeline: cksum is the oracle.

def cksum(folder):
    files = subprocess.run(["find", folder, "-type", "f", "-print0"], capture_output=True,
                           check=True).stdout
    done = subprocess.run(["xargs", "-0r", "cksum"], input=files, capture_output=True, check=True)
    return sorted(done.stdout.decode().splitlines(), key=lambda line: line.split(" ", 2)[2])


def pipeline_prints_what_cksum_prints(work):
    os.mkdir(f"{work}/empty folder")
    for i in range(300):
        os.makedirs(f"{work}/{i % 7}/{i % 3}", exist_ok=True)
        with open(f"{work}/{i % 7}/{i % 3}/{i}", "wb") as f:
            f.write(os.urandom(i * 531 % 70000 if i else 0))
    os.symlink("/nowhere", f"{work}/link")
    for procs in (1, 2, 8):
        assert run("pipeline", work, procs=procs).stdout.splitlines() == cksum(work), procs


def pipeline_stops_at_the_first_error(work):
    for i in range(200):
        with open(f"{work}/{i}", "wb") as f:
            f.write(b"x" * 1000)
    os.mkdir(f"{work}/5000")
    os.mkdir(f"{work}/5000/unreadable")
    os.chmod(f"{work}/5000/unreadable", 0)
    prefix = harness.NOBODY if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, os.path.join(EXAMPLES, "pipeline"), work], timeout=60,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == "", (done.returncode, done.stdout[:200])
    assert done.stderr == f"pipeline: {work}/5000/unreadable: Permission denied\n", done.stderr


# --- The small ones.

def skynet_counts_its_leaves():
    for leaves in (1, 10, 100000):
        for procs in (1, 2):
            text = run("skynet", str(leaves), procs=procs).stdout
            assert text.startswith(f"sum {leaves * (leaves - 1) // 2}, {leaves} leaves, {procs} "), text


def deadlock_ends_with_status_2_and_says_who_waits():
    for procs in (1, 2):
        text = run("deadlock", check=2, procs=procs).stderr
        assert re.search(r"^fatal error: all \w+ are asleep", text, re.M), text
        for who in ("transfer there", "transfer back"):
            assert who in text, text
        assert len(re.findall(r"^goroutine \d+ \[sync.Mutex.Lock", text, re.M)) == 2, text
        assert len(re.findall(r"^goroutine \d+ ", text, re.M)) == 3, text
        assert text.count("\ntransfer(...)\n") == 2 and text.count("\nstart(...)\n") == 1, text


def deadlock_ordered_ends():
    assert run("deadlock", "ordered").stdout == "accounts: 800 and 1200\n"


def leak_lists_the_fibers_left():
    for procs in (1, 2):
        done = run("leak", check=1, procs=procs)
        assert done.stdout.endswith("fibers left: 10\n"), done.stdout
        assert re.search(r"^10 created at query\(", done.stderr, re.M), done.stderr
        assert "[chan send]" in done.stderr and "\nask(...)\n" in done.stderr, done.stderr
        done = run("leak", "fixed", procs=procs)
        assert done.stdout.endswith("fibers left: 0\n"), done.stdout
        assert done.stdout.splitlines()[:5] == [f"query {i}: replica 0 was first" for i in range(5)]


def contention_counts_the_same_with_one_lock_and_many():
    for procs in (1, 2):
        text = run("contention", "50", "400000", procs=procs).stdout
        assert text.endswith("counts: the same\n"), text
        assert [int(n) for n in re.findall(r"(\d+) words", text)] == [400000, 400000], text


# --- Shorten.

class Shortener:
    """The service, on a port of its own; ends with it."""

    def __init__(self, work):
        self.file = f"{work}/links.db"
        self.process = subprocess.Popen([os.path.join(EXAMPLES, "shorten"), "-p", "0", "-d", self.file],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:"), (line, self.process.poll())
        self.port = int(line.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, method, target, body=None):
        """A connection, a request: (status, Location, body)."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        c.request(method, target, body)
        r = c.getresponse()
        answer = r.status, r.getheader("Location"), r.read().decode()
        c.close()
        return answer

    def raw(self, data):
        """What comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s:
            s.sendall(data)
            out = b""
            while part := s.recv(65536):
                out += part
        return out

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 0 and err == "", (self.process.returncode, out, err)
        return out

    def links(self):
        with sqlite3.connect(self.file) as db:
            return db.execute("SELECT id, url, visits FROM links ORDER BY id").fetchall()


def shorten_shortens(work):
    with Shortener(work) as s:
        urls = [f"http://example.com/{i}" for i in range(70)]
        codes = []
        for url in urls:
            status, location, body = s.ask("POST", "/links", url + "\n")
            assert status == 201 and body == location + "\n", (status, location, body)
            codes.append(location)
        assert codes[0] == "/1" and codes[60] == "/Z" and codes[61] == "/10", codes
        assert s.ask("POST", "/links", urls[5])[:2] == (200, codes[5])
        for url, code in zip(urls, codes):
            assert s.ask("GET", code) == (302, url, "")
        assert s.ask("GET", codes[3])[0] == 302
        for target in ("/zzz", "/0", "/-", "/", "/1/", "/1/x", "/99999999999999999999"):
            assert s.ask("GET", target)[0] == 404, target
        assert s.ask("PUT", "/1", "x")[0] == 405
        for bad in ("", "example.com", "ftp://x/", "http://", "http://a b", "http://x\x01",
                    "https://x/" + "y" * 2048):
            assert s.ask("POST", "/links", bad)[0] == 400, bad
        assert s.ask("POST", "/links", "https://x/" + "y" * 2038)[0] == 201
        assert s.ask("GET", "/healthz") == (200, None, "ok\n")
        stats = dict(line.split() for line in s.ask("GET", "/stats")[2].splitlines())
        assert stats["links"] == "71" and int(stats["cache_hits"]) == 1, stats
        deadline = time.monotonic() + 10
        while s.ask("GET", codes[3] + "/visits") != (200, None, "2\n"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        s.end()
        rows = s.links()
        assert [r[1] for r in rows[:70]] == urls and [r[2] for r in rows[:5]] == [1, 1, 1, 2, 1]


def shorten_reads_http_strictly(work):
    with Shortener(work) as s:
        def status(data):
            return s.raw(data).split(b" ", 2)[1]
        assert status(b"nonsense\r\n\r\n") == b"400"
        assert status(b"GET / HTTP/2.0\r\n\r\n") == b"505"
        assert status(b"POST /links HTTP/1.1\r\n\r\n") == b"411"
        assert status(b"POST /links HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx") == b"400"
        assert status(b"POST /links HTTP/1.1\r\nContent-Length: -1\r\n\r\nx") == b"400"
        assert status(b"POST /links HTTP/1.1\r\nContent-Length: 99999\r\n\r\n") == b"413"
        assert status(b"POST /links HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") == b"411"
        assert status(b"GET / HTTP/1.1\r\nA: " + b"x" * 20000) == b"413"
        # Three at once, the last one says so: three answers in order, then the end.
        out = s.raw(b"GET /healthz HTTP/1.1\r\n\r\nGET /none-such HTTP/1.1\r\n\r\n"
                    b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert re.findall(rb"HTTP/1.1 (\d+)", out) == [b"200", b"404", b"200"], out
        # A request that comes byte by byte is one.
        with socket.create_connection(("127.0.0.1", s.port), timeout=20) as c:
            for byte in b"GET /healthz HTTP/1.0\r\n\r\n":
                c.sendall(bytes([byte]))
            assert c.makefile("rb").read().endswith(b"\r\n\r\nok\n")
        s.end()


def shorten_serves_many_and_forgets_nothing(work):
    with Shortener(work) as s:
        done = run("shorten_load", "-p", str(s.port), "-c", "200", "-n", "20000", "-w", "20")
        counts = [int(n) for n in re.findall(r"\d+", done.stdout.splitlines()[0])]
        answers, created, redirected, wrong, unanswered = counts
        assert answers == 20000 and wrong == unanswered == 0, done.stdout
        assert created + redirected == answers and created > 2000, done.stdout
        assert "served 20000 requests" in s.end()
        rows = s.links()
        assert len(rows) == created and sum(r[2] for r in rows) == redirected


def shorten_ends_gracefully_under_load(work):
    with Shortener(work) as s:
        load = subprocess.Popen([os.path.join(EXAMPLES, "shorten_load"), "-p", str(s.port), "-c", "50",
                                 "-n", "10000000", "-w", "50"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
        idle = socket.create_connection(("127.0.0.1", s.port), timeout=20)
        half = socket.create_connection(("127.0.0.1", s.port), timeout=20)
        half.sendall(b"GET /healthz HT")
        time.sleep(1)
        threading.Timer(0.1, half.sendall, [b"TP/1.1\r\n\r\n"]).start()
        began = time.monotonic()
        s.end()
        assert time.monotonic() - began < 5
        out, err = load.communicate(timeout=30)
        assert load.returncode == 0 and err == "", (load.returncode, out, err)
        answers, created, redirected = [int(n) for n in re.findall(r"\d+", out)][:3]
        assert created > 10, out
        rows = s.links()
        assert len(rows) == created and sum(r[2] for r in rows) == redirected, (out, len(rows))
        answer = half.makefile("rb").read()
        assert b" 200 OK" in answer and b"Connection: close" in answer, answer
        assert select.select([idle], [], [], 5)[0] and idle.recv(1) == b""
        idle.close()
        half.close()


CASES = [forensics_shows_who_ends_when, forensics_preempts_what_runs_long,
         pipeline_prints_what_cksum_prints, pipeline_stops_at_the_first_error,
         skynet_counts_its_leaves, deadlock_ends_with_status_2_and_says_who_waits,
         deadlock_ordered_ends, leak_lists_the_fibers_left,
         contention_counts_the_same_with_one_lock_and_many, shorten_shortens,
         shorten_reads_http_strictly, shorten_serves_many_and_forgets_nothing,
         shorten_ends_gracefully_under_load]

if __name__ == "__main__":
    harness.main(CASES)
