"""The agent provider as a component of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labsim.controllers.agent_provider import node_provider_id
from labsim.controllers.agent_provider.agent_cluster import AgentClusters
from labsim.controllers.agent_provider.agent_machine import AgentMachines
from labsim.controllers.runtime.effects import Controller, Handler, Key
from labsim.entropy import Entropy


class AgentProvider:
    """Every running manager of cluster-api-provider-agent, one per hosted cluster, played by one component."""

    name = "agentProvider"

    def __init__(self, entropy: Entropy) -> None:
        own = entropy.child("agentProvider")
        self._controllers = (
            AgentClusters().controller(),
            AgentMachines(own).controller(),
            node_provider_id.controller(),
        )

    def controllers(self) -> Sequence[Controller]:
        return self._controllers

    def services(self) -> Mapping[str, Handler]:
        return {}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()
