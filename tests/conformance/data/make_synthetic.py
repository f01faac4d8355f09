# SPDX-License-Identifier: MIT
#
# A profile.proto writer of a few lines, and a profile with all that real ones rarely have at once:
# inlined frames, several mappings, recursion, labels with units, negative values, no symbols.

import gzip
import random


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def num(field, value):
    return varint(field << 3) + varint(value) if value else b""


def msg(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def packed(field, values):
    return msg(field, b"".join(varint(v) for v in values))


def write(path, seed, negative):
    rnd = random.Random(seed)
    strings = [""]

    def s(text):
        if text not in strings:
            strings.append(text)
        return strings.index(text)

    out = b""
    for kind, unit in (("contentions", "count"), ("delay", "nanoseconds")):
        out += msg(1, num(1, s(kind)) + num(2, s(unit)))
    for i in range(300):
        depth = rnd.randint(1, 12)
        values = [rnd.randint(1, 9), rnd.randint(1, 10 ** rnd.randint(1, 9))]
        if negative and rnd.random() < 0.4:
            values = [-v for v in values]
        body = packed(1, [rnd.randint(1, 40) for _ in range(depth)]) + packed(2, values)
        if i % 3 == 0:
            body += msg(3, num(1, s("worker")) + num(2, s("w%d" % (i % 4))))
        if i % 4 == 0:
            body += msg(3, num(1, s("bytes")) + num(3, 1 << rnd.randint(4, 20)) +
                        num(4, s("bytes")))
        out += msg(2, body)
    for m in range(3):
        out += msg(3, num(1, m + 1) + num(2, 0x1000000 * (m + 1)) + num(3, 0x1000000 * (m + 2)) +
                   num(4, 0x1000 * m) + num(5, s(("/usr/bin/app", "/lib/libx.so", "/opt/y/z")[m])) +
                   num(6, s("abc%d" % m)) + num(7, 1) + num(8, 1) + num(9, 1) + num(10, 1))
    for n in range(1, 41):
        body = num(1, n) + num(2, n % 3 + 1) + num(3, 0x1000000 * (n % 3 + 1) + 16 * n)
        for _ in range(0 if n % 10 == 0 else rnd.randint(1, 3)):
            body += msg(4, num(1, rnd.randint(1, 20)) + num(2, rnd.randint(1, 500)))
        out += msg(4, body)
    for n in range(1, 21):
        name = ("main.f%d", "ns::C<int>::m%d(char)", "c_%d")[n % 3] % n
        path_name = ("/src/a%d.c", "src/./b%d.cc", "../x/y/../c%d.h")[n % 3] % (n % 7)
        out += msg(5, num(1, n) + num(2, s(name)) + num(3, s("_Z" + name)) + num(4, s(path_name)) +
                   num(5, n))
    out += num(10, 2500000000) + msg(11, num(1, s("contentions")) + num(2, s("count"))) + num(12, 1)
    out += num(9, 1700000000123456789)
    out += b"".join(msg(6, t.encode()) for t in strings)
    with gzip.open(path, "wb") as f:
        f.write(out)
