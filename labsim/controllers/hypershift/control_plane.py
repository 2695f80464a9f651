"""The control-plane operator: from a HostedControlPlane to Services, certificates, workloads and a running API."""

from __future__ import annotations

import dataclasses

from labsim.controllers.hypershift import control_plane_status
from labsim.controllers.hypershift.components import (
    COMPONENTS,
    READY_CONTAINERS,
    Component,
    is_available,
    workload,
)
from labsim.controllers.hypershift.desired import change_finalizer, ensure
from labsim.controllers.hypershift.names import (
    CLUSTER_ANNOTATION,
    FINALIZER,
    key_from,
    key_text,
    of_control_plane,
)
from labsim.controllers.hypershift.observed import Observed
from labsim.controllers.hypershift.pki import Pki, PkiSecrets
from labsim.controllers.hypershift.publishing import PUBLISHED, Endpoint, ensure_services, strategy_of
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    Publish,
    Result,
    Watch,
    Withdraw,
    get,
    list_all,
    now,
    own_key,
)
from labsim.entropy import Entropy
from labsim.model.kinds import (
    DEPLOYMENT,
    HOSTED_CONTROL_PLANE,
    PERSISTENT_VOLUME_CLAIM,
    SECRET,
    SERVICE,
    STATEFUL_SET,
)
from labsim.model.objects import (
    Object,
    annotations_of,
    condition_status,
    dig,
    is_deleting,
    name_of,
    namespace_of,
    owner_reference,
    parse_timestamp,
    uid_of,
)

_AUTOSCALER = "hypershift.openshift.io/enable-cluster-autoscaler"
# Which workload has to be available before something answers at a published Service.
_SERVED_BY = {
    "kube-apiserver": ("kube-apiserver", "kube-apiserver"),
    "konnectivity-server": ("kube-apiserver", "konnectivity"),
    "oauth-openshift": ("oauth-openshift", "oauth"),
    "ignition-server-proxy": ("ignition-server-proxy", "ignition-server"),
}


@dataclasses.dataclass(slots=True)
class _Rollout:
    """What one pass has found: the workloads by name and the seconds until the next one is due."""

    workloads: dict[str, Object]
    due_s: float | None = None

    def due_in(self, seconds: float) -> None:
        self.due_s = seconds if self.due_s is None else min(self.due_s, seconds)


class ControlPlane:
    """The control loop of HostedControlPlanes."""

    def __init__(self, settings: HyperShiftSettings, entropy: Entropy, observed: Observed, pki: PkiSecrets) -> None:
        self._settings = settings
        self._entropy = entropy
        self._observed = observed
        self._pki = pki
        self._checked: dict[tuple[str, str], tuple[object, ...]] = {}

    def controller(self) -> Controller:
        return Controller(
            name="control-plane",
            reconcile=self.reconcile,
            watches=(
                Watch(HOSTED_CONTROL_PLANE, own_key),
                Watch(DEPLOYMENT, of_control_plane),
                Watch(STATEFUL_SET, of_control_plane),
                Watch(SERVICE, of_control_plane),
                Watch(PERSISTENT_VOLUME_CLAIM, None),
                Watch(SECRET, None),
            ),
            workers=4,
        )

    def reconcile(self, key: Key) -> Program[Result]:
        hcp = yield from get(HOSTED_CONTROL_PLANE, key.namespace, key.name)
        if hcp is None:
            return DONE
        if is_deleting(hcp):
            yield Withdraw(key_text(key), "")
            self._checked = {place: mark for place, mark in self._checked.items() if place[0] != key.namespace}
            self._observed.forget(key_text(key))
            yield from change_finalizer(hcp, HOSTED_CONTROL_PLANE, FINALIZER, present=False)
            return DONE
        operator = yield from get(DEPLOYMENT, key.namespace, "control-plane-operator")
        if not is_available(operator) or dig(hcp, "spec", "pausedUntil"):
            return DONE
        hcp = yield from change_finalizer(hcp, HOSTED_CONTROL_PLANE, FINALIZER, present=True)
        endpoints = yield from ensure_services(hcp, self._settings.routes_domain)
        api = endpoints.get("kube-apiserver")
        pki: Pki | None = None
        if api is not None or not _waits_for_address(hcp):  # certificates are for the addresses, and made once
            pki = yield from self._pki.ensure_pki(hcp, _published_hosts(hcp, endpoints))
        if api is not None and pki is not None:
            yield from self._pki.ensure_kubeconfigs(hcp, pki, api.host, api.port)
        rollout = yield from self._roll_out(hcp)
        if pki is not None:
            yield from self._publish(key, endpoints, rollout, pki)
        written = yield from control_plane_status.write(hcp, self._settings, endpoints, rollout.workloads)
        ready = written is not None and condition_status(written, "Available") == "True"
        if rollout.due_s is not None:
            return Result(max(rollout.due_s, 0.001))
        return DONE if ready else Result(60.0)

    def _roll_out(self, hcp: Object) -> Program[_Rollout]:
        """Make every workload whose time has come."""
        present = {}
        for kind in (DEPLOYMENT, STATEFUL_SET):
            for entry in (yield from list_all(kind, namespace_of(hcp))):
                present[name_of(entry)] = entry
        rollout = _Rollout(present)
        moment_s = yield from now()
        replicated = dig(hcp, "spec", "controllerAvailabilityPolicy") == "HighlyAvailable"
        for component in COMPONENTS:
            if component.catalog and dig(hcp, "spec", "olmCatalogPlacement", default="management") != "management":
                continue
            if component.name not in present:
                wait_s = self._wait_s(component, hcp, present, moment_s)
                if wait_s is None:
                    continue
                if wait_s > 0:
                    rollout.due_in(wait_s)
                    continue
            if not self._is_as_wanted(component, hcp, present.get(component.name)):
                made = yield from ensure(self._workload(component, hcp, replicated), component.kind)
                rollout.workloads[component.name] = made
                self._checked[namespace_of(hcp), component.name] = _mark(hcp, made)
        return rollout

    def _is_as_wanted(self, component: Component, hcp: Object, present: Object | None) -> bool:
        """Whether neither side has changed since a pass that found or made the workload as it must be."""
        if present is None:
            return False
        return self._checked.get((namespace_of(hcp), component.name)) == _mark(hcp, present)

    def _wait_s(self, component: Component, hcp: Object, present: dict[str, Object], moment_s: float) -> float | None:
        """Seconds until a component that is not there yet appears; None while what it waits for is not available."""
        if component.after:
            since_s = _available_since_s(present.get(component.after), moment_s)
        else:
            since_s = _available_since_s(present.get("control-plane-operator"), moment_s)
        if since_s is None:
            return None
        purpose = f"rollout/{namespace_of(hcp)}/{component.name}"
        return since_s + self._entropy.uniform(purpose, *component.delay_s) - moment_s

    def _workload(self, component: Component, hcp: Object, replicated: bool) -> Object:
        annotations = {}
        if component.name == "ingress-operator":
            has_workers = condition_status(hcp, "DataPlaneConnectionAvailable") == "True"
            annotations[READY_CONTAINERS] = "2" if has_workers else "1"
        replicas = component.replicas_ha if replicated else 1
        if component.name == "cluster-autoscaler":
            replicas = 1 if annotations_of(hcp).get(_AUTOSCALER) else 0
        made = workload(
            component.kind,
            namespace_of(hcp),
            component.name,
            cluster=annotations_of(hcp).get(CLUSTER_ANNOTATION, ""),
            containers=component.containers,
            replicas=replicas,
            image=str(dig(hcp, "spec", "releaseImage", default="")),
            annotations=annotations,
        )
        made["metadata"]["ownerReferences"] = [owner_reference(hcp)]
        if component.kind is STATEFUL_SET:
            made["spec"]["serviceName"] = "etcd-discovery"
            made["spec"]["podManagementPolicy"] = "Parallel"
            made["spec"]["volumeClaimTemplates"] = [_etcd_claim(hcp)]
        return made

    def _publish(self, key: Key, endpoints: dict[str, Endpoint], rollout: _Rollout, pki: Pki) -> Program[None]:
        """Let every endpoint answer whose pods run."""
        owner = key_text(key)
        for name, (component, service) in _SERVED_BY.items():
            endpoint = endpoints.get(name)
            if endpoint is None:
                continue
            entry = (owner, service, endpoint.host, endpoint.port)
            workload_object = rollout.workloads.get(component)
            if entry in self._observed.published:
                # One pod is enough to go on answering; with none nobody answers, and the state is kept.
                if dig(workload_object, "status", "availableReplicas", default=0) == 0:
                    yield Withdraw(owner, service)
                    self._observed.published.discard(entry)
                continue
            if not is_available(workload_object):
                continue
            serving = pki.ignition_serving if service == "ignition-server" else pki.api_serving
            yield Publish(service, owner, endpoint.host, endpoint.port, serving.cert_pem, serving.key_pem)
            self._observed.published.add(entry)


def _waits_for_address(hcp: Object) -> bool:
    """Whether the API server's address is somebody else's to give."""
    return bool(strategy_of(hcp, "APIServer").get("type") == "LoadBalancer")


def _published_hosts(hcp: Object, endpoints: dict[str, Endpoint]) -> tuple[str, ...]:
    """The names and addresses that certificates are for."""
    given = (dig(strategy_of(hcp, name), "nodePort", "address", default="") for name, _, _ in PUBLISHED.values())
    others = (endpoint.host for endpoint in endpoints.values())
    return tuple(dict.fromkeys(host for host in (*given, *others) if host))


def _mark(hcp: Object, workload_object: Object) -> tuple[object, ...]:
    """What decides whether a workload has to be compared again."""
    return (
        uid_of(hcp),
        hcp["metadata"].get("generation"),
        condition_status(hcp, "DataPlaneConnectionAvailable"),
        annotations_of(hcp).get(_AUTOSCALER),
        uid_of(workload_object),
        workload_object["metadata"].get("generation"),
    )


def _available_since_s(workload_object: Object | None, moment_s: float) -> float | None:
    """When a workload became available; None while it is not."""
    if workload_object is None or not is_available(workload_object):
        return None
    for entry in dig(workload_object, "status", "conditions", default=()):
        if entry.get("type") == "Available" and entry.get("status") == "True":
            return parse_timestamp(entry["lastTransitionTime"])
    return moment_s if workload_object["kind"] == DEPLOYMENT.kind else _since_creation_s(workload_object)


def _since_creation_s(workload_object: Object) -> float:
    return parse_timestamp(workload_object["metadata"]["creationTimestamp"])


def _etcd_claim(hcp: Object) -> Object:
    volume = dig(hcp, "spec", "etcd", "managed", "storage", "persistentVolume", default={})
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": volume.get("size", "8Gi")}},
        "volumeMode": "Filesystem",
    }
    if volume.get("storageClassName"):
        spec["storageClassName"] = volume["storageClassName"]
    return {"metadata": {"name": "data"}, "spec": spec}


def cluster_key(hcp: Object) -> Key:
    """The HostedCluster that a HostedControlPlane belongs to."""
    return key_from(annotations_of(hcp).get(CLUSTER_ANNOTATION, ""))


__all__ = ["ControlPlane", "cluster_key"]
