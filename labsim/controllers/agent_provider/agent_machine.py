"""The AgentMachine controller: hook, bootstrap data, claim, and what the claimed Agent reports."""

from __future__ import annotations

from labsim.controllers.agent_provider import status
from labsim.controllers.agent_provider.bootstrap import Bootstrap, bootstrap_of
from labsim.controllers.agent_provider.claim import addresses_of, differs, find_agent, write_bootstrap
from labsim.controllers.agent_provider.deletion import (
    Verdict,
    drop_finalizer,
    handle_deletion_hook,
    is_paused,
)
from labsim.controllers.agent_provider.links import AgentMachineLinks, owning_machine
from labsim.controllers.agent_provider.managers import agent_namespace, availability_changed
from labsim.controllers.agent_provider.names import AGENT_MACHINE_LABEL, BACKUP_LABEL, RETRY_S
from labsim.controllers.agent_provider.pool import AgentPool
from labsim.controllers.capi.names import CLUSTER_NAME_LABEL
from labsim.controllers.capi.patching import editable, patch_changes
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Note,
    Program,
    ReconcileError,
    Result,
    Watch,
    get,
    now,
    own_key,
    patch,
    update,
)
from labsim.controllers.runtime.own_writes import OwnWrites
from labsim.entropy import Entropy
from labsim.kube.errors import ApiError
from labsim.model.kinds import (
    AGENT,
    AGENT_CLUSTER,
    AGENT_MACHINE,
    CLUSTER,
    DEPLOYMENT,
    HOSTED_CONTROL_PLANE,
    MACHINE,
    SECRET,
)
from labsim.model.objects import Object, dig, is_deleting, labels_of, name_of, namespace_of, thaw, uid_of

PROVIDER_ID_PREFIX = "agent://"


class AgentMachines:
    """Reconciles AgentMachines; one at a time, as each of upstream's managers does."""

    def __init__(self, entropy: Entropy) -> None:
        self._pool = AgentPool(entropy)
        self._links = AgentMachineLinks(self._pool)
        # Claims that the watches may not have delivered yet: AgentMachine uid to the Agent's namespace and name.
        self._own = OwnWrites()
        self._own_claims: dict[str, tuple[str, str]] = {}

    def controller(self) -> Controller:
        links = self._links
        return Controller(
            "agentmachine",
            self.reconcile,
            (
                Watch(AGENT_MACHINE, own_key, when=self._is_news),
                Watch(MACHINE, links.of_machine, when=links.machine_changed),
                Watch(AGENT, links.of_agent, when=links.agent_changed),
                Watch(DEPLOYMENT, links.of_deployment, when=availability_changed),
                Watch(CLUSTER, None),
                Watch(AGENT_CLUSTER, None),
                Watch(SECRET, None),
                Watch(HOSTED_CONTROL_PLANE, None),
            ),
        )

    def _is_news(self, before: Object | None, after: Object | None) -> bool:
        self._links.observe(before, after)
        return after is None or not self._own.is_echo(after)

    def reconcile(self, key: Key) -> Program[Result]:
        stored = self._own.fresher(key, (yield from get(AGENT_MACHINE, key.namespace, key.name)))
        if stored is None:
            self._own.forget(key)
            return DONE
        agents_in = yield from agent_namespace(key.namespace)
        if agents_in is None:
            return DONE
        agent_machine = editable(stored)
        self._links.is_held_up(key)
        try:
            result = yield from self._steps(agent_machine, agents_in)
        except (ApiError, ReconcileError):
            yield from self._save(stored, agent_machine, is_done=False)
            raise
        yield from self._save(stored, agent_machine, is_done=result == DONE)
        return result

    def _save(self, stored: Object, changed: Object, *, is_done: bool) -> Program[None]:
        """The deferred patch; as upstream does, an error is only noted, and the next event has to repair it."""
        key = Key(namespace_of(stored), name_of(stored))
        try:
            yield from patch_changes(AGENT_MACHINE, stored, changed, own=self._own, is_done=is_done)
            self._links.is_saved(key, saved=True)
        except ApiError as error:
            self._links.is_saved(key, saved=False)
            yield Note(f"AgentMachine {key} could not be patched: {error}")

    def _steps(self, agent_machine: Object, agents_in: str) -> Program[Result]:
        moment = yield from now()
        yield from self._recall_claim(agent_machine)
        machine_name = owning_machine(agent_machine)
        if not machine_name:
            status.without_agent(agent_machine, "", now_s=moment)
            return DONE
        machine = yield from get(MACHINE, namespace_of(agent_machine), machine_name)
        if machine is None:
            if is_deleting(agent_machine):
                drop_finalizer(agent_machine)
            raise ReconcileError(f'Machine.cluster.x-k8s.io "{machine_name}" not found')
        verdict = yield from handle_deletion_hook(agent_machine, machine)
        if verdict is Verdict.POLL:
            return Result(RETRY_S)
        if verdict is Verdict.STOP or is_paused(agent_machine):
            return DONE
        agent_machine["metadata"].setdefault("labels", {})[BACKUP_LABEL] = "true"
        bootstrap = yield from bootstrap_of(machine)
        if dig(agent_machine, "status", "ready"):
            return DONE
        agent_cluster = yield from _agent_cluster_of(machine)
        cluster_deployment = dig(agent_cluster, "status", "clusterDeploymentReference")
        if not dig(cluster_deployment, "name"):
            error = f"no cluster deployment reference on agentCluster {name_of(agent_cluster)}"
            status.without_agent(agent_machine, error, now_s=moment)
            # Upstream ends here, and nothing wakes the AgentMachine when the reference comes (its hazard H5): a bug
            # that is shown, not copied. docs/decisions/0100-known-bugs-are-not-copied.md
            return Result(RETRY_S)
        agent = yield from self._agent_of(agent_machine, agents_in, cluster_deployment, bootstrap)
        if agent is None:
            status.without_agent(agent_machine, "", now_s=moment)
            return DONE
        if differs(agent, bootstrap):
            repaired = thaw(agent)
            write_bootstrap(repaired, bootstrap)
            agent = yield from update(repaired, AGENT)
        agent = yield from _ensure_label(agent, agent_machine)
        status.from_agent(agent_machine, agent, now_s=moment)
        return DONE

    def _agent_of(
        self, agent_machine: Object, agents_in: str, cluster_deployment: Object, bootstrap: Bootstrap
    ) -> Program[Object | None]:
        """The Agent that the AgentMachine has, or has just been given."""
        reference = dig(agent_machine, "status", "agentRef")
        if reference is not None:
            agent = yield from get(AGENT, reference["namespace"], reference["name"])
            if agent is None:
                raise ReconcileError(f'Agent.agent-install.openshift.io "{reference["name"]}" not found')
            return agent
        agent = yield from find_agent(self._pool, agents_in, agent_machine, cluster_deployment, bootstrap)
        if agent is None:
            self._links.is_asking(Key(namespace_of(agent_machine), name_of(agent_machine)), agents_in)
            return None
        self._own_claims[uid_of(agent_machine)] = (namespace_of(agent), name_of(agent))
        _refer(agent_machine, agent)
        return agent

    def _recall_claim(self, agent_machine: Object) -> Program[None]:
        """Refer to the Agent that a pass just before has claimed, where no watch has delivered that yet.

        Upstream trusts its caches here, so a pass that follows at once can claim a second Agent, or let a deleted
        Machine go without giving its Agent back.
        """
        uid = uid_of(agent_machine)
        claim = self._own_claims.get(uid)
        if claim is None:
            return
        if dig(agent_machine, "status", "agentRef") is None:
            agent = yield from get(AGENT, *claim, live=True)
            if agent is not None and labels_of(agent).get(AGENT_MACHINE_LABEL) == name_of(agent_machine):
                _refer(agent_machine, agent)
                return
        del self._own_claims[uid]


def _refer(agent_machine: Object, agent: Object) -> None:
    """What a claim writes on the AgentMachine."""
    agent_machine.setdefault("spec", {})["providerID"] = PROVIDER_ID_PREFIX + name_of(agent)
    agent_machine.setdefault("status", {})["agentRef"] = {"name": name_of(agent), "namespace": namespace_of(agent)}
    agent_machine["status"]["addresses"] = addresses_of(agent)


def _agent_cluster_of(machine: Object) -> Program[Object]:
    """The AgentCluster of the Machine's Cluster; ReconcileError where a link of the chain is missing."""
    namespace = namespace_of(machine)
    cluster_name = labels_of(machine).get(CLUSTER_NAME_LABEL)
    if not cluster_name:
        raise ReconcileError("failed to get cluster from metadata: no cluster name label")
    cluster = yield from get(CLUSTER, namespace, cluster_name)
    name = dig(cluster, "spec", "infrastructureRef", "name")
    if cluster is None or not name:
        raise ReconcileError(f'Cluster.cluster.x-k8s.io "{cluster_name}" not found')
    agent_cluster = yield from get(AGENT_CLUSTER, namespace, name)
    if agent_cluster is None:
        raise ReconcileError(f'AgentCluster.capi-provider.agent-install.openshift.io "{name}" not found')
    return agent_cluster


def _ensure_label(agent: Object, agent_machine: Object) -> Program[Object]:
    if AGENT_MACHINE_LABEL in labels_of(agent):
        return agent
    body = {"metadata": {"labels": {AGENT_MACHINE_LABEL: name_of(agent_machine)}}}
    return (yield from patch(AGENT, namespace_of(agent), name_of(agent), body))
