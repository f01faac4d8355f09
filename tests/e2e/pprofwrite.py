# SPDX-License-Identifier: MIT
"""Writes profiles for tests that compare them: a profile.proto encoder of its own."""

import gzip
import os
import subprocess

HEAP = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"),
        ("inuse_space", "bytes")]
EXACT = HEAP[:2] + [("temporary_objects", "count"), ("peak_objects", "count"),
                    ("peak_space", "bytes")] + HEAP[2:]
CPU = [("samples", "count"), ("cpu", "nanoseconds")]
WAIT = [("contentions", "count"), ("delay", "nanoseconds")]


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, data):
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def write(path, types, samples, period=1, period_type=("space", "bytes"), comments=()):
    """samples: (stack, values, labels) with the stack root first; a frame is "name", (name, file,
    line), or a list of such: functions inlined into one location, outermost first. labels: a dict."""
    strings = {"": 0}
    functions, locations, body = {}, {}, b""

    def text(s):
        return strings.setdefault(s, len(strings))

    def function(name, file):
        return functions.setdefault((name, file), len(functions) + 1)

    def location(frame):
        frames = frame if isinstance(frame, list) else [frame]
        frames = tuple(f if isinstance(f, tuple) else (f, "", 0) for f in frames)
        return locations.setdefault(frames, len(locations) + 1)

    for kind, unit in types:
        body += field(1, field(1, text(kind)) + field(2, text(unit)))
    for stack, values, labels in samples:
        one = field(1, b"".join(varint(location(f)) for f in reversed(stack)))
        one += field(2, b"".join(varint(v) for v in values))
        for key, value in labels.items():
            one += field(3, field(1, text(key)) + (field(2, text(value)) if isinstance(value, str)
                                                   else field(3, value)))
        body += field(2, one)
    for frames, number in locations.items():
        lines = b"".join(field(4, field(1, function(n, f)) + field(2, line))
                         for n, f, line in reversed(frames))
        body += field(4, field(1, number) + field(3, 0x1000 + number * 16) + lines)
    for (name, file), number in functions.items():
        body += field(5, field(1, number) + field(2, text(name)) + field(3, text(name)) +
                      field(4, text(file)))
    body += field(11, field(1, text(period_type[0])) + field(2, text(period_type[1])))
    body += field(12, period) + b"".join(field(13, text(c)) for c in comments)
    body += b"".join(field(6, s.encode()) for s in strings)
    with open(path, "wb") as f:
        f.write(gzip.compress(body))


def exact(path, counts, size=16, **more):
    """An exact heap profile: {stack as "main;work;parse": number of allocations}, all freed."""
    samples = [(frames(stack), [n, n * size, 0, n, n * size, 0, 0], {})
               for stack, n in counts.items()]
    write(path, EXACT, samples, **more)


def frames(stack):
    """"main;work:12" to frames: functions of src/NAME.c at line 12 (or 1)."""
    out = []
    for word in stack.split(";"):
        name, _, line = word.partition(":")
        out.append((name, f"src/{name}.c", int(line or 1)))
    return out


def traced(path, trace, program):
    """Runs program under alloc_trace.so and writes what it saw; names, lines and inlined functions
    of the program come from addr2line."""
    log = path + ".trace"
    subprocess.run([program], check=True, env=dict(os.environ, LD_PRELOAD=trace, ALLOC_TRACE=log))
    counts, base = {}, None
    with open(log, encoding="ascii") as f:
        for line in f:
            words = line.split()
            if "-" in words[0]:
                if base is None and words[-1] == os.path.realpath(program):
                    base = int(words[0].split("-")[0], 16)
                    end = base
                if words[-1] == os.path.realpath(program):
                    end = int(words[0].split("-")[1], 16)
                continue
            pcs = tuple(int(w, 16) for w in words[1:])
            n, size = counts.get(pcs, (0, 0))
            counts[pcs] = (n + 1, size + int(words[0]))
    ours = sorted({pc for pcs in counts for pc in pcs if base <= pc < end})
    names = lines_of(program, base, ours)
    samples = []
    for pcs, (n, size) in counts.items():
        stack = [names.get(pc, [("libc", "", 0)]) for pc in reversed(pcs)]
        samples.append((stack, [n, size, n, n, size, 0, 0], {}))
    write(path, EXACT, samples)
    os.unlink(log)


def lines_of(program, base, pcs):
    """pc -> [(function, file, line)], outermost first."""
    out = {}
    for pc in pcs:
        done = subprocess.run(["addr2line", "-e", program, "-i", "-f", "-C", hex(pc - 1 - base)],
                              capture_output=True, text=True, check=True)
        words = done.stdout.splitlines()
        found = []
        for name, place in zip(words[::2], words[1::2]):
            file, _, line = place.partition(":")
            number = line.split()[0] if line else "?"
            found.append((name, file, int(number) if number.isdigit() else 0))
        out[pc] = found[::-1]
    return out
