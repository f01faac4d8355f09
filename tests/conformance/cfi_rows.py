# SPDX-License-Identifier: MIT
"""What must hold: every row of every FDE of this system's large libraries equals libdw's.

Usage: cfi_rows.py [TOOL [all]]: another tool that takes files (unwind_rows); all: of all libraries and programs.
"""

import glob
import os
import subprocess
import sys

ROOTS = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"]
# One line per file that must be there; the last is a choice.
WANTED = [["libc.so.6"], ["ld-linux-x86-64.so.2"], ["libstdc++.so.6"], ["libcrypto.so.3"],
          ["libpython3.*.so.1.0", "libperl.so.5.*"]]


def everything(files):
    """All ELF files of this machine with CFI, each once."""
    found = {os.path.realpath(f) for f in files}
    for root in ROOTS + ["/usr/bin"]:
        for name in os.listdir(root):
            path = os.path.realpath(os.path.join(root, name))
            if os.path.isfile(path) and os.access(path, os.R_OK):
                with open(path, "rb") as f:
                    head = f.read(20)
                if head[:6] == b"\x7fELF\x02\x01" and head[16:20] in (b"\x02\0\x3e\0", b"\x03\0\x3e\0"):
                    found.add(path)
    return found


def main():
    files = ["/bin/bash"]
    for names in WANTED:
        found = sorted(f for r in ROOTS for n in names for f in glob.glob(os.path.join(r, n)))
        found = [f for f in found if not f.endswith("d.so.1.0")]
        if not found:
            sys.exit(f"{names[0]}: not installed; install the package that has it")
        files.append(found[0])
    if sys.argv[2:] == ["all"]:
        files = sorted(everything(files))
    name = sys.argv[1] if len(sys.argv) > 1 else "cfi_rows"
    tool = os.path.join(os.environ["FSCOPE_BUILD"], "tests/conformance", name)
    done = subprocess.run([tool] + files, check=False)
    sys.exit(done.returncode)


main()
