"""A real manager of cluster-api-provider-agent in place of ours: the same scenarios, the same states of the agents.

The manager is a build of the user's own: `--labsim-agent-provider-manager` or `LABSIM_AGENT_PROVIDER_MANAGER`. What a
real one did is recorded beside this file, and our own provider is held to it where there is no build too.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from labsim.history import merged
from labsim.model.objects import dig

SCENARIOS = Path(__file__).parents[2] / "scenarios"
RECORDED = Path(__file__).parent / "recorded" / "agent-provider-states.json"
NAMES = ("scale-down-and-reuse", "two-hosted-clusters-one-pool", "label-selector")
SPEED = 30
WITHIN_S = 900.0
ENDS_WITHIN_S = 30.0
# Of a machine that has just booted the ISO: which of them CIM shows, if any, lies with the tick of its monitor.
PASSING = ("discovering-unbound", "disconnected-unbound")


class Managers:
    """The manager of each hosted cluster, started and ended by what the run says."""

    def __init__(self, binary: Path, logs: Path) -> None:
        self._binary = binary
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.ended_early: list[str] = []
        self.started = 0

    def heard(self, line: str) -> None:
        """Do what a line of the run says."""
        verb, _, rest = line.partition(": ")
        if verb == "start":
            words = shlex.split(rest)
            assignment, program, flags = words[0], words[1], words[2:]
            assert program == "manager"
            variable, _, value = assignment.partition("=")
            namespace = flags[flags.index("--namespace") + 1]
            with (self._logs / f"{namespace}.log").open("wb") as log:
                self._running[namespace] = subprocess.Popen(
                    [str(self._binary), *flags], env={**os.environ, variable: value}, stdout=log, stderr=log
                )
            self.started += 1
        elif verb == "end":
            for namespace in [name for name in self._running if f" {name} " in f" {rest} "]:
                self._end(namespace)

    def close(self) -> None:
        for namespace in list(self._running):
            self._end(namespace)

    def _end(self, namespace: str) -> None:
        process = self._running.pop(namespace)
        if process.poll() is not None:
            self.ended_early.append(f"{namespace}: exit {process.returncode}")
            return
        process.terminate()
        try:
            process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def labsim_run(*arguments: object, folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "labsim.cli.main", "run", *map(str, arguments)]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment
    )
    watchdog = threading.Timer(WITHIN_S, process.kill)
    watchdog.start()
    try:
        yield process
        process.wait()
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.terminate()
            process.wait(ENDS_WITHIN_S)
        if process.stderr is not None:
            process.stderr.close()


def scenario_file(name: str, folder: Path) -> Path:
    """The shipped scenario, with waits where upstream has races that a fast lab widens (docs/decisions/0100).

    Replicas are wanted when the cluster's AgentCluster is complete, else an AgentMachine may never be looked at again.
    A released agent is wanted when its old Machine is gone, else the deletion hook's next poll takes it away again.
    """
    scenario = yaml.safe_load((SCENARIOS / f"{name}.yaml").read_text())
    steps: list[Any] = []
    for step in scenario["spec"]["steps"]:
        wanted = replicas_later(step)
        if step == {"scale": {"nodePool": "blue", "replicas": 3}}:
            steps.append({"expect": {"machines": {"nodePool": "red"}, "count": 1, "within": "30m"}})
        steps += [step, *wanted]
    scenario["spec"]["steps"] = steps
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(scenario, sort_keys=False))
    return path


def replicas_later(step: Any) -> list[Any]:
    """The steps that follow the creation of a hosted cluster, which then begins with no replicas."""
    cluster = step.get("createHostedCluster")
    if cluster is None:
        return []
    name, replicas = cluster["name"], cluster["nodePool"]["replicas"]
    cluster["nodePool"]["replicas"] = 0
    namespace = f"{cluster.get('namespace', 'clusters')}-{name}"
    install = {"kind": "AgentClusterInstall", "name": name, "namespace": namespace}
    is_known = {"object": install, "condition": {"type": "SpecSynced", "status": "True"}, "within": "30m"}
    return [{"expect": is_known}, {"scale": {"nodePool": name, "replicas": replicas}}]


def ways_of_agents(run: Path) -> dict[str, int]:
    """The ways that agents went, by the history of a run, and how often: to the pool, into a cluster, back again.

    Not by agent: upstream takes any free one, whichever its cache names first.
    """
    agents: dict[str, Any] = {}
    states: dict[str, list[str]] = {}
    for text in (run / "history.jsonl").read_bytes().splitlines():
        line = json.loads(text)
        if (line["type"], line.get("kind"), line.get("store")) != ("write", "Agent", "hub"):
            continue
        name = line["name"]
        agent = line.get("object") or merged(agents.get(name, {}), line.get("patch") or {})
        agents[name] = agent
        state = dig(agent, "status", "debugInfo", "state")
        known = states.setdefault(name, [])
        if state and state not in PASSING and known[-1:] != [state]:
            known.append(state)
    return dict(sorted(Counter(way for known in states.values() for way in ways(known)).items()))


def ways(states: list[str]) -> list[str]:
    """The states of one agent, cut where it is bound and where it is released."""
    found: list[list[str]] = [[]]
    for index, state in enumerate(states):
        if state == "binding" or (index and states[index - 1] == "added-to-existing-cluster"):
            found.append([])
        found[-1].append(state)
    return [" ".join(way) for way in found]


def recorded(name: str) -> dict[str, int]:
    document = json.loads(RECORDED.read_text())
    found: dict[str, int] = document["scenarios"][name]
    return found


def run_with(manager: Path, scenario: Path, *, managers: int) -> Path:
    """Pass a scenario with so many managers in the place of our provider; returns the run's directory."""
    folder, said = scenario.parent, []
    run, started = folder / "run", Managers(manager, folder)
    try:
        with labsim_run(
            scenario, "--external", "agent-provider", "--speed", SPEED, "--run-dir", run, folder=folder
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                started.heard(line.rstrip("\n"))
    finally:
        started.close()
    assert process.returncode == 0, "".join(said)
    assert started.started == managers
    assert started.ended_early == []
    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_passes_with_a_real_manager(
    name: str, agent_provider_manager: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = run_with(agent_provider_manager, scenario_file(name, tmp_path), managers=2 if name.startswith("two-") else 1)
    found = ways_of_agents(run)
    if request.config.getoption("--labsim-update-golden"):
        document = json.loads(RECORDED.read_text()) if RECORDED.exists() else {"scenarios": {}}
        document["scenarios"][name] = found
        RECORDED.write_text(json.dumps(document, indent=1) + "\n")
    assert found == recorded(name)


def test_with_a_stale_cache_a_real_managers_claims_are_conflicts_and_it_recovers(
    agent_provider_manager: Path, tmp_path: Path
) -> None:
    manager = agent_provider_manager
    text = (SCENARIOS / "stale-agents-cache.yaml").read_text()
    assert text.count("labsim/agentProvider") == 1
    scenario = tmp_path / "stale-agents-cache.yaml"
    scenario.write_text(text.replace("labsim/agentProvider", f"{manager.name}/*"))
    run = run_with(manager, scenario, managers=1)
    lines = [json.loads(line) for line in (run / "history.jsonl").read_bytes().splitlines()]
    on, off = (line["n"] for line in lines if line["type"] == "fault")
    claims = [
        line for line in lines if line["type"] == "request" and line["method"] == "PUT" and "/agents/" in line["path"]
    ]
    assert {line["client"].partition("/")[0] for line in claims} == {manager.name}
    assert {line["status"] for line in claims if on < line["n"] < off} == {409}
    assert 200 in {line["status"] for line in claims if line["n"] > off}


@pytest.mark.parametrize("name", NAMES)
def test_our_provider_takes_the_agents_through_the_states_that_the_real_one_did(name: str, tmp_path: Path) -> None:
    with labsim_run(scenario_file(name, tmp_path), "--run-dir", tmp_path / "run", folder=tmp_path) as process:
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert ways_of_agents(tmp_path / "run") == recorded(name)
