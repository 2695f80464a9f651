"""The CustomResourceDefinitions of the flow, one module per API group family."""

from __future__ import annotations

import functools

from labsim.kube.conversion import Conversions
from labsim.kube.crds.builder import Schema


@functools.lru_cache(maxsize=1)
def hub_crds() -> tuple[Schema, ...]:
    """Every CRD that a simulated hub installs, as apiextensions.k8s.io/v1 objects. Shared: copy before changing."""
    from labsim.kube.crds import agent_install, capi, hive, hypershift, open_cluster_management

    modules = (agent_install, hive, open_cluster_management, hypershift, capi)
    return tuple(definition for module in modules for definition in module.crds())


@functools.lru_cache(maxsize=1)
def hosted_crds() -> tuple[Schema, ...]:
    """The CRDs of a hosted cluster's own API server (config.openshift.io)."""
    from labsim.kube.crds import openshift_config

    return tuple(openshift_config.crds())


@functools.lru_cache(maxsize=1)
def hub_conversions() -> Conversions:
    """What the conversion webhooks of `hub_crds` answer, by the name of the definition."""
    from labsim.kube.crds import capi_conversion

    return capi_conversion.conversions()


@functools.lru_cache(maxsize=1)
def plain_hub_crds() -> tuple[Schema, ...]:
    """`hub_crds` for a cluster that our process cannot convert for: what needs a webhook comes in one version."""
    return tuple(
        _in_its_stored_version(definition) if definition["spec"]["conversion"]["strategy"] == "Webhook" else definition
        for definition in hub_crds()
    )


def _in_its_stored_version(definition: Schema) -> Schema:
    spec = definition["spec"]
    stored = next(version for version in spec["versions"] if version["storage"])
    alone = {key: value for key, value in stored.items() if key != "deprecated"}
    return {**definition, "spec": {**spec, "versions": [alone], "conversion": {"strategy": "None"}}}
