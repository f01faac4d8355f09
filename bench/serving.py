#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What serving costs: an idle program with and without `fiberscope serve -p`; and `shorten` under load, asked for every kind
of profile once in 15 s.

Usage: serving.py [PAIRS] [PART ...] [file=PATH]; 20 pairs of all parts, which are
  idle     with a server beside it, to without; 10 s a pair
  scrape   requests while a kind is recorded or read, to those before and after in the same process; 7 s a pair. What all kinds
           together add in 15 s is made of these
  load     served and scraped, to a process that never heard of us; 35 s a pair, and a fresh process for each, which differ
           from each other by more than what is looked for
With a file, the pairs in it count too and the new ones are added: so a long measurement can be made of short ones."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.dirname(__file__))
import pairs  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = f"{BUILD}/cli/fiberscope"
SHORTEN = f"{BUILD}/examples/shorten"
AGENT = f"{BUILD}/agent/libfiberscope.so"
IDLE_S, LOAD_S, CHUNK = 4, 15, 10000
LOAD_BOUND, SCRAPE_BOUND = 1.01, 1.0
KINDS = ("heap", "allocs", "block", "mutex", "goroutine", "threads", "threadcreate", "profile?seconds=1",
         "wall?seconds=1", "trace?seconds=1")
PAGES = ("/metrics", "/debug/fibers")


class Program:
    """shorten, as it is or behind `fiberscope serve`; its process and where it listens."""

    def __init__(self, tmp, command=(), env=None):
        self.tmp, self.said = tmp, open(f"{tmp}/said", "w+", encoding="utf-8")
        self.process = subprocess.Popen([*command, SHORTEN, "-p", "0", "-d", f"{tmp}/links.db"], stdout=self.said,
                                        stderr=self.said, env=dict(os.environ, **(env or {})))
        self.port = self.wait_for(r"(?m)^(?!fiberscope).*:(\d+)\b")
        self.pid, self.url = self.process.pid, None
        if command:
            self.url = self.wait_for(r"at (http://[\d.:]+)/debug")
            self.pid = int(self.wait_for(r"\(pid (\d+)\)"))

    def wait_for(self, pattern):
        for _ in range(500):
            self.said.seek(0)
            found = re.search(pattern, self.said.read())
            if found or self.process.poll() is not None:
                break
            time.sleep(0.02)
        if not found:
            sys.exit("shorten does not listen, or is not served")
        return found[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.said.close()
        for leftover in os.listdir(self.tmp):
            if leftover.startswith("links.db"):
                os.unlink(f"{self.tmp}/{leftover}")


def cpu_ns(pid):
    return time.clock_gettime_ns(~pid << 3 | 2)  # of that process, all its threads


def switches(pid):
    total = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii") as f:
            total += sum(int(n) for n in re.findall(r"ctxt_switches:\t(\d+)", f.read()))
    return total


def rates(pid, seconds):
    """us of CPU time and times woken, a second."""
    cpu, woken, start = cpu_ns(pid), switches(pid), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    return (cpu_ns(pid) - cpu) / 1000 / took, (switches(pid) - woken) / took


def idle_pair(target, i):
    out = {}
    for served in ((False, True) if i % 2 else (True, False)):
        if served:
            p = subprocess.Popen([FIBERSCOPE, "serve", "-p", str(target.pid), "-l", "127.0.0.1:0"], stderr=subprocess.PIPE,
                                 text=True)
            p.stderr.readline()
        time.sleep(0.5)
        out["served" if served else "alone"] = rates(target.pid, IDLE_S)
        if served:
            out["server"] = rates(p.pid, 0.5)
            p.send_signal(signal.SIGINT)
            p.wait(30)
    return out


def difference(values):
    mean = statistics.fmean(values)
    half = pairs.t95(len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("inf")
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def idle(count, tmp, kept):
    with Program(tmp, env={"LD_PRELOAD": AGENT}) as target:
        time.sleep(1)
        for i in range(count):
            pairs.progress(f"idle, pair {i + 1} of {count}")
            kept.append(idle_pair(target, i))
    pairs.progress("")
    print(f"\nidle: shorten that nobody asks, with a server beside it and without; {len(kept)} pairs of {IDLE_S} s")
    for at, what in ((0, "us of CPU a second"), (1, "wake-ups a second")):
        alone = statistics.fmean(p["alone"][at] for p in kept)
        more = [p["served"][at] - p["alone"][at] for p in kept]
        server = statistics.fmean(p["server"][at] for p in kept)
        print(f"{what:<20} alone {alone:.2f}, served {difference(more)} (95 %); the server itself {server:.2f}")


def scrape(url, paths):
    print(flush=True)
    for path in paths or [f"/debug/pprof/{kind}" for kind in KINDS] + list(PAGES):
        with urllib.request.urlopen(url + path, timeout=60) as r:
            r.read()


def under_load(tmp, served):
    """CPU us per request, in LOAD_S seconds or a little more; of the server, the share of one processor."""
    command = [FIBERSCOPE, "serve", "-l", "127.0.0.1:0", "--block", "--mutex"] if served else []
    with Program(tmp, command) as target:
        subprocess.run([f"{SHORTEN}_load", "-p", target.port, "-n", str(CHUNK)], check=True, stdout=subprocess.DEVNULL,
                       timeout=60)
        start, cpu, requests, asker = time.monotonic(), cpu_ns(target.pid), 0, None
        ours = cpu_ns(target.process.pid) if served else 0
        while time.monotonic() < start + LOAD_S:
            if served and not asker and time.monotonic() > start + 1:
                asker = subprocess.Popen([sys.executable, __file__, "scrape", target.url], stdout=subprocess.DEVNULL)
            subprocess.run([f"{SHORTEN}_load", "-p", target.port, "-n", str(CHUNK)], check=True,
                           stdout=subprocess.DEVNULL, timeout=60)
            requests += CHUNK
        took = time.monotonic() - start
        if asker and asker.wait(60):
            sys.exit("scraping failed")
        return ((cpu_ns(target.pid) - cpu) / requests / 1000, requests / took,
                (cpu_ns(target.process.pid) - ours) / took / 1e9 if served else 0)


def chunk(target):
    """us of CPU per request of one run of the load, and its seconds."""
    start, cpu = time.monotonic(), cpu_ns(target.pid)
    subprocess.run([f"{SHORTEN}_load", "-p", target.port, "-n", str(2 * CHUNK)], check=True, stdout=subprocess.DEVNULL,
                   timeout=60)
    return (cpu_ns(target.pid) - cpu) / 2 / CHUNK / 1000, time.monotonic() - start


def asked(target, paths):
    """The same while these are asked for, one after the other; those that last a second last longer than the load."""
    asker = subprocess.Popen([sys.executable, __file__, "scrape", target.url, *paths], stdout=subprocess.PIPE)
    asker.stdout.readline()
    out = chunk(target)
    if asker.wait(60):
        sys.exit("scraping failed")
    return out


def scrape_pair(target):
    out = {}
    for name in [k for k in KINDS if "?" in k] + ["the rest"]:
        paths = [f"/debug/pprof/{k}" for k in (KINDS if name == "the rest" else [name]) if "?" not in k or k == name]
        before, during, after = chunk(target), asked(target, paths + list(PAGES) * (name == "the rest")), chunk(target)
        # A recording costs for its second, the others for as long as they were read.
        out[name] = (during[0] / ((before[0] + after[0]) / 2) - 1) * (1 if "?" in name else during[1]) / LOAD_S * 100
    return out


def scrapes(count, tmp, kept):
    with Program(tmp, [FIBERSCOPE, "serve", "-l", "127.0.0.1:0", "--block", "--mutex"]) as target:
        chunk(target)
        for i in range(count):
            pairs.progress(f"scrape, pair {i + 1} of {count}")
            kept.append(scrape_pair(target))
    pairs.progress("")
    print(f"\nscrape: % of CPU that shorten under load takes more, where each is asked for once in {LOAD_S} s; "
          f"{len(kept)} pairs, 95 % interval")
    for name in kept[0]:
        print(f"{name:<20} {difference([p[name] for p in kept])}")
    sums = [sum(p.values()) for p in kept]
    print(f"{'all':<20} {difference(sums)}; at most {SCRAPE_BOUND:g}")


def load(count, tmp, kept):
    for i in range(count):
        pairs.progress(f"load, pair {i + 1} of {count}")
        pair = {}
        for served in ((False, True) if i % 2 else (True, False)):
            pair["served" if served else "plain"] = under_load(tmp, served)
        kept.append(pair)
    pairs.progress("")
    ratios = pairs.Ratios()
    for p in kept:
        ratios.add(p["served"][0] / p["plain"][0])
    print(f"\nload: shorten under load, all kinds and pages asked for once in {LOAD_S} s, to shorten alone; "
          f"{statistics.median(p['plain'][0] for p in kept):.1f} us of CPU a request, "
          f"{statistics.median(p['plain'][1] for p in kept):.0f} requests a second")
    print(pairs.HEADER + "\n" + ratios.row("served and scraped", LOAD_BOUND))
    print(f"the server itself: {statistics.median(p['served'][2] for p in kept) * 100:.1f} % of a processor")


PARTS = {"idle": idle, "scrape": scrapes, "load": load}


def main():
    args = sys.argv[1:]
    if args[:1] == ["scrape"]:
        return scrape(args[1], args[2:])
    count = int(args.pop(0)) if args and args[0].isdigit() else 20
    path = next((a[5:] for a in args if a.startswith("file=")), None)
    wanted = [a for a in args if not a.startswith("file=")]
    for name in wanted:
        if name not in PARTS:
            sys.exit(f"serving: no part '{name}'; there are: {' '.join(PARTS)}")
    kept = {}
    if path and os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            kept = json.load(f)
    for name, part in PARTS.items():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as tmp:
            part(count, tmp, kept.setdefault(name, []))
        if path:
            with open(path, "w", encoding="utf-8") as f:
                json.dump(kept, f)
    return None


if __name__ == "__main__":
    main()
