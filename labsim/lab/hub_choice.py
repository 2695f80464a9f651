"""Which hub a lab has: our own, or the cluster that a kubeconfig leads to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from labsim.errors import UsageError
from labsim.model.components import components_named
from labsim.model.scenario import LabSpec

EMBEDDED, PLAIN, KIND = "embedded", "plain", "kind"
HUBS = (EMBEDDED, PLAIN, KIND)
KUBE_CONTROLLERS = ("auto", "simulated", "external")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HubChoice:
    """kubeconfig: "" is where kubectl looks; context: "" is its current one. kube_controllers: who collects garbage,
    ends namespaces and makes the pods of Deployments on the cluster; `auto` looks whether somebody does.
    kind_image: of the node, "" for kind's own; kind_ports: node ports that are mapped to this host's loopback.
    external: components that somebody else runs, by their names in a scenario file."""

    hub: str = EMBEDDED
    kubeconfig: str = ""
    context: str = ""
    kube_controllers: str = "auto"
    kind_image: str = ""
    kind_ports: tuple[int, ...] = ()
    external: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises UsageError for a word that means nothing."""
        if self.hub not in HUBS:
            raise UsageError(f"unknown hub {self.hub!r}", hint=f"this version runs on: {', '.join(HUBS)}")
        if self.kube_controllers not in KUBE_CONTROLLERS:
            raise UsageError(
                f"unknown --kube-controllers {self.kube_controllers!r}", hint=f"known: {', '.join(KUBE_CONTROLLERS)}"
            )

    def of(self, spec: LabSpec) -> tuple[LabSpec, HubChoice]:
        """A lab's specification and this choice, each with what the other says of the components. A flag goes first."""
        components = spec.hub.components.with_external(self.external)
        choice = dataclasses.replace(self, external=components.external())
        if components.kube_controllers != "auto" and self.kube_controllers == "auto":
            choice = dataclasses.replace(choice, kube_controllers=components.kube_controllers)
        return spec.model_copy(update={"hub": spec.hub.model_copy(update={"components": components})}), choice

    @property
    def kubeconfig_path(self) -> Path | None:
        return Path(self.kubeconfig) if self.kubeconfig else None


OUR_OWN = HubChoice()


def external_components(words: Iterable[str]) -> tuple[str, ...]:
    """The components that `--external` names; UsageError for a word that means none."""
    words = tuple(words)
    try:
        return components_named(words)
    except ValueError as unknown:
        raise UsageError(f"unknown component in --external {','.join(words)}", hint=str(unknown)) from None


def given(
    hub: str,
    kubeconfig: Path | None,
    context: str,
    kube_controllers: str,
    kind_image: str = "",
    kind_ports: Iterable[int] = (),
    external: Iterable[str] = (),
) -> HubChoice:
    """The choice that the flags of a command make; UsageError for a word that means nothing."""
    path = "" if kubeconfig is None else str(kubeconfig)
    choice = HubChoice(
        hub=hub,
        kubeconfig=path,
        context=context,
        kube_controllers=kube_controllers,
        kind_image=kind_image,
        kind_ports=tuple(kind_ports),
        external=external_components(external),
    )
    choice.check()
    return choice
