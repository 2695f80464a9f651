"""The CustomResourceDefinitions of agent-install.openshift.io: InfraEnv, Agent, NMStateConfig, AgentServiceConfig,
AgentClassification.

Fields, defaults and columns: fact sheet cim-resources, sections 1.1 to 1.5.
"""

from __future__ import annotations

from labsim.kube.crds.builder import (
    Schema,
    anything,
    array,
    boolean,
    column,
    conditions,
    crd,
    enum,
    integer,
    local_reference,
    map_of,
    obj,
    string,
    time,
    version,
)
from labsim.model.kinds import AGENT, AGENT_CLASSIFICATION, AGENT_SERVICE_CONFIG, INFRA_ENV, NMSTATE_CONFIG

MAC_PATTERN = "^([0-9A-Fa-f]{2}[:]){5}([0-9A-Fa-f]{2})$"
KERNEL_ARGUMENT_PATTERN = '^(?:(?:[^ \\t\\n\\r"]+)|(?:"[^"]*"))+$'


def crds() -> list[Schema]:
    return [_infra_env(), _agent(), _nmstate_config(), _agent_service_config(), _agent_classification()]


def _conditions() -> Schema:
    return conditions(lastHeartbeatTime=time())


def _reference(*, required: bool) -> Schema:
    """`{name, namespace}`: an object of any namespace."""
    return obj({"name": string(), "namespace": string()}, required=["name", "namespace"] if required else None)


def _label_selector() -> Schema:
    expression = obj({"key": string(), "operator": string(), "values": array(string())}, required=["key", "operator"])
    return obj({"matchLabels": map_of(string()), "matchExpressions": array(expression)})


def _infra_env() -> Schema:
    kernel_argument = obj(
        {"operation": enum("append", "replace", "delete"), "value": string(pattern=KERNEL_ARGUMENT_PATTERN)}
    )
    spec = obj(
        {
            "pullSecretRef": local_reference(),
            "clusterRef": _reference(required=True),
            "sshAuthorizedKey": string(),
            "cpuArchitecture": string(default="x86_64"),
            "osImageVersion": string(),
            "imageType": string(),
            "proxy": obj({"httpProxy": string(), "httpsProxy": string(), "noProxy": string()}),
            "additionalNTPSources": array(string()),
            "ntpSources": array(string()),
            "nmStateConfigLabelSelector": _label_selector(),
            "ignitionConfigOverride": string(),
            "ipxeScriptType": enum("", "DiscoveryImageAlways", "BootOrderControl", default="DiscoveryImageAlways"),
            "kernelArguments": array(kernel_argument),
            "additionalTrustBundle": string(),
            "mirrorRegistryRef": _reference(required=True),
            "agentLabels": map_of(string()),
            "agentApproval": obj({"autoApprove": boolean(default=False)}),
            "networkDiscoveryDelaySeconds": integer(minimum=0),
        },
        required=["pullSecretRef"],
    )
    status = obj(
        {
            "isoDownloadURL": string(),
            "createdTime": time(),
            "conditions": _conditions(),
            "agentLabelSelector": _label_selector(),
            "debugInfo": obj({"eventsURL": string(), "staticNetworkDownloadURL": string()}),
            "bootArtifacts": obj(
                {
                    "initrd": string(),
                    "rootfs": string(),
                    "kernel": string(),
                    "ipxeScript": string(),
                    "discoveryIgnitionURL": string(),
                }
            ),
        }
    )
    columns = [
        column("ISO Created At", ".status.createdTime", description="The creation time of the image"),
        column("ISO URL", ".status.isoDownloadURL", wide=True, description="The HTTP URL where the image can be got"),
    ]
    return crd(INFRA_ENV, [version(INFRA_ENV.version, spec=spec, status=status, columns=columns)])


def _agent() -> Schema:
    spec = obj(
        {
            "approved": boolean(),
            "role": string(),
            "clusterDeploymentName": obj({"name": string(), "namespace": string()}),
            "hostname": string(),
            "machineConfigPool": string(),
            "installation_disk_id": string(),
            "installation_disk_path": string(),
            "installerArgs": string(),
            "ignitionConfigOverrides": string(),
            "ignitionEndpointTokenReference": _reference(required=True),
            "ignitionEndpointHTTPHeaders": map_of(string()),
            "nodeLabels": map_of(string()),
            "fencingCredentialsSecretRef": local_reference(),
        },
        required=["approved", "role"],
    )
    columns = [
        column("Cluster", ".spec.clusterDeploymentName.name", description="The name of the cluster"),
        column("Approved", ".spec.approved", "boolean", description="The Approve state of the Agent"),
        column("Role", ".status.role", description="The role of the Agent"),
        column("Stage", ".status.progress.currentStage", description="The stage of the installation"),
        column("Hostname", ".status.inventory.hostname", wide=True, description="The hostname of the Agent"),
        column("Requested Hostname", ".spec.hostname", wide=True, description="The requested hostname"),
    ]
    return crd(AGENT, [version(AGENT.version, spec=spec, status=_agent_status(), columns=columns)])


def _agent_status() -> Schema:
    validation = obj({"id": string(), "status": string(), "message": string()}, required=["id", "status", "message"])
    approved = obj(
        {"name": string(), "type": enum("client", "serving"), "approvedAt": time()},
        required=["name", "type", "approvedAt"],
    )
    return obj(
        {
            "bootstrap": boolean(),
            "role": string(),
            "kind": string(),
            "installation_disk_id": string(),
            "inventory": _agent_inventory(),
            "progress": obj(
                {
                    "currentStage": string(),
                    "progressInfo": string(),
                    "installationPercentage": integer(),
                    "stageStartTime": time(),
                    "stageUpdateTime": time(),
                    "progressStages": array(string()),
                }
            ),
            "ntpSources": array(obj({"sourceName": string(), "sourceState": string()})),
            "debugInfo": obj({"state": string(), "stateInfo": string(), "eventsURL": string(), "logsURL": string()}),
            "validationsInfo": map_of(array(validation)),
            "csrStatus": obj({"approvedCSRs": array(approved), "lastApprovalAttempt": time()}),
            "deprovision_info": obj(
                {
                    "cluster_name": string(),
                    "cluster_namespace": string(),
                    "node_name": string(),
                    "message": string(),
                }
            ),
            "conditions": _conditions(),
        }
    )


def _agent_inventory() -> Schema:
    interface = obj(
        {
            "name": string(),
            "macAddress": string(),
            "ipV4Addresses": array(string()),
            "ipV6Addresses": array(string()),
            "flags": array(string()),
            "mtu": integer(),
            "speedMbps": integer(),
            "hasCarrier": boolean(),
            "vendor": string(),
            "product": string(),
            "biosDevName": string(),
            "clientID": string(),
        },
        required=["flags", "ipV4Addresses", "ipV6Addresses"],
    )
    eligibility = obj({"eligible": boolean(), "notEligibleReasons": array(string())}, required=["notEligibleReasons"])
    disk = obj(
        {
            "id": string(),
            "name": string(),
            "path": string(),
            "byPath": string(),
            "byID": string(),
            "driveType": string(),
            "vendor": string(),
            "model": string(),
            "serial": string(),
            "wwn": string(),
            "hctl": string(),
            "sizeBytes": integer(),
            "bootable": boolean(),
            "smart": string(),
            "installationEligibility": eligibility,
            "ioPerf": obj({"syncDurationMilliseconds": integer()}),
        },
        required=["id"],
    )
    gpu = obj(
        {
            "address": string(),
            "deviceID": string(),
            "name": string(),
            "vendor": string(),
            "vendorID": string(),
        }
    )
    cpu = obj(
        {
            "count": integer(),
            "clockMegahertz": integer(),
            "flags": array(string()),
            "modelName": string(),
            "architecture": string(),
        }
    )
    vendor = obj({"manufacturer": string(), "productName": string(), "serialNumber": string(), "virtual": boolean()})
    return obj(
        {
            "reportTime": time(),
            "hostname": string(),
            "bmcAddress": string(),
            "bmcV6Address": string(),
            "memory": obj({"physicalBytes": integer(), "usableBytes": integer()}),
            "cpu": cpu,
            "interfaces": array(interface),
            "disks": array(disk),
            "boot": obj({"currentBootMode": string(), "pxeInterface": string(), "deviceType": string()}),
            "systemVendor": vendor,
            "gpus": array(gpu),
        }
    )


def _nmstate_config() -> Schema:
    interface = obj({"name": string(), "macAddress": string(pattern=MAC_PATTERN)}, required=["macAddress", "name"])
    spec = obj({"interfaces": array(interface, minItems=1), "config": anything()})
    return crd(NMSTATE_CONFIG, [version(NMSTATE_CONFIG.version, spec=spec, status=obj({"conditions": _conditions()}))])


def _agent_service_config() -> Schema:
    os_image = obj(
        {
            "openshiftVersion": string(),
            "version": string(),
            "url": string(),
            "cpuArchitecture": string(),
            "rootFSUrl": string(),
        },
        required=["openshiftVersion", "url", "version"],
    )
    must_gather = obj({"name": string(), "openshiftVersion": string(), "url": string()})
    ingress = obj(
        {"assistedServiceHostname": string(), "imageServiceHostname": string(), "className": string()},
        required=["assistedServiceHostname", "imageServiceHostname"],
    )
    spec = obj(
        {
            "databaseStorage": anything(),
            "filesystemStorage": anything(),
            "imageStorage": anything(),
            "osImages": array(os_image),
            "mustGatherImages": array(must_gather),
            "mirrorRegistryRef": local_reference(),
            "iPXEHTTPRoute": enum("enabled", "disabled"),
            "unauthenticatedRegistries": array(string()),
            "OSImageCACertRef": local_reference(),
            "OSImageAdditionalParamsRef": local_reference(),
            "ingress": ingress,
        },
        required=["databaseStorage", "filesystemStorage"],
    )
    status = obj({"conditions": _conditions(), "immutableAnnotations": map_of(string())})
    return crd(AGENT_SERVICE_CONFIG, [version(AGENT_SERVICE_CONFIG.version, spec=spec, status=status)])


def _agent_classification() -> Schema:
    spec = obj(
        {"labelKey": string(), "labelValue": string(), "query": string()},
        required=["labelKey", "labelValue", "query"],
    )
    status = obj({"matchedCount": integer(), "errorCount": integer(), "conditions": _conditions()})
    return crd(AGENT_CLASSIFICATION, [version(AGENT_CLASSIFICATION.version, spec=spec, status=status)])
