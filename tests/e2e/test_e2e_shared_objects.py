"""What a store hands out is shared: no controller, service or machine may change it in place.

Found by the golden timeline: a copy that shared an empty `spec` let the provider write a providerID into the cached
AgentMachine, and the change was no change any more when it was stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from labsim.kube.store import Revision, Store
from labsim.lab.lab import Lab, LabOptions
from labsim.model.scenario import parse_scenario
from labsim.scenario.runner import run_scenario
from labsim.scenario.subject import ScenarioLab

SCENARIOS = Path(__file__).parents[2] / "scenarios"


class Seal:
    """Remembers the text of every object when it is stored, and looks at it again when the next state is there."""

    def __init__(self) -> None:
        self.texts: dict[tuple[int, str, str, str], tuple[Revision, bytes]] = {}
        self.changed: list[str] = []

    def stored(self, store: Store, made: Revision) -> None:
        key = (id(store), made.kind.qualified, made.namespace, made.name)
        self.look(key)
        if made.type == "DELETED":
            self.texts.pop(key, None)
        else:
            self.texts[key] = (made, orjson.dumps(made.object))

    def look(self, key: tuple[int, str, str, str]) -> None:
        made, text = self.texts.get(key, (None, b""))
        if made is not None and orjson.dumps(made.object) != text:
            self.changed.append(f"{key[1]} {key[2]}/{key[3]}, revision {made.revision}")


@pytest.fixture
def seal(monkeypatch: pytest.MonkeyPatch) -> Seal:
    made = Seal()
    commit = Store._commit

    def sealed(store: Store, revision: Revision, *args: Any, **kwargs: Any) -> None:
        made.stored(store, revision)
        commit(store, revision, *args, **kwargs)

    monkeypatch.setattr(Store, "_commit", sealed)
    return made


@pytest.mark.parametrize(
    "name", ["scale-down-and-reuse", "scale-down-and-reclaim", "hosted-cluster-deleted-and-agents-reused"]
)
def test_nobody_changes_what_a_store_has_handed_out(name: str, seal: Seal, tmp_path: Path) -> None:
    scenario = parse_scenario((SCENARIOS / f"{name}.yaml").read_text())
    lab = Lab(scenario.spec.lab, LabOptions(name=name, folder=tmp_path))
    subject: Any = ScenarioLab(lab)
    lab.make()
    result = run_scenario(subject, scenario)
    lab.remove()
    assert result.verdict == "passed"
    for key in list(seal.texts):
        seal.look(key)
    assert not seal.changed, seal.changed[:10]
    assert len(seal.texts) > 100
