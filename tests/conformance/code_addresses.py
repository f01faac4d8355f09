# SPDX-License-Identifier: MIT
"""Random addresses in a file's code, the same in each run."""

import random
import struct


def code_addresses(path, count):
    """Lines of hexadecimal addresses in executable sections."""
    rng = random.Random(path)
    with open(path, "rb") as f:
        data = f.read()
    shoff, = struct.unpack_from("<Q", data, 40)
    size, sections, _ = struct.unpack_from("<HHH", data, 58)
    spans = []
    for i in range(sections):
        _, kind, flags, addr, _, length = struct.unpack_from("<IIQQQQ", data, shoff + i * size)
        if kind == 1 and flags & 4 and length:
            spans.append((addr, length))
    picked = rng.choices(spans, weights=[length for _, length in spans], k=count)
    return "".join("0x%x\n" % (a + rng.randrange(n)) for a, n in picked)
