"""Finding an Agent for an AgentMachine and claiming it with one write."""

from __future__ import annotations

from typing import Any

from labsim.controllers.agent_provider.bootstrap import Bootstrap
from labsim.controllers.agent_provider.names import AGENT_MACHINE_LABEL, AGENT_MACHINE_NAMESPACE_ANNOTATION
from labsim.controllers.agent_provider.pool import AgentPool, is_free
from labsim.controllers.capi.selectors import matcher
from labsim.controllers.runtime.effects import Note, Program, get, list_all, update
from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT
from labsim.model.objects import Object, dig, labels_of, name_of, namespace_of, thaw


def find_agent(
    pool: AgentPool, agent_namespace: str, agent_machine: Object, cluster_deployment: Object, bootstrap: Bootstrap
) -> Program[Object | None]:
    """An Agent that now belongs to the AgentMachine, as the server stored it; None if there is none.

    An Agent that carries the AgentMachine's label already is taken as it is: the way back after a crash or a restore.
    """
    name = name_of(agent_machine)
    for claimed in (yield from list_all(AGENT, agent_namespace, labels={AGENT_MACHINE_LABEL: name})):
        yield Note(f"Agent {name_of(claimed)} carries the label of AgentMachine {name}: adopted")
        return claimed
    matches = matcher(dig(agent_machine, "spec", "agentLabelSelector"))
    for candidate in pool.candidates(agent_namespace, f"{namespace_of(agent_machine)}/{name}"):
        agent = yield from get(AGENT, agent_namespace, candidate)
        if agent is None or not is_free(agent) or not matches(labels_of(agent)):
            continue
        wanted = with_claim(agent, agent_machine, cluster_deployment, bootstrap)
        try:
            return (yield from update(wanted, AGENT))
        except ApiError as error:
            yield Note(f"Agent {candidate} could not be claimed for AgentMachine {name}: {error}")
    return None


def with_claim(agent: Object, agent_machine: Object, cluster_deployment: Object, bootstrap: Bootstrap) -> Object:
    """The Agent as the claim writes it."""
    claimed = thaw(agent)
    metadata = claimed["metadata"]
    metadata.setdefault("labels", {})[AGENT_MACHINE_LABEL] = name_of(agent_machine)
    metadata.setdefault("annotations", {})[AGENT_MACHINE_NAMESPACE_ANNOTATION] = namespace_of(agent_machine)
    claimed["spec"]["clusterDeploymentName"] = dict(cluster_deployment)
    write_bootstrap(claimed, bootstrap)
    return claimed


def bootstrap_fields(bootstrap: Bootstrap) -> dict[str, Any]:
    """The Agent's spec as the bootstrap data wants it; what is empty is not compared and not written."""
    fields: dict[str, Any] = {
        "machineConfigPool": bootstrap.machine_config_pool,
        "ignitionEndpointTokenReference": bootstrap.token_reference,
        "ignitionEndpointHTTPHeaders": dict(bootstrap.headers),
    }
    return {field: value for field, value in fields.items() if value}


def write_bootstrap(agent: Object, bootstrap: Bootstrap) -> None:
    agent["spec"].update(bootstrap_fields(bootstrap))


def differs(agent: Object, bootstrap: Bootstrap) -> bool:
    """Whether the Agent lacks something that the bootstrap data wants."""
    spec = agent.get("spec") or {}
    return any(spec.get(field) != value for field, value in bootstrap_fields(bootstrap).items())


def addresses_of(agent: Object) -> list[dict[str, str]]:
    """ExternalIP for each IPv4 address of interfaces with carrier, then the host name as InternalDNS."""
    found = [
        {"type": "ExternalIP", "address": address.partition("/")[0]}
        for interface in dig(agent, "status", "inventory", "interfaces", default=())
        if interface.get("hasCarrier")
        for address in interface.get("ipV4Addresses") or ()
    ]
    host_name = dig(agent, "spec", "hostname") or dig(agent, "status", "inventory", "hostname", default="")
    found.append({"type": "InternalDNS", "address": host_name})
    return found
