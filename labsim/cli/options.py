"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from labsim.cli.output import Format

LabName = Annotated[str, typer.Option("--lab", "-l", help="The lab's name; needed only where several are up.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How the result is printed.")]
