#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients that are slow, greedy, wrong, unwanted or mad: the others are answered meanwhile, and when they have gone, so
have the server's descriptors and memory. All on the loopback interface, over a session that is made up."""

import base64
import os
import random
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.environ["FSCOPE_SOURCE"], "tests", "e2e"))
from harness import BUILD, main  # noqa: E402

FAKE = os.path.join(BUILD, "tests", "conformance", "serve_fake")
P = "/debug/pprof/"
TOKEN = "0123456789abcdefghij"


class Server:
    def __init__(self, *options, listen="127.0.0.1:0", cwd=None):
        self.process = subprocess.Popen([FAKE, listen, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, cwd=cwd)
        self.cwd = cwd
        self.words = self.process.stdout.readline().split()
        self.address = self.words[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        assert self.process.wait(timeout=20) == 0

    def connect(self, source=None, timeout=10):
        if self.address.startswith("unix:"):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(timeout)
            s.connect(os.path.join(self.cwd or "", self.address[5:]))
            return s
        host, port = self.address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout, (source, 0) if source else None)

    def ask(self, path=P + "nothing", *headers, method="GET", source=None, body=b"", version="1.1"):
        """Status and the whole reply."""
        with self.connect(source) as s:
            lines = [f"{method} {path} HTTP/{version}", *headers]
            if version == "1.1" and not any(h.lower().startswith("host:") for h in headers):
                lines.append("Host: localhost")
            s.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
            reply = read_all(s)
        return int(reply.split()[1]) if reply.startswith(b"HTTP/") else 0, reply

    def tell(self, line=""):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        words = self.process.stdout.readline().split()
        return int(words[0]), int(words[3])

    def descriptors(self):
        return self.tell()[0]

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))

    def gives_way(self):
        """How many threads there are that never displace another one, and how many like any."""
        policies = []
        for tid in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{tid}/stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            policies.append(int(fields[38]))  # the 41st, counted from 1
            assert policies[-1] != os.SCHED_BATCH or fields[16] == "10"
        return policies.count(os.SCHED_BATCH), policies.count(os.SCHED_OTHER)

    def settles_at(self, descriptors, seconds=30):
        until = time.monotonic() + seconds
        while self.descriptors() > descriptors:
            assert time.monotonic() < until, (self.descriptors(), descriptors)
            time.sleep(0.05)


def read_all(s):
    out = b""
    try:
        while True:
            piece = s.recv(65536)
            if not piece:
                return out
            out += piece
    except (ConnectionResetError, TimeoutError, BrokenPipeError):
        return out


def is_closed(s, seconds):
    """Whether the server hangs up within so many seconds."""
    s.settimeout(seconds)
    try:
        while s.recv(65536):
            pass
        return True
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def thousand_slow_connections():
    with Server("ask_ms=60000") as server:
        assert server.ask()[0] == 404
        before, memory = server.descriptors(), server.rss_kib()
        slow, slowest = [], 0
        for i in range(1000):
            s = server.connect()
            s.sendall(b"GET /debug/pprof/heap HTTP/1.1\r\nHo")
            slow.append(s)
            if i % 20 == 0:
                start = time.monotonic()
                assert server.ask()[0] == 404
                slowest = max(slowest, time.monotonic() - start)
                for one in slow[-50:]:
                    try:
                        one.sendall(b"s")
                    except OSError:
                        pass  # its place was needed
        assert slowest < 2, slowest
        assert server.descriptors() < before + 250, server.descriptors()
        for s in slow:
            s.close()
        server.settles_at(before)
        assert server.rss_kib() < memory + 8192, (memory, server.rss_kib())


def who_is_slow_to_ask_is_cut_off():
    with Server("ask_ms=500", "idle_ms=800") as server:
        nothing, headers, body, idle = (server.connect() for _ in range(4))
        headers.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        body.sendall(b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n0x")
        start = time.monotonic()
        while time.monotonic() < start + 3:  # who says something now and then is no better
            try:
                headers.sendall(b"a")
                body.sendall(b"1")
            except OSError:
                break
            time.sleep(0.1)
        assert time.monotonic() < start + 2
        assert is_closed(nothing, 2) and is_closed(headers, 2) and is_closed(body, 2)
        assert is_closed(idle, 2)
        idle = server.connect()
        idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"404 page" in idle.recv(4096)
        start = time.monotonic()
        assert is_closed(idle, 3) and 0.6 < time.monotonic() - start < 2


def who_is_slow_to_read_is_cut_off(work):
    with Server("read_ms=500", listen="unix:s", cwd=work) as server:
        assert server.ask()[0] == 404
        time.sleep(0.3)  # that connection is closed
        before = server.descriptors()
        name = server.words[1].encode()
        body = b"+".join([name] * 30000)
        s = server.connect()
        s.sendall(b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.5)
        assert server.descriptors() > before
        server.settles_at(before, 20)  # half a second, one for each 64 KiB, and the names take their time, too
        assert len(read_all(s)) < 30000 * (len(name) + 18)
        s.close()
        # Who reads has all of it.
        with server.connect(timeout=30) as s:
            s.sendall(b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                      % len(body) + body)
            assert read_all(s).count(b" a_named_function\n") == 30000


def who_sends_too_much_is_refused():
    with Server("header=16384", "body=1000", "ask_ms=1500") as server:
        assert server.ask()[0] == 404
        before, memory = server.descriptors(), server.rss_kib()
        for size in (16384, 100000, 1000000):
            for path, headers in ((P + "x" * size, ()), (P, ("X: " + "x" * size,)),
                                  (P, tuple(f"X{i}: {i}" for i in range(size // 10)))):
                try:
                    status = server.ask(path, *headers)[0]
                except OSError:
                    status = 0
                assert status in (0, 400, 413, 414, 431), status
        for extra in (1, 10**6, 10**18, 10**30):
            status, reply = server.ask(P + "symbol", f"Content-Length: {1000 + extra}", method="POST", body=b"1")
            assert status in (413, 400), (extra, status, reply)
        assert server.ask(P + "symbol", "Content-Length: 1000", method="POST", body=b"1" * 1000)[0] == 200
        assert server.ask(P + "symbol", "Content-Length: 1001", method="GET", body=b"1" * 1001)[0] == 413
        # One that never ends.
        with server.connect() as s:
            s.sendall(b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: x.localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            start = time.monotonic()
            try:
                while time.monotonic() < start + 5:
                    s.sendall(b"1000\r\n" + b"1" * 4096 + b"\r\n")
            except OSError:
                pass
            assert time.monotonic() < start + 4
        assert server.ask()[0] == 404
        server.settles_at(before)
        assert server.rss_kib() < memory + 8192, (memory, server.rss_kib())


def only_the_token_opens():
    def basic(text):
        return "Authorization: Basic " + base64.b64encode(text.encode()).decode()

    with Server(f"token={TOKEN}") as server:
        for right in (f"Authorization: Bearer {TOKEN}", f"authorization: bearer  {TOKEN}", basic(f":{TOKEN}"),
                      basic(f"anybody:{TOKEN}")):
            assert server.ask(P + "heap", right)[0] == 200, right
            assert server.ask(P + "heap", right, "Host: example.com")[0] == 200
        wrong = ["", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Bearer {TOKEN.upper()}",
                 f"Bearer x{TOKEN[1:]}", f"Basic {TOKEN}", f"Token {TOKEN}", TOKEN, "Bearer " + "x" * 5000,
                 "Basic ====", "Basic " + "A" * 5000, f"Bearer {TOKEN} {TOKEN}"]
        for path in (P + "heap", P, "/", P + "profile?seconds=1", "//", P + "symbol"):
            for value in ["", *wrong] if path == P + "heap" else wrong[:4]:
                status, reply = server.ask(path, *[f"Authorization: {value}"] * bool(value))
                assert status == 401, (path, value, status)
                assert b"\r\nWWW-Authenticate: Bearer" in reply and TOKEN.encode() not in reply, reply
        for value in (basic(f"{TOKEN}:"), basic(TOKEN), basic(f":{TOKEN}:")):
            assert server.ask(P, value)[0] == 401, value


def only_allowed_addresses_get_in():
    with Server("allow=127.0.0.2/32", "allow=10.0.0.0/8", f"token={TOKEN}") as server:
        assert server.ask(P, f"Authorization: Bearer {TOKEN}", source="127.0.0.2")[0] == 200
        assert server.ask(P, source="127.0.0.2")[0] == 401
        for source in ("127.0.0.1", "127.0.0.3"):
            try:
                assert server.ask(P, f"Authorization: Bearer {TOKEN}", source=source) == (0, b"")
            except OSError:
                pass


def browsers_led_here_are_refused():
    with Server() as server:
        for host in ("localhost", "127.0.0.1:6060", "[::1]:80", "a.localhost"):
            assert server.ask(P + "heap", f"Host: {host}")[0] == 200
        assert server.ask(P + "heap", version="1.0")[0] == 200
        for host in ("example.com", "127.0.0.1.example.com", "localhost.example.com:6060"):
            assert server.ask(P + "heap", f"Host: {host}")[0] == 403
        assert server.ask(P + "heap", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")[0] == 403
        assert server.ask(P + "heap", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")[0] == 200
        assert server.ask(P + "heap", "Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate")[0] == 200


def one_address_does_not_take_all_places():
    with Server("connections=8", "per_ip=4", "ask_ms=60000") as server:
        first = [server.connect("127.0.0.5") for _ in range(2)]
        time.sleep(0.2)
        greedy = [server.connect("127.0.0.6") for _ in range(20)]
        time.sleep(0.3)
        assert not any(is_closed(s, 0.05) for s in first)
        assert sum(not is_closed(s, 0.05) for s in greedy) == 4
        # Who is being served is not cut off for another.
        busy = [server.connect("127.0.0.7") for _ in range(4)]
        for s in busy:
            s.sendall(b"GET /debug/pprof/heap?seconds=2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)
        assert server.ask(source="127.0.0.7")[0] == 0
        assert server.ask(source="127.0.0.8")[0] == 404
        assert all(read_all(s).startswith(b"HTTP/1.1 200") for s in busy)


def more_than_so_many_requests_at_once_wait():
    with Server("requests=2") as server:
        lasting = [server.connect() for _ in range(2)]
        for s in lasting:
            s.sendall(b"GET /debug/pprof/heap?seconds=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)
        status, reply = server.ask(P + "heap")
        assert status == 503 and b"\r\nRetry-After: 5\r\n" in reply and b"\r\nX-Go-Pprof: 1\r\n" in reply, reply
        assert all(read_all(s).startswith(b"HTTP/1.1 200") for s in lasting)
        assert server.ask(P + "heap")[0] == 200


def recordings_end_with_their_client():
    with Server() as server:
        assert server.ask()[0] == 404
        before = server.descriptors()
        for path in ("profile?seconds=30", "wall?seconds=30", "trace?seconds=30"):
            s = server.connect()
            s.sendall(f"GET {P}{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(0.4)
            status, reply = server.ask(P + "profile?seconds=1")
            assert status == 500 and reply.endswith(b"profiling already in use\n"), reply
            s.close()
            time.sleep(0.3)
            assert 300 < server.tell()[1] < 1500, server.tell()
            assert server.ask(P + "profile?seconds=1")[0] == 200
        s = server.connect()
        s.sendall(f"GET {P}heap?seconds=30 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(0.3)
        # What strangers can cause gives way to the target; what was let in does not, for it may have rings to empty.
        assert server.gives_way() == (2, 3), server.gives_way()
        s.close()
        server.settles_at(before)


def stopping_waits_for_nobody():
    server = Server()
    asked = []
    for path in ("profile?seconds=30", "heap?seconds=30"):
        s = server.connect()
        s.sendall(f"GET {P}{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        asked.append(s)
    slow = server.connect()
    slow.sendall(b"GET /")
    time.sleep(0.3)
    start = time.monotonic()
    with server:
        pass
    assert time.monotonic() - start < 3
    assert all(is_closed(s, 1) for s in [*asked, slow])


def mutated(rng, text):
    data = bytearray(text)
    for _ in range(rng.randrange(1, 8)):
        at, what = rng.randrange(len(data) + 1), rng.randrange(5)
        if what == 0:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif what == 1:
            del data[at:at + rng.randrange(1, 30)]
        elif what == 2 and at < len(data):
            data[at] = rng.randrange(256)
        elif what == 3:
            data[at:at] = data[rng.randrange(len(data) + 1):][:rng.randrange(200)]
        else:
            data[at:at] = rng.choice([b"%", b"%00", b"\r\n", b"\r\n\r\n", b"+" * 300, b"/..", b"&debug=1", b"?", b"\0",
                                      b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n"])
    return bytes(data)


def mad_clients():
    rng = random.Random(7)
    seeds = [b"GET /debug/pprof/heap?debug=1 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
             b"GET /debug/pprof/goroutine?debug=-1&seconds= HTTP/1.1\r\nHost: localhost\r\n\r\n",
             b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n0x1+0x2+0x3",
             b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0x1+2\r\n0\r\n\r\n",
             b"GET /debug/pprof/trace?seconds=0.01 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Og==\r\n\r\n",
             b"GET http://localhost/debug/pprof/ HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    with Server("ask_ms=1000", "idle_ms=1000", "seconds=1") as server:
        assert server.ask()[0] == 404
        for s in range(200):  # so that memory has its size
            server.ask(P + "heap?debug=1")
        before, memory = server.descriptors(), server.rss_kib()
        answered = 0
        until = time.monotonic() + 25
        for i in range(3000):
            if time.monotonic() > until:
                break
            try:
                with server.connect(timeout=0.02) as s:
                    s.sendall(mutated(rng, rng.choice(seeds)))
                    if i % 4:
                        answered += read_all(s).startswith(b"HTTP/")
            except OSError:
                pass
            if i % 100 == 0:
                assert server.ask()[0] == 404
        assert i > 300 and answered > i // 4, (i, answered)
        server.settles_at(before, 10)
        assert server.rss_kib() < memory + 8192, (memory, server.rss_kib())
        print(f"      {i + 1} requests, {answered} answered")


if __name__ == "__main__":
    main([thousand_slow_connections, who_is_slow_to_ask_is_cut_off, who_is_slow_to_read_is_cut_off,
          who_sends_too_much_is_refused, only_the_token_opens, only_allowed_addresses_get_in,
          browsers_led_here_are_refused, one_address_does_not_take_all_places,
          more_than_so_many_requests_at_once_wait, recordings_end_with_their_client, stopping_waits_for_nobody,
          mad_clients])
