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

from labsim.cli.bench_figures import Row, figure, print_figures
from labsim.cli.output import Format
from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import ExitCode, LabError, UsageError

START_WITHIN_S = 30.0
AGENTS_FULL = 1000  # what the targets of the large run are about
AGENTS_TARGET_S = 30.0
AGENTS_TARGET_MIB = 500.0


def run_bench(what: str, *, agents: int, output: Format) -> int:
    """Run the named measurements (start, story, agents, all of these, or vm) and print a row for each figure."""
    known: dict[str, Callable[[], list[Row]]] = {
        "start": _start,
        "story": _story,
        "agents": lambda: _agents(agents),
        "vm": _machines,
    }
    if what != "all" and what not in known:
        raise UsageError(f"unknown measurement {what!r}", hint=f"known: all, {', '.join(known)}, api")
    rows = []
    for name, measure in known.items():
        if what == name or (what == "all" and name != "vm"):
            sys.stderr.write(f"measuring {name}\n")
            rows += measure()
    print_figures(rows, output)
    return int(ExitCode.PASSED)


def _start() -> list[Row]:
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
    return [figure("hub: process start to first answered request", took_s, "s", target=1.0)]


def _story() -> list[Row]:
    """The documentation's story as a whole process."""
    scenario = _shipped("scale-down-and-reuse.yaml")
    with tempfile.TemporaryDirectory(prefix="labsim-bench-") as folder:
        command = [sys.executable, "-m", "labsim.cli.main", "run", str(scenario), "--run-dir", f"{folder}/run"]
        started_s = monotonic_s()
        done = subprocess.run(command, capture_output=True, check=False, env=dict(os.environ))
        took_s = monotonic_s() - started_s
        if done.returncode != 0:
            raise LabError("the story did not pass", hint=done.stderr.decode(errors="replace")[-2000:])
    return [figure("labsim run scale-down-and-reuse, whole process", took_s, "s", target=2.0)]


def _shipped(name: str) -> Path:
    """A scenario of the source tree, or of the installed package."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "scenarios", package / "shipped" / "scenarios"):
        if (folder / name).exists():
            return folder / name
    raise LabError(f"scenario {name} is not shipped with this installation")


def _agents(count: int) -> list[Row]:
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
        figure(f"{count} agents, two rounds", took_s, "s", target=AGENTS_TARGET_S if count == AGENTS_FULL else None),
        figure("  in-world time", result.duration_s, "s"),
        figure("  memory, peak", memory_mib, "MiB", target=AGENTS_TARGET_MIB if count == AGENTS_FULL else None),
        figure("  requests per agent", world.requests / count, ""),
        figure("  store writes per agent", world.writes / count, ""),
        figure("  polls per agent", polls / count, ""),
        figure("  reconciles per agent", world.engine.reconciles / count, ""),
        figure("  events of the queue", world.queue.executed, ""),
    ]


def _machines() -> list[Row]:
    from labsim.cli.bench_vm import measure_machines

    return measure_machines()


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
