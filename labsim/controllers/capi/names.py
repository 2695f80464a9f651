"""Labels, annotations, finalizers and intervals of Cluster API, as its v1beta1 contract spells them."""

from __future__ import annotations

CLUSTER_NAME_LABEL = "cluster.x-k8s.io/cluster-name"
SET_NAME_LABEL = "cluster.x-k8s.io/set-name"
DEPLOYMENT_NAME_LABEL = "cluster.x-k8s.io/deployment-name"
TEMPLATE_HASH_LABEL = "machine-template-hash"

PAUSED_ANNOTATION = "cluster.x-k8s.io/paused"
DELETE_MACHINE_ANNOTATION = "cluster.x-k8s.io/delete-machine"
CLONED_FROM_NAME_ANNOTATION = "cluster.x-k8s.io/cloned-from-name"
CLONED_FROM_KIND_ANNOTATION = "cluster.x-k8s.io/cloned-from-groupkind"
SKIP_REMEDIATION_ANNOTATION = "cluster.x-k8s.io/skip-remediation"
REMEDIATE_MACHINE_ANNOTATION = "cluster.x-k8s.io/remediate-machine"
EXCLUDE_DRAINING_ANNOTATION = "machine.cluster.x-k8s.io/exclude-node-draining"
EXCLUDE_VOLUME_DETACH_ANNOTATION = "machine.cluster.x-k8s.io/exclude-wait-for-node-volume-detach"
PRE_DRAIN_HOOK_PREFIX = "pre-drain.delete.hook.machine.cluster.x-k8s.io"
PRE_TERMINATE_HOOK_PREFIX = "pre-terminate.delete.hook.machine.cluster.x-k8s.io"
REVISION_ANNOTATION = "machinedeployment.clusters.x-k8s.io/revision"
DESIRED_REPLICAS_ANNOTATION = "machinedeployment.clusters.x-k8s.io/desired-replicas"
MAX_REPLICAS_ANNOTATION = "machinedeployment.clusters.x-k8s.io/max-replicas"

NODE_CLUSTER_NAME_ANNOTATION = "cluster.x-k8s.io/cluster-name"
NODE_CLUSTER_NAMESPACE_ANNOTATION = "cluster.x-k8s.io/cluster-namespace"
NODE_MACHINE_ANNOTATION = "cluster.x-k8s.io/machine"
NODE_OWNER_KIND_ANNOTATION = "cluster.x-k8s.io/owner-kind"
NODE_OWNER_NAME_ANNOTATION = "cluster.x-k8s.io/owner-name"
NODE_LABELS_ANNOTATION = "cluster.x-k8s.io/labels-from-machine"
NODE_UNINITIALIZED_TAINT = "node.cluster.x-k8s.io/uninitialized"

MACHINE_FINALIZER = "machine.cluster.x-k8s.io"
MACHINE_SET_FINALIZER = "cluster.x-k8s.io/machineset"
MACHINE_DEPLOYMENT_FINALIZER = "cluster.x-k8s.io/machinedeployment"
CLUSTER_FINALIZER = "cluster.cluster.x-k8s.io"

CAPI_GROUP = "cluster.x-k8s.io"

CLUSTER_DELETION_POLL_S = 5.0
INFRASTRUCTURE_MISSING_POLL_S = 30.0
DELETION_PASS_INTERVAL_S = 1.0
DRAIN_RETRY_S = 20.0
NODE_DELETION_POLL_S = 2.0
NODE_DELETION_POLL_LIMIT_S = 10.0
NODE_DELETION_TIMEOUT_S = 10.0
CACHE_POLL_S = 0.1
CACHE_POLL_LIMIT_S = 10.0
