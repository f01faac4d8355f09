#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A profile as protobuf and as text (formats/pprof_text.h) has the same samples in `go tool pprof -raw`: profiles of all
kinds out of random segments, sampled and exact."""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "data"))
import make_pprof_samples  # noqa: E402

BUILD = os.environ["FSCOPE_BUILD"]
FIBERSCOPE = os.path.join(BUILD, "cli", "fiberscope")
SEGMENT = os.path.join(BUILD, "tests", "conformance", "kinds_segment")
TOOL = os.path.join(BUILD, "tests", "conformance", "pprof_tool")


def raw_samples(tool, path):
    """What `go tool pprof -raw` says: sums of values by addresses of the stack."""
    text = subprocess.run([tool, "-raw", "-symbolize=none", path], check=True, capture_output=True, text=True).stdout
    head, rest = text.split("Samples:\n", 1)
    body, rest = rest.split("Mappings\n", 1)[0].split("Locations\n", 1)
    address = {int(n): a for n, a in re.findall(r"^ *(\d+): (0x[0-9a-f]+)", rest, re.M)}
    lines = body.splitlines()
    sums = {}
    for line in lines[1:]:
        found = re.match(r"^ *([-0-9 ]+): ([0-9 ]+)$", line)
        if found:
            key = tuple(address[int(n)] for n in found.group(2).split())
            values = [int(n) for n in found.group(1).split()]
            sums[key] = [a + b for a, b in zip(sums.get(key, [0] * len(values)), values)]
    types = re.sub(r"\[dflt\]", "", lines[0]).split()
    assert sums, text
    return types, sums


def texts_of(folder, pprof, seed, rate):
    """How many samples were compared."""
    dump = os.path.join(folder, "dump")
    subprocess.run([SEGMENT, dump, str(seed), str(rate)], check=True, capture_output=True)
    subprocess.run([FIBERSCOPE, "finish", "--quiet", "-o", os.path.join(folder, "%k.pb.gz"), dump], check=True)
    compared = 0
    for name in sorted(os.listdir(folder)):
        kind = name.split(".")[0]
        if not name.endswith(".pb.gz") or kind in ("cpu", "wall", "lifetime"):
            continue
        proto, text = os.path.join(folder, name), os.path.join(folder, kind + ".txt")
        subprocess.run([TOOL, "text", kind if kind in ("heap", "block", "mutex") else "count", proto, text], check=True)
        (types, want), (text_types, have) = raw_samples(pprof, proto), raw_samples(pprof, text)
        columns = [types.index(t) for t in text_types]  # an exact heap has more than the format
        want = {stack: [v[c] for c in columns] for stack, v in want.items()}
        want = {stack: v for stack, v in want.items() if any(v)}
        have = {stack: v for stack, v in have.items() if any(v)}
        assert want == have, (name, seed, rate, [(s, v, have.get(s)) for s, v in want.items() if have.get(s) != v][:5])
        compared += len(want)
        os.unlink(proto)
    return compared


def main():
    go = make_pprof_samples.find_go()
    if not go:
        print("SKIP: no Go here")
        return 77
    pprof = subprocess.run([go, "tool", "-n", "pprof"], check=True, capture_output=True, text=True).stdout.strip()
    compared = 0
    for seed, rate in ((1, 524288), (2, 4096), (3, 1), (4, 1048576)):
        with tempfile.TemporaryDirectory(prefix="fiberscope-test-") as folder:
            compared += texts_of(folder, pprof, seed, rate)
    assert compared > 100, compared
    print(f"{compared} stacks have the same values")
    return 0


if __name__ == "__main__":
    sys.exit(main())
