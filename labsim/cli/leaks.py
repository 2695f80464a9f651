"""`labsim leaks`: what labs have on this host, whose it is, and the command that removes it."""

from __future__ import annotations

import dataclasses

from labsim.cli.output import Format, print_rows, talk
from labsim.errors import ExitCode
from labsim.lab.folder import labs_root

COLUMNS = ("kind", "identity", "lab", "state", "remove")


def show_leaks(form: Format) -> int:
    """Exit 0 where nothing is left, 1 where something is, 4 where nothing was found but not everything was seen."""
    from labsim.lab.leftovers import search

    result = search(labs_root())
    rows = [dataclasses.asdict(thing) for thing in result.found]
    if form is Format.NAME:
        print_rows([{"name": f"{row['kind']}/{row['identity']}"} for row in rows], ("name",), form)
    elif rows or form in (Format.JSON, Format.YAML):
        print_rows(rows, COLUMNS, form)
    for problem in result.problems:
        talk(f"labsim: {problem}")
    if rows:
        return int(ExitCode.CHECK_FAILED)
    if result.problems:
        return int(ExitCode.LAB_FAILED)
    talk("nothing of any lab is on this host")
    return int(ExitCode.PASSED)
