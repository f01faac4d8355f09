#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The man pages are clean under mandoc's lint and name every verb that the command has.
set -euo pipefail
command -v mandoc >/dev/null || { echo "SKIP: no mandoc here"; exit 77; }
man=$FSCOPE_BUILD/man
fail=0
for page in "$man"/*.1; do
    # A reference to a page of another package cannot be checked here.
    out=$(mandoc -Tlint -W warning "$page" | grep -v 'referenced manual not found' || true)
    [ -z "$out" ] || { echo "$out"; fail=1; }
    grep -q '@OPTIONS' "$page" && { echo "$page: an option list was not filled in"; fail=1; }
done
mandoc -Tascii "$man/fiberscope.1" | col -b >page.txt
while read -r verb; do
    grep -qw -- "$verb" page.txt || { echo "fiberscope(1) does not name $verb"; fail=1; }
done < <("$FSCOPE_BUILD/cli/fiberscope" --help | sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p')
mandoc -Tascii "$man/fiberscope-record.1" | col -b | grep -q -- '--duration' ||
    { echo "fiberscope-record(1) lacks --duration"; fail=1; }
mandoc -Tascii "$man/fiberscope-leaks.1" | col -b | grep -q -- '--by' ||
    { echo "fiberscope-leaks(1) lacks --by"; fail=1; }
exit $fail
