# SPDX-License-Identifier: MIT
"""What symbols/ says of random code addresses of real binaries is what the established tools say.

20,000 addresses over five binaries: function, file, line, column and the whole inline chain, exactly as
eu-addr2line -i -f prints them. Where eu-addr2line differs, llvm-symbolizer --inlines must say exactly
what we say; where that differs too, GNU addr2line -i -f must. What no tool confirms fails.

Known reasons why eu-addr2line 0.188 alone stands apart (each printed with its count):
  lto       it does not follow imported units, so code built with -flto (Python) has no inlined frames
  chain     its two searches contradict each other: "inlined at X:1549" and then a frame X:1551
  padding   bytes between functions: it names a function that had already ended
Known reasons why llvm-symbolizer's outermost name differs (checked with the symbol table):
  clone     it prints the symbol, we print the function: memcpy.cold, foo.isra.0, bar.lto_priv.3
  alias     several symbols have that address: malloc and __libc_malloc
  dwz       llvm-symbolizer 14 reads no names from dwz files; places must be equal, and the innermost
            frame as eu-addr2line has it
PLT stubs have no debug info; there objdump is the oracle.
Usage: symbols_oracle.py [--light] [ADDRESSES]. --light takes the two files whose debug info ./dev test
installs anyway (libc and our own) and does without llvm-symbolizer; the whole runs in soak.
"""

import collections
import os
import random
import re
import shutil
import struct
import subprocess
import sys

BUILD = os.environ["FSCOPE_BUILD"]
PROBE = os.path.join(BUILD, "tests/conformance/symbols_probe")
LIGHT = "--light" in sys.argv
NUMBERS = [a for a in sys.argv[1:] if a.isdigit()]
TOTAL = int(NUMBERS[0]) if NUMBERS else 20000

# (file, Debian package with its debug info, None for our own)
BINARIES = [
    ("/lib/x86_64-linux-gnu/libc.so.6", "libc6-dbg"),
    ("/usr/bin/python3.11", "python3.11-dbg"),
    ("/usr/bin/perl", "perl-debug"),
    ("/usr/lib/x86_64-linux-gnu/debug/libstdc++.so.6", "libstdc++6-12-dbg"),
    (PROBE, None),
]
if LIGHT:
    BINARIES = [b for b in BINARIES if b[1] in ("libc6-dbg", None)]
CLONE = re.compile(r"(\.(cold|isra|part|constprop|lto_priv|localalias)(\.\d+)*)+$")


def code_sections(path):
    with open(path, "rb") as f:
        data = f.read()
    shoff, = struct.unpack_from("<Q", data, 40)
    size, count, _ = struct.unpack_from("<HHH", data, 58)
    for i in range(count):
        _, kind, flags, addr, _, length = struct.unpack_from("<IIQQQQ", data, shoff + i * size)
        if kind == 1 and flags & 4 and length:
            yield addr, length


def addresses(path, count, seed):
    rng = random.Random(seed)
    sections = list(code_sections(path))
    total = sum(length for _, length in sections)
    found = []
    for _ in range(count):
        at = rng.randrange(total)
        for addr, length in sections:
            if at < length:
                found.append(addr + at)
                break
            at -= length
    return found


def run(command, addrs, check=True):
    text = "".join("0x%x\n" % a for a in addrs)
    return subprocess.run(command, input=text, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=check,
                          text=True).stdout


def ours(path, addrs):
    answers, frames = [], []
    for line in run([PROBE, path], addrs).splitlines():
        if line:
            name, place = line.split("\t", 1)
            frames.append((name or "??", place))
        else:
            answers.append(frames)
            frames = []
    return answers


LINE = re.compile(r"^(.*?) at (.*?)(?: \(discriminator \d+\))?$")


def place_of(text):
    """eu-addr2line leaves out a column of 0, and file and line when unknown."""
    m = re.match(r"^(.*?):(\d+)(?::(\d+))?$", text)
    if not m or m.group(1) == "??":
        return ":0:0"
    return "%s:%s:%s" % (m.group(1), m.group(2), m.group(3) or "0")


def theirs(path, addrs):
    answers = []
    # It exits with 1 when a unit has no scopes at an address, having printed its answer.
    command = ["eu-addr2line", "-e", path, "-i", "-f", "--pretty-print"]
    for line in run(command, addrs, check=False).splitlines():
        inlined = line.startswith(" (inlined by) ")
        if inlined:
            line = line[len(" (inlined by) "):]
        m = LINE.match(line)
        name, place = m.groups() if m else ("??", line)
        if inlined:
            answers[-1].append((name, place_of(place)))
        else:
            answers.append([(name, place_of(place))])
    return answers


def llvm(path, addrs):
    answers, frames, name = [], [], None
    command = ["llvm-symbolizer", "--inlines", "--no-demangle", "-e", path]
    for line in run(command, addrs).splitlines():
        if not line:
            answers.append(frames)
            frames = []
        elif name is None:
            name = line
        else:
            frames.append((name, place_of(line)))
            name = None
    return answers


def gnu(path, addrs):
    """GNU addr2line has no columns; -a marks where an address' frames begin."""
    answers, name = [], None
    for line in run(["addr2line", "-a", "-i", "-f", "-e", path], addrs).splitlines():
        if line.startswith("0x"):
            answers.append([])
        elif name is None:
            name = line
        else:
            line = re.sub(r" \(discriminator \d+\)$", "", line).replace(":?", ":0")
            answers[-1].append((name, place_of(line).rsplit(":", 1)[0]))
            name = None
    return answers


SPANS = {}


def debug_files(path):
    build_id = re.search(r"Build ID: (\w+)",
                         subprocess.run(["readelf", "-n", path], stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL, check=False).stdout)
    files = [path]
    if build_id:
        files.append("/usr/lib/debug/.build-id/%s/%s.debug"
                     % (build_id.group(1)[:2], build_id.group(1)[2:]))
    return files


def symbols_by_name(path):
    """Every symbol's address, so that two names can be seen to be one function."""
    table = collections.defaultdict(set)
    for f in debug_files(path):
        for flags in ([], ["-D"]):
            text = subprocess.run(["nm"] + flags + [f], stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.DEVNULL, check=False).stdout
            for line in text.splitlines():
                parts = line.split()
                if len(parts) == 3:
                    table[parts[2].split("@")[0]].add(int(parts[0], 16))
    return table


def is_padding(a, path):
    """No function's symbol covers it: the nops that fill up to the next function."""
    if path not in SPANS:
        SPANS[path] = []
        for f in debug_files(path):
            text = subprocess.run(["nm", "-S", f], stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.DEVNULL, check=False).stdout
            for at, size, kind in re.findall(r"^([0-9a-f]+) ([0-9a-f]+) (\w) ", text, re.M):
                if kind in "tTwWiVv":
                    SPANS[path].append((int(at, 16), int(at, 16) + int(size, 16)))
    return bool(SPANS[path]) and not any(low <= a < high for low, high in SPANS[path])


def plt_stubs(path):
    text = subprocess.run(["objdump", "-d", path, "-j", ".plt", "-j", ".plt.got", "-j", ".plt.sec"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False).stdout
    return {int(a, 16): name for a, name in re.findall(r"^([0-9a-f]+) <(.*@plt)>:$", text, re.M)}


def same_function(mine, other, table):
    """None if the names differ, else the class of the difference."""
    if mine == other:
        return ""
    if CLONE.sub("", other) == mine:
        return "clone"
    if table[mine] & table[CLONE.sub("", other)] or table[mine] & table[other]:
        return "alias"
    return None


def confirmed(mine, other, table):
    """Like same_function for whole chains: only the outermost frame's name may be an alias."""
    if other is None or len(mine) != len(other) or mine[:-1] != other[:-1] or mine[-1][1] != other[-1][1]:
        return None
    return same_function(mine[-1][0], other[-1][0], table)


def without_column(frames):
    return [(name, place.rsplit(":", 1)[0]) for name, place in frames]


def compare(path, addrs):
    mine, eu = ours(path, addrs), theirs(path, addrs)
    ll = [None] * len(addrs) if LIGHT else llvm(path, addrs)
    table = symbols_by_name(path)
    plt, bfd = plt_stubs(path), None
    assert len(mine) == len(eu) == len(ll) == len(addrs), [len(x) for x in (mine, eu, ll, addrs)]
    counts, bad = collections.Counter(), 0
    for i, a in enumerate(addrs):
        m = mine[i] or [("??", ":0:0")]
        counts["inlined frames"] += len(m) > 1
        counts["with lines"] += m[0][1] != ":0:0"
        if m == eu[i]:
            counts["= eu-addr2line"] += 1
            continue
        how = confirmed(m, ll[i], table)
        if how is not None:
            counts["= llvm-symbolizer" + (" (%s)" % how if how else "")] += 1
            continue
        if confirmed(m, eu[i], table) == "alias":
            counts["= eu-addr2line (alias)"] += 1
            continue
        if len(m) == 1 and plt.get(a & ~7, plt.get(a & ~15)) == m[0][0]:
            counts["= objdump (PLT)"] += 1
            continue
        # dwz: names in the alternate file are beyond llvm-symbolizer 14, places are not.
        if ll[i] and len(m) == len(ll[i]) and m[0] == eu[i][0] and all(
                x[1] == y[1] and y[0] in (x[0], "??") for x, y in zip(m, ll[i])):
            counts["= llvm-symbolizer (dwz)"] += 1
            continue
        bfd = bfd or gnu(path, addrs)
        if without_column(m) == bfd[i]:
            counts["= addr2line"] += 1
            continue
        if len(m) == 1 and m[0][0] == "??" and is_padding(a, path):
            counts["padding"] += 1
            continue
        bad += 1
        if bad <= 5:
            print("%s 0x%x\n  ours %s\n  eu   %s\n  llvm %s\n  gnu  %s"
                  % (path, a, m, eu[i], ll[i], bfd[i]))
    print("%s: %d addresses: %s%s" % (path, len(addrs), ", ".join(
        "%d %s" % (n, k) for k, n in sorted(counts.items())), ", %d WRONG" % bad if bad else ""))
    # The oracle must have had something to say.
    return bad == 0 and counts["padding"] < len(addrs) // 50 and counts["with lines"] > len(addrs) // 4


def main():
    for tool in ("eu-addr2line", "addr2line") + (() if LIGHT else ("llvm-symbolizer",)):
        if not shutil.which(tool):
            print("SKIP: install elfutils, llvm and binutils: no " + tool)
            return 77
    missing = [package for path, package in BINARIES if not os.path.exists(path)]
    if missing:
        print("SKIP: install " + " ".join(str(p) for p in missing))
        return 77
    good = [compare(path, addresses(path, TOTAL // len(BINARIES), number))
            for number, (path, _) in enumerate(BINARIES)]
    return 0 if all(good) else 1


sys.exit(main())
