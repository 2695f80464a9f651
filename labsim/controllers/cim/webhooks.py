"""CIM's admission rules, as hooks of the API server (cim-resources 1.8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from labsim.controllers.cim.database import Database
from labsim.controllers.cim.rows import KIND_DAY2
from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT, AGENT_CLASSIFICATION, AGENT_CLUSTER_INSTALL, INFRA_ENV, Kind
from labsim.model.objects import Object, condition_of, dig

AdmissionHook = Callable[[Kind, Object | None, Object | None, str, Any], None]
SUFFIX = "admission.agentinstall.openshift.io"
_LOCKED_STATES = (
    "preparing-for-installation",
    "preparing-failed",
    "preparing-successful",
    "installing",
    "installing-in-progress",
    "installing-pending-user-action",
)
_STARTED = ("InstallationInProgress", "InstallationCompleted", "InstallationFailed")
_FREE_AFTER_START = ("clusterMetadata", "ignitionEndpoint")


class Admission:
    """The webhooks of agentinstalladmission."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hook(self, kind: Kind, old: Object | None, new: Object | None, operation: str, _user: Any) -> None:
        """Refuse what upstream's webhooks refuse. Raises ApiError."""
        if new is None or operation.upper() not in ("CREATE", "UPDATE"):
            return
        plural = (kind.group, kind.plural)
        if plural == (AGENT.group, AGENT.plural):
            if old is not None:
                self._agent(old, new)
        elif plural == (INFRA_ENV.group, INFRA_ENV.plural):
            self._infra_env(old, new)
        elif plural == (AGENT_CLUSTER_INSTALL.group, AGENT_CLUSTER_INSTALL.plural):
            self._install(old, new)
        elif plural == (AGENT_CLASSIFICATION.group, AGENT_CLASSIFICATION.plural) and old is not None:
            self._classification(old, new)

    def _agent(self, old: Object, new: Object) -> None:
        """Only updates are registered."""
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        if spec.get("installation_disk_id") and spec.get("installation_disk_path"):
            raise _denied("agentvalidators", "Either InstallationDiskID or InstallationDiskPath can be set, not both.")
        reference, earlier = _reference(spec), _reference(before)
        if reference == earlier or dig(old, "status", "debugInfo", "state") not in _LOCKED_STATES:
            return
        if dig(old, "status", "kind") == KIND_DAY2 and reference is None:
            return
        raise _denied(
            "agentvalidators",
            "Attempted to change Spec.ClusterDeploymentName which is immutable during Agent installation.",
        )

    def _infra_env(self, old: Object | None, new: Object) -> None:
        spec = new.get("spec") or {}
        reference = spec.get("clusterRef")
        if old is None:
            if reference and spec.get("osImageVersion"):
                raise _denied(
                    "infraenvvalidators",
                    "Either Spec.ClusterRef or Spec.OSImageVersion should be specified (not both).",
                )
            return
        before = old.get("spec") or {}
        if reference != before.get("clusterRef"):
            raise _denied(
                "infraenvvalidators",
                "Attempted to change Spec.ClusterRef which is immutable after InfraEnv creation.",
            )
        if (spec.get("cpuArchitecture") or "x86_64") != (before.get("cpuArchitecture") or "x86_64"):
            raise _denied(
                "infraenvvalidators",
                "Attempted to change Spec.CpuArchitecture which is immutable after InfraEnv creation.",
            )
        added = spec.get("osImageVersion") and not before.get("osImageVersion")
        if added and reference and self._database.cluster_of(reference["namespace"], reference["name"]) is None:
            raise _denied(
                "infraenvvalidators",
                "spec.OSImageVersion is not valid. It can't be added alongside with a clusterRef when the cluster "
                "is not installed yet.",
            )

    def _install(self, old: Object | None, new: Object) -> None:
        spec = new.get("spec") or {}
        networking = spec.get("networking") or {}
        requirements = spec.get("provisionRequirements") or {}
        is_single_node = requirements.get("controlPlaneAgents") == 1 and not requirements.get("workerAgents")
        if old is None and networking.get("userManagedNetworking") is None and isinstance(networking, dict):
            # The mutating webhook fills it in.
            networking["userManagedNetworking"] = is_single_node
        if is_single_node and networking.get("userManagedNetworking") is False:
            raise _denied(
                "agentclusterinstallvalidators",
                "UserManagedNetworking must be set to true with SNO",
                code=409,
                reason="Conflict",
            )
        if old is None:
            return
        before = old.get("spec") or {}
        earlier_image = before.get("imageSetRef")
        if earlier_image and spec.get("imageSetRef") != earlier_image:
            raise _denied(
                "agentclusterinstallvalidators",
                "Attempted to change AgentClusterInstall.ImageSetRef which is immutable",
            )
        completed = (condition_of(old, "Completed") or {}).get("reason")
        if completed not in _STARTED:
            return
        free: tuple[str, ...] = _FREE_AFTER_START
        if completed == "InstallationCompleted":
            free = (*free, "provisionRequirements")
        difference = _differences(before, spec, free)
        if difference:
            raise _denied(
                "agentclusterinstallvalidators",
                "Attempted to change AgentClusterInstall.Spec which is immutable after install started, except for "
                f"ClusterMetadata,IgnitionEndpoint fields. Unsupported change: \n{difference}",
            )

    def _classification(self, old: Object, new: Object) -> None:
        for field in ("labelKey", "labelValue"):
            if dig(old, "spec", field) != dig(new, "spec", field):
                raise _denied(
                    "agentclassificationvalidators",
                    "Label modified: the specified label may not be modified after creation",
                )


def _reference(spec: Object) -> tuple[str, str] | None:
    reference = spec.get("clusterDeploymentName")
    return (reference.get("namespace", ""), reference.get("name", "")) if reference else None


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], free: tuple[str, ...]) -> str:
    lines = []
    for field in sorted({*before, *after} - set(free)):
        if before.get(field) != after.get(field):
            shown = orjson.dumps(before.get(field)).decode(), orjson.dumps(after.get(field)).decode()
            lines.append(f"\t{field}: ({shown[0]} => {shown[1]})")
    return "\n".join(lines)


def _denied(name: str, message: str, *, code: int = 400, reason: str = "BadRequest") -> ApiError:
    return ApiError(code, reason, f'admission webhook "{name}.{SUFFIX}" denied the request: {message}')
