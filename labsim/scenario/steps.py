"""What each step of a scenario does to a lab."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import Any, Protocol

from labsim.errors import CheckFailed, NothingSelected, UsageError
from labsim.hub.embedded.clients import HubClients
from labsim.lab.hub_faults import carry_hub_command
from labsim.lab.machine_commands import carry_out as carry_out_on_machines
from labsim.lab.machine_faults import MachineFaults
from labsim.machines.driver import BootSource, MachineDriver, NoMedia
from labsim.model.hub_fault import HubFaultStep
from labsim.model.kinds import AGENT, HOSTED_CLUSTER, NODE_POOL
from labsim.model.machine_fault import FaultStep, MendStep
from labsim.model.machine_group import Disk, Nic
from labsim.model.machine_steps import (
    BootStep,
    Machines,
    MachineStep,
    OfAgents,
    PauseStep,
    PlugStep,
    ResetStep,
    ResumeStep,
    RevertStep,
    SnapshotStep,
    StopStep,
    UnplugStep,
)
from labsim.model.objects import Object, name_of, namespace_of
from labsim.model.quantities import format_duration
from labsim.model.scenario import (
    ApproveStep,
    CreateHostedClusterStep,
    DeleteHostedClusterStep,
    ExpectStep,
    LabelStep,
    ReturnToPoolStep,
    ScaleStep,
    Step,
    WaitStep,
)
from labsim.model.states import WAITS_FOR_USER
from labsim.scenario.expectations import Look, Lookout, Observed, look, selected_agents, wanted
from labsim.scenario.explain import Evidence, explanation
from labsim.scenario.tracking import agent_state


class Lab(Observed, Evidence, Protocol):
    """What steps need of a lab."""

    driver: MachineDriver
    clients: HubClients | None  # of the hub, where that is in this process
    faults: MachineFaults

    def machine_names(self) -> list[str]: ...
    def now(self) -> float: ...
    def run_until(self, done: Callable[[], bool], deadline_s: float) -> bool: ...
    def check_power(self, machine: str) -> None:
        """Raises LabError where a fault keeps a machine from starting."""
        ...

    def insert_discovery_iso(self, machine: str) -> None:
        """Put the current discovery ISO of the machine's InfraEnv into its drive."""
        ...

    def plug(self, machine: str, device: Disk | Nic) -> str:
        """Plug a disk or card into a machine; its name or MAC address."""
        ...

    def create_hosted_cluster(self, step: CreateHostedClusterStep) -> None: ...


Report = Callable[[str], None]  # progress, for a person who waits


def carry_out(lab: Lab, step: Step, report: Report) -> None:
    """Do one step. Raises CheckFailed, with the explaining page as its hint, where it fails."""
    _ACTIONS[type(step.action)](lab, step.action, report)


def title_of(step: Step) -> str:
    """A step in one line."""
    action = step.action
    match action:
        case ExpectStep():
            held = f", for {format_duration(action.holds)}" if action.holds else ""
            return f"expect {wanted(action)} within {format_duration(action.within)}{held}"
        case BootStep():
            for_good = " for good" if action.for_good else ""
            return f"{step.verb} {_machines_text(action.machines)} from {action.source}{for_good}"
        case MachineStep():
            return f"{step.verb} {_machines_text(action.machines)}"
        case ApproveStep():
            return "approve agents" if action.value else "withdraw approval of agents"
        case LabelStep():
            return "label agents " + ", ".join(f"{key}={value}" for key, value in action.labels.items())
        case CreateHostedClusterStep():
            return f"create hosted cluster {action.name} with {action.node_pool.replicas} replica(s)"
        case DeleteHostedClusterStep():
            return f"delete hosted cluster {action.name}"
        case ScaleStep():
            return f"scale NodePool {action.node_pool} to {action.replicas}"
        case ReturnToPoolStep():
            return f"return released agents to the pool within {format_duration(action.within)}"
        case HubFaultStep():
            return str(action)
        case FaultStep():
            return f"fault of {_machines_text(action.machines)}: {action}"
        case MendStep():
            return f"mend {action.what or 'every fault'} of {_machines_text(action.machines)}"
        case WaitStep():
            return f"wait {format_duration(action.duration)}"
    return step.verb


def _machines_text(machines: Machines) -> str:
    if isinstance(machines, OfAgents):
        return "the machines of selected agents"
    return machines if isinstance(machines, str) else ", ".join(machines)


def _selected_machines(lab: Lab, machines: Machines) -> list[str]:
    """The machines that a step means, in the order of the file; an empty selection is a failure."""
    if isinstance(machines, OfAgents):
        chosen = {lab.machine_of(agent) for agent in selected_agents(lab, machines.agents)}
    else:
        patterns = [machines] if isinstance(machines, str) else machines
        chosen = {name for pattern in patterns for name in fnmatch.filter(lab.machine_names(), pattern)}
    names = [name for name in lab.machine_names() if name in chosen]
    if not names:
        raise CheckFailed("the step selects no machine", hint=f"machines of this lab: {', '.join(lab.machine_names())}")
    return names


def _reboot(lab: Lab, step: BootStep, report: Report) -> None:
    """`boot` and `reboot` are the same in a scenario: whatever runs is cut off."""
    carry_out_on_machines(lab, "reboot", _selected_machines(lab, step.machines), step.options(), report)


def _machine_step(verb: str) -> Callable[[Lab, MachineStep, Report], None]:
    def act(lab: Lab, step: MachineStep, report: Report) -> None:
        carry_out_on_machines(lab, verb, _selected_machines(lab, step.machines), step.options(), report)

    return act


def _approve(lab: Lab, step: ApproveStep, report: Report) -> None:
    agents = selected_agents(lab, step.agents)
    if not agents:
        raise CheckFailed(
            "the step selects no agent", hint="boot machines first, and expect their agents before this step"
        )
    for agent in agents:
        lab.hub.patch(AGENT, namespace_of(agent), name_of(agent), {"spec": {"approved": step.value}})
    report(f"{len(agents)} agent(s) {'approved' if step.value else 'no longer approved'}")


def _label(lab: Lab, step: LabelStep, report: Report) -> None:
    agents = selected_agents(lab, step.agents)
    if not agents:
        raise CheckFailed("the step selects no agent")
    for agent in agents:
        lab.hub.patch(AGENT, namespace_of(agent), name_of(agent), {"metadata": {"labels": dict(step.labels)}})
    report(f"{len(agents)} agent(s) labelled")


def _create_hosted_cluster(lab: Lab, step: CreateHostedClusterStep, report: Report) -> None:
    lab.create_hosted_cluster(step)
    report(f"hosted cluster {step.namespace}/{step.name} created")


def _delete_hosted_cluster(lab: Lab, step: DeleteHostedClusterStep, report: Report) -> None:
    found = [cluster for cluster in lab.hub.list(HOSTED_CLUSTER) if name_of(cluster) == step.name]
    if not found:
        raise CheckFailed(f"there is no HostedCluster {step.name!r} to delete")
    cluster = found[0]
    started_s = lab.now()
    lab.hub.delete(HOSTED_CLUSTER, namespace_of(cluster), step.name)

    def gone() -> bool:
        return lab.hub.get(HOSTED_CLUSTER, namespace_of(cluster), step.name) is None

    if not lab.run_until(gone, started_s + step.within):
        last = lab.hub.get(HOSTED_CLUSTER, namespace_of(cluster), step.name)
        stuck = () if last is None else (last,)
        page = explanation(lab, f"HostedCluster {step.name} to be gone", "it is still there", step.within, stuck)
        raise CheckFailed(f"HostedCluster {step.name} is not gone after {format_duration(step.within)}", hint=page)
    report(f"hosted cluster {step.name} gone")


def _scale(lab: Lab, step: ScaleStep, report: Report) -> None:
    pools = [pool for pool in lab.hub.list(NODE_POOL) if name_of(pool) == step.node_pool]
    if not pools:
        raise CheckFailed(f"there is no NodePool {step.node_pool!r}")
    body: dict[str, Any] = {"spec": {"replicas": step.replicas}}
    lab.hub.patch(NODE_POOL, namespace_of(pools[0]), step.node_pool, body, subresource="scale")
    report(f"NodePool {step.node_pool} has {step.replicas} replica(s)")


def _return_to_pool(lab: Lab, step: ReturnToPoolStep, report: Report) -> None:
    """Released agents that wait for their user are booted from the ISO; reclaimed ones come by themselves."""
    deadline_s = lab.now() + step.within
    started_s = lab.now()
    rebooted: set[str] = set()

    def released() -> list[Object]:
        return [agent for agent in lab.agents() if lab.agent_history.is_released(name_of(agent))]

    def returned() -> bool:
        for agent in released():
            machine = lab.machine_of(agent)
            if agent_state(agent) == WAITS_FOR_USER and machine not in rebooted:
                rebooted.add(machine)
                report(f"{machine} waits for its user: it boots from the discovery ISO")
                lab.check_power(machine)
                lab.insert_discovery_iso(machine)
                lab.driver.reboot(machine, BootSource.DISCOVERY_ISO)
        return bool(released()) and all(agent_state(agent) == "known-unbound" for agent in released())

    if not lab.run_until(returned, deadline_s):
        stuck = tuple(agent for agent in released() if agent_state(agent) != "known-unbound")
        seen = ", ".join(f"{lab.machine_of(agent)} {agent_state(agent)}" for agent in stuck) or "no released agent"
        page = explanation(lab, "every released agent in known-unbound", seen, lab.now() - started_s, stuck)
        raise CheckFailed(
            f"not every released agent came back within {format_duration(step.within)}: {seen}", hint=page
        )


def _hub_fault(lab: Lab, step: HubFaultStep, report: Report) -> None:
    try:
        for line in carry_hub_command(lab.clients, step.command()):
            report(line)
    except (NothingSelected, UsageError) as refused:
        raise CheckFailed(refused.message, hint=refused.hint) from refused


def _fault(lab: Lab, step: FaultStep, report: Report) -> None:
    for name in _selected_machines(lab, step.machines):
        try:
            report(str(lab.faults.begin(name, step)))
        except (NoMedia, UsageError) as refused:
            raise CheckFailed(refused.message, hint=refused.hint) from refused


def _mend(lab: Lab, step: MendStep, report: Report) -> None:
    names = _selected_machines(lab, step.machines)
    found = [
        fault for fault in lab.faults.present() if fault.machine in names and step.what in (None, fault.details.what)
    ]
    if not found:
        raise CheckFailed(f"nothing to mend: {', '.join(names)} has no fault {step.what or ''}".rstrip())
    lab.faults.mend(found)
    for fault in found:
        report(f"{fault.details} of {fault.machine} is mended")


def _wait(lab: Lab, step: WaitStep, report: Report) -> None:
    del report
    lab.run_until(lambda: False, lab.now() + step.duration)


def _expect(lab: Lab, step: ExpectStep, report: Report) -> None:
    started_s = lab.now()
    last = Look(False, "nothing yet")
    lookout = Lookout(lab, step)

    def holds() -> bool:
        nonlocal last
        now = lookout.look()
        if now.seen != last.seen:
            report(now.seen)
        last = now
        return now.holds

    if not lab.run_until(holds, started_s + step.within):
        raise _not_held(lab, step, look(lab, step), lab.now() - started_s, "did not come to hold")
    if step.holds is None:
        return
    since_s = lab.now()
    lab.run_until(lambda: not holds(), since_s + step.holds)
    if not last.holds:
        raise _not_held(lab, step, look(lab, step), lab.now() - since_s, "did not go on to hold")


def _not_held(lab: Lab, step: ExpectStep, last: Look, waited_s: float, what: str) -> CheckFailed:
    page = explanation(lab, wanted(step), last.seen, waited_s, last.stuck)
    return CheckFailed(f"{wanted(step)} {what} within {format_duration(waited_s)}; saw {last.seen}", hint=page)


_ACTIONS: dict[type, Callable[[Lab, Any, Report], None]] = {
    BootStep: _reboot,
    StopStep: _machine_step("stop"),
    ResetStep: _machine_step("reset"),
    PauseStep: _machine_step("pause"),
    ResumeStep: _machine_step("resume"),
    SnapshotStep: _machine_step("snapshot"),
    RevertStep: _machine_step("revert"),
    PlugStep: _machine_step("plug"),
    UnplugStep: _machine_step("unplug"),
    ApproveStep: _approve,
    LabelStep: _label,
    CreateHostedClusterStep: _create_hosted_cluster,
    DeleteHostedClusterStep: _delete_hosted_cluster,
    ScaleStep: _scale,
    ReturnToPoolStep: _return_to_pool,
    WaitStep: _wait,
    HubFaultStep: _hub_fault,
    FaultStep: _fault,
    MendStep: _mend,
    ExpectStep: _expect,
}
