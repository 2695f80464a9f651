"""CustomResourceDefinitions of config.openshift.io that every hosted cluster's API server serves."""

from __future__ import annotations

from labsim.kube.crds.builder import (
    Schema,
    anything,
    array,
    column,
    conditions,
    crd,
    integer,
    open_obj,
    string,
    version,
)
from labsim.model.kinds import CLUSTER_OPERATOR, CLUSTER_VERSION


def crds() -> list[Schema]:
    return [_cluster_operator(), _cluster_version()]


def _condition(name: str, part: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].{part}'


def _cluster_operator() -> Schema:
    named_version = open_obj({"name": string(), "version": string()}, required=["name", "version"])
    status = open_obj(
        {"conditions": conditions(), "versions": array(named_version), "relatedObjects": array(anything())}
    )
    return crd(
        CLUSTER_OPERATOR,
        [
            version(
                "v1",
                spec=anything(),
                status=status,
                columns=[
                    column(
                        "Version",
                        '.status.versions[?(@.name=="operator")].version',
                        description="The version the operator is at.",
                    ),
                    column("Available", _condition("Available", "status")),
                    column("Progressing", _condition("Progressing", "status")),
                    column("Degraded", _condition("Degraded", "status")),
                    column("Since", _condition("Available", "lastTransitionTime"), "date"),
                    column("Message", _condition("Progressing", "message")),
                ],
            )
        ],
        short_names=["co"],
    )


def _cluster_version() -> Schema:
    status = open_obj(
        {
            "desired": anything(),
            "history": array(anything()),
            "observedGeneration": integer(),
            "versionHash": string(),
            "availableUpdates": array(anything(), nullable=True),
            "conditions": conditions(),
        }
    )
    spec = open_obj({"clusterID": string(), "channel": string(), "desiredUpdate": anything(nullable=True)})
    return crd(
        CLUSTER_VERSION,
        [
            version(
                "v1",
                spec=spec,
                status=status,
                columns=[
                    column("Version", '.status.history[?(@.state=="Completed")].version'),
                    column("Available", _condition("Available", "status")),
                    column("Progressing", _condition("Progressing", "status")),
                    column("Since", _condition("Progressing", "lastTransitionTime"), "date"),
                    column("Status", _condition("Progressing", "message")),
                ],
            )
        ],
    )
