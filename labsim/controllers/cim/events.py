"""The service's events: names, severities and messages of host-lifecycle section 7."""

from __future__ import annotations

from labsim.model.objects import Object, timestamp

_WARNING_STATES = ("disconnected", "insufficient", "installing-pending-user-action")


class Event:
    """One event of a host, an InfraEnv or a cluster."""

    __slots__ = ("cluster_id", "host_id", "infra_env_id", "message", "name", "severity", "time_s")

    def __init__(
        self,
        name: str,
        severity: str,
        message: str,
        time_s: float,
        *,
        host_id: str = "",
        infra_env_id: str = "",
        cluster_id: str = "",
    ) -> None:
        self.name = name
        self.severity = severity
        self.message = message
        self.time_s = time_s
        self.host_id = host_id
        self.infra_env_id = infra_env_id
        self.cluster_id = cluster_id

    def document(self) -> Object:
        """As `/v2/events` answers it; empty ids are left out."""
        shown: Object = {
            "name": self.name,
            "category": "user",
            "severity": self.severity,
            "message": self.message,
            "event_time": timestamp(self.time_s)[:-1] + f".{round(self.time_s % 1 * 1000) % 1000:03d}Z",
        }
        for field in ("host_id", "infra_env_id", "cluster_id"):
            value = getattr(self, field)
            if value:
                shown[field] = value
        return shown


def status_severity(status: str) -> str:
    """The severity of host_status_updated by the new status; the *-unbound states are all info."""
    if status == "error":
        return "error"
    return "warning" if status in _WARNING_STATES else "info"


def status_updated(display_name: str, source: str, status: str, info: str) -> str:
    return f"Host {display_name}: updated status from {source} to {status} ({info})"


def progress_updated(display_name: str, stage: str, info: str) -> str:
    return f"Host: {display_name}, reached installation stage {stage}" + (f": {info}" if info else "")
