#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a program pays when its sidecar is abused: the latency of `shorten` behind `fiberscope serve`, without abuse, with the
abuse at the least server that can be made with libmicrohttpd, which has nothing to do with the program, and with the same
abuse at the sidecar. The second is what the machine itself pays for such clients.

Usage: abuse.py [ROUNDS] [RATE] [here]; 50 rounds of the three in turn, RATE (400) requests that mean no good a second, beside a
thousand slow connections. A round takes 2.5 s. The program is asked 2,000 times a second, then as fast as two connections
can. The abuser runs where nothing else would, as if on another machine; with `here` it takes its share of this one."""

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402
import serving  # noqa: E402

CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "abuse_client.py")
LOADS = {"2,000 a second": ("-r", "2000", "-n", "600"), "as fast as may be": ("-n", "4000")}
MODES = ("quiet", "peer", "sidecar")


class Abuse:
    """Goes on while the block runs."""

    def __init__(self, address, rate):
        host, port = address.split(":")
        argv = [sys.executable, CLIENT, host, port, str(rate), *("here",) * ("here" in sys.argv)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        time.sleep(0.1)

    def __enter__(self):
        self.tell("on")

    def __exit__(self, *_):
        self.tell("off")

    def end(self):
        return self.process.communicate(timeout=60)[0].strip()


def latencies(target, servers):
    """Of each load: median and 99 % in us, us of CPU a request, and of each server its share of a processor."""
    out = {}
    for name, options in LOADS.items():
        pids = [target.pid, *servers]
        before, start = [serving.cpu_ns(p) for p in pids], time.monotonic()
        done = subprocess.run([f"{serving.SHORTEN}_load", "-p", target.port, "-c", "2", *options], capture_output=True,
                              text=True, timeout=90, check=True)
        took = time.monotonic() - start
        cpu = [serving.cpu_ns(p) - b for p, b in zip(pids, before)]
        found = re.search(r"(\d+) answers.* 0 wrong; 0 unanswered\n.*median (\d+), 99 % (\d+)", done.stdout)
        out[name] = [float(found[2]), float(found[3]), cpu[0] / 1000 / float(found[1]),
                     *(c / 1e9 / took * 100 for c in cpu[1:])]
    return out


def report(rounds, said):
    for load in LOADS:
        print(f"\n{load}: us, median of {len(rounds)} rounds")
        for mode in MODES:
            at = [statistics.median(r[mode][load][i] for r in rounds) for i in range(5)]
            print(f"{mode:<8} median {at[0]:6.1f}, 99 % {at[1]:7.1f}, CPU {at[2]:5.1f} a request; the sidecar took "
                  f"{at[3]:4.1f} % of a processor, the peer {at[4]:4.1f} %")
        for i, what in ((0, "median"), (1, "99 %"), (2, "CPU")):
            for mode, to in (("peer", "quiet"), ("sidecar", "quiet"), ("sidecar", "peer")):
                ratios = pairs.Ratios()
                for r in rounds:
                    ratios.add(r[mode][load][i] / r[to][load][i])
                print(ratios.row(f"{what}: {mode} to {to}"))
    print("\nwhat was done:", *(f"\n  {mode}: {text}" for mode, text in said.items()))


def main():
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    count, rate = (numbers + [50, 400][len(numbers):])[:2]
    rounds = []
    with tempfile.TemporaryDirectory() as tmp:
        with open(f"{tmp}/token", "w", encoding="ascii") as f:
            f.write("0123456789abcdefghij\n")
        command = [serving.FIBERSCOPE, "serve", "-l", "127.0.0.1:0", "--token-file", f"{tmp}/token", "--allow", "127.0.0.1"]
        peer = subprocess.Popen([f"{serving.BUILD}/bench/abuse_peer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True)
        with serving.Program(tmp, command) as target:
            addresses = {"peer": f"127.0.0.1:{peer.stdout.readline().strip()}", "sidecar": target.url.split("/")[2]}
            servers = (target.process.pid, peer.pid)
            abusers = {mode: Abuse(address, rate) for mode, address in addresses.items()}
            for abuse in abusers.values():  # a thousand connections need their time
                with abuse:
                    time.sleep(4)
            latencies(target, servers)
            for i in range(count):
                pairs.progress(f"round {i + 1} of {count}")
                order = MODES[i % 3:] + MODES[:i % 3]
                rounds.append({})
                for mode in order:
                    with abusers.get(mode, contextlib.nullcontext()):
                        rounds[-1][mode] = latencies(target, servers)
            said = {mode: abuse.end() for mode, abuse in abusers.items()}
        peer.communicate(timeout=30)
    pairs.progress("")
    print(pairs.HEADER.replace("CPU seconds, ratio to plain", "ratio"))
    report(rounds, said)


if __name__ == "__main__":
    main()
