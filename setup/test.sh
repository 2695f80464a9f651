#!/bin/sh
# `make test`: every test that this machine can run; pytest prints the reason of every skip (-ra).
# The quick part comes first, so that a mistake shows early. What boots virtual machines has the machine to itself:
# several at once under software emulation would only wait for each other.
set -eu
pytest="${VENV:-.venv}/bin/pytest"
side_by_side="-n auto --maxprocesses 4 --dist worksteal"
"$pytest" -q $side_by_side tests/unit
"$pytest" -q $side_by_side -m "not vm" tests/contract tests/e2e
"$pytest" -q -m vm tests
