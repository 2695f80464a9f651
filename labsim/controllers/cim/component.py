"""CIM as a component of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labsim.controllers.cim.access import Access
from labsim.controllers.cim.agent import Agents
from labsim.controllers.cim.agent_service_config import AgentServiceConfigs
from labsim.controllers.cim.cluster_deployment import ClusterDeployments
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.downloads import Downloads
from labsim.controllers.cim.image import ImageService
from labsim.controllers.cim.infra_env import InfraEnvs
from labsim.controllers.cim.instructions import Instructions
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.monitor import MONITOR_KEY, HostMonitor
from labsim.controllers.cim.replies import StepReplies
from labsim.controllers.cim.rest import RestApi
from labsim.controllers.cim.settings import CimSettings
from labsim.controllers.cim.tokens import TokenAuthority
from labsim.controllers.cim.webhooks import Admission, AdmissionHook
from labsim.controllers.runtime.effects import Controller, Handler, Key
from labsim.entropy import Entropy


class Cim:
    """assisted-service with its database, its image service, and its controllers."""

    name = "cim"

    def __init__(self, entropy: Entropy, settings: CimSettings | None = None) -> None:
        own = entropy.child("cim")
        self.settings = settings or CimSettings()
        self.database = Database(own)
        self.tokens = TokenAuthority(own)
        self.lifecycle = HostLifecycle(self.database, self.settings)
        self.monitor = HostMonitor(self.database, self.lifecycle)
        access = Access(self.database, self.tokens)
        self._rest = RestApi(
            lifecycle=self.lifecycle,
            monitor=self.monitor,
            instructions=Instructions(self.database, self.settings, own, self._image_token),
            replies=StepReplies(self.lifecycle),
            access=access,
            downloads=Downloads(self.database, self.settings, self.tokens, access),
        )
        self._image = ImageService(self.settings)
        self._controllers = (
            InfraEnvs(self.database, self.settings, self.tokens).controller(),
            Agents(self.lifecycle, self.monitor, self.tokens).controller(),
            ClusterDeployments(self.lifecycle, self.monitor, self.tokens).controller(),
            AgentServiceConfigs(self.settings).controller(),
            self.monitor.controller(),
        )

    def controllers(self) -> Sequence[Controller]:
        return self._controllers

    def services(self) -> Mapping[str, Handler]:
        return {"assisted-service": self._rest.handle, "assisted-image-service": self._image.handle}

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return (("monitor", MONITOR_KEY),)

    def admission_hooks(self) -> Sequence[AdmissionHook]:
        """What upstream's validating and mutating webhooks do, for the hub's API server."""
        return (Admission(self.database).hook,)

    def _image_token(self, infra_env_id: str) -> str:
        row = self.database.infra_envs.get(infra_env_id)
        return row.image_token if row is not None else ""
