"""The HostedCluster loop of the HyperShift operator: from a HostedCluster to its control plane and CAPI objects."""

from __future__ import annotations

from labsim.controllers.hypershift import hosted_cluster_deletion, hosted_cluster_status, management
from labsim.controllers.hypershift.desired import Condition, change_finalizer, ensure, find, write_status
from labsim.controllers.hypershift.kubeconfigs import secret_text, url_host
from labsim.controllers.hypershift.names import (
    CLUSTER_ANNOTATION,
    FINALIZER,
    control_plane_key,
    infra_id,
    keys_of_annotation,
    of_cluster,
)
from labsim.controllers.hypershift.pausing import pause_of
from labsim.controllers.hypershift.publishing import endpoint_of, strategy_of
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.hypershift.validation import configuration_problem, release_problem
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    Result,
    Watch,
    get,
    now,
    own_key,
    patch,
)
from labsim.entropy import Entropy
from labsim.kube.errors import ApiError
from labsim.model.kinds import (
    AGENT_CLUSTER,
    CLUSTER,
    DEPLOYMENT,
    HOSTED_CLUSTER,
    HOSTED_CONTROL_PLANE,
    NAMESPACE,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
)
from labsim.model.objects import Object, dig, is_deleting, name_of, namespace_of, uid_of


class HostedClusters:
    """The control loop of HostedClusters."""

    def __init__(self, settings: HyperShiftSettings, entropy: Entropy) -> None:
        self._settings = settings
        self._entropy = entropy

    def controller(self) -> Controller:
        return Controller(
            name="hosted-cluster",
            reconcile=self.reconcile,
            watches=(
                Watch(HOSTED_CLUSTER, own_key),
                Watch(HOSTED_CONTROL_PLANE, of_cluster),
                Watch(DEPLOYMENT, _of_management_deployment),
                Watch(AGENT_CLUSTER, of_cluster),
                Watch(CLUSTER, of_cluster),
                Watch(SERVICE, _of_published_service),
                *(Watch(kind, None) for kind in (NAMESPACE, SECRET, SERVICE_ACCOUNT, ROLE, ROLE_BINDING)),
            ),
            workers=4,
        )

    def reconcile(self, key: Key) -> Program[Result]:
        cluster = yield from get(HOSTED_CLUSTER, key.namespace, key.name)
        if cluster is None:
            return DONE
        if is_deleting(cluster):
            return (yield from hosted_cluster_deletion.delete_hosted_cluster(cluster))
        try:
            return (yield from self._reconcile(cluster))
        except ApiError as error:
            if error.code != 409:
                failed = {"ReconciliationSucceeded": Condition("False", "ReconciliationError", error.message)}
                yield from write_status(HOSTED_CLUSTER, key.namespace, key.name, conditions=failed)
            raise

    def _reconcile(self, cluster: Object) -> Program[Result]:
        cluster = yield from change_finalizer(cluster, HOSTED_CLUSTER, FINALIZER, present=True)
        cluster = yield from self._identify(cluster)
        moment_s = yield from now()
        pause = pause_of(cluster, moment_s)
        if pause.is_paused:
            return (yield from self._hold(cluster, pause.condition, pause.remaining_s))
        problem = yield from configuration_problem(cluster, has_routes=bool(self._settings.routes_domain))
        reason, text = yield from release_problem(cluster, self._settings)
        conditions = hosted_cluster_status.accepted(problem, reason, text)
        conditions["ReconciliationActive"] = pause.condition
        place = control_plane_key(cluster)
        present = yield from get(HOSTED_CONTROL_PLANE, place.namespace, place.name)
        if problem or reason:
            message = f"configuration is invalid: {problem}" if problem else text
            conditions["ReconciliationSucceeded"] = Condition("False", "ReconciliationError", message)
            yield from hosted_cluster_status.write(cluster, present, self._settings, conditions, {})
            return Result(60.0)
        if present is None and not dig(cluster, "status", "conditions"):
            # Upstream shows a status before it makes anything.
            first = {**conditions, "IgnitionEndpointAvailable": hosted_cluster_status.ignition_available(None)}
            shown = yield from hosted_cluster_status.write(cluster, None, self._settings, first, {})
            cluster = shown or cluster
        hcp = yield from management.ensure_control_plane(cluster, self._settings)
        ignition = yield from self._ignition_endpoint(cluster)
        yield from self._cluster_api(cluster, hcp, ignition)
        secrets = yield from self._copy_secrets(cluster, hcp)
        server = yield from get(DEPLOYMENT, place.namespace, "ignition-server")
        conditions["IgnitionEndpointAvailable"] = hosted_cluster_status.ignition_available(server)
        conditions["ReconciliationSucceeded"] = Condition(
            "True", "ReconciliatonSucceeded", "Reconciliation completed successfully"
        )
        fields = dict(secrets)
        if ignition:
            fields["ignitionEndpoint"] = ignition
        oauth = yield from get(SERVICE, place.namespace, "oauth-openshift")
        callback = hosted_cluster_status.oauth_callback(cluster, oauth, self._settings.routes_domain)
        if callback:
            fields["oauthCallbackURLTemplate"] = callback
        yield from hosted_cluster_status.write(cluster, hcp, self._settings, conditions, fields)
        return DONE

    def _identify(self, cluster: Object) -> Program[Object]:
        """Give the cluster its clusterID and infraID where the creator left them out."""
        spec: Object = {}
        if not dig(cluster, "spec", "clusterID"):
            spec["clusterID"] = self._entropy.uuid(f"cluster-id/{uid_of(cluster)}")
        if not dig(cluster, "spec", "infraID"):
            spec["infraID"] = infra_id(name_of(cluster), self._entropy.child(uid_of(cluster)))
        if not spec:
            return cluster
        body = {"metadata": {"resourceVersion": cluster["metadata"]["resourceVersion"]}, "spec": spec}
        return (yield from patch(HOSTED_CLUSTER, namespace_of(cluster), name_of(cluster), body))

    def _hold(self, cluster: Object, condition: Condition, remaining_s: float | None) -> Program[Result]:
        """Pause what runs below, and nothing else."""
        place = control_plane_key(cluster)
        until = str(dig(cluster, "spec", "pausedUntil", default=""))
        yield from management.set_paused(cluster, place, until)
        yield from write_status(
            HOSTED_CLUSTER, namespace_of(cluster), name_of(cluster), conditions={"ReconciliationActive": condition}
        )
        return Result(remaining_s)

    def _ignition_endpoint(self, cluster: Object) -> Program[str]:
        """`host:port` of the ignition server as nodes reach it, the host alone of a Route; "" before it has one."""
        place, strategy = control_plane_key(cluster), strategy_of(cluster, "Ignition")
        service = yield from get(SERVICE, place.namespace, "ignition-server-proxy")
        found = None if service is None else endpoint_of(service, strategy, self._settings.routes_domain)
        if found is None:
            return ""
        return found.host if strategy.get("type") == "Route" else f"{url_host(found.host)}:{found.port}"

    def _cluster_api(self, cluster: Object, hcp: Object, ignition: str) -> Program[None]:
        """AgentCluster once the ignition endpoint is known, then the CAPI Cluster."""
        endpoint = dig(hcp, "status", "controlPlaneEndpoint")
        published = dig(cluster, "status", "ignitionEndpoint", default="")
        if not endpoint or not ignition or published != ignition:
            return
        yield from ensure(management.agent_cluster(cluster, ignition, endpoint), AGENT_CLUSTER)
        place = control_plane_key(cluster)
        present = yield from get(CLUSTER, place.namespace, dig(cluster, "spec", "infraID"))
        if present is None:
            yield from ensure(management.capi_cluster(cluster), CLUSTER)
        elif dig(present, "spec", "paused", default=False):
            body = {"spec": {"paused": False}}
            yield from patch(CLUSTER, place.namespace, name_of(present), body)

    def _copy_secrets(self, cluster: Object, hcp: Object) -> Program[Object]:
        """The administrator's kubeconfig and password, where the person who made the cluster looks for them."""
        fields: Object = {}
        for status_key, hcp_key, source, suffix, data_key in (
            ("kubeconfig", "kubeConfig", "admin-kubeconfig", "admin-kubeconfig", "kubeconfig"),
            ("kubeadminPassword", "kubeadminPassword", "kubeadmin-password", "kubeadmin-password", "password"),
        ):
            if not dig(hcp, "status", hcp_key, "name"):
                continue
            name = f"{name_of(cluster)}-{suffix}"
            place = control_plane_key(cluster)
            found = yield from find(SECRET, place.namespace, source)
            if found is None:
                continue
            copy = management.copied_secret(cluster, name, {data_key: secret_text(found, data_key)})
            yield from ensure(copy, SECRET)
            fields[status_key] = {"name": name}
        return fields


def _of_management_deployment(obj: Object) -> tuple[Key, ...]:
    if name_of(obj) in ("ignition-server", "control-plane-operator", "cluster-api", "capi-provider"):
        return tuple(keys_of_annotation(CLUSTER_ANNOTATION, obj))
    return ()


def _of_published_service(obj: Object) -> tuple[Key, ...]:
    return tuple(of_cluster(obj)) if name_of(obj) in ("ignition-server-proxy", "oauth-openshift") else ()
