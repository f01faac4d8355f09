# SPDX-License-Identifier: MIT
"""What must hold: every row of every FDE of this system's large libraries equals libdw's."""

import glob
import os
import subprocess
import sys

ROOTS = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"]
# One line per file that must be there; the last is a choice.
WANTED = [["libc.so.6"], ["ld-linux-x86-64.so.2"], ["libstdc++.so.6"], ["libcrypto.so.3"],
          ["libpython3.*.so.1.0", "libperl.so.5.*"]]


def main():
    files = ["/bin/bash"]
    for names in WANTED:
        found = sorted(f for r in ROOTS for n in names for f in glob.glob(os.path.join(r, n)))
        found = [f for f in found if not f.endswith("d.so.1.0")]
        if not found:
            sys.exit(f"{names[0]}: not installed; install the package that has it")
        files.append(found[0])
    tool = os.path.join(os.environ["FSCOPE_BUILD"], "tests/conformance/cfi_rows")
    done = subprocess.run([tool] + files, check=False)
    sys.exit(done.returncode)


main()
