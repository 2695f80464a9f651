"""How somebody starts the components of a hub that labsim does not play."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from labsim.controllers.agent_provider.managers import argument
from labsim.controllers.agent_provider.names import MANAGER_DEPLOYMENT
from labsim.kube.store import Revision
from labsim.lab.lab import Lab
from labsim.model.components import COMPONENT_FLAGS
from labsim.model.kinds import DEPLOYMENT
from labsim.model.objects import Object, namespace_of

# No ports, so that several managers run beside each other; no election, which needs a Pod's namespace.
_MANAGER_FLAGS = ("--metrics-bind-address", "0", "--health-probe-bind-address", "0")


def manager_line(kubeconfig: Path, namespace: str, agent_namespace: str) -> str:
    """The command line of one hosted cluster's manager of cluster-api-provider-agent, for a shell."""
    words = ["manager", "--namespace", namespace, "--agent-namespace", agent_namespace, *_MANAGER_FLAGS]
    return f"KUBECONFIG={shlex.quote(str(kubeconfig))} " + " ".join(
        word if word.startswith("<") else shlex.quote(word) for word in words
    )


def start_lines(external: Iterable[str], kubeconfig: Path) -> list[str]:
    """What to say of components that somebody else runs, as soon as the hub answers."""
    lines = []
    for name in external:
        lines.append(f"{COMPONENT_FLAGS[name]} is yours to run; labsim does not play it")
        if name == "agentProvider":
            lines.append("  one for each hosted cluster (the exact line follows when HyperShift wants it):")
            lines.append("  " + manager_line(kubeconfig, "<control plane namespace>", "<namespace of the agents>"))
        else:
            lines.append(f"  KUBECONFIG={shlex.quote(str(kubeconfig))}")
    return lines


def tell_of_external(lab: Lab, kubeconfig: Path, tell: Callable[[str], None]) -> None:
    """Say how to start what labsim does not play: now, and whenever a hosted cluster wants a manager of its own."""
    external = lab.spec.hub.components.external()
    for line in start_lines(external, kubeconfig):
        tell(line)
    if "agentProvider" in external:
        _tell_of_managers(lab, kubeconfig, tell)


def _tell_of_managers(lab: Lab, kubeconfig: Path, tell: Callable[[str], None]) -> None:
    """HyperShift asks for a manager with a Deployment, and ends it with the Deployment."""

    def saw(revision: Revision) -> None:
        if revision.kind != DEPLOYMENT or revision.name != MANAGER_DEPLOYMENT:
            return
        if str(revision.type) == "ADDED":
            tell(f"start: {_line_of(revision.object, kubeconfig)}")
        elif str(revision.type) == "DELETED":
            tell(f"end: the manager of {revision.namespace} is not needed any more")

    lab.on_revision(saw)


def _line_of(deployment: Object, kubeconfig: Path) -> str:
    namespace = argument(deployment, "--namespace") or namespace_of(deployment)
    return manager_line(kubeconfig, namespace, argument(deployment, "--agent-namespace") or namespace)
