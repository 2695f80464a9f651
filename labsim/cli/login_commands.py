"""The commands that do something in a machine, over SSH."""

from __future__ import annotations

from typing import Annotated

import typer

from labsim.cli.options import LabName


def ssh(
    machine: Annotated[str, typer.Argument(help="The machine's name.")],
    command: Annotated[list[str] | None, typer.Argument(help="What to run in it; a shell without.")] = None,
    lab: LabName = "",
) -> None:
    """Log in to a machine with the lab's key: labsim ssh MACHINE [-- COMMAND]. Ends with the command's exit code."""
    from labsim.cli.login import run_ssh

    raise typer.Exit(run_ssh(lab, machine, command or []))


def cp(
    source: Annotated[str, typer.Argument(help="A file, or MACHINE:PATH.")],
    target: Annotated[str, typer.Argument(help="A file or folder, or MACHINE:PATH.")],
    lab: LabName = "",
) -> None:
    """Copy a file from or to a machine."""
    from labsim.cli.login import copy_file

    raise typer.Exit(copy_file(lab, source, target))
