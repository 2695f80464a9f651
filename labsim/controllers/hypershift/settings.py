"""What can be chosen about the simulated HyperShift, and the release payloads that it knows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

_TAG_VERSION = re.compile(
    r"^(\d+\.\d+\.\d+(?:-(?:rc|ec|fc)\.\d+)?)(?:-(?:x86_64|multi|aarch64|ppc64le|s390x|amd64|arm64))?$"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HyperShiftSettings:
    """Timings are ranges in in-world seconds from which a value is derived per object; the rest is policy.

    `payload_versions` names the version of release images whose tag does not say it (a digest, for example);
    `default_version` stands for every other digest. `binds_volumes` gives pending etcd claims a volume as soon as a
    storage class fits; a hub with a provisioner of its own turns it off. `makes_pods` makes the pods of Deployments
    and StatefulSets and counts them; on a hub whose own controllers do that, their pods are only started.
    `routes_domain`: below it the hub's router answers for Routes that name no host; "" for a hub without Routes.
    """

    default_version: str = "4.22.0"
    payload_versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    newest_minor: int = 23
    oldest_minor: int = 14
    capi_provider_image: str = "quay.io/edge-infrastructure/cluster-api-provider-agent:latest"
    operator_image: str = "quay.io/hypershift/hypershift-operator:latest"
    binds_volumes: bool = True
    makes_pods: bool = True
    routes_domain: str = ""
    pod_start_s: tuple[float, float] = (8.0, 18.0)
    token_ttl_s: float = 11 * 3600.0
    token_rotation_s: float = 5.5 * 3600.0
    token_expiration_s: float = 2 * 3600.0
    node_grace_s: float = 40.0
    node_eviction_s: float = 300.0

    def version_of(self, image: str) -> str | None:
        """The OpenShift version of a release image, or None where the image is no release that exists here."""
        known = self.payload_versions.get(image)
        if known is not None:
            return known
        if "@sha256:" in image:
            return self.default_version
        tag = image.rpartition("/")[2].partition(":")[2]
        found = _TAG_VERSION.match(tag)
        return found.group(1) if found else None


def minor_of(version: str) -> int:
    """The y of x.y.z, counted as one series: 5.0 follows 4.23."""
    major, minor = version.split(".")[:2]
    return int(minor) + (24 if major == "5" else 0)


def kubernetes_version(version: str) -> str:
    """The Kubernetes version of an OpenShift payload: 4.17 ships v1.30."""
    return f"v1.{minor_of(version) + 13}.0"
