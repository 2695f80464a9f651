"""HyperShift on the Agent platform: HostedCluster, NodePool, control planes, ignition server, hosted clusters."""

from labsim.controllers.hypershift.component import HyperShift
from labsim.controllers.hypershift.settings import HyperShiftSettings

__all__ = ["HyperShift", "HyperShiftSettings"]
