"""A lab that is left open: its world runs in this process until somebody says `down`."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import logging
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from labsim.errors import ExitCode, LabError, LabsimError, LabStopped, NothingSelected, UsageError, system_errors
from labsim.hub.role import Role
from labsim.lab.control import ControlSocket
from labsim.lab.dns import hosted_kubeconfig, names_of, published_by
from labsim.lab.external import tell_of_external
from labsim.lab.folder import LabFolder, this_process
from labsim.lab.hub_choice import OUR_OWN
from labsim.lab.interruption import uninterrupted
from labsim.lab.lab import Lab
from labsim.lab.lab_request import LabRequest
from labsim.lab.lab_state import LabState
from labsim.lab.machine_commands import carry_out, verbs
from labsim.lab.opening import OpenLab
from labsim.lab.sizes import sizes_of
from labsim.lab.up_choice import UpChoice
from labsim.machines.driver import BootSource
from labsim.model.kinds import NODE_POOL
from labsim.model.machine_steps import STEPS
from labsim.model.objects import dig, name_of, namespace_of
from labsim.model.scenario import Scenario

log = logging.getLogger(__name__)

FOREVER_S = 100 * 365 * 86_400.0
COMMAND_WITHIN_S = 300.0


def serve_lab(
    folder: LabFolder, scenario: Scenario, choice: UpChoice, *, ready: Callable[[], None], again: bool = False
) -> int:
    """Make the lab, answer commands until one says `down`, and remove it at the end. again: an earlier process has made
    it, and this one goes on."""
    facts = {
        "scenario": scenario.metadata.name,
        "machines": choice.machines,
        "speed": choice.speed,
        "choice": dataclasses.asdict(choice),
    }
    state = LabState(folder.path, again=again) if choice.hub.hub == OUR_OWN.hub else None
    try:
        folder.write_facts({**facts, "state": "starting", **this_process()})
        with _open(folder, scenario, choice, state) as opened:
            opened.stays = again  # what could not be brought back is not removed for that
            if again:
                opened.lab.resume()
            else:
                opened.lab.make()
            if state is not None:
                state.begin()
            tell_of_external(opened.lab, folder.kubeconfig, log.warning)
            _answer_until_down(folder, opened, facts, ready)
    finally:
        if state is not None:
            state.close()
    return int(ExitCode.PASSED)


def _answer_until_down(folder: LabFolder, opened: OpenLab, facts: dict[str, Any], ready: Callable[[], None]) -> None:
    """Answer commands. What ends the process by a fault leaves a lab that is kept on a disk as it is."""

    def is_up() -> None:
        opened.stays = opened.is_kept
        ready()

    try:
        answer_commands(folder, opened, facts, ready=is_up)
    except Exception as error:
        if not opened.stays:
            raise
        message = error.message if isinstance(error, LabsimError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(LabError):  # the disk may be full
            folder.write_facts({**folder.facts(), "state": "failed", "problem": message})
        raise LabStopped(folder.name, message, getattr(error, "hint", "")) from error
    opened.stays = opened.is_left
    if opened.is_left:
        folder.write_facts({**folder.facts(), "state": "left"})


def answer_commands(folder: LabFolder, opened: OpenLab, facts: dict[str, Any], *, ready: Callable[[], None]) -> None:
    """Write the kubeconfig and what is known about the lab, then carry out commands until one says `down`."""
    if opened.serving is None:
        raise LabError("this lab has no hub to look at", hint="give a --speed above 0")
    opened.write_kubeconfig(folder.kubeconfig)
    if opened.write_hub_kubeconfig is None:
        opened.serving.write_kubeconfig(folder.reader_kubeconfig, Role.READER)
    with system_errors(f"making {folder.socket}"):
        control = ControlSocket(folder.socket, lambda command: _carry(opened, command))
    try:
        external = opened.lab.spec.hub.components.external()
        folder.write_facts({**facts, **this_process(), "state": "up", "url": opened.hub_url, "external": external})
        ready()
        world = opened.lab.world
        world.run_until(lambda: False, world.now() + FOREVER_S)
    except KeyboardInterrupt:
        return  # the end that a person asked for
    finally:
        with uninterrupted():
            control.close()


def _open(folder: LabFolder, scenario: Scenario, choice: UpChoice, state: LabState | None) -> OpenLab:
    from labsim.lab.opening import open_on_cluster
    from labsim.lab.virtual_machines import open_with_machines

    spec, hub = choice.hub.of(scenario.spec.lab)
    request = LabRequest(
        name=folder.name,
        folder=folder.path,
        machines=choice.machines,
        sizes=sizes_of(choice.profile),
        seed=choice.seed,
        speed=choice.speed,
        connect=choice.connect,
        port=choice.port,
        talk=log.info,
        hub=hub,
        state=state,
    )
    return (open_on_cluster if hub.hub != OUR_OWN.hub else open_with_machines)(spec, request)


def _carry(opened: OpenLab, command: dict[str, Any]) -> Any:
    """Carry out a command of another process on the world's thread, and wait for it."""
    lab = opened.lab
    if command.get("verb") in ("down", "leave"):
        opened.is_left = command["verb"] == "leave" and opened.is_kept
        lab.world.stop()
        return []
    return lab.world.post(lambda: _on_world(lab, command)).result(COMMAND_WITHIN_S)


def _on_world(lab: Lab, command: dict[str, Any]) -> Any:
    verb = command.get("verb")
    lab.world.history.record("input", what=str(verb), command=command)
    if verb == "status":
        return _status(lab)
    if verb == "console":
        return _console(lab, str(command["machine"]))
    if verb == "login":
        return lab.logins.of(str(command["machine"])).as_document()
    if verb == "get":
        from labsim.lab.getting import get_objects

        return get_objects(lab, str(command["kind"]), str(command.get("name") or ""))
    if verb == "hub":
        from labsim.lab.hub_faults import carry_hub_command

        return carry_hub_command(lab.clients, command)
    if verb == "fault":
        from labsim.lab.machine_faults import carry_fault_command

        return carry_fault_command(lab.faults, lab.machine_names(), command)
    if verb == "dns":
        return names_of(lab)
    if verb == "services":
        return published_by(lab)
    if verb == "kubeconfig":
        return hosted_kubeconfig(lab, str(command["cluster"]))
    if verb == "scale":
        return _scale(lab, str(command["nodePool"]), int(command["replicas"]))
    if verb in verbs():
        return _power(lab, str(verb), command)
    raise LabError(f"unknown command {verb!r}")


def _console(lab: Lab, machine: str) -> str:
    if machine not in lab.machine_names():
        raise NothingSelected(f"there is no machine {machine!r}", hint=f"machines: {', '.join(lab.machine_names())}")
    return lab.console_of(machine).decode(errors="replace")


def _power(lab: Lab, verb: str, command: dict[str, Any]) -> list[str]:
    patterns = command.get("machines") or []
    names = [name for name in lab.machine_names() if any(fnmatch.fnmatchcase(name, wanted) for wanted in patterns)]
    if not names:
        hint = f"machines: {', '.join(lab.machine_names())}"
        raise NothingSelected(f"no machine matches {', '.join(patterns)}", hint=hint)
    lines: list[str] = []
    carry_out(lab, verb, names, _options(verb, command), lines.append)
    return lines


def _options(verb: str, command: dict[str, Any]) -> dict[str, Any]:
    """The options of a command as the step of that name has them. Raises UsageError where they are wrong."""
    given = {key: value for key, value in command.items() if key not in ("verb", "machines")}
    if verb in ("boot", "reboot"):
        wanted = given.setdefault("from", BootSource.DISK.value)
        known = [source.value for source in BootSource]
        if wanted not in known:
            raise UsageError(f"a machine cannot boot from {wanted!r}", hint=f"one of: {', '.join(known)}")
    try:
        return STEPS[verb].model_validate({**given, "machines": []}).options()
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UsageError(f"{verb}: {where or 'it'}: {str(problem['msg']).removeprefix('Value error, ')}") from error


def _scale(lab: Lab, node_pool: str, replicas: int) -> list[str]:
    pools = [pool for pool in lab.hub.list(NODE_POOL) if name_of(pool) == node_pool]
    if not pools:
        known = sorted(name_of(pool) for pool in lab.hub.list(NODE_POOL))
        raise NothingSelected(
            f"there is no NodePool {node_pool!r}", hint=f"NodePools: {', '.join(known) or 'none yet'}"
        )
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
