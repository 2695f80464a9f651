"""Deleting a HostedCluster, in the operator's order (fact sheet, section 5)."""

from __future__ import annotations

from labsim.controllers.hypershift.desired import change_finalizer
from labsim.controllers.hypershift.management import copy_cleanup, rbac_names
from labsim.controllers.hypershift.names import COMPONENT_FINALIZER, FINALIZER, control_plane_key
from labsim.controllers.runtime.effects import DONE, Key, Program, Result, delete, get, list_all, patch
from labsim.model.kinds import (
    CLUSTER,
    DEPLOYMENT,
    HOSTED_CLUSTER,
    HOSTED_CONTROL_PLANE,
    NAMESPACE,
    NODE_POOL,
    ROLE,
    ROLE_BINDING,
)
from labsim.model.objects import Object, dig, finalizers_of, is_deleting, name_of, namespace_of

AGAIN = Result(5.0)


def delete_hosted_cluster(cluster: Object) -> Program[Result]:
    """One pass; every wait asks again after five seconds."""
    if FINALIZER not in finalizers_of(cluster):
        return DONE
    place = control_plane_key(cluster)
    infra = str(dig(cluster, "spec", "infraID", default=""))
    capi = (yield from get(CLUSTER, place.namespace, infra, live=True)) if infra else None
    if capi is not None and dig(capi, "spec", "paused", default=False):
        yield from patch(CLUSTER, place.namespace, infra, {"spec": {"paused": False}})
    hcp = yield from get(HOSTED_CONTROL_PLANE, place.namespace, place.name, live=True)
    if hcp is not None:
        yield from copy_cleanup(cluster, hcp)
    yield from _delete_node_pools(cluster)
    if capi is not None:
        if not is_deleting(capi):
            yield from delete(CLUSTER, place.namespace, infra)
        return AGAIN
    yield from _release_components(place)
    agents = str(dig(cluster, "spec", "platform", "agent", "agentNamespace", default=""))
    if agents:
        role, binding = rbac_names(place)
        yield from delete(ROLE_BINDING, agents, binding)
        yield from delete(ROLE, agents, role)
        # What older command lines made; this operator removes it with any cluster.
        yield from delete(ROLE, agents, "capi-provider-role")
    if hcp is not None:
        if not is_deleting(hcp):
            yield from delete(HOSTED_CONTROL_PLANE, place.namespace, place.name)
        return AGAIN
    namespace = yield from get(NAMESPACE, "", place.namespace, live=True)
    if namespace is not None:
        if not is_deleting(namespace):
            yield from delete(NAMESPACE, "", place.namespace)
        return AGAIN
    yield from change_finalizer(cluster, HOSTED_CLUSTER, FINALIZER, present=False)
    return DONE


def _delete_node_pools(cluster: Object) -> Program[None]:
    pools = yield from list_all(NODE_POOL, namespace_of(cluster), live=True)
    for pool in pools:
        if dig(pool, "spec", "clusterName") == name_of(cluster) and not is_deleting(pool):
            yield from delete(NODE_POOL, namespace_of(pool), name_of(pool))


def _release_components(place: Key) -> Program[None]:
    """Let the management Deployments go with their namespace."""
    for name in ("cluster-api", "capi-provider"):
        deployment = yield from get(DEPLOYMENT, place.namespace, name, live=True)
        if deployment is not None:
            yield from change_finalizer(deployment, DEPLOYMENT, COMPONENT_FINALIZER, present=False)
