"""cluster-api-provider-agent: AgentClusters, AgentMachines, and the provider id of their Nodes."""

from __future__ import annotations

from labsim.controllers.agent_provider.component import AgentProvider

__all__ = ["AgentProvider"]
