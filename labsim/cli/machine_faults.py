"""`labsim fault`: what goes wrong with machines of a running lab."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from labsim.cli.machine_commands import Machines, send_command
from labsim.cli.options import LabName, Output
from labsim.cli.output import Format, print_rows

machine_fault_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Faults of a running lab's machines. They end with clear, or with the lab's process.",
)

FAULT_COLUMNS = ("number", "machine", "fault", "details")


@machine_fault_app.command("power-cut")
def power_cut(machines: Machines, lab: LabName = "") -> None:
    """Cut the power. Cleared, the machines that ran start by their own boot order."""
    _begin(lab, machines, {"what": "power-cut"})


@machine_fault_app.command("cable-out")
def cable_out(machines: Machines, lab: LabName = "") -> None:
    """Pull all network cables."""
    _begin(lab, machines, {"what": "cable-out"})


@machine_fault_app.command("media-out")
def media_out(machines: Machines, lab: LabName = "") -> None:
    """Take the ISO out of the CD drive, whatever the machine does."""
    _begin(lab, machines, {"what": "media-out"})


@machine_fault_app.command()
def blocked(
    machines: Machines,
    service: Annotated[
        str,
        typer.Option(help="assisted-service, assisted-image-service, ignition-server, kube-apiserver or konnectivity."),
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="A port, on any host.")] = 0,
    name: Annotated[str, typer.Option(help="A name that has no address any more.")] = "",
    lab: LabName = "",
) -> None:
    """Keep simulated machines from one service, one port or one name."""
    _begin(lab, machines, {"what": "blocked", "service": service, "port": port, "name": name})


@machine_fault_app.command("clock-skew")
def clock_skew(
    machines: Machines,
    ahead: Annotated[str, typer.Option(help="How much later it is on the machine: 2h.")] = "",
    behind: Annotated[str, typer.Option(help="How much earlier: 30m.")] = "",
    lab: LabName = "",
) -> None:
    """Set the clocks of simulated machines wrong."""
    _begin(lab, machines, {"what": "clock-skew", "ahead": ahead, "behind": behind})


@machine_fault_app.command("disk-failing")
def disk_failing(
    machines: Machines,
    full: Annotated[bool, typer.Option("--full", help="No space is left, instead of errors of the device.")] = False,
    lab: LabName = "",
) -> None:
    """Let writes of simulated machines to their disks fail."""
    _begin(lab, machines, {"what": "disk-failing", "full": full})


@machine_fault_app.command("list")
def list_faults(lab: LabName = "", output: Output = Format.TABLE) -> None:
    """The faults that are on."""
    from labsim.cli.labs import ask_lab

    print_rows(ask_lab(lab, {"verb": "fault", "fault": "list"}), FAULT_COLUMNS, output)


@machine_fault_app.command()
def clear(
    numbers: Annotated[list[int] | None, typer.Argument(help="Faults to mend; all by default.")] = None,
    lab: LabName = "",
) -> None:
    """Mend faults."""
    send_command(lab, {"verb": "fault", "fault": "clear", "numbers": numbers or []})


def _begin(lab: str, machines: list[str], fault: dict[str, Any]) -> None:
    given = {field: value for field, value in fault.items() if value}
    send_command(lab, {"verb": "fault", "machines": machines, "fault": given})
