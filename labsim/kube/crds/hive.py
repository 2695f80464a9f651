"""The CustomResourceDefinitions of hive: ClusterDeployment, ClusterImageSet, AgentClusterInstall.

The fields of this flow are checked; others are kept as they are, for these kinds have many more.
Fields and columns: fact sheet cim-resources, sections 1.1 and 1.6.
"""

from __future__ import annotations

from labsim.kube.crds.builder import (
    AGE,
    Schema,
    anything,
    array,
    boolean,
    column,
    conditions,
    crd,
    int32,
    integer,
    local_reference,
    map_of,
    obj,
    open_obj,
    string,
    time,
    version,
)
from labsim.model.kinds import AGENT_CLUSTER_INSTALL, CLUSTER_DEPLOYMENT, CLUSTER_IMAGE_SET


def crds() -> list[Schema]:
    return [_cluster_deployment(), _cluster_image_set(), _agent_cluster_install()]


def _label_column(name: str, label: str) -> Schema:
    escaped = label.replace(".", "\\.")
    return column(name, f".metadata.labels.{escaped}")


def _cluster_deployment() -> Schema:
    metadata = open_obj(
        {
            "clusterID": string(),
            "infraID": string(),
            "adminKubeconfigSecretRef": local_reference(),
            "adminPasswordSecretRef": local_reference(),
        },
        required=["adminKubeconfigSecretRef", "clusterID", "infraID"],
    )
    install_reference = obj(
        {"group": string(), "version": string(), "kind": string(), "name": string()},
        required=["group", "kind", "name", "version"],
    )
    spec = open_obj(
        {
            "clusterName": string(),
            "baseDomain": string(),
            "installed": boolean(),
            "pullSecretRef": local_reference(),
            "clusterInstallRef": install_reference,
            "platform": open_obj({"agentBareMetal": open_obj({"agentSelector": anything()})}),
            "clusterMetadata": metadata,
            "preserveOnDelete": boolean(),
            "controlPlaneConfig": anything(),
            "powerState": string(),
        },
        required=["baseDomain", "clusterName", "platform"],
    )
    status = open_obj(
        {"conditions": conditions(lastProbeTime=time()), "powerState": string(), "installedTimestamp": time()}
    )
    columns = [
        column("InfraID", ".spec.clusterMetadata.infraID"),
        _label_column("Platform", "hive.openshift.io/cluster-platform"),
        _label_column("Region", "hive.openshift.io/cluster-region"),
        _label_column("Version", "hive.openshift.io/version"),
        _label_column("ClusterType", "hive.openshift.io/cluster-type"),
        column("ProvisionStatus", ".status.conditions[?(@.type=='Provisioned')].reason"),
        column("PowerState", ".status.powerState"),
        AGE,
    ]
    made = version(CLUSTER_DEPLOYMENT.version, spec=spec, status=status, columns=columns)
    return crd(CLUSTER_DEPLOYMENT, [made], short_names=["cd"])


def _cluster_image_set() -> Schema:
    spec = obj({"releaseImage": string()}, required=["releaseImage"])
    columns = [column("Release", ".spec.releaseImage")]
    made = version(CLUSTER_IMAGE_SET.version, spec=spec, status=obj(), columns=columns)
    return crd(CLUSTER_IMAGE_SET, [made], short_names=["imgset"])


def _agent_cluster_install() -> Schema:
    certificate = obj({"namespace": string(), "name": string()}, required=["name", "namespace"])
    networking = open_obj(
        {
            "userManagedNetworking": boolean(),
            "machineNetwork": array(open_obj({"cidr": string()})),
            "clusterNetwork": array(open_obj({"cidr": string(), "hostPrefix": int32()})),
            "serviceNetwork": array(string()),
            "networkType": string(),
        }
    )
    requirements = obj(
        {
            "controlPlaneAgents": integer(),
            "workerAgents": integer(minimum=0),
            "arbiterAgents": integer(minimum=0),
        },
        required=["controlPlaneAgents"],
    )
    spec = open_obj(
        {
            "clusterDeploymentRef": local_reference(),
            "networking": networking,
            "provisionRequirements": requirements,
            "imageSetRef": obj({"name": string()}, required=["name"]),
            "sshPublicKey": string(),
            "ignitionEndpoint": obj({"url": string(), "caCertificateReference": certificate}),
            "holdInstallation": boolean(),
            "mirrorRegistryRef": certificate,
            "apiVIP": string(),
            "ingressVIP": string(),
            "platformType": string(),
        },
        required=["clusterDeploymentRef", "networking", "provisionRequirements"],
    )
    validation = obj({"id": string(), "status": string(), "message": string()}, required=["id", "status", "message"])
    status = open_obj(
        {
            "conditions": conditions(lastProbeTime=time()),
            "debugInfo": obj({"eventsURL": string(), "logsURL": string(), "state": string(), "stateInfo": string()}),
            "progress": obj({"totalPercentage": integer()}, required=["totalPercentage"]),
            "validationsInfo": map_of(array(validation)),
            "platformType": string(),
            "userManagedNetworking": boolean(),
        }
    )
    columns = [
        column("Cluster", ".spec.clusterDeploymentRef.name", description="The name of the referenced cluster"),
        column("State", ".status.debugInfo.state", description="The current state of the cluster"),
    ]
    made = version(AGENT_CLUSTER_INSTALL.version, spec=spec, status=status, columns=columns)
    return crd(AGENT_CLUSTER_INSTALL, [made], short_names=["aci"])
