"""The labsim command."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from labsim.cli.dns_app import dns_app
from labsim.cli.hub_faults import fault_app
from labsim.cli.iso_commands import iso_app
from labsim.cli.log import log_to_stderr
from labsim.cli.login_commands import cp, ssh
from labsim.cli.machine_commands import add_machine_commands, send_command
from labsim.cli.machine_faults import machine_fault_app
from labsim.cli.memory import live_long
from labsim.cli.options import LabName, Output
from labsim.cli.outcome import carried_out
from labsim.cli.output import Format, print_document
from labsim.errors import ExitCode, UsageError
from labsim.hub.role import Role
from labsim.lab.interruption import interrupt_once

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help in plain text is there in half the time
    help="A discovery-ISO agent lab, simulator and test harness for hosted control planes on the Agent platform.",
)
app.add_typer(iso_app, name="iso")
add_machine_commands(app)
hub_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The embedded hub: by itself, and its clients.")
app.add_typer(hub_app, name="hub")
hub_app.add_typer(fault_app, name="fault")
app.add_typer(dns_app, name="dns")
app.add_typer(machine_fault_app, name="fault")

Speed = Annotated[float, typer.Option(min=0.001, help="In-world seconds per real second.")]
HubName = Annotated[
    str, typer.Option("--hub", help="The hub: embedded, plain (a cluster of yours) or kind (one made for the lab).")
]
Kubeconfig = Annotated[Path | None, typer.Option(help="The cluster of --hub plain; as kubectl by default.")]
Context = Annotated[str, typer.Option(help="A context of that kubeconfig; its current one by default.")]
KubeControllers = Annotated[
    str, typer.Option(help="Garbage collection and namespaces of --hub plain: auto, simulated or external.")
]
KindImage = Annotated[str, typer.Option(help="Image of the node of --hub kind; kind's own by default.")]
KindPorts = Annotated[
    list[int] | None,
    typer.Option("--kind-port", min=1, max=65_535, help="A node port of --hub kind to map to this host; repeatable."),
]
External = Annotated[
    list[str] | None,
    typer.Option(help="A component that you run yourself, for example agent-provider; repeatable."),
]
Port = Annotated[
    int, typer.Option(min=0, max=65_535, help="The hub's port on the loopback address; 0 is any free one.")
]
Connect = Annotated[
    str,
    typer.Option(
        envvar="LABSIM_CONNECT", help="URI of the hypervisor for libvirt machines; your own session by default."
    ),
]


@app.command()
def run(
    files: Annotated[list[Path], typer.Argument(help="Scenario files.")],
    hub: HubName = "embedded",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    kube_controllers: KubeControllers = "auto",
    kind_image: KindImage = "",
    kind_port: KindPorts = None,
    external: External = None,
    machines: Annotated[str, typer.Option(help="simulated or libvirt.")] = "simulated",
    profile: Annotated[str, typer.Option(help="Machine sizes: default or small.")] = "default",
    seed: Annotated[str, typer.Option(help="Seed of every generated value and of the interleaving.")] = "1",
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="In-world seconds per real second. Virtual time without it; 15 for VMs."),
    ] = None,
    connect: Connect = "",
    repeat: Annotated[int, typer.Option(min=1, help="Run each file so often, with seeds seed, seed+1, ...")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the lab open after the run; labsim down removes it.")
    ] = False,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", help="Where runs are kept; runs/ by default.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Run scenarios; exit 0 only if every one passed."""
    from labsim.cli.run import RunOptions, run_files
    from labsim.lab.hub_choice import given

    live_long()
    options = RunOptions(
        hub=given(hub, kubeconfig, context, kube_controllers, kind_image, kind_port or (), external or ()),
        machines=machines,
        profile=profile,
        seed=seed,
        speed=speed or 0.0,
        connect=connect,
        repeat=repeat,
        keep=keep,
        run_dir=run_dir,
        output=output,
    )
    raise typer.Exit(run_files(files, options))


@app.command()
def up(
    file: Annotated[Path, typer.Argument(help="A scenario file: its lab is made, its steps are not run.")],
    name: Annotated[str, typer.Option(help="The lab's name; the scenario's by default.")] = "",
    hub: HubName = "embedded",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    kube_controllers: KubeControllers = "auto",
    kind_image: KindImage = "",
    kind_port: KindPorts = None,
    external: External = None,
    machines: Annotated[str, typer.Option(help="simulated or libvirt.")] = "simulated",
    profile: Annotated[str, typer.Option(help="Machine sizes: default or small.")] = "default",
    seed: Annotated[str, typer.Option(help="Seed of every generated value.")] = "1",
    speed: Speed = 10.0,
    connect: Connect = "",
    port: Port = 0,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay in this process until Ctrl-C.")] = False,
) -> None:
    """Make a lab and leave it open: a hub for kubectl, and machines that commands boot and stop."""
    from labsim.cli.labs import up_lab
    from labsim.lab.hub_choice import given
    from labsim.lab.up_choice import UpChoice

    live_long()
    choice = UpChoice(
        machines=machines,
        profile=profile,
        seed=seed,
        speed=speed,
        port=port,
        connect=connect,
        hub=given(hub, kubeconfig, context, kube_controllers, kind_image, kind_port or (), external or ()),
    )
    raise typer.Exit(up_lab(file, name=name, choice=choice, foreground=foreground))


@app.command()
def down(
    name: Annotated[str, typer.Argument(help="The lab's name, or the directory of a run that was killed.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every lab of this user.")] = False,
) -> None:
    """Remove a lab and everything that it made, also after its process was killed."""
    from labsim.cli.labs import down_labs

    raise typer.Exit(down_labs(name, every=every))


@app.command()
def restart(
    name: Annotated[str, typer.Argument(help="The lab's name; needed only where there are several.")] = "",
) -> None:
    """Go on with a lab whose process was killed or has failed; one that is up is restarted."""
    from labsim.cli.restart import restart_lab

    raise typer.Exit(restart_lab(name))


@app.command()
def leaks(output: Output = Format.TABLE) -> None:
    """What labs have on this host, running or dead, and how to remove it; exit 0 only if there is nothing."""
    from labsim.cli.leaks import show_leaks

    raise typer.Exit(show_leaks(output))


@app.command()
def status(
    lab: LabName = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="table, wide, json, yaml, name, or kubeconfig: where that file is.")
    ] = "table",
    services: Annotated[
        bool, typer.Option("--services", help="What the hosted clusters publish, and at which addresses.")
    ] = False,
) -> None:
    """Labs, and the machines and agents of one."""
    from labsim.cli.labs import show_services, show_status

    if services:
        raise typer.Exit(show_services(lab, output))
    raise typer.Exit(show_status(lab, output))


@app.command()
def get(
    kind: Annotated[str, typer.Argument(help="What kubectl takes too: agents, nodepools, np, machines, ...")],
    name: Annotated[str, typer.Argument(help="Only the objects of this name.")] = "",
    lab: LabName = "",
    output: Output = Format.TABLE,
) -> None:
    """Show objects of a running lab's hub, in all namespaces."""
    from labsim.cli.labs import show_objects

    raise typer.Exit(show_objects(lab, kind, name, output))


@app.command()
def scale(
    node_pool: Annotated[str, typer.Argument(help="The NodePool's name.")],
    replicas: Annotated[int, typer.Option(min=0, help="Replicas wanted.")],
    lab: LabName = "",
) -> None:
    """Scale a NodePool."""
    send_command(lab, {"verb": "scale", "nodePool": node_pool, "replicas": replicas})


app.command()(ssh)
app.command()(cp)


@app.command()
def check(
    directory: Annotated[Path, typer.Argument(help="A run's directory.")],
    output: Output = Format.TABLE,
) -> None:
    """Judge a run again from its directory alone."""
    from labsim.report.run_directory import judge

    judgement = judge(directory)
    if output is Format.NAME:
        print(directory)
    elif output in (Format.JSON, Format.YAML):
        found = {"verdict": judgement.verdict, "problems": list(judgement.problems), "objects": judgement.objects}
        print_document(found, output)
    else:
        print(f"{judgement.verdict}: {judgement.lines} history lines lead to {judgement.objects} objects")
        for problem in judgement.problems:
            print(f"  {problem}")
    codes = {"passed": ExitCode.PASSED, "failed": ExitCode.CHECK_FAILED, "inconclusive": ExitCode.INCONCLUSIVE}
    raise typer.Exit(codes[judgement.verdict])


@app.command()
def schema(output: Annotated[Format, typer.Option("--output", "-o", help="json or yaml.")] = Format.JSON) -> None:
    """The JSON Schema of scenario files."""
    from labsim.model.scenario import json_schema

    print_document(json_schema(), output)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="start, story, agents, all of these; api; vm.")] = "all",
    agents: Annotated[int, typer.Option(help="Agents in the large run.")] = 1000,
    objects: Annotated[int, typer.Option(min=4, help="With api: objects in the row about memory.")] = 10_000,
    output: Output = Format.TABLE,
) -> None:
    """Measure labsim on this machine."""
    from labsim.cli.bench import run_bench
    from labsim.cli.bench_api import run_api_bench

    if what == "api":
        raise typer.Exit(run_api_bench(objects=objects, output=output))
    live_long()
    raise typer.Exit(run_bench(what, agents=agents, output=output))


@app.command()
def doctor(
    machines: Annotated[str, typer.Option(help="simulated or libvirt: which machines have to work for exit 0.")] = (
        "simulated"
    ),
    connect: Connect = "",
    output: Output = Format.TABLE,
) -> None:
    """Say what this host can carry: what is there, what is missing and the fix for it, the largest lab that fits."""
    from labsim.cli.doctor import see_doctor

    raise typer.Exit(see_doctor(machines, connect, output))


@hub_app.command()
def serve(
    kubeconfig: Annotated[Path, typer.Option(help="Where the kubeconfig is written.")] = Path("kubeconfig"),
    port: Port = 0,
    speed: Annotated[float, typer.Option(min=0.001, help="In-world seconds per real second; not with --bare.")] = 1.0,
    seed: Annotated[str, typer.Option(help="Seed of every generated value; not with --bare.")] = "1",
    bare: Annotated[bool, typer.Option("--bare", help="The API alone: no component, no garbage collector.")] = False,
    tokens: Annotated[
        Path | None, typer.Option(help='With --bare: users, one a line as token,user,uid,"group1,group2".')
    ] = None,
    kinds: Annotated[bool, typer.Option("--kinds", help="With --bare: the Agent platform's kinds are there.")] = False,
    reader_kubeconfig: Annotated[
        Path | None, typer.Option(help="Where a second one is written, of a user who may only look; not with --bare.")
    ] = None,
    external: External = None,
) -> None:
    """Serve the hub without machines, until Ctrl-C."""
    if bare and reader_kubeconfig is not None:
        raise UsageError("--reader-kubeconfig does not go with --bare", hint="name the users in a file: --tokens FILE")
    if bare and external:
        raise UsageError("--external does not go with --bare", hint="no component runs beside a bare API")
    if not bare and (tokens is not None or kinds):
        raise UsageError("--tokens and --kinds belong to --bare", hint="labsim hub serve --bare --tokens FILE")
    live_long()
    if bare:
        from labsim.cli.bare_hub import serve_bare

        raise typer.Exit(serve_bare(port=port, kubeconfig=kubeconfig, token_file=tokens, with_kinds=kinds))
    from labsim.cli.hub import serve_hub
    from labsim.lab.hub_choice import HubChoice, external_components

    hub = HubChoice(external=external_components(external or ()))
    written = {Role.ADMINISTRATOR: kubeconfig}
    if reader_kubeconfig is not None:
        written[Role.READER] = reader_kubeconfig
    raise typer.Exit(serve_hub(port=port, speed=speed, seed=seed, kubeconfigs=written, hub=hub))


@hub_app.command()
def kubeconfig(
    lab: LabName = "",
    role: Annotated[Role, typer.Option("--as", help="administrator, or reader: everything but Secrets, no writes.")] = (
        Role.ADMINISTRATOR
    ),
) -> None:
    """Print a kubeconfig of a running lab's hub."""
    from labsim.cli.labs import print_kubeconfig

    print_kubeconfig(lab, role)


@hub_app.command()
def clients(lab: LabName = "", output: Output = Format.TABLE) -> None:
    """Who uses a running lab's hub, what each has done, and what it watches now."""
    from labsim.cli.hub_faults import show_clients

    show_clients(lab, output)


def main() -> NoReturn:
    """The console script."""
    gc.disable()  # a command's modules are not walked while they are loaded; most commands end before it would pay
    os.environ.setdefault(
        "PYDANTIC_DISABLE_PLUGINS", "__all__"
    )  # else it reads what each installed package says of itself
    log_to_stderr()
    interrupt_once()
    sys.exit(carried_out(_parsed))


def _parsed() -> Any:
    """Carry out the command line. A usage error of its own parser shows itself."""
    try:
        return app(standalone_mode=False)  # a typer.Exit is returned as its code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None or not hasattr(error, "exit_code"):
            raise
        show()
        return int(ExitCode.USAGE)


if __name__ == "__main__":
    main()
