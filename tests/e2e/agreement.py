#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fiberscope top, go tool pprof -top and perf agree on the ten hottest functions of real programs in one
run: shares within 3 points each.

perf record watches `fiberscope record PROGRAM` from outside, so that both see the same execution. Two
classes of difference are no disagreement, and are made the same before comparing:
- perf's kernel samples are charged to the user function that entered the kernel, which is where a
  signal-driven sampler finds the thread when it gets its signal;
- two names are the same function if they have the same address in the file's symbol tables (libc has
  many aliases), and what neither knows by name counts for its file.

Usage: agreement.py [root|user|seccomp [PROGRAM ...]]: as root, as an ordinary user, or with
perf_event_open refused. There the samples are the kernel's tick, a fourth of what was asked, and the
chance of so few is added to the 3 points: three standard errors of the difference of two samplings.
FSCOPE_SOAK_FULL=0 leaves the ordinary user's stripped copies out.
"""

import collections
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

from harness import BUILD, FIBERSCOPE, NOBODY, Profile

MODE = sys.argv[1] if len(sys.argv) > 1 else "root"
POINTS = 3.0
TOP = 10
FULL = os.environ.get("FSCOPE_SOAK_FULL", "1") == "1"

PYTHON = """
import json, re, zlib
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
text = json.dumps([{"id": i, "name": "item %d" % i, "tags": ["a", "b", str(i)]} for i in range(3000)])
for _ in range(ROUNDS):
    fib(23)
    json.loads(text)
    sorted(re.findall(r"item (\\d+)", text), key=int)
    zlib.compress(text.encode(), 6)
"""
PERL = """
my %h; my $s = join ' ', map { "word$_" } 1..20000;
for my $round (1..ROUNDS) {
    for my $w (split / /, $s) { $h{$w} += length $w }
    my @k = sort { $h{$a} <=> $h{$b} || $a cmp $b } keys %h;
    (my $t = $s) =~ s/word(\\d)/W$1/g;
}
"""
SQL = """
with recursive n(i) as (select 1 union all select i + 1 from n where i < %d)
select count(*), sum(length(hex(i * 7919 %% 104729))), max(i %% 977) from n;
"""
C_UNIT = "\n".join(
    "int f%d(int a, int b) { int s = 0; for (int i = a; i < b; i++) s += (i * %d) ^ (s >> %d); "
    "switch (s & 7) { case 0: return s + a; case 1: return s - b; case 2: return s * 3; "
    "default: return f%d(a + 1, b - 1 > a ? a : b); } }" % (i, i + 3, i % 13 + 1, max(0, i - 1))
    for i in range(1, 900)).replace("int f1(", "int f0(int a, int b) { return a ^ b; }\nint f1(", 1)


def programs(work):
    """name -> (argv, files whose names both sides can know)"""
    def put(name, text):
        path = os.path.join(work, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path
    noise = os.path.join(work, "noise.txt")
    with open(noise, "w", encoding="utf-8") as f:
        x = 1
        for i in range(240000):
            x = (x * 1103515245 + 12345) & 0x7fffffff
            f.write("%d GET /item/%x %s\n" % (i, x >> 7, "abcdefghijklmnopqrst"[x % 20:]))
    yield "python3", ["/usr/bin/python3", put("p.py", PYTHON.replace("ROUNDS", "650"))]
    yield "perl", ["/usr/bin/perl", put("p.pl", PERL.replace("ROUNDS", "110"))]
    yield "xz", ["xz", "-5", "-T1", "-k", "-c", noise]
    yield "sqlite3", ["sqlite3", ":memory:", SQL % 8500000]
    yield "gcc", ["gcc", "-O2", "-c", "-o", os.path.join(work, "c.o"), put("c.c", C_UNIT)]


def bare_copy(argv, work):
    """argv with a copy of the program that has neither debug link nor build id, and no symbols."""
    source = os.path.realpath(shutil.which(argv[0]))
    copy = os.path.join(work, "bare-" + os.path.basename(source))
    subprocess.run(["objcopy", "--strip-all", "-R", ".gnu_debuglink", "-R", ".note.gnu.build-id",
                    "-R", ".gnu_debugdata", source, copy], check=True)
    os.chmod(copy, 0o755)
    return [copy] + argv[1:]


def wrap(argv):
    if MODE == "user":
        return [*NOBODY, "env", "HOME=/nonexistent", "XDG_CACHE_HOME=/nonexistent",
                *argv]
    if MODE == "seccomp":
        return [os.path.join(BUILD, "tests", "e2e", "no_perf")] + argv
    return argv


def run(argv, work, progress):
    profile = os.path.join(work, "p.pb.gz")
    perf = os.path.join(work, "perf.data")
    for f in (profile, perf):
        if os.path.exists(f):
            os.unlink(f)
    done = subprocess.run(
        ["perf", "record", "-q", "-F", "999", "-g", "-o", perf, "--"] +
        wrap([FIBERSCOPE, "record", "-F", "999", "-o", profile] + argv),
        cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{progress}: exit status {done.returncode}: {done.stderr[-2000:]}")
    last = [line for line in done.stderr.splitlines() if "fiberscope" in line or "samples" in line]
    print(f"    {' | '.join(last[:3])[:220]}")
    return profile, perf


class Aliases:
    """Maps a name to one name of all that share an address with it, in any file seen: malloc is the agent's
    and libc's, so that both count together."""

    def __init__(self):
        self.parent = {}

    def root(self, name):
        while self.parent.setdefault(name, name) != name:
            name = self.parent[name]
        return name

    def add(self, path):
        files = [path]
        notes = subprocess.run(["readelf", "-nW", path], capture_output=True, text=True,
                               check=False).stdout
        m = re.search(r"Build ID: (\w+)", notes)
        if m:
            files += glob.glob(f"/usr/lib/debug/.build-id/{m[1][:2]}/{m[1][2:]}.debug")
        by_address = collections.defaultdict(list)
        for f in files:
            table = subprocess.run(["readelf", "-sW", f], capture_output=True, text=True,
                                   check=False).stdout
            for line in table.splitlines():
                c = line.split()
                if len(c) >= 8 and c[3] in ("FUNC", "IFUNC") and c[6] != "UND":
                    by_address[c[1]].append(c[7].split("@")[0])
        for names in by_address.values():
            first = min(names)
            for n in names:
                a, b = sorted((self.root(plain(n)), self.root(plain(first))))
                self.parent[b] = a

    def of(self, name):
        return self.root(plain(name))


def plain(name):
    name = re.sub(r"@plt$|@@?[A-Z].*$", "", name)
    name = re.sub(r"(?<=[\w>~])\(.*\)( const)?$", "", name)  # perf prints C++ without parameters
    return re.sub(r"(\.(part|isra|constprop|cold|lto_priv|localalias)(\.\d+)*)+$", "", name)


AGENT = "[fiberscope]"
UNKNOWN = re.compile(r"^(\[unknown\]|0x[0-9a-f]+|[0-9a-f]{6,}|\[?[\w.+-]+\]?\+0x[0-9a-f]+|)$")


def perf_shares(perf, comms, files):
    """User function -> share of all samples of these programs, and the files seen."""
    text = subprocess.run(["perf", "script", "-i", perf, "--no-inline", "-F", "comm,ip,sym,dso"],
                          capture_output=True, text=True, check=True).stdout
    counts, total = collections.Counter(), 0
    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        if not lines[0] or lines[0].strip() not in comms:
            continue
        total += 1
        name = "[unknown]"
        for line in lines[1:]:
            m = re.match(r"\s*([0-9a-f]+) (.*) \((.*)\)$", line)
            if not m or int(m[1], 16) >= 1 << 63:
                continue
            files.add(m[3])
            name = m[2].split("+0x")[0]
            if "libfiberscope" in m[3]:
                name = AGENT
            elif UNKNOWN.match(name):
                name = f"[{os.path.basename(m[3]).strip('[]')}]"
            break
        counts[name] += 1
    # The agent's own work is in perf's samples and, by design, not in ours.
    agent = counts.pop(AGENT, 0)
    if agent:
        print(f"    perf saw {100.0 * agent / total:.1f} % of its samples in the agent")
    return counts, total - agent


def top_shares(argv):
    """Parses the table of `fiberscope top` or `go tool pprof -top`: name -> flat."""
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    shares = collections.Counter()
    for line in text.splitlines():
        m = re.match(r"\s*(-?[\d.]+)\w*\s+(-?[\d.]+)%\s+[\d.]+%\s+\S+\s+[\d.]+%\s+(.*)$", line)
        if m:
            name = re.sub(r" \((inline|partial-inline)\)$", "", m[3].strip())
            shares["[unknown]" if UNKNOWN.match(name.split(" ")[0]) else name] += float(m[1])
    return shares


def percent(counts, aliases, total=None):
    out = collections.Counter()
    for name, n in counts.items():
        out[aliases.of(name) if name[0] != "[" else name] += n
    total = total or sum(out.values()) or 1
    return {n: 100.0 * v / total for n, v in out.items()}


def allowance(share, samples, delivered):
    """Points by which two honest samplings of the given sizes may differ by chance; 0 at full rate."""
    if MODE != "seccomp":
        return 0.0
    p = min(max(share / 100, 0.01), 0.99)
    return 300 * (p * (1 - p) * (1 / max(samples, 1) + 1 / max(delivered, 1))) ** 0.5


def compare(label, profile, perf, comms):
    files = set()
    counts, samples = perf_shares(perf, comms, files)
    aliases = Aliases()
    for f in files:
        if os.path.isfile(f):
            aliases.add(f)
    options = ["-nodecount=0", "-nodefraction=0", "-noinlines", "-sample_index=cpu", "-unit=ms"]
    ours_raw = top_shares([FIBERSCOPE, "top"] + options + [profile])
    go_raw = top_shares(["go", "tool", "pprof", "-top", "-symbolize=none"] + options + [profile])
    delivered = Profile(profile).total(0)
    theirs = percent(counts, aliases, samples)
    ours, go = percent(ours_raw, aliases), percent(go_raw, aliases)
    hottest = sorted(theirs, key=theirs.get, reverse=True)[:TOP]
    hottest += [n for n in sorted(ours, key=ours.get, reverse=True)[:TOP] if n not in hottest]
    bad = []
    for n in hottest:
        a, b, c = theirs.get(n, 0.0), ours.get(n, 0.0), go.get(n, 0.0)
        bound = POINTS + allowance(a, samples, delivered)
        mark = "" if abs(a - b) <= bound and abs(b - c) <= 0.15 else "   <--"
        print(f"    {a:6.2f} {b:6.2f} {c:6.2f}  {n}{mark}")
        if mark:
            bad.append(n)
    print(f"  {label}: {samples} samples of perf, {delivered} of ours, "
          f"{'agrees' if not bad else 'DISAGREES on ' + str(bad)}", flush=True)
    return not bad


def main():
    if os.geteuid() != 0:
        print("SKIP: perf must watch an ordinary user's run as root")
        return 77
    for tool in ("perf", "go", "sqlite3", "perl", "setpriv"):
        if not shutil.which(tool):
            print(f"SKIP: no {tool} here")
            return 77
    ok = True
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o777)
        for name, argv in programs(work):
            if len(sys.argv) > 2 and name not in sys.argv[2:]:
                continue
            for kind in ("as Debian has it", "bare"):
                if kind == "bare":
                    if MODE == "user" and not FULL:
                        continue  # root has seen it, and who asks makes no difference to names
                    if name == "gcc":
                        continue  # cc1 is what runs, and Debian ships it without symbols
                    argv = bare_copy(argv, work)
                label = f"{name}, {kind}, {MODE}"
                print(f"  {label}:   perf  ours   go")
                profile, perf = run(argv, work, label)
                comms = {os.path.basename(argv[0])[:15], "cc1", "as", "collect2", "ld", "gcc"}
                ok &= compare(label, profile, perf, comms)
    print("agreement: " + ("all within %.0f points" % POINTS if ok else "see the marked rows"))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
