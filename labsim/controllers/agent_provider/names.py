"""Names, finalizers and intervals of cluster-api-provider-agent."""

from __future__ import annotations

AGENT_CLUSTER_FINALIZER = "agentclustercapi-provider.agent-install.openshift.io/deprovision"  # without a dot, really
AGENT_MACHINE_FINALIZER = "agentmachine.agent-install.openshift.io/deprovision"
DELETION_HOOK = "pre-terminate.delete.hook.machine.cluster.x-k8s.io/agentmachine"
AGENT_MACHINE_LABEL = "agentMachineRef"  # on the Agent: the AgentMachine's name
AGENT_MACHINE_NAMESPACE_ANNOTATION = "agentMachineRefNamespace"
AGENT_CLUSTER_LABEL = "agentClusterRef"  # on the ClusterDeployment: the AgentCluster's name
BACKUP_LABEL = "cluster.open-cluster-management.io/backup"
WATCH_LABEL = "agent-install.openshift.io/watch"
MANAGER_DEPLOYMENT = "capi-provider"
ADMIN_KUBECONFIG_SECRET = "admin-kubeconfig"  # noqa: S105 - the name of a Secret

# What a claim writes into the Agent's spec beside the ClusterDeployment.
SPEC_OF_CLAIM = ("machineConfigPool", "ignitionEndpointTokenReference", "ignitionEndpointHTTPHeaders")

RETRY_S = 5.0  # waiting for the control plane, and for an agent to finish unbinding
NOT_READY_RETRY_S = 30.0  # the provider id controller, while the AgentMachine is not ready

# States of an agent that let a deleted Machine go on.
RELEASED_STATES = frozenset(
    {
        "discovering-unbound",
        "known-unbound",
        "disconnected-unbound",
        "insufficient-unbound",
        "disabled-unbound",
        "unbinding-pending-user-action",
        "error",
    }
)
