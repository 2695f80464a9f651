"""The simulated HyperShift: operator, control-plane operators, ignition servers and what runs in hosted clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labsim.controllers.hypershift.control_plane import ControlPlane
from labsim.controllers.hypershift.csr import SigningRequests
from labsim.controllers.hypershift.guest_daemon_sets import GuestDaemonSets
from labsim.controllers.hypershift.guest_nodes import GuestNodes
from labsim.controllers.hypershift.guest_operators import GuestOperators
from labsim.controllers.hypershift.guest_setup import GuestSetup
from labsim.controllers.hypershift.guest_state import GuestState
from labsim.controllers.hypershift.hosted_cluster import HostedClusters
from labsim.controllers.hypershift.ignition import IgnitionServer
from labsim.controllers.hypershift.node_pool import NodePools
from labsim.controllers.hypershift.observed import HostedAuthentication, Observed
from labsim.controllers.hypershift.pki import PkiSecrets
from labsim.controllers.hypershift.pods import ControlPlanePods
from labsim.controllers.hypershift.published_services import answer_konnectivity, answer_oauth
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import Controller, Handler, Key
from labsim.entropy import Entropy


class HyperShift:
    """The component `hypershift` of a hub."""

    name = "hypershift"

    def __init__(self, entropy: Entropy, settings: HyperShiftSettings | None = None) -> None:
        settings = settings or HyperShiftSettings()
        chance = entropy.child("hypershift")
        self._observed = Observed()
        state = GuestState()
        pki = PkiSecrets(chance, self._observed)
        self._ignition = IgnitionServer(settings, chance, self._observed)
        pools = NodePools(settings, chance, self._observed)
        nodes = GuestNodes(settings, chance, self._observed, state)
        self._controllers: tuple[Controller, ...] = (
            HostedClusters(settings, chance).controller(),
            ControlPlanePods(settings, chance).controller(),
            ControlPlane(settings, chance, self._observed, pki).controller(),
            *pools.controllers(),
            self._ignition.controller(),
            GuestSetup(settings, self._observed).controller(),
            GuestOperators(settings, self._observed, state).controller(),
            *nodes.controllers(),
            GuestDaemonSets(chance, self._observed, state).controller(),
            SigningRequests(self._observed, pki).controller(),
        )

    def controllers(self) -> Sequence[Controller]:
        return self._controllers

    def services(self) -> Mapping[str, Handler]:
        return {
            "ignition-server": self._ignition.handle,
            "oauth": answer_oauth,
            "konnectivity": answer_konnectivity,
        }

    def start_keys(self) -> Sequence[tuple[str, Key]]:
        return ()

    def hosted_authentication(self, owner: str) -> HostedAuthentication | None:
        """How the hosted API server of "<control-plane namespace>/<name>" knows its clients.

        Known before the API server is published; None for a control plane that this component does not run.
        """
        return self._observed.authentication.get(owner)
