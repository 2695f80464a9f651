"""CustomResourceDefinitions of this API group family."""

from __future__ import annotations

from labsim.kube.crds.builder import Schema


def crds() -> list[Schema]:
    return []
