"""CustomResourceDefinitions of open-cluster-management.io that the import of hosted clusters touches."""

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
    obj,
    open_obj,
    string,
    version,
)
from labsim.model.kinds import ADDON_DEPLOYMENT_CONFIG, MANAGED_CLUSTER


def crds() -> list[Schema]:
    return [_managed_cluster(), _addon_deployment_config()]


def _managed_cluster() -> Schema:
    client = open_obj({"url": string(), "caBundle": string()})
    taint = open_obj({"key": string(), "value": string(), "effect": string(), "timeAdded": string(nullable=True)})
    spec = open_obj(
        {
            "hubAcceptsClient": boolean(default=False),
            "leaseDurationSeconds": int32(default=60),
            "managedClusterClientConfigs": array(client),
            "taints": array(taint),
        }
    )
    status = open_obj(
        {
            "conditions": conditions(),
            "clusterClaims": array(open_obj({"name": string(), "value": string()})),
            "version": open_obj({"kubernetes": string()}),
            "capacity": anything(),
            "allocatable": anything(),
        }
    )
    return crd(
        MANAGED_CLUSTER,
        [
            version(
                "v1",
                spec=spec,
                status=status,
                columns=[
                    column("Hub Accepted", ".spec.hubAcceptsClient", "boolean"),
                    column("Managed Cluster URLs", ".spec.managedClusterClientConfigs[*].url"),
                    column("Joined", '.status.conditions[?(@.type=="ManagedClusterJoined")].status'),
                    column("Available", '.status.conditions[?(@.type=="ManagedClusterConditionAvailable")].status'),
                    AGE,
                ],
            )
        ],
        short_names=["mcl", "mcls"],
    )


def _addon_deployment_config() -> Schema:
    variable = obj({"name": string(maxLength=255), "value": string(maxLength=1024)}, required=["name"])
    spec = open_obj({"customizedVariables": array(variable), "nodePlacement": anything()})
    return crd(ADDON_DEPLOYMENT_CONFIG, [version("v1alpha1", spec=spec, status_subresource=False)])
