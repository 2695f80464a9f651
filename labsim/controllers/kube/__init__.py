"""The two controllers of kube-controller-manager that this flow needs: garbage collection and namespaces."""

from __future__ import annotations

from labsim.controllers.kube.component import KubeControllers

__all__ = ["KubeControllers"]
