#!/bin/sh
# `make test`: every test that this machine can run; pytest prints the reason of every skip (-ra).
# The quick part comes first, so that a mistake shows early.
set -eu
pytest="${VENV:-.venv}/bin/pytest"
"$pytest" -q tests/unit
"$pytest" -q tests/contract
"$pytest" -q tests/e2e
