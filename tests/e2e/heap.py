#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# Heap recording, preloaded with no collector, against programs that know what they allocate: exact counts
# equal the truth at every site, estimates lie within three standard errors, leaks are the known ones.
import bisect
import glob
import math
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import BUILD, FIBERSCOPE, Profile, Skip, main  # noqa: E402

if os.environ.get("FSCOPE_SANITIZE"):
    print("SKIP: a sanitizer's runtime must be the first preload")
    sys.exit(77)

AGENT = f"{BUILD}/agent/libfiberscope.so"
TESTS = f"{BUILD}/tests/e2e"
LIBS = "/usr/lib/x86_64-linux-gnu"
ALLOCATORS = {"jemalloc": f"{LIBS}/libjemalloc.so.2", "tcmalloc": f"{LIBS}/libtcmalloc_minimal.so.4",
              "mimalloc": f"{LIBS}/libmimalloc.so.2"}
symbols = {}


def function_at(path, offset):
    if path not in symbols:
        out = subprocess.run(["nm", path], capture_output=True, text=True).stdout
        with open(path, "rb") as f:
            is_fixed = f.read(18)[16] == 2  # not position-independent: linked at 0x400000
        rows = sorted((int(w[0], 16) - 0x400000 * is_fixed, w[2]) for w in map(str.split, out.splitlines())
                      if len(w) == 3 and w[1] in "tTwW")
        symbols[path] = ([a for a, _ in rows], [n for _, n in rows])
    addresses, names = symbols[path]
    i = bisect.bisect_right(addresses, offset) - 1
    return names[i].split(".")[0] if i >= 0 else "?"


class Site:
    """What entries of one site_* function add up to."""

    def __init__(self):
        self.objects = self.bytes = self.freed_objects = self.freed_bytes = 0
        self.temporary = self.peak_objects = self.peak_bytes = 0
        self.lifetimes = [0] * 16
        self.classes = []

    def add(self, numbers, lifetimes):
        for i, name in enumerate(("objects", "bytes", "freed_objects", "freed_bytes", None, "temporary",
                                  "peak_objects", "peak_bytes")):
            if name:
                setattr(self, name, getattr(self, name) + numbers[i])
        self.lifetimes = [a + b for a, b in zip(self.lifetimes, lifetimes)]
        self.classes.append(numbers[:5])

    def counts(self):
        return self.objects, self.bytes, self.freed_objects, self.freed_bytes


class Dump:
    def __init__(self, path):
        out = subprocess.run([f"{TESTS}/agent_samples", path, "--heap"], capture_output=True, text=True)
        assert out.returncode == 0, out.stderr
        self.sites, self.total, self.series, self.heap = {}, Site(), [], {}
        for line in out.stdout.splitlines():
            word = line.split()
            if word[0] == "site":
                numbers, lifetimes = [int(w) for w in word[1:9]], [int(w) for w in word[9].split(",")]
                frames = [f for f in word[10].split(";") if f] if len(word) > 10 else []
                self.sites.setdefault(self.name(frames), Site()).add(numbers, lifetimes)
                self.total.add(numbers, lifetimes)
            elif word[0] == "heap":
                self.heap = {k: int(v) for k, v in zip(word[1::2], word[2::2])}
            elif word[0] == "series" and len(word) == 5:
                self.series.append([int(w) for w in word[1:]])
            elif word[0] == "header":
                self.pid, self.program = int(word[1]), word[3]
            elif word[0] == "losses":
                self.losses = {k: int(v) for k, v in zip(word[1::2], word[2::2])}
        assert self.losses["damaged"] == 0

    @staticmethod
    def name(frames):
        for frame in frames:
            path, _, offset = frame.rpartition("+")
            if path.startswith(TESTS):
                name = function_at(path, int(offset, 16))
                if name.startswith("site_"):
                    return name
        return "?"

    def consistent(self):
        """Whatever else holds: the totals are those of the entries."""
        t, h = self.total, self.heap
        assert h["alloc_objects"] == t.objects and h["alloc_bytes"] == t.bytes, (h, t.counts())
        assert h["live_objects"] == t.objects - t.freed_objects, (h, t.counts())
        assert h["live_bytes"] == t.bytes - t.freed_bytes, (h, t.counts())
        assert h["untracked"] == 0 and h["state_full"] == 0, h
        freed = sum(t.lifetimes)
        assert freed == t.freed_objects, (freed, t.freed_objects)


def run(work, *mode, heap="exact", program="heap_target", status=0, preload=(), settings="", env=None, is_late=False):
    """Runs the program; ({pid: Dump}, {pid: {site: truth}}, stderr). is_late: it loads the agent itself."""
    ours = {"GOT_AGENT": AGENT} if is_late else {}
    env = dict(os.environ, LD_PRELOAD=":".join([*([] if is_late else [AGENT]), *preload]), **ours,
               FIBERSCOPE=f"heap={heap},out={work}/%e.%p{settings}", **(env or {}))
    p = subprocess.run([f"{TESTS}/{program}", *map(str, mode)], env=env, capture_output=True, text=True,
                       timeout=100, cwd=work)
    assert p.returncode == status, f"{mode}: status {p.returncode}: {p.stdout}{p.stderr}"
    truth = {}
    for row in re.findall(r"^truth (\d+) (\w+) (\d+) (\d+) (\d+) (\d+) (\d+)$", p.stdout, re.M):
        truth.setdefault(int(row[0]), {})[row[1]] = tuple(map(int, row[2:]))
    dumps = {}
    for path in sorted(glob.glob(f"{work}/*.[0-9]*")):
        d = Dump(path)
        dumps.setdefault(d.pid, []).append(d)
        os.unlink(path)
    return dumps, truth, p.stderr


def one(work, *mode, **more):
    dumps, truth, _ = run(work, *mode, **more)
    assert len(dumps) == 1 and len(truth) == 1, (dumps, truth)
    (pid, (dump,)), = dumps.items()
    return dump, truth[pid]


def equal(dump, truth, temporary=()):
    assert truth, "the program told nothing"
    for name, want in truth.items():
        site = dump.sites.get(name)
        assert site, f"{name}: not recorded; there are {sorted(dump.sites)}"
        assert site.counts() == want[:4], f"{name}: {site.counts()}, truly {want[:4]}"
        if name in temporary:
            assert site.temporary == want[4], f"{name}: {site.temporary} temporary, truly {want[4]}"
    extra = {n for n in dump.sites if n.startswith("site_")} - set(truth) - {"site_asprintf"}
    assert not extra, f"sites that never allocated: {extra}"


def functions(work):
    dump, truth = one(work, "functions")
    equal(dump, truth, ("site_malloc", "site_zero", "site_realloc", "site_reallocarray"))
    dump.consistent()
    leaks = {n for n, s in dump.sites.items() if s.objects > s.freed_objects and n != "?"}
    assert leaks == {"site_leak"}, leaks
    a = dump.sites["site_asprintf"]
    assert a.objects == a.freed_objects >= 100 and a.bytes == a.freed_bytes, a.counts()
    assert "site_failing" not in dump.sites


def libc_getline(work):
    dump, truth = one(work, "getline")
    equal(dump, truth)


def operators(work):
    dump, truth = one(work, program="heap_target_cc")
    thrown = dump.sites.pop("site_too_large").counts()  # the exceptions themselves
    assert thrown[0] == thrown[2] == 100 and thrown[1] < 100000, thrown
    equal(dump, truth)
    dump.consistent()


def threads(work):
    for n in (1, 2, 8, 64):
        dump, truth = one(work, "threads", n)
        equal(dump, truth)
        dump.consistent()
        assert dump.heap["slack"] == (0 if n == 1 else 65536), dump.heap
        assert dump.losses["reentered"] == 0


def peak(work):
    dump, truth = one(work, "peak")
    equal(dump, truth)
    site = dump.sites["site_peak"]
    assert (site.peak_objects, site.peak_bytes) == (64, 6400000), (site.peak_objects, site.peak_bytes)
    others = sum(s.peak_bytes for n, s in dump.sites.items() if n != "site_peak")
    assert dump.heap["peak_bytes"] == 6400000 + others, dump.heap


def lifetimes(work):
    dump, _ = one(work, "functions")
    short = dump.sites["site_zero"].lifetimes
    assert sum(short) == 100 and sum(short[:5]) >= 95, short  # freed at once: mostly below 256 us


def series(work):
    dump, _ = one(work, "random", 400000)
    times = [row[0] for row in dump.series]
    assert len(times) > 3, dump.series
    assert times == sorted(times) and min(b - a for a, b in zip(times, times[1:])) > 9e6, times
    allocated = [row[3] for row in dump.series]
    assert allocated == sorted(allocated) and allocated[-1] <= dump.heap["alloc_bytes"]


def forks(work):
    dumps, truth, _ = run(work, "fork")
    assert len(dumps) == 2 and set(dumps) == set(truth), (dumps.keys(), truth)
    for pid, (dump,) in dumps.items():
        equal(dump, truth[pid])
        dump.consistent()
    child = max(dumps)
    assert dumps[child][0].heap["unknown_frees"] >= 10, dumps[child][0].heap
    assert "site_malloc" not in dumps[child][0].sites


def execs(work):
    dumps, _, _ = run(work, "exec")
    (first, second), = dumps.values()
    if "site_leak" in first.sites and len(first.sites) > 3:
        first, second = second, first
    assert first.sites["site_leak"].counts() == (10, 45, 0, 0)
    assert second.sites["site_calloc"].objects == 100


def killed(work):
    box = f"{work}/box"
    p = subprocess.run([f"{TESTS}/heap_target", "kill", "4"], capture_output=True, text=True, timeout=60,
                       env=dict(os.environ, LD_PRELOAD=AGENT, FIBERSCOPE=f"heap=exact,segment={box}"))
    assert p.returncode == -9, p
    truth = {row[0]: tuple(map(int, row[1:])) for row in
             re.findall(r"^truth \d+ (\w+) (\d+) (\d+) (\d+) (\d+) (\d+)$", p.stdout, re.M)}
    dump = Dump(box)
    equal(dump, truth)
    behind = dump.total.bytes - dump.total.freed_bytes - dump.heap["live_bytes"]
    assert abs(behind) <= 4 * dump.heap["slack"], (behind, dump.heap)


def plugins(work):
    plugin = f"{TESTS}/libheap_plugin.so"
    dumps, _, _ = run(work, "plugin", plugin)
    ((dump,),) = dumps.values()
    assert dump.sites["site_plugin"].counts() == (30, 16500, 15, 4500), dump.sites["site_plugin"].counts()
    dump.consistent()
    run(work, "deepbind", plugin)  # its malloc is libc's, whatever we do: it must not break


def first_of_its_language(work):
    """A program in C that loads its first C++ library: nothing is behind operator new until then."""
    plugin = f"{TESTS}/libheap_plugin_cc.so"
    for program, is_late in (("heap_target", False), ("got_now", True), ("got_lazy", True)):
        dumps, _, _ = run(work, "plugin", plugin, program=program, is_late=is_late)
        ((dump,),) = dumps.values()
        assert dump.sites["site_plugin"].counts() == (30, 16500, 15, 4500), (program, dump.sites["site_plugin"].counts())
        assert dump.sites["site_wide"].counts() == (3, 768, 3, 768), (program, dump.sites["site_wide"].counts())
        dump.consistent()


def sized_frees(work):
    """C23's, which this libc need not have: asked for by name, ours are there."""
    dump, truth = one(work, "sized")
    equal(dump, truth)
    dump.consistent()
    assert dump.heap["unknown_frees"] == 0, dump.heap


def thread_ends(work):
    dump, truth = one(work, "keys")
    equal(dump, truth)
    dump.consistent()


def exits(work):
    dump, truth = one(work, "atexit")
    equal(dump, truth)


def handlers(work):
    dump, truth = one(work, "raise")
    equal(dump, truth)
    # In the middle of our hooks: those have no stack, and all are counted.
    dump, truth = one(work, "signals", preload=[f"{TESTS}/libheap_bump.so"])
    want = [sum(t[i] for t in truth.values()) for i in range(4)]
    got = [0] * 4
    for name in (*truth, "?"):
        if name in dump.sites:
            got = [a + b for a, b in zip(got, dump.sites[name].counts())]
    others = 4  # stdio and the like have no site either
    assert want[0] <= got[0] <= want[0] + others, (want, got, dump.losses)
    assert want[2] <= got[2] <= want[2] + others, (want, got, dump.losses)
    dump.consistent()


def forks_in_handlers(work):
    """A child that returns into the hook that its parent's handler interrupted."""
    for rate in ("exact", 64):
        dumps, truth, _ = run(work, "forksignals", 60, preload=[f"{TESTS}/libheap_bump.so"], heap=rate)
        parents = [pid for pid in truth if "site_malloc" in truth[pid]]
        assert len(parents) == 1 and len(dumps) == len(truth) == 61, (len(dumps), len(truth))
        if rate != "exact":
            continue
        for pid, (dump,) in dumps.items():
            for name, want in truth[pid].items():
                assert dump.sites[name].counts() == want[:4], (name, dump.sites[name].counts(), want)
            dump.consistent()


def early(work):
    for how in ("linked", "preloaded"):
        if how == "linked":
            dump, truth = one(work, "functions", program="heap_target_early")
        else:
            dump, truth = one(work, "functions", preload=[f"{TESTS}/libheap_early.so"])
        equal(dump, truth)
        assert dump.heap["unknown_frees"] >= 100 or dump.total.objects >= 300, dump.heap


def allocators(work):
    tried = 0  # Debian's mimalloc aborts where operator new should throw, without us too
    for name, path in ALLOCATORS.items():
        if not os.path.exists(path):
            continue
        tried += 1
        for program, mode in (("heap_target", ("functions", "portable")),
                                  ("heap_target", ("threads", 8)),
                              ("heap_target_cc", ("no_throw",) if name == "mimalloc" else ())):
            try:
                dump, truth = one(work, *mode, program=program, preload=[path])
                dump.sites.pop("site_too_large", None)
                equal(dump, truth)
            except AssertionError as e:
                raise AssertionError(f"{name}, {program} {mode}: {e}") from e
    if tried < len(ALLOCATORS):
        raise Skip(f"{tried} of {len(ALLOCATORS)} allocators are installed")


def linked(work):
    """With the allocator as a library that the program was linked with."""
    tried = 0
    for name in ("jemalloc", "tcmalloc_minimal", "mimalloc"):
        if not os.path.exists(f"{TESTS}/linked_{name}"):
            continue
        tried += 1
        cases = ((f"linked_{name}", ("functions", "portable")), (f"linked_{name}", ("threads", 8)),
                 (f"linked_{name}_cc", ("no_throw",) if name == "mimalloc" else ()))
        for program, mode in cases:
            try:
                dump, truth = one(work, *mode, program=program)
                dump.sites.pop("site_too_large", None)
                equal(dump, truth)
                dump.consistent()
            except AssertionError as e:
                raise AssertionError(f"{program} {mode}: {e}") from e
    if tried < len(ALLOCATORS):
        raise Skip(f"{tried} of {len(ALLOCATORS)} allocators are installed")


def mappings(work):
    dump, truth = one(work, program="heap_map_target", settings=",mmap=1")
    equal(dump, truth)
    dump.consistent()
    leaks = {n for n, s in dump.sites.items() if n != "?" and s.objects > s.freed_objects}
    assert leaks == {"site_leak"}, leaks
    dumps, _, _ = run(work, program="heap_map_target")  # not asked for
    ((dump,),) = dumps.values()
    assert set(dump.sites) <= {"?"}, dump.sites.keys()


def mappings_of_allocators(work):
    """What an allocator maps is counted where it hands it out, once."""
    tried = 0
    for program in ("heap_target", "linked_jemalloc", "linked_tcmalloc_minimal", "linked_mimalloc"):
        if not os.path.exists(f"{TESTS}/{program}"):
            continue
        tried += 1
        with_maps, truth = one(work, "functions", "portable", program=program, settings=",mmap=1")
        without, _ = one(work, "functions", "portable", program=program)
        equal(with_maps, truth)
        with_maps.consistent()
        assert with_maps.total.counts() == without.total.counts(), program
    if tried < 4:
        raise Skip(f"{tried - 1} of 3 allocators are installed")


def refusals(work):
    _, _, said = run(work, "functions", "portable", program="heap_target_own")
    assert "allocator linked into it" in said, said
    dumps, _, said = run(work, "peak", program="heap_target_hidden")
    assert "linked into it and hidden" in said, said
    ((dump,),) = dumps.values()
    assert dump.total.objects == 0
    if os.path.exists(ALLOCATORS["jemalloc"]):
        env = dict(os.environ, LD_PRELOAD=f"{ALLOCATORS['jemalloc']}:{AGENT}",
                   FIBERSCOPE=f"heap=exact,out={work}/x")
        p = subprocess.run([f"{TESTS}/heap_target", "peak"], env=env, capture_output=True, text=True)
        assert p.returncode == 0 and "loaded before us" in p.stderr, p.stderr


def limits(work):
    """Little address space: the table shrinks, and what it cannot hold is freed at once, not lost."""
    p = subprocess.run(["prlimit", "--as=400000000", f"{TESTS}/heap_target", "functions"],
                       env=dict(os.environ, LD_PRELOAD=AGENT, FIBERSCOPE=f"heap=exact,out={work}/%e.%p"),
                       capture_output=True, text=True)
    assert p.returncode == 0, p
    paths = glob.glob(f"{work}/heap_target.*")
    assert len(paths) == 1, p.stderr
    dump = Dump(paths[0])
    assert "cannot be recorded" in p.stderr or dump.sites["site_leak"].objects == 50, p.stderr


def sampled(work):
    """Sums of 1 / P(sampled) estimate the truth without bias; their error is known too. Of twelve estimates one
    lies beyond three standard errors once in thirty runs; two do not, and none beyond four and a half."""
    beyond = []
    for rate in (20000, 100000):
        dump, truth = one(work, "random", 200000, heap=rate)
        for name in ("site_random", "site_big"):
            objects = size = live = variance = byte_variance = live_variance = 0
            for n, total, freed, freed_total, lower in dump.sites[name].classes:
                assert n and lower <= total / n < max(lower * 1.125, lower + 1), (n, total, lower)
                mean = total / n
                p = 1 - math.exp(-mean / rate)
                objects += n / p
                size += total / p
                live += (n - freed) / p
                variance += n * (1 - p) / p ** 2
                byte_variance += n * (1 - p) / p ** 2 * mean ** 2
                live_variance += (n - freed) * (1 - p) / p ** 2
            want = truth[name]
            # Classes are an eighth of an octave wide: half a percent on top.
            for what, got, true, v in (("objects", objects, want[0], variance),
                                       ("bytes", size, want[1], byte_variance),
                                       ("live", live, want[0] - want[2], live_variance)):
                room, off = math.sqrt(v), max(0, abs(got - true) - 0.005 * true)
                text = f"{name} {what} at {rate}: {got:.0f}, truly {true}, standard error {room:.0f}"
                assert off <= 4.5 * room, text
                if off > 3 * room:
                    beyond.append(text)
    assert len(beyond) < 2, beyond


FORKS = """
import os
for i in range(300):
    pid = os.fork()
    if pid == 0:
        bytearray(65535)
        os._exit(0)
    os.waitpid(pid, 0)
"""


def children_draw_for_themselves(work):
    """A parent that allocates next to nothing between forks: its children do not all sample, or none."""
    subprocess.run([FIBERSCOPE, "record", "--heap=65536", "-o", f"{work}/f.pb.gz", "/usr/bin/python3", "-c", FORKS],
                   check=True, timeout=60, stderr=subprocess.DEVNULL)
    p = Profile(f"{work}/f.pb.gz")
    found = sum(s.values[1] for s in p.samples if "bytearray___init___impl" in s.stack or s.labels.get("bytes") == 65536)
    print(f"      {found / 65536:.0f} of 300 blocks")
    # Each is drawn with 1 - 1/e and stands for 1.58: the standard deviation is 13.
    assert 300 - 6 * 13.2 < found / 65536 < 300 + 6 * 13.2, found


def trace(work):
    """heaptrace alone: lines, and no file; with exact counts, what they say adds up."""
    line = re.compile(r"^fiberscope: heap (\d+) ms: live (~?)(\d+) B, allocated ~?(\d+) B/s, "
                      r"freed ~?(\d+) B/s, rss (\d+) B, held (\d+) B, headroom (\d+ B|unlimited)$", re.M)
    for settings, mark in (("", "~"), ("heap=exact,quiet=1,out=%s/x," % work, "")):
        p = subprocess.run([f"{TESTS}/heap_target", "random", "1000000"], capture_output=True, text=True,
                           cwd=work, env=dict(os.environ, LD_PRELOAD=AGENT,
                                              FIBERSCOPE=f"{settings}heaptrace=20"))
        rows = line.findall(p.stderr)
        assert p.returncode == 0 and len(rows) >= 3, p.stderr
        assert all(r[1] == mark for r in rows), rows
        assert os.listdir(work) == ([] if mark else ["x"]), os.listdir(work)
        live = [int(r[2]) for r in rows]
        assert live == sorted(live) and live[-1] > 20e6, live  # it leaks at a steady pace
        # A quarter of what is small, and all that is large.
        want = 1000000 * (0.25 * 366) + 200 * 2 ** 20
        assert live[-1] < 3 * want and all(int(r[5]) >= int(r[6]) > 0 for r in rows), (live, want)


def idle(work):
    """Preloaded and not recording: nothing is said, nothing is written."""
    p = subprocess.run([f"{TESTS}/heap_target", "threads", "4"], env=dict(os.environ, LD_PRELOAD=AGENT),
                       capture_output=True, text=True, cwd=work)
    assert p.returncode == 0 and not p.stderr and not os.listdir(work), p.stderr


if __name__ == "__main__":
    main([functions, libc_getline, operators, threads, peak, lifetimes, series, forks, execs, killed, plugins,
          children_draw_for_themselves, first_of_its_language, sized_frees,
          thread_ends, exits, handlers, forks_in_handlers, early, allocators, linked, mappings, mappings_of_allocators,
          refusals, limits, sampled, trace, idle])
