"""The commands that do something to machines of a running lab."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from labsim.cli.options import LabName

Machines = Annotated[list[str], typer.Argument(help="Machine names or patterns.")]
ForGood = Annotated[
    bool, typer.Option("--for-good", help="Its own boot order begins with it from now on, not only this once.")
]


def send_command(lab: str, command: dict[str, Any]) -> None:
    """Let a running lab carry something out, and print what it says."""
    from labsim.cli.labs import ask_lab

    for line in ask_lab(lab, command):
        print(line)


def boot(
    machines: Machines,
    source: Annotated[str, typer.Option("--from", help="discovery-iso or disk.")] = "discovery-iso",
    for_good: ForGood = False,
    lab: LabName = "",
) -> None:
    """Boot machines of a running lab."""
    send_command(lab, {"verb": "boot", "machines": machines, "from": source, "forGood": for_good})


def reboot(
    machines: Machines,
    source: Annotated[str, typer.Option("--from", help="discovery-iso or disk.")] = "disk",
    for_good: ForGood = False,
    inside: Annotated[
        bool, typer.Option("--inside", help="Let each machine restart itself, over SSH; its own boot order counts.")
    ] = False,
    lab: LabName = "",
) -> None:
    """Power machines off and on again."""
    if inside:
        from labsim.cli.login import reboot_inside

        raise typer.Exit(reboot_inside(lab, machines))
    send_command(lab, {"verb": "reboot", "machines": machines, "from": source, "forGood": for_good})


def stop(
    machines: Machines,
    graceful: Annotated[
        bool,
        typer.Option("--graceful/--hard", help="Press the power button and wait, or cut the power."),
    ] = False,
    lab: LabName = "",
) -> None:
    """Power machines off."""
    send_command(lab, {"verb": "stop", "machines": machines, "graceful": graceful})


def reset(machines: Machines, lab: LabName = "") -> None:
    """Press the reset button: machines start by their own boot order."""
    send_command(lab, {"verb": "reset", "machines": machines})


def pause(machines: Machines, lab: LabName = "") -> None:
    """Let machines stand still."""
    send_command(lab, {"verb": "pause", "machines": machines})


def resume(machines: Machines, lab: LabName = "") -> None:
    """Let paused machines go on."""
    send_command(lab, {"verb": "resume", "machines": machines})


def snapshot(
    machines: Machines,
    name: Annotated[str, typer.Option(help="What the snapshot is called.")],
    lab: LabName = "",
) -> None:
    """Keep what is on the disks of machines that are off."""
    send_command(lab, {"verb": "snapshot", "machines": machines, "name": name})


def revert(
    machines: Machines,
    to: Annotated[str, typer.Option(help="The snapshot to go back to.")],
    lab: LabName = "",
) -> None:
    """Cut machines off and put their disks back to a snapshot."""
    send_command(lab, {"verb": "revert", "machines": machines, "to": to})


def plug(
    machines: Machines,
    disk: Annotated[str, typer.Option(help="A disk of that size, for example 10GiB.")] = "",
    bus: Annotated[str, typer.Option(help="The disk's bus: virtio or scsi.")] = "virtio",
    nic: Annotated[bool, typer.Option("--nic", help="A network card.")] = False,
    lab: LabName = "",
) -> None:
    """Plug a disk or a network card into machines, also while they run."""
    device: dict[str, Any] = {"disk": {"size": disk, "bus": bus}} if disk else {}
    send_command(lab, {"verb": "plug", "machines": machines, **device, **({"nic": {}} if nic else {})})


def unplug(
    machines: Machines,
    device: Annotated[str, typer.Option(help="A disk's name, for example vdb, or a card's MAC address.")],
    lab: LabName = "",
) -> None:
    """Pull a disk or a network card out of machines."""
    send_command(lab, {"verb": "unplug", "machines": machines, "device": device})


def console(
    machine: Annotated[str, typer.Argument(help="The machine's name.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what it prints, until Ctrl-C.")] = False,
    lab: LabName = "",
) -> None:
    """What a machine has printed."""
    from labsim.cli.console import show_console

    raise typer.Exit(show_console(lab, machine, follow=follow))


def add_machine_commands(app: typer.Typer) -> None:
    for command in (boot, reboot, stop, reset, pause, resume, snapshot, revert, plug, unplug, console):
        app.command()(command)
