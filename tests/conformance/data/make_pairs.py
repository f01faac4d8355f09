# SPDX-License-Identifier: MIT
#
# Synthetic profiles to take differences of, each pair for one property that real pairs seldom have:
# pairs(DIR) returns {name: (sources, bases)}, lists of paths.

import gzip
import os
import random

import make_synthetic
from make_synthetic import msg, num, packed

HEAP = (("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"),
        ("inuse_space", "bytes"))
CPU = (("samples", "count"), ("cpu", "nanoseconds"))


def write(path, types, stacks, period=("cpu", "nanoseconds", 10000000), start=0x400000, build="b0",
          shift=0, time=1700000000, duration=3, comments=(), default=""):
    """stacks: [(names leaf first, values, labels {key: text or (number, unit)})]. A name "a|b" is a
    location where a is inlined into b."""
    strings, names = [""], sorted({n for s in stacks for n in s[0]})
    functions = sorted({f for n in names for f in n.split("|")})

    def s(text):
        if text not in strings:
            strings.append(text)
        return strings.index(text)

    out = b"".join(msg(1, num(1, s(t)) + num(2, s(u))) for t, u in types)
    for stack, values, labels in stacks:
        body = packed(1, [names.index(n) + 1 for n in stack]) + packed(2, values)
        for key, v in labels.items():
            value = num(2, s(v)) if isinstance(v, str) else num(3, v[0]) + num(4, s(v[1]))
            body += msg(3, num(1, s(key)) + value)
        out += msg(2, body)
    out += msg(3, num(1, 1) + num(2, start) + num(3, start + 0x100000) + num(5, s("/bin/app")) +
               num(6, s(build)) + num(7, 1) + num(8, 1) + num(9, 1) + num(10, 1))
    for i, name in enumerate(names):
        lines = b"".join(msg(4, num(1, functions.index(f) + 1) + num(2, 10 * len(f) + j + shift))
                         for j, f in enumerate(name.split("|")))
        out += msg(4, num(1, i + 1) + num(2, 1) + num(3, start + 0x100 + 32 * i) + lines)
    for i, f in enumerate(functions):
        out += msg(5, num(1, i + 1) + num(2, s(f)) + num(3, s(f)) + num(4, s("/src/%s.c" % f[0])) +
                   num(5, 1 + shift))
    out += msg(11, num(1, s(period[0])) + num(2, s(period[1]))) + num(12, period[2])
    out += num(9, time * 10 ** 9) + num(10, duration * 10 ** 9)
    out += b"".join(num(13, s(c)) for c in comments) + num(14, s(default))
    out += b"".join(msg(6, t.encode()) for t in strings)
    with gzip.open(path, "wb") as f:
        f.write(out)
    return path


def stacks(seed, functions, width, top, labels=False):
    """60 stacks below main over so many functions (f0, f1, ...), values to top."""
    rnd = random.Random(seed)
    names = ["f%d" % i for i in range(functions)] + ["f%d|f%d" % (i, i + 1) for i in range(3)]
    out = []
    for i in range(60):
        stack = [rnd.choice(names) for _ in range(rnd.randint(1, 6))] + ["main"]
        values = [rnd.randint(0, top >> (4 * (j % 2 == 0))) for j in range(width)]
        tags = {"worker": "w%d" % (i % 3), "bytes": (64 << (i % 5), "bytes")} if labels else {}
        out.append((stack, values, tags))
    return out


def renamed(some, prefix):
    return [(["|".join(prefix + f for f in n.split("|")) for n in names], values, tags)
            for names, values, tags in some]


def pairs(folder):
    def at(name):
        return os.path.join(folder, name + ".pb.gz")

    def cpu(name, some, **more):
        return write(at(name), CPU, some, **more)

    space = ("space", "bytes", 524288)
    old, new = stacks(1, 9, 2, 90000000), stacks(2, 9, 2, 90000000)
    a, b = cpu("a", new, time=1700000500), cpu("b", old)
    for i, negative in enumerate((False, False, True, True)):
        make_synthetic.write(at("s%d" % i), i + 1, negative)
    few = old[:30]
    heap_old = stacks(5, 12, 4, 1 << 30, True)
    heap_new = [(n, [v * (i % 4) // 2 for v in vs], t) for i, (n, vs, t) in enumerate(heap_old)]
    huge = [(n, [v[0], v[1] << 24], t) for n, v, t in old]
    return {
        "two runs": ([a], [b]),
        "inlined, labels, several mappings": ([at("s0")], [at("s1")]),
        "negative values in both": ([at("s2")], [at("s3")]),
        "the same file": ([a], [a]),
        "equal samples": ([a], [cpu("a2", new, time=1600000000)]),
        "an empty base": ([a], [cpu("none", [])]),
        "an empty source": ([at("none")], [b]),
        "no function in common": ([cpu("x", renamed(new, "x_"))], [b]),
        "all of the base is in the source": ([cpu("more", old + new)], [b]),
        "less than the base": ([cpu("less", few)], [b]),
        "heap with labels": ([write(at("h1"), HEAP, heap_new, space, default="inuse_space")],
                             [write(at("h0"), HEAP, heap_old, space, default="inuse_space")]),
        "another load address": ([cpu("moved", new, start=0x7f0000400000)], [b]),
        "another build, moved lines": ([cpu("built", new, build="b1", shift=7)], [b]),
        "other periods": ([cpu("fast", new, period=("cpu", "nanoseconds", 1000000))], [b]),
        "other units": ([write(at("ms"), (CPU[0], ("cpu", "milliseconds")),
                               [(n, [v[0] + 1, v[1] // 1000000 + 1], t) for n, v, t in new],
                               period=("cpu", "milliseconds", 10))], [b]),
        "other sample types": ([write(at("t1"), (HEAP[3], HEAP[0], HEAP[1]), stacks(7, 9, 3, 9999),
                                      space)], [at("h0")]),
        "several bases": ([a], [b, at("less"), at("x")]),
        "several of both": ([a, at("moved"), at("less")], [b, at("built")]),
        "comments": ([cpu("c1", new, comments=("one", "# two", "three"))],
                     [cpu("c0", old, comments=("three", "four"), duration=7)]),
        "large values": ([cpu("huge", huge)], [b]),
    }
