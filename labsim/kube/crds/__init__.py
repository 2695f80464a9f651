"""The CustomResourceDefinitions of the flow, one module per API group family."""

from __future__ import annotations

import functools

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
