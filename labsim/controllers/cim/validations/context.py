"""What the validations of one host look at."""

from __future__ import annotations

import dataclasses

from labsim.controllers.cim.rows import Cluster, Host, InfraEnv
from labsim.controllers.cim.settings import CimSettings

SUCCESS = "success"
FAILURE = "failure"
PENDING = "pending"
ERROR = "error"
DISABLED = "disabled"

Outcome = tuple[str, str]  # status, message


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ValidationContext:
    """One host as it is validated: with its cluster, or in the pool (cluster None)."""

    host: Host
    infra_env: InfraEnv | None
    cluster: Cluster | None
    connected: bool
    settings: CimSettings
    agent_is_compatible: bool = True

    @property
    def is_bound(self) -> bool:
        return self.cluster is not None
