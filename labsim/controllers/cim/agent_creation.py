"""The Agent of a host that registered (host-lifecycle 3.3, cim-resources 3.1)."""

from __future__ import annotations

from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.rows import Host, InfraEnv
from labsim.controllers.runtime.effects import Program, create, get, update
from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT, INFRA_ENV
from labsim.model.objects import Object, annotations_of, dig, labels_of, new, owner_reference, thaw

INFRA_ENV_LABEL = "infraenvs.agent-install.openshift.io"
PROPAGATED_LABELS = "infraenv.agent-install.openshift.io/propagate-node-labels"
INHERITED_LABELS = "agent.agent-install.openshift.io/inherited-node-labels"


def ensure_agent(lifecycle: HostLifecycle, infra_env: InfraEnv, host: Host, now_s: float) -> Program[None]:
    """Create the Agent, or give one of another InfraEnv to this one. Raises ApiError where the hub refuses."""
    agent = yield from get(AGENT, infra_env.namespace, host.id, live=True)
    if agent is not None and labels_of(agent).get(INFRA_ENV_LABEL) == infra_env.name:
        return
    owner = yield from get(INFRA_ENV, infra_env.namespace, infra_env.name, live=True)
    if agent is None:
        try:
            yield from create(new_agent(lifecycle, infra_env, host, owner), AGENT)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        return
    if host.cluster_id and _is_bound_to(lifecycle, agent, host):
        return
    for other in lifecycle.database.hosts_with_id(host.id):
        if other is not host and other.agent_namespace == infra_env.namespace:
            lifecycle.deregister(other, now_s)
    lifecycle.database.adopt_agent(host)
    taken = thaw(agent)
    fresh = new_agent(lifecycle, infra_env, host, owner)
    taken["spec"] = fresh["spec"]
    taken["metadata"]["labels"] = fresh["metadata"]["labels"]
    taken["metadata"]["ownerReferences"] = fresh["metadata"].get("ownerReferences", [])
    yield from update(taken, AGENT)


def new_agent(lifecycle: HostLifecycle, infra_env: InfraEnv, host: Host, owner: Object | None) -> Object:
    """A fresh Agent: not approved, without a role, bound only if its InfraEnv is."""
    agent = new(AGENT, infra_env.namespace, host.id, spec={"approved": False, "role": ""})
    labels = {INFRA_ENV_LABEL: infra_env.name}
    if owner is not None:
        labels.update(dig(owner, "spec", "agentLabels", default={}))
        agent["metadata"]["ownerReferences"] = [owner_reference(owner)]
        inherited = _propagated(owner)
        if inherited:
            agent["spec"]["nodeLabels"] = inherited
            agent["metadata"]["annotations"] = {INHERITED_LABELS: ",".join(sorted(inherited))}
    agent["metadata"]["labels"] = labels
    cluster = lifecycle.database.clusters.get(host.cluster_id)
    if cluster is not None:
        agent["spec"]["clusterDeploymentName"] = {"name": cluster.name, "namespace": cluster.namespace}
    return agent


def _propagated(infra_env: Object) -> dict[str, str]:
    wanted = [key.strip() for key in annotations_of(infra_env).get(PROPAGATED_LABELS, "").split(",")]
    labels = labels_of(infra_env)
    return {key: labels[key] for key in wanted if key in labels}


def _is_bound_to(lifecycle: HostLifecycle, agent: Object, host: Host) -> bool:
    cluster = lifecycle.database.clusters.get(host.cluster_id)
    reference = dig(agent, "spec", "clusterDeploymentName", default={})
    return cluster is not None and (reference.get("namespace"), reference.get("name")) == (
        cluster.namespace,
        cluster.name,
    )
