"""The CustomResourceDefinition of hypershift.openshift.io NodePool (fact sheet, section 2)."""

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
    int32,
    int_or_string,
    map_of,
    obj,
    open_obj,
    rule,
    string,
    version,
)
from labsim.kube.crds.hypershift_fields import immutable, name_reference, platform, release, rules
from labsim.model.kinds import NODE_POOL


def _node_pool_management() -> Schema:
    rolling = open_obj({"maxUnavailable": int_or_string(default=0), "maxSurge": int_or_string(default=1)})
    replace = open_obj(
        {"strategy": enum("RollingUpdate", "OnDelete", default="RollingUpdate"), "rollingUpdate": rolling},
        **rules(
            rule(
                "!has(self.rollingUpdate) || self.strategy == 'RollingUpdate'",
                "The 'rollingUpdate' field can only be set when 'strategy' is 'RollingUpdate'",
            )
        ),
    )
    return open_obj(
        {
            "upgradeType": enum("Replace", "InPlace", **immutable("UpgradeType is immutable")),
            "replace": replace,
            "inPlace": open_obj({"maxUnavailable": int_or_string(default=1)}),
            "autoRepair": boolean(default=False),
        },
        required=["upgradeType"],
        **rules(
            rule(
                "!has(self.inPlace) || self.upgradeType == 'InPlace'",
                "The 'inPlace' field can only be set when 'upgradeType' is 'InPlace'",
            )
        ),
    )


def _label_selector() -> Schema:
    expression = obj({"key": string(), "operator": string(), "values": array(string())}, required=["key", "operator"])
    return obj({"matchLabels": map_of(string()), "matchExpressions": array(expression)})


def node_pool() -> Schema:
    """The CustomResourceDefinition of NodePool."""
    autoscaling = open_obj(
        {"min": int32(minimum=0), "max": int32(minimum=1)},
        required=["max", "min"],
        **rules(rule("self.max >= self.min", "max must be equal or greater than min")),
    )
    taint = open_obj(
        {"key": string(), "value": string(), "effect": enum("NoSchedule", "PreferNoSchedule", "NoExecute")},
        required=["effect", "key"],
    )
    checks = [
        rule("!has(oldSelf.arch) || has(self.arch)", "Arch is required once set"),
        rule(
            "self.arch != 's390x' || self.platform.type == 'KubeVirt'", "s390x is only supported on KubeVirt platform"
        ),
        rule("!(has(self.replicas) && has(self.autoScaling))", "Both replicas or autoScaling should not be set"),
        rule(
            "!has(self.autoScaling) || self.autoScaling.min > 0 || self.platform.type in ['AWS', 'Azure']",
            "Scale-from-zero (autoScaling.min=0) is currently only supported for AWS and Azure platforms",
        ),
    ]
    spec = open_obj(
        {
            "clusterName": string(
                minLength=1,
                maxLength=253,
                pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                **immutable("ClusterName is immutable"),
            ),
            "release": release(),
            "platform": platform(open_obj({"agentLabelSelector": _label_selector()})),
            "replicas": int32(minimum=0),
            "management": _node_pool_management(),
            "autoScaling": autoscaling,
            "config": array(name_reference(), maxItems=10),
            "tuningConfig": array(name_reference(), maxItems=10),
            "nodeDrainTimeout": string(),
            "nodeVolumeDetachTimeout": string(),
            "nodeLabels": map_of(string()),
            "taints": array(taint, maxItems=50),
            "pausedUntil": string(),
            "arch": enum("amd64", "arm64", "ppc64le", "s390x", default="amd64", **immutable("Arch is immutable")),
        },
        required=["clusterName", "management", "platform", "release"],
        **{"x-kubernetes-validations": checks},
    )
    status = open_obj(
        {
            "replicas": int32(),
            "version": string(),
            "platform": anything(),
            "conditions": conditions(severity=string()),
        }
    )

    def condition(name: str, part: str = "status") -> str:
        return f'.status.conditions[?(@.type=="{name}")].{part}'

    return crd(
        NODE_POOL,
        [
            version(
                "v1beta1",
                spec=spec,
                status=status,
                columns=[
                    column("Cluster", ".spec.clusterName"),
                    column("Desired Nodes", ".spec.replicas", "integer"),
                    column("Current Nodes", ".status.replicas", "integer"),
                    column("Autoscaling", condition("AutoscalingEnabled")),
                    column("Autorepair", condition("AutorepairEnabled")),
                    column("Version", ".status.version"),
                    column("UpdatingVersion", condition("UpdatingVersion")),
                    column("UpdatingConfig", condition("UpdatingConfig")),
                    column("Message", condition("Ready", "message")),
                ],
                scale={"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
            )
        ],
        short_names=["np", "nps"],
    )
