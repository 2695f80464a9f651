"""The hosted-cluster-config-operator's first deed: what a fresh hosted cluster has to contain before nodes can join."""

from __future__ import annotations

from labsim.controllers.hypershift.components import is_available
from labsim.controllers.hypershift.desired import ensure_exists
from labsim.controllers.hypershift.guest_catalog import (
    CLUSTER_WORKLOADS,
    KONNECTIVITY_AGENT,
    NAMESPACES,
    NODE_WORKLOADS,
)
from labsim.controllers.hypershift.guest_state import WORKLOAD_LABEL
from labsim.controllers.hypershift.names import key_text, of_control_plane
from labsim.controllers.hypershift.observed import Observed, admin_kubeconfig
from labsim.controllers.hypershift.publishing import Endpoint, endpoint_of, strategy_of
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import DONE, Controller, Enqueue, Key, Program, Result, Watch, get
from labsim.model.kinds import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DAEMON_SET,
    DEPLOYMENT,
    HOSTED_CONTROL_PLANE,
    NAMESPACE,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Kind,
)
from labsim.model.objects import Object, dig, name_of, new, uid_of

_CONFIG_NAMESPACE = "openshift-machine-config-operator"


class GuestSetup:
    """Fills a hosted cluster once its API server answers and its config operator runs."""

    def __init__(self, settings: HyperShiftSettings, observed: Observed) -> None:
        self._settings = settings
        self._observed = observed
        self._done: dict[str, str] = {}  # owner to the uid of the control plane whose cluster is filled

    def controller(self) -> Controller:
        return Controller(
            name="guest-setup",
            reconcile=self.reconcile,
            watches=(Watch(DEPLOYMENT, _of_config_operator), Watch(HOSTED_CONTROL_PLANE, None)),
            workers=4,
        )

    def reconcile(self, key: Key) -> Program[Result]:
        owner = key_text(key)
        plane = yield from get(HOSTED_CONTROL_PLANE, key.namespace, key.name)
        if plane is None:
            self._done.pop(owner, None)
            return DONE
        operator = yield from get(DEPLOYMENT, key.namespace, "hosted-cluster-config-operator")
        if self._done.get(owner) == uid_of(plane) or not is_available(operator):
            return DONE
        at = yield from admin_kubeconfig(self._observed, key)
        if at is None:
            return Result(5.0)
        for name in NAMESPACES:
            yield from ensure_exists(new(NAMESPACE, None, name), NAMESPACE, at=at)
        for obj, kind in _bootstrap_rights():
            yield from ensure_exists(obj, kind, at=at)
        image = str(dig(plane, "spec", "releaseImage", default=""))
        infra_ha = dig(plane, "spec", "infrastructureAvailabilityPolicy") == "HighlyAvailable"
        service = yield from get(SERVICE, key.namespace, "konnectivity-server")
        tunnel = (
            None
            if service is None
            else endpoint_of(service, strategy_of(plane, "Konnectivity"), self._settings.routes_domain)
        )
        for obj, kind in _workloads(image, infra_ha, tunnel):
            yield from ensure_exists(obj, kind, at=at)
        self._done[owner] = uid_of(plane)
        yield Enqueue("guest-operators", key)
        return DONE


def _of_config_operator(deployment: Object) -> tuple[Key, ...]:
    if name_of(deployment) != "hosted-cluster-config-operator":
        return ()
    return tuple(of_control_plane(deployment))


def _bootstrap_rights() -> list[tuple[Object, Kind]]:
    """The service account of the bootstrap kubeconfig, and what kubelets may ask for."""
    subject = {"kind": "ServiceAccount", "name": "node-bootstrapper", "namespace": _CONFIG_NAMESPACE}
    nodes = {"kind": "Group", "name": "system:nodes", "apiGroup": "rbac.authorization.k8s.io"}
    rule = {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests"],
        "verbs": ["create", "get", "list", "watch"],
    }
    return [
        (new(SERVICE_ACCOUNT, _CONFIG_NAMESPACE, "node-bootstrapper"), SERVICE_ACCOUNT),
        (new(CLUSTER_ROLE, None, "system:node-bootstrapper", rules=[rule]), CLUSTER_ROLE),
        (_binding("system-bootstrap-node-bootstrapper", "system:node-bootstrapper", subject), CLUSTER_ROLE_BINDING),
        (_binding("system-bootstrap-node-renewal", "system:node-bootstrapper", nodes), CLUSTER_ROLE_BINDING),
    ]


def _binding(name: str, role: str, subject: Object) -> Object:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    return new(CLUSTER_ROLE_BINDING, None, name, roleRef=reference, subjects=[subject])


def _workloads(image: str, infra_ha: bool, tunnel: Endpoint | None) -> list[tuple[Object, Kind]]:
    made: list[tuple[Object, Kind]] = []
    for entry in NODE_WORKLOADS:
        template = pod_template(entry.name, entry.containers, image)
        if entry.name == KONNECTIVITY_AGENT and tunnel is not None:
            flags = [f"--proxy-server-host={tunnel.host}", f"--proxy-server-port={tunnel.port}"]
            template["spec"]["containers"][0].update(command=["/usr/bin/proxy-agent"], args=flags)
        template["spec"].update(hostNetwork=entry.host_network, tolerations=[{"operator": "Exists"}])
        spec = {"selector": {"matchLabels": {WORKLOAD_LABEL: entry.name}}, "template": template}
        made.append((new(DAEMON_SET, entry.namespace, entry.name, spec=spec), DAEMON_SET))
    for workload in CLUSTER_WORKLOADS:
        shape: Object = {
            "replicas": workload.replicas_ha if infra_ha else 1,
            "selector": {"matchLabels": {WORKLOAD_LABEL: workload.name}},
            "template": pod_template(workload.name, workload.containers, image),
        }
        if workload.kind is STATEFUL_SET:
            shape["serviceName"] = workload.name
        made.append((new(workload.kind, workload.namespace, workload.name, spec=shape), workload.kind))
    return made


def pod_template(name: str, containers: int, image: str) -> Object:
    entries = [{"name": name if number == 0 else f"{name}-{number}", "image": image} for number in range(containers)]
    return {"metadata": {"labels": {WORKLOAD_LABEL: name}}, "spec": {"containers": entries}}
