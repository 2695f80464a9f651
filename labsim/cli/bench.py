"""`labsim bench`: measures labsim on this machine and prints each figure beside the one that is aimed at.

A figure that is missed is told and fails nothing: it says as much about the machine as about labsim.
"""

from __future__ import annotations

import os
import resource
import signal
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labsim.cli.output import Format, print_document
from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import ExitCode, LabError, UsageError

START_WITHIN_S = 30.0
AGENTS_FULL = 1000  # what the targets of the large run are about
AGENTS_TARGET_S = 30.0
AGENTS_TARGET_MIB = 500.0


def run_bench(what: str, *, agents: int, output: Format) -> int:
    """Run the named measurements (start, story, agents, or all) and print a row for each figure."""
    known: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "start": _start,
        "story": _story,
        "agents": lambda: _agents(agents),
    }
    if what != "all" and what not in known:
        raise UsageError(f"unknown measurement {what!r}", hint=f"known: all, {', '.join(known)}, api")
    rows = []
    for name, measure in known.items():
        if what in ("all", name):
            sys.stderr.write(f"measuring {name}\n")
            rows += measure()
    if output in (Format.JSON, Format.YAML):
        print_document(rows, output)
    else:
        sys.stdout.write(_table(rows))
    return int(ExitCode.PASSED)


def _row(what: str, value: float, unit: str, *, target: float | None = None) -> dict[str, Any]:
    """A figure. `target` is the most that it should be, in its unit."""
    row: dict[str, Any] = {"what": what, "value": round(value, 3) if isinstance(value, float) else value, "unit": unit}
    if target is not None:
        row |= {"target": target, "reached": value <= target}
    return row


def _table(rows: list[dict[str, Any]]) -> str:
    """The figures for a person."""
    lines = [f"{'FIGURE':<50} {'MEASURED':>12} {'AT MOST':>12}  REACHED"]
    for row in rows:
        measured = f"{row['value']:g} {row['unit']}".rstrip()
        target = f"{row['target']:g} {row['unit']}" if "target" in row else ""
        reached = {True: "yes", False: "no", None: ""}[row.get("reached")]
        lines.append(f"{row['what']:<50} {measured:>12} {target:>12}  {reached}".rstrip())
    return "\n".join(lines) + "\n"


def _start() -> list[dict[str, Any]]:
    """From starting the process to the first answered request of the hub."""
    with tempfile.TemporaryDirectory(prefix="labsim-bench-") as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        command = [sys.executable, "-m", "labsim.cli.main", "hub", "serve", "--kubeconfig", str(kubeconfig)]
        started_s = monotonic_s()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            while not kubeconfig.exists():
                if process.poll() is not None or monotonic_s() - started_s > START_WITHIN_S:
                    raise LabError("the hub did not start", hint="labsim hub serve shows why")
                wait_s(0.005)
            url = next(line.split()[-1] for line in kubeconfig.read_text().splitlines() if "server:" in line)
            context = ssl._create_unverified_context()  # noqa: S323  (our own hub, a moment ago)
            with urllib.request.urlopen(f"{url}/version", context=context) as answer:  # noqa: S310
                answer.read()
            took_s = monotonic_s() - started_s
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)
    return [_row("hub: process start to first answered request", took_s, "s", target=1.0)]


def _story() -> list[dict[str, Any]]:
    """The documentation's story as a whole process."""
    scenario = _shipped("scale-down-and-reuse.yaml")
    with tempfile.TemporaryDirectory(prefix="labsim-bench-") as folder:
        command = [sys.executable, "-m", "labsim.cli.main", "run", str(scenario), "--run-dir", f"{folder}/run"]
        started_s = monotonic_s()
        done = subprocess.run(command, capture_output=True, check=False, env=dict(os.environ))
        took_s = monotonic_s() - started_s
        if done.returncode != 0:
            raise LabError("the story did not pass", hint=done.stderr.decode(errors="replace")[-2000:])
    return [_row("labsim run scale-down-and-reuse, whole process", took_s, "s", target=2.0)]


def _shipped(name: str) -> Path:
    """A scenario of the source tree, or of the installed package."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "scenarios", package / "shipped" / "scenarios"):
        if (folder / name).exists():
            return folder / name
    raise LabError(f"scenario {name} is not shipped with this installation")


def _agents(count: int) -> list[dict[str, Any]]:
    """`count` agents registered, bound, installed, released, rebooted and bound again."""
    from labsim.lab.lab import Lab, LabOptions
    from labsim.model.scenario import parse_scenario
    from labsim.scenario.runner import run_scenario
    from labsim.scenario.subject import ScenarioLab

    scenario = parse_scenario(_LARGE.format(count=count))
    polls = 0

    def count_poll(line: dict[str, Any]) -> None:
        nonlocal polls
        polls += line["method"] == "GET" and line["path"].endswith("/instructions")

    with tempfile.TemporaryDirectory(prefix="labsim-bench-") as folder:
        started_s = monotonic_s()
        lab = Lab(scenario.spec.lab, LabOptions(name="bench", folder=Path(folder)))
        lab.world.history.listen(count_poll, "request")
        subject: Any = ScenarioLab(lab)
        lab.make()
        result = run_scenario(subject, scenario, settle=False)
        took_s = monotonic_s() - started_s
        world = lab.world
        lab.remove()
    if result.verdict != "passed":
        failed = next((step for step in result.steps if step.message), None)
        raise LabError("the large run did not pass", hint=failed.message + "\n" + failed.page if failed else "")
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        _row(f"{count} agents, two rounds", took_s, "s", target=AGENTS_TARGET_S if count == AGENTS_FULL else None),
        _row("  in-world time", result.duration_s, "s"),
        _row("  memory, peak", memory_mib, "MiB", target=AGENTS_TARGET_MIB if count == AGENTS_FULL else None),
        _row("  requests per agent", world.requests / count, ""),
        _row("  store writes per agent", world.writes / count, ""),
        _row("  polls per agent", polls / count, ""),
        _row("  reconciles per agent", world.engine.reconciles / count, ""),
        _row("  events of the queue", world.queue.executed, ""),
    ]


_LARGE = """
apiVersion: labsim/v1alpha1
kind: Scenario
metadata: {{name: large}}
spec:
  lab:
    cim: {{reclaim: never}}
    infraEnvs: [{{name: lab}}]
    machines: [{{name: worker, count: {count}, infraEnv: lab}}]
  steps:
    - boot: {{machines: worker-*, from: discovery-iso}}
    - expect: {{agents: all, count: {count}, state: known-unbound, within: 60m}}
    - approve: {{agents: all}}
    - createHostedCluster: {{name: example, nodePool: {{replicas: {count}}}}}
    - expect: {{agents: {{cluster: example}}, count: {count}, state: added-to-existing-cluster, within: 180m}}
    - scale: {{nodePool: example, replicas: 0}}
    - expect: {{agents: {{released: true}}, count: {count}, state: unbinding-pending-user-action, within: 60m}}
    - reboot: {{machines: worker-*, from: discovery-iso}}
    - expect: {{agents: {{cluster: none}}, count: {count}, state: known-unbound, within: 60m}}
    - scale: {{nodePool: example, replicas: {count}}}
    - expect: {{agents: {{cluster: example}}, count: {count}, state: added-to-existing-cluster, within: 180m}}
"""
