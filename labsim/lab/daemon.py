"""A lab that is left open: its world runs in this process until somebody says `down`."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from typing import Any

from labsim.errors import ExitCode, LabError
from labsim.lab.control import ControlSocket
from labsim.lab.folder import LabFolder, process_started
from labsim.lab.interruption import uninterrupted
from labsim.lab.lab import Lab
from labsim.lab.opening import OpenLab
from labsim.lab.sizes import sizes_of
from labsim.machines.driver import BootSource
from labsim.model.kinds import NODE_POOL
from labsim.model.objects import dig, name_of, namespace_of
from labsim.model.scenario import Scenario

FOREVER_S = 100 * 365 * 86_400.0
COMMAND_WITHIN_S = 300.0


def serve_lab(
    folder: LabFolder,
    scenario: Scenario,
    *,
    machines: str,
    profile: str,
    seed: str,
    speed: float,
    port: int,
    talk: Callable[[str], None],
) -> int:
    """Make the lab, write its facts and kubeconfig, answer commands, and remove it at the end."""
    opened = _open(folder, scenario, machines=machines, profile=profile, seed=seed, speed=speed, port=port, talk=talk)
    facts = {
        "state": "starting",
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "scenario": scenario.metadata.name,
        "machines": machines,
        "speed": speed,
    }
    folder.write_facts(facts)
    control = None
    try:
        if opened.serving is None:
            raise LabError("this lab has no hub to look at", hint="give a --speed above 0")
        opened.lab.make()
        opened.serving.write_kubeconfig(folder.kubeconfig)
        control = ControlSocket(folder.socket, lambda command: _carry(opened.lab, command))
        folder.write_facts({**facts, "state": "up", "url": opened.serving.url})
        talk(f"lab {folder.name} is up: {opened.serving.url}; KUBECONFIG={folder.kubeconfig}")
        world = opened.lab.world
        world.run_until(lambda: False, world.now() + FOREVER_S)
    except KeyboardInterrupt:
        talk("interrupted: the lab is removed")
    finally:
        with uninterrupted():
            if control is not None:
                control.close()
            opened.close()
    return int(ExitCode.PASSED)


def _open(
    folder: LabFolder,
    scenario: Scenario,
    *,
    machines: str,
    profile: str,
    seed: str,
    speed: float,
    port: int,
    talk: Callable[[str], None],
) -> OpenLab:
    from labsim.lab import virtual_machines

    spec, sizes = scenario.spec.lab, sizes_of(profile)
    if machines == "libvirt":
        return virtual_machines.open_libvirt_lab(
            spec,
            name=folder.name,
            folder=folder.path,
            ledger=folder.ledger,
            sizes=sizes,
            seed=seed,
            speed=speed,
            history=None,
            talk=talk,
            port=port,
        )
    return virtual_machines.open_paced_lab(
        spec, name=folder.name, folder=folder.path, sizes=sizes, seed=seed, speed=speed, port=port
    )


def _carry(lab: Lab, command: dict[str, Any]) -> Any:
    """Carry out a command of another process on the world's thread, and wait for it."""
    if command.get("verb") == "down":
        lab.world.stop()
        return []
    return lab.world.post(lambda: _on_world(lab, command)).result(COMMAND_WITHIN_S)


def _on_world(lab: Lab, command: dict[str, Any]) -> Any:
    verb = command.get("verb")
    lab.world.history.record("input", what=str(verb), command=command)
    if verb == "status":
        return _status(lab)
    if verb == "console":
        return lab.console_of(str(command["machine"])).decode(errors="replace")
    if verb == "scale":
        return _scale(lab, str(command["nodePool"]), int(command["replicas"]))
    if verb in ("boot", "reboot", "stop"):
        return _power(lab, str(verb), command)
    raise LabError(f"unknown command {verb!r}")


def _power(lab: Lab, verb: str, command: dict[str, Any]) -> list[str]:
    patterns = command.get("machines") or []
    names = [name for name in lab.machine_names() if any(fnmatch.fnmatchcase(name, wanted) for wanted in patterns)]
    if not names:
        raise LabError(f"no machine matches {', '.join(patterns)}", hint=f"machines: {', '.join(lab.machine_names())}")
    if verb == "stop":
        for name in names:
            lab.driver.stop(name, bool(command.get("graceful")))
        return [f"{name} stopped" for name in names]
    source = BootSource(command.get("from", BootSource.DISK.value))
    for name in names:
        if source is BootSource.DISCOVERY_ISO:
            lab.insert_discovery_iso(name)
        (lab.driver.boot if verb == "boot" else lab.driver.reboot)(name, source)
    return [f"{name} boots from {source.value}" for name in names]


def _scale(lab: Lab, node_pool: str, replicas: int) -> list[str]:
    pools = [pool for pool in lab.hub.list(NODE_POOL) if name_of(pool) == node_pool]
    if not pools:
        raise LabError(f"there is no NodePool {node_pool!r}")
    lab.hub.patch(NODE_POOL, namespace_of(pools[0]), node_pool, {"spec": {"replicas": replicas}}, subresource="scale")
    return [f"NodePool {node_pool} has {replicas} replica(s)"]


def _status(lab: Lab) -> list[dict[str, Any]]:
    agents = {lab.machine_of(agent): agent for agent in lab.agents()}
    rows = []
    for machine in lab.machine_names():
        agent = agents.get(machine, {})
        rows.append(
            {
                "machine": machine,
                "power": lab.power_of(machine),
                "agent": dig(agent, "metadata", "name", default=""),
                "state": dig(agent, "status", "debugInfo", "state", default=""),
                "cluster": dig(agent, "spec", "clusterDeploymentName", "name", default=""),
                "approved": str(dig(agent, "spec", "approved", default="")).lower(),
                "stage": dig(agent, "status", "progress", "currentStage", default=""),
            }
        )
    return rows
