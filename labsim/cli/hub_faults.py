"""`labsim hub clients` and `labsim hub fault`: who uses a running lab's hub, and faults that meet some of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from labsim.cli.options import LabName, Output
from labsim.cli.output import Format, print_rows
from labsim.errors import UsageError

fault_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Faults of a running lab's hub towards some of its clients. They end with clear, or with the lab.",
)

CLIENT_COLUMNS = ("program", "user", "reads", "writes", "refused", "watching")
KINDS_SHOWN = 3
FAULT_COLUMNS = ("number", "fault", "details", "who")

Program = Annotated[str, typer.Option(help="Clients whose user agent is like this pattern, for example 'manager*'.")]
User = Annotated[str, typer.Option(help="Clients whose user's name is like this pattern.")]
Connection = Annotated[str, typer.Option(help="Clients whose address and port are like this pattern.")]
Kind = Annotated[str, typer.Option(help="Only of this kind, as kubectl takes it: agents, nodepools, np, ...")]
Count = Annotated[int, typer.Option(min=1, help="How many writes it meets.")]


def show_clients(lab: str, output: Format) -> None:
    """Print who uses the hub."""
    rows = _ask(lab, {"fault": "clients"})
    if output is Format.TABLE:
        rows = [{**row, "watching": _shortened(row["watching"])} for row in rows]
    print_rows(rows, CLIENT_COLUMNS, output, ("watches", "connections"))


def _shortened(kinds: str) -> str:
    """The first few of them, and how many there are."""
    names = kinds.split(",")
    return (
        kinds if len(names) <= KINDS_SHOWN else f"{','.join(names[:KINDS_SHOWN])} and {len(names) - KINDS_SHOWN} more"
    )


@fault_app.command()
def delay(
    by: Annotated[str, typer.Argument(help="How much later, in the lab's time: 30s, 5m.")],
    program: Program = "",
    user: User = "",
    connection: Connection = "",
    kind: Kind = "",
    lab: LabName = "",
) -> None:
    """Let every event of their watches come later."""
    _say(lab, {"fault": "delay", "seconds": _seconds(by), "who": _who(program, user, connection, kind)})


@fault_app.command()
def reorder(
    within: Annotated[str, typer.Argument(help="The most that anything is late, in the lab's time: 5s.")],
    program: Program = "",
    user: User = "",
    connection: Connection = "",
    kind: Kind = "",
    lab: LabName = "",
) -> None:
    """Let their watches overtake each other, and the answers of their writes. Each watch keeps its own order."""
    _say(lab, {"fault": "reorder", "seconds": _seconds(within), "who": _who(program, user, connection, kind)})


@fault_app.command()
def freeze(
    at: Annotated[int, typer.Option(min=0, help="The revision to stop at; the present one by default.")] = 0,
    program: Program = "",
    user: User = "",
    connection: Connection = "",
    kind: Kind = "",
    lab: LabName = "",
) -> None:
    """Let their watches and cached reads stop at a revision, as an API server that is behind."""
    _say(lab, {"fault": "freeze", "revision": at, "who": _who(program, user, connection, kind)})


@fault_app.command()
def cut(
    how: Annotated[
        str, typer.Option(help="end (cleanly), reset (of the connection), or expired: going on is refused with 410.")
    ] = "end",
    program: Program = "",
    user: User = "",
    connection: Connection = "",
    kind: Kind = "",
    lab: LabName = "",
) -> None:
    """End their open watches, once."""
    _say(lab, {"fault": "cut", "how": how, "who": _who(program, user, connection, kind)})


@fault_app.command("lose-answer")
def lose_answer(
    how: Annotated[str, typer.Option(help="reset (of the connection), or timeout: a 504 after a minute.")] = "reset",
    count: Count = 1,
    program: Program = "",
    user: User = "",
    connection: Connection = "",
    kind: Kind = "",
    lab: LabName = "",
) -> None:
    """Carry out their next writes, and lose the answers."""
    who = _who(program, user, connection, kind)
    _say(lab, {"fault": "lose-answer", "how": how, "count": count, "who": who})


@fault_app.command("lose-write")
def lose_write(
    data_loss: Annotated[
        bool, typer.Option("--data-loss", help="Needed: no sound cluster does this, only an etcd that lost data.")
    ] = False,
    count: Count = 1,
    program: Program = "",
    user: User = "",
    connection: Connection = "",
    kind: Kind = "",
    lab: LabName = "",
) -> None:
    """Answer their next writes as carried out, and carry none of them out."""
    who = _who(program, user, connection, kind)
    _say(lab, {"fault": "lose-write", "dataLoss": data_loss, "count": count, "who": who})


@fault_app.command("list")
def list_faults(lab: LabName = "", output: Output = Format.TABLE) -> None:
    """The faults that are on."""
    print_rows(_ask(lab, {"fault": "list"}), FAULT_COLUMNS, output)


@fault_app.command()
def clear(
    numbers: Annotated[list[int] | None, typer.Argument(help="Faults to switch off; all by default.")] = None,
    lab: LabName = "",
) -> None:
    """Switch faults off: what they held back comes at once."""
    _say(lab, {"fault": "clear", "numbers": numbers or []})


def _seconds(text: str) -> float:
    from labsim.model.quantities import parse_duration_s

    try:
        return parse_duration_s(text)
    except ValueError as problem:
        raise UsageError(str(problem)) from problem


def _who(program: str, user: str, connection: str, kind: str) -> dict[str, str]:
    return {"program": program, "user": user, "connection": connection, "kind": kind}


def _say(lab: str, command: dict[str, Any]) -> None:
    for line in _ask(lab, command):
        print(line)


def _ask(lab: str, command: dict[str, Any]) -> Any:
    from labsim.cli.labs import ask_lab

    return ask_lab(lab, {"verb": "hub", **command})
