# SPDX-License-Identifier: MIT
"""`fiberscope symbolize` completes a profile elsewhere by build id, and refuses another build."""

import gzip
import os
import subprocess
import sys
import tempfile

from harness import FIBERSCOPE as TOOL
from pprofile import field, fields

SOURCE = """
static inline __attribute__((always_inline)) int inner(int x) { __asm__ volatile("nop"); return x; }
__attribute__((noinline)) int outer(int x) { return inner(x) * 3; }
int main(int argc, char **argv) { (void)argv; return outer(argc); }
"""


def profile(path, file, build_id, offset):
    """One sample of one location, by the public field numbers of profile.proto."""
    strings = [b"", b"cpu", b"nanoseconds", file.encode(), build_id.encode()]
    data = field(1, field(1, 1) + field(2, 2))
    data += field(2, field(1, 1) + field(2, 7))
    start = 0x7F0000000000
    data += field(3, field(1, 1) + field(2, start) + field(3, start + (1 << 20)) + field(5, 3)
                  + field(6, 4))
    data += field(4, field(1, 1) + field(2, 1) + field(3, start + offset))
    for s in strings:
        data += field(6, s)
    with open(path, "wb") as f:
        f.write(gzip.compress(data))


def frames(path):
    with open(path, "rb") as f:
        top = list(fields(gzip.decompress(f.read())))
    strings = [v.decode() for k, v in top if k == 6]
    functions = {dict(fields(v))[1]: dict(fields(v)) for k, v in top if k == 5}
    location = next(v for k, v in top if k == 4)
    lines = [dict(fields(v)) for k, v in fields(location) if k == 4]
    return [(strings[functions[n[1]][2]], os.path.basename(strings[functions[n[1]][4]]), n[2],
             functions[n[1]][5]) for n in lines]


def symbolize(*args):
    return subprocess.run([TOOL, "symbolize", *args], stderr=subprocess.PIPE, text=True,
                          stdout=subprocess.PIPE, check=False)


def main():
    with open("prog.c", "w", encoding="ascii") as f:
        f.write(SOURCE)
    subprocess.run(["gcc", "-O2", "-g", "-o", "prog", "prog.c"], check=True)
    names = subprocess.run(["nm", "prog"], check=True, stdout=subprocess.PIPE, text=True).stdout
    at = next(int(line.split()[0], 16) for line in names.splitlines() if line.endswith(" outer"))
    notes = subprocess.run(["readelf", "-n", "prog"], check=True, stdout=subprocess.PIPE, text=True)
    build_id = notes.stdout.split("Build ID: ")[1].split()[0]
    want = [("inner", "prog.c", 2, 2), ("outer", "prog.c", 3, 3)]

    folder = "debug/.build-id/" + build_id[:2]
    os.makedirs(folder)
    subprocess.run(["objcopy", "--only-keep-debug", "prog", "%s/%s.debug" % (folder, build_id[2:])],
                   check=True)
    profile("there.pb.gz", "/another/machine/prog", build_id, at)
    before = open("there.pb.gz", "rb").read()
    p = symbolize("--debug-dir", "debug", "-o", "out.pb.gz", "there.pb.gz")
    assert p.returncode == 0 and frames("out.pb.gz") == want, (p, frames("out.pb.gz"))
    assert "1 of 1 location named, 1 with lines" in p.stderr, p
    assert open("there.pb.gz", "rb").read() == before, "the input changed"

    p = symbolize("--debug-dir", "debug", "there.pb.gz")
    assert p.returncode == 0 and frames("there.pb.gz") == want, p

    profile("here.pb.gz", os.path.abspath("prog"), build_id, at)
    p = symbolize("here.pb.gz")
    assert p.returncode == 0 and frames("here.pb.gz") == want, p

    # Another mount namespace: the stripped file and its debug file are both below a root.
    os.makedirs("root/opt")
    os.makedirs("root/usr/lib/debug/.build-id/" + build_id[:2])
    subprocess.run(["strip", "-o", "root/opt/prog", "prog"], check=True)
    os.rename("%s/%s.debug" % (folder, build_id[2:]),
              "root/usr/lib/debug/.build-id/%s/%s.debug" % (build_id[:2], build_id[2:]))
    profile("inside.pb.gz", "/opt/prog", build_id, at)
    p = symbolize("--no-cache", "--root", os.path.abspath("root"), "inside.pb.gz")
    assert p.returncode == 0 and frames("inside.pb.gz") == want, p

    other = "00" * 20
    profile("stale.pb.gz", os.path.abspath("prog"), other, at)
    p = symbolize("stale.pb.gz")
    refusals = [line for line in p.stderr.splitlines() if "the profile is of " + other in line
                and build_id in line]
    assert p.returncode == 0 and frames("stale.pb.gz") == [] and refusals, p
    assert "100 % in 1 file without symbols" in p.stderr, p

    for args, status in ((["missing.pb.gz"], 1), ([], 2), (["-o", "x", "a", "b"], 2)):
        p = symbolize(*args)
        assert p.returncode == status and p.stderr, (args, p)


with tempfile.TemporaryDirectory() as where:
    os.chdir(where)
    main()
    os.chdir("/")
sys.exit(0)
