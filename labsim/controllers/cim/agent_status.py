"""`.status`, labels and annotations of an Agent, from the host behind it (cim-resources 1.3, 1.7). Pure."""

from __future__ import annotations

from labsim.controllers.cim import urls
from labsim.controllers.cim.agent_creation import INFRA_ENV_LABEL
from labsim.controllers.cim.conditions import conditions_of, conditions_without_host
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.documents import percentage
from labsim.controllers.cim.errors import ServiceError
from labsim.controllers.cim.host_states import WORKER_STAGES
from labsim.controllers.cim.inventory import LABEL_PREFIX
from labsim.controllers.cim.patching import with_conditions
from labsim.controllers.cim.rows import Host
from labsim.controllers.cim.settings import CimSettings
from labsim.controllers.cim.validations import as_document
from labsim.model.objects import Object, annotations_of, timestamp

STATE_PREFIX = "agent.agent-install.openshift.io/"
INVENTORY_ANNOTATION = STATE_PREFIX + "inventory"
VALIDATIONS_ANNOTATION = STATE_PREFIX + "validations-info"
CLUSTER_NAMESPACE_LABEL = "agent-install.openshift.io/clusterdeployment-namespace"
_STAGES = list(WORKER_STAGES)  # in the status of every Agent: not to be changed


def desired_labels(database: Database, host: Host) -> dict[str, str]:
    """The labels that the controller keeps; those of the inventory only once there is one."""
    infra_env = database.infra_envs.get(host.infra_env_id)
    labels = {INFRA_ENV_LABEL: infra_env.name} if infra_env is not None else {}
    if host.inventory is not None:
        cluster = database.clusters.get(host.cluster_id)
        labels[CLUSTER_NAMESPACE_LABEL] = cluster.namespace if cluster is not None else ""
        labels.update(host.inventory.labels())
    return labels


def desired_annotations(host: Host) -> dict[str, str | None]:
    """Full copies of what the database knows, from which a lost row is made again (None removes one)."""
    annotations: dict[str, str | None] = {
        STATE_PREFIX + "state": host.status,
        STATE_PREFIX + "role": host.role,
        STATE_PREFIX + "current-stage": host.stage or None,
    }
    if host.inventory is not None:
        annotations[LABEL_PREFIX + "version"] = "0.1"
        annotations[INVENTORY_ANNOTATION] = host.inventory.text
    if host.validations_text:
        annotations[VALIDATIONS_ANNOTATION] = host.validations_text
    return annotations


def desired_status(
    present: Object, database: Database, settings: CimSettings, host: Host, error: ServiceError | None, now_s: float
) -> Object:
    """The whole status; what this controller does not set stays as it is in `present`."""
    status: Object = dict(present)
    status.update(bootstrap=host.bootstrap, role=host.effective_role, kind=host.kind)
    _set_or_drop(status, "installation_disk_id", host.installation_disk_id)
    if host.inventory is not None:
        # After a bind the backend has none; what the Agent shows then stays.
        status["inventory"] = host.inventory.agent_status()
    status["progress"] = _progress(host)
    _set_or_drop(status, "ntpSources", [{"sourceName": name, "sourceState": state} for name, state in host.ntp_sources])
    status["debugInfo"] = _debug_info(present.get("debugInfo") or {}, database, settings, host)
    if host.validations is not None:
        status["validationsInfo"] = host.validations_document or as_document(host.validations)
    status["conditions"] = with_conditions(present.get("conditions") or [], conditions_of(host, error), now_s)
    return status


def adopt_shown(host: Host, shown: Object) -> None:
    """Keep the API server's copies of what the host's row and its Agent both hold: one copy of each, and the next
    pass sees that they are the same without comparing them."""
    status, annotations = shown["status"], annotations_of(shown)
    if status.get("validationsInfo") == host.validations_document:
        host.validations_document = status["validationsInfo"]
    if annotations.get(VALIDATIONS_ANNOTATION) == host.validations_text:
        host.validations_text = annotations[VALIDATIONS_ANNOTATION]
    if host.inventory is not None:
        host.inventory.adopt(annotations.get(INVENTORY_ANNOTATION), status.get("inventory"))


def status_without_host(present: Object, error: ServiceError, now_s: float) -> Object:
    """The backend has no such host: nothing is known but the error."""
    status: Object = dict(present)
    debug = dict(present.get("debugInfo") or {})
    debug.pop("state", None)
    debug.pop("stateInfo", None)
    status["debugInfo"] = debug
    status["conditions"] = with_conditions(present.get("conditions") or [], conditions_without_host(error), now_s)
    return status


def _set_or_drop(status: Object, field: str, value: object) -> None:
    if value:
        status[field] = value
    else:
        status.pop(field, None)


def _progress(host: Host) -> Object:
    if not host.stage:
        return {}
    progress: Object = {
        "currentStage": host.stage,
        "installationPercentage": percentage(host.stage),
        "stageStartTime": timestamp(host.stage_started_at_s),
        "stageUpdateTime": timestamp(host.stage_updated_at_s),
        "progressStages": _STAGES,
    }
    if host.progress_info:
        progress["progressInfo"] = host.progress_info
    return progress


def _debug_info(present: Object, database: Database, settings: CimSettings, host: Host) -> Object:
    debug: Object = dict(present)
    debug["state"] = host.status
    debug["stateInfo"] = host.status_info
    cluster = database.clusters.get(host.cluster_id)
    infra_env = database.infra_envs.get(host.infra_env_id)
    if cluster is not None and infra_env is not None:
        if "eventsURL" not in debug:
            debug["eventsURL"] = urls.events_url(settings, infra_env.events_token, "host_id", host.id)
        if host.logs_collected_at_s and "logsURL" not in debug:
            debug["logsURL"] = urls.logs_url(settings, cluster.events_token, cluster.id, host.id)
    return debug
