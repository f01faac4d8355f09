# SPDX-License-Identifier: MIT
"""Clients that mean no good, for ./dev bench abuse: abuse_client.py HOST PORT RATE [here]. A thousand connections are held that ask
slowly, each made anew when the server has cut it off; and RATE times a second comes a wrong token, a stranger, a header
or body beyond the limit, or random bytes. Does that after a line "on" until a line "off", ends with its input, and then prints
what it did. The kernel lets it run
only where nothing else would, so that it disturbs as little as clients on other machines do; with `here` like any other process."""

import collections
import os
import random
import select
import socket
import sys
import threading
import time

SLOW = 1000
GOOD = b"GET /debug/pprof/heap?debug=1 HTTP/1.1\r\nHost: localhost\r\n"


class Clients:
    def __init__(self, address):
        self.address, self.counts, self.rng = address, collections.Counter(), random.Random(11)
        self.slow, self.cut_off = {}, select.epoll()

    def one_more_slow(self):
        s = socket.create_connection(self.address, 5)
        s.sendall(GOOD[:self.rng.randrange(1, len(GOOD))])
        self.slow[s.fileno()] = s
        self.cut_off.register(s.fileno(), select.EPOLLRDHUP)
        self.counts["slow"] += 1

    def drop_those_cut_off(self):
        for fd, _ in self.cut_off.poll(0):
            self.slow.pop(fd).close()

    def request(self, kind):
        rng = self.rng
        return {"token": GOOD + b"Authorization: Bearer " + rng.randbytes(16).hex().encode() + b"\r\n\r\n",
                "stranger": GOOD + b"\r\n", "large": GOOD + b"X: " + b"x" * 100000,
                "body": b"POST /debug/pprof/symbol HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"1" * 5000,
                "mad": rng.randbytes(rng.randrange(1, 300)) + GOOD + rng.randbytes(40)}[kind]

    def one_wrong(self):
        kind = self.rng.choice(("token", "stranger", "large", "body", "mad"))
        source = ("127.0.0.9", 0) if kind == "stranger" else None
        with socket.create_connection(self.address, 5, source) as s:
            s.settimeout(0.05)
            s.sendall(self.request(kind))
            if kind != "mad":  # which may be the beginning of a request
                self.counts["let in"] += b" 200 " in s.recv(4096).split(b"\r\n")[0]
        self.counts[kind] += 1


def obey(on, over):
    for line in sys.stdin:
        (on.set if line == "on\n" else on.clear)()
    over.set()


def main():
    host, port, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if "here" not in sys.argv:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    clients, on, over = Clients((host, port)), threading.Event(), threading.Event()
    threading.Thread(target=obey, args=(on, over), daemon=True).start()
    due = time.monotonic()
    while not over.is_set():
        if not on.wait(0.05):
            continue
        try:
            clients.drop_those_cut_off()
            if len(clients.slow) < SLOW:
                clients.one_more_slow()
            clients.one_wrong()
        except OSError:
            clients.counts["hung up on"] += 1
        due = max(due + 1 / rate, time.monotonic() - 0.1)
        time.sleep(max(0, due - time.monotonic()))
    print(dict(clients.counts))


main()
