"""What is written about the command line and the scenario file is what the code says; examples in guides work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from labsim.errors import InvalidFile
from labsim.model.scenario import json_schema, parse_scenario

ROOT = Path(__file__).parents[3]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.yaml"))


def test_the_reference_is_written_from_the_code_as_it_is() -> None:
    command = [sys.executable, str(ROOT / "setup" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_shipped_scenario_fits_the_schema(path: Path) -> None:
    validator = jsonschema.validators.validator_for(json_schema())(json_schema())
    assert [error.message for error in validator.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("known-unbound", "know-unbound"),
        ("    - approve:", "    - improve:"),
        (
            "- boot: {machines: worker-*, from: discovery-iso}",
            "- {boot: {machines: worker-*, from: discovery-iso}, approve: {agents: all}}",
        ),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(right: str, wrong: str) -> None:
    text = (ROOT / "scenarios" / "scale-down-and-reuse.yaml").read_text()
    assert right in text
    text = text.replace(right, wrong, 1)
    with pytest.raises(InvalidFile):
        parse_scenario(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), json_schema())


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *GUIDES], ids=lambda path: path.name)
def test_what_a_page_points_to_is_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_examples_of_the_guide_are_scenarios() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "guides" / "scenarios.md").read_text(), re.S)
    whole = next(block for block in blocks if block.startswith("apiVersion"))
    shown = len(parse_scenario(whole).spec.steps)
    steps = [block for block in blocks if not block.startswith("apiVersion")]
    for block in steps:
        indented = "".join(f"    {line}\n" for line in block.splitlines())
        assert len(parse_scenario(whole.rstrip() + "\n" + indented).spec.steps) > shown


def test_every_page_of_the_guides_is_named_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in GUIDES if f"docs/guides/{path.name}" not in text] == []
