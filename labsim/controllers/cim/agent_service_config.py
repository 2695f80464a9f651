"""The AgentServiceConfig controller: only the one named `agent` counts (cim-resources section 5)."""

from __future__ import annotations

import re

from labsim.controllers.cim.patching import patch_metadata, patch_status, with_condition, without_finalizer
from labsim.controllers.cim.settings import CimSettings
from labsim.controllers.runtime.effects import DONE, Controller, Key, Program, Result, Watch, create, get, now
from labsim.controllers.runtime.own_writes import OwnWrites
from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT_SERVICE_CONFIG, EVENT
from labsim.model.objects import Object, dig, finalizers_of, is_deleting, name_of, new, timestamp, uid_of

NAME = "agent"
FINALIZER = "agentserviceconfig.agent-install.openshift.io/ai-deprovision"
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)([KMGTP]i?|k)?$")
_FACTORS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
# field, shown name, minimum in Gi
_STORAGE = (("databaseStorage", "Database", 1), ("filesystemStorage", "Filesystem", 1), ("imageStorage", "Image", 10))


class AgentServiceConfigs:
    """The controller. The service itself is always up: its Deployments are not modelled, only what is said of them."""

    def __init__(self, settings: CimSettings) -> None:
        self._settings = settings
        self._own = OwnWrites()

    def controller(self) -> Controller:
        return Controller(name="agent-service-config", reconcile=self.reconcile, watches=(Watch(AGENT_SERVICE_CONFIG),))

    def reconcile(self, key: Key) -> Program[Result]:
        obj = self._own.fresher(key, (yield from get(AGENT_SERVICE_CONFIG, "", key.name)))
        if obj is None:
            return DONE
        now_s = yield from now()
        if key.name != NAME:
            message = "Only one AgentServiceConfig supported per cluster and must be named 'agent'"
            yield from self._warn(obj, f"Invalid name ({key.name})", message, now_s)
            return DONE
        if is_deleting(obj):
            yield from without_finalizer(AGENT_SERVICE_CONFIG, obj, FINALIZER)
            return DONE
        obj = yield from patch_metadata(
            AGENT_SERVICE_CONFIG, obj, finalizers=list(dict.fromkeys([*finalizers_of(obj), FINALIZER]))
        )
        problem = _storage_problem(obj)
        status: Object = dict(obj.get("status") or {})
        conditions = status.get("conditions") or []
        if problem:
            yield from self._warn(obj, "StorageFailure", problem, now_s)
            conditions = with_condition(conditions, "ReconcileCompleted", "False", "StorageFailure", problem, now_s)
        else:
            message = "AgentServiceConfig reconcile completed without error."
            conditions = with_condition(conditions, "ReconcileCompleted", "True", "ReconcileSucceeded", message, now_s)
            message = "All the deployments managed by Infrastructure-operator are healthy."
            conditions = with_condition(conditions, "DeploymentsHealthy", "True", "DeploymentSucceeded", message, now_s)
        status["conditions"] = conditions
        self._own.wrote(obj, (yield from patch_status(AGENT_SERVICE_CONFIG, obj, status)))
        return DONE

    def _warn(self, obj: Object, reason: str, message: str, now_s: float) -> Program[None]:
        """One Warning event per object and reason."""
        moment = timestamp(now_s)
        slug = re.sub(r"[^a-z0-9]+", "-", reason.lower()).strip("-")
        event = new(
            EVENT,
            self._settings.namespace,
            f"{name_of(obj)}.{slug}",
            type="Warning",
            reason=reason,
            message=message,
            involvedObject={
                "apiVersion": AGENT_SERVICE_CONFIG.api_version,
                "kind": AGENT_SERVICE_CONFIG.kind,
                "name": name_of(obj),
                "uid": uid_of(obj),
            },
            source={"component": "agentserviceconfig-controller"},
            firstTimestamp=moment,
            lastTimestamp=moment,
            count=1,
        )
        try:
            yield from create(event, EVENT)
        except ApiError as error:
            if error.code not in (404, 409):
                raise


def _storage_problem(obj: Object) -> str:
    for field, shown, minimum_gib in _STORAGE:
        asked = dig(obj, "spec", field, "resources", "requests", "storage")
        if asked is not None and _bytes(str(asked)) < minimum_gib * 2**30:
            return f"{shown} storage {asked} is too small, it must be at least {minimum_gib}Gi"
    return ""


def _bytes(quantity: str) -> float:
    match = _QUANTITY.match(quantity)
    if match is None:
        return 0.0
    unit = match[2] or ""
    return float(match[1]) * (_BINARY.get(unit) or _FACTORS.get(unit, 1))
