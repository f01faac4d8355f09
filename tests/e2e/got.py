#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# The GOT back end: programs that are neither linked with the agent nor preload it load it as they run
# (got_load.c). What they do from then on is counted to the last allocation; what was before is unknown.
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import heap  # noqa: E402
from harness import Skip, main  # noqa: E402

BEFORE = 25  # blocks that got_load.c had before the agent came
ALL = ",block=1,mutex=1"


def late(work, *mode, program="got_lazy", settings=ALL, **more):
    dump, truth = heap.one(work, *mode, program=program, settings=settings, is_late=True, **more)
    assert dump.heap["unknown_frees"] == BEFORE, dump.heap
    return dump, truth


def functions(work):
    for program in ("got_lazy", "got_now", "got_fixed"):
        dump, truth = late(work, "functions", program=program)
        heap.equal(dump, truth, ("site_malloc", "site_zero", "site_realloc", "site_reallocarray"))
        dump.consistent()


def operators(work):
    dump, truth = late(work, program="got_cc")
    thrown = dump.sites.pop("site_too_large").counts()
    assert thrown[0] == thrown[2] == 100 and thrown[1] < 100000, thrown
    heap.equal(dump, truth)
    dump.consistent()


def threads(work):
    for n in (1, 2, 8, 64):
        dump, truth = late(work, "threads", n, program="got_now")
        heap.equal(dump, truth)
        dump.consistent()
        assert dump.losses["reentered"] == 0


def leaving(work):
    for mode in ("keys", "atexit"):
        dump, truth = late(work, mode)
        heap.equal(dump, truth)


def forks(work):
    dumps, truth, _ = heap.run(work, "fork", program="got_lazy", is_late=True, settings=ALL)
    assert len(dumps) == 2 and set(dumps) == set(truth), (dumps.keys(), truth)
    for pid, (dump,) in dumps.items():
        heap.equal(dump, truth[pid])
        dump.consistent()


def execs(work):
    dumps, _, _ = heap.run(work, "exec", program="got_lazy", is_late=True)
    (first, second), = dumps.values()
    if "site_calloc" in first.sites:
        first, second = second, first
    assert first.sites["site_leak"].counts() == (10, 45, 0, 0)
    assert second.sites["site_calloc"].objects == 100


def plugins(work):
    """Loaded after the agent: patched at the dlsym that follows, each time anew."""
    plugin = f"{heap.TESTS}/libheap_plugin.so"
    for mode in ("plugin", "deepbind"):
        dumps, _, _ = heap.run(work, mode, plugin, program="got_now", is_late=True, settings=ALL)
        ((dump,),) = dumps.values()
        site = dump.sites["site_plugin"]
        assert site.counts() == (30, 16500, 15, 4500), (mode, site.counts())
        dump.consistent()
    dumps, _, _ = heap.run(work, "fresh", plugin, program="got_target", is_late=True, settings=ALL)
    ((dump,),) = dumps.values()
    assert dump.sites["site_plugin"].counts() == (10, 5500, 5, 1500), dump.sites["site_plugin"].counts()


def preloaded(work):
    """Beside the symbol back end it reaches what was bound past us."""
    plugin = f"{heap.TESTS}/libheap_plugin.so"
    for settings, reached in (("", False), (",got=1", True)):
        dumps, _, _ = heap.run(work, "deepbind", plugin, settings=settings)
        ((dump,),) = dumps.values()
        assert ("site_plugin" in dump.sites) == reached, (settings, dump.sites.keys())
    assert dump.sites["site_plugin"].counts() == (30, 16500, 15, 4500)
    dump, truth = heap.one(work, "functions", settings=",got=1")
    heap.equal(dump, truth)
    dump.consistent()


def mappings(work):
    dump, truth = late(work, program="got_map_target", settings=ALL + ",mmap=1")
    heap.equal(dump, truth)
    dump.consistent()


def another_allocator(work):
    """A library that is bound to an allocator of its own keeps it: memory does not change hands."""
    if not os.path.exists(heap.ALLOCATORS["jemalloc"]):
        raise Skip("no jemalloc")
    for mode, library in (("fresh", "heap_plugin"), ("deepbind", "heap_early")):
        p = subprocess.run([f"{heap.TESTS}/got_target", mode, f"{heap.TESTS}/lib{library}.so"],
                           capture_output=True, text=True,
                           env=dict(os.environ, GOT_AGENT=heap.AGENT, LD_PRELOAD=heap.ALLOCATORS["jemalloc"],
                                    FIBERSCOPE=f"heap=exact,out={work}/{mode}"))
        assert p.returncode == 0, (mode, p)
    assert heap.Dump(f"{work}/fresh").sites["site_plugin"].counts() == (10, 5500, 5, 1500)
    assert heap.Dump(f"{work}/deepbind").total.objects < 100  # those of the library are not ours


def linked(work):
    tried = 0
    for name in ("jemalloc", "tcmalloc_minimal", "mimalloc"):
        if not os.path.exists(f"{heap.TESTS}/got_{name}"):
            continue
        tried += 1
        cases = ((f"got_{name}", ("functions", "portable")), (f"got_{name}", ("threads", 8)),
                 (f"got_{name}_cc", ("no_throw",) if name == "mimalloc" else ()))
        for program, mode in cases:
            try:
                dump, truth = late(work, *mode, program=program)
                dump.sites.pop("site_too_large", None)
                heap.equal(dump, truth)
                dump.consistent()
            except AssertionError as e:
                raise AssertionError(f"{program} {mode}: {e}") from e
    if tried < len(heap.ALLOCATORS):
        raise Skip(f"{tried} of {len(heap.ALLOCATORS)} allocators are installed")


def own_names(work):
    """mallocx, tc_malloc, mi_malloc and their kin, which are not exported: by slots alone."""
    tried = 0
    for name in ("jemalloc", "tcmalloc_minimal", "mimalloc"):
        if not os.path.exists(f"{heap.TESTS}/own_{name}"):
            continue
        tried += 1
        dump, truth = late(work, program=f"got_own_{name}")
        heap.equal(dump, truth)
        dump.consistent()
        dump, truth = heap.one(work, program=f"own_{name}", settings=",got=1")
        heap.equal(dump, truth)
        dump.consistent()
        assert dump.heap["unknown_frees"] == 0, dump.heap
    if tried < len(heap.ALLOCATORS):
        raise Skip(f"{tried} of {len(heap.ALLOCATORS)} allocators are installed")


def locks(work):
    """Ten waits of at least 20 ms for a mutex, each ended by an unlock."""
    out = f"{work}/locks"
    p = subprocess.run([f"{heap.TESTS}/got_target", "locks"], capture_output=True, text=True, timeout=60,
                       env=dict(os.environ, GOT_AGENT=heap.AGENT, FIBERSCOPE=f"block=1,mutex=1,out={out}"))
    assert p.returncode == 0, p.stderr
    said = subprocess.run([f"{heap.TESTS}/agent_samples", out], capture_output=True, text=True).stdout
    states = [(kind, int(n), int(ns)) for kind, n, ns in
              re.findall(r"^state (block|mutex) (\d+) (\d+)$", said, re.M)]
    mutex = [(n, ns) for kind, n, ns in states if kind == "mutex"]
    assert sum(n for n, _ in mutex) == 10 and 200e6 <= sum(ns for _, ns in mutex) < 2e9, states
    # Ten for the mutex and twenty or so at the barriers, one for the thread's end.
    block = [(n, ns) for kind, n, ns in states if kind == "block"]
    assert any(n == 10 and 200e6 <= ns < 2e9 for n, ns in block), states


def sampled(work):
    """Estimates work the same."""
    dump, truth = heap.one(work, "random", 200000, heap=20000, program="got_now", is_late=True)
    sampled_bytes = sum(total for _, total, *_ in dump.sites["site_big"].classes)
    assert sampled_bytes == truth["site_big"][1], (sampled_bytes, truth["site_big"])  # 50 rates each


def idle(work):
    """Loaded and not recording: nothing is overwritten, said or written."""
    env = {k: v for k, v in os.environ.items() if k != "FIBERSCOPE"}
    p = subprocess.run([f"{heap.TESTS}/got_lazy", "threads", "4"], env=dict(env, GOT_AGENT=heap.AGENT),
                       capture_output=True, text=True, cwd=work)
    assert p.returncode == 0 and not p.stderr and not os.listdir(work), p.stderr


main([functions, operators, threads, leaving, forks, execs, plugins, preloaded, mappings, another_allocator, linked,
      own_names, locks, sampled, idle])
