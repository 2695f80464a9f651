"""Names, labels and annotations that HyperShift gives to what it makes (fact sheet, section 4)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable

import orjson

from labsim.controllers.runtime.effects import Key
from labsim.entropy import Entropy
from labsim.model.objects import Object, annotations_of, name_of, namespace_of

PREFIX = "hypershift.openshift.io/"
FINALIZER = "hypershift.openshift.io/finalizer"
COMPONENT_FINALIZER = "hypershift.openshift.io/component-finalizer"
CLUSTER_ANNOTATION = "hypershift.openshift.io/cluster"  # on what belongs to a HostedCluster: <ns>/<name>
NODE_POOL_ANNOTATION = "hypershift.openshift.io/nodePool"  # on what belongs to a NodePool: <ns>/<name>
NODE_POOL_LABEL = "hypershift.openshift.io/nodePool"  # on guest Nodes: the NodePool's name
COMPONENT_LABEL = "hypershift.openshift.io/control-plane-component"
HOSTED_NAMESPACE_LABEL = "hypershift.openshift.io/hosted-control-plane"
RBAC_LABEL = "hypershift.openshift.io/capi-provider-agent-rbac"
IGNITION_CONFIG = "hypershift.openshift.io/ignition-config"
IGNITION_REACHED = "hypershift.openshift.io/ignition-reached"
TOKEN_GENERATED = "hypershift.openshift.io/last-token-generation-time"  # noqa: S105 (an annotation, no password)
TOKEN_EXPIRES = "hypershift.openshift.io/ignition-token-expiration-timestamp"  # noqa: S105
SCHEDULER_NAME = "labsim"


def control_plane_namespace(namespace: str, name: str) -> str:
    """Where the control plane of HostedCluster `namespace/name` runs."""
    return f"{namespace}-{name.replace('.', '-')}"


def control_plane_key(hosted_cluster: Object) -> Key:
    """Namespace and name of a HostedCluster's HostedControlPlane."""
    name = name_of(hosted_cluster)
    return Key(control_plane_namespace(namespace_of(hosted_cluster), name), name)


def infra_id(name: str, entropy: Entropy) -> str:
    """The infraID of a HostedCluster that came without: at most 27 letters."""
    return f"{name[:21]}-{entropy.text(f'infra-id/{name}')}"


@functools.lru_cache(maxsize=4096)
def short_hash(text: str) -> str:
    """Eight hex digits: FNV-1a with 32 bits, as HyperShift's template and configuration hashes."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f"{value:08x}"


def hash_of(document: object) -> str:
    """The short hash of a JSON document."""
    return short_hash(orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode())


def machine_label(infra: str, cluster: str, node_pool: str) -> str:
    """Key and value of the label that a NodePool's Machines carry: at most 43 letters, hashed if longer."""
    name = f"{infra}-{cluster}-{node_pool}"
    if len(name) <= 43:
        return name
    digest = hashlib.sha256(f"{infra}-{cluster}".encode()).hexdigest()[:8]
    base = f"{infra}-{cluster}"[: max(0, 43 - len(node_pool) - 10)]
    return f"{base}-{digest}-{node_pool}"[:43]


def key_text(key: Key) -> str:
    return f"{key.namespace}/{key.name}"


def key_from(text: str) -> Key:
    """The key in an annotation `<ns>/<name>`."""
    namespace, _, name = text.partition("/")
    return Key(namespace, name)


def keys_of_annotation(annotation: str, obj: Object) -> Iterable[Key]:
    """The key that an object's annotation names, if it has it."""
    text = annotations_of(obj).get(annotation)
    return (key_from(text),) if text else ()


def of_cluster(obj: Object) -> Iterable[Key]:
    """The HostedCluster that an object belongs to."""
    return keys_of_annotation(CLUSTER_ANNOTATION, obj)


def of_control_plane(obj: Object) -> Iterable[Key]:
    """The HostedControlPlane whose namespace an object of ours lives in."""
    text = annotations_of(obj).get(CLUSTER_ANNOTATION)
    return (Key(namespace_of(obj), key_from(text).name),) if text else ()


def of_node_pool(obj: Object) -> Iterable[Key]:
    """The NodePool that an object belongs to."""
    return keys_of_annotation(NODE_POOL_ANNOTATION, obj)
