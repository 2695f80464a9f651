"""The kind command: what it is called with, what it needs, and what its failures say to a person."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from labsim.errors import LabError

RUNTIMES = ("docker", "podman", "nerdctl")  # in the order in which kind looks for them
PROVIDER = "KIND_EXPERIMENTAL_PROVIDER"
ANSWERS_WITHIN_S = 20
READY_WITHIN_S = 300  # of the node, once it runs
CREATED_WITHIN_S = 1800  # an image may have to be pulled
DELETED_WITHIN_S = 300
LINES_SHOWN = 4
INSTEAD = "or use --hub plain or embedded"


class KindCommand:
    """kind with one container runtime."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime

    @classmethod
    def found(cls) -> KindCommand:
        """kind and the first runtime that answers; LabError, with what to do, where one is missing."""
        if shutil.which("kind") is None:
            raise LabError(
                "kind is not on PATH",
                hint=f"install it (https://kind.sigs.k8s.io), {INSTEAD}",
            )
        wanted = os.environ.get(PROVIDER, "")
        installed = [name for name in ((wanted,) if wanted else RUNTIMES) if shutil.which(name) is not None]
        if not installed:
            missing = wanted or "docker, podman or nerdctl"
            raise LabError(f"kind needs {missing}, which is not on PATH", hint=f"install it, {INSTEAD}")
        problems = []
        for runtime in installed:
            problem = _problem_of(runtime)
            if not problem:
                return cls(runtime)
            problems.append(f"{runtime}: {problem}")
        raise LabError(
            "no container runtime answers: " + "; ".join(problems),
            hint=f"start its service, and see that you may use it (docker info), {INSTEAD}",
        )

    def create(self, name: str, configuration: str, kubeconfig: Path) -> None:
        """Create a cluster, wait until it is ready, and write its kubeconfig."""
        self._run(
            ["create", "cluster", "--name", name, "--config", "-", "--kubeconfig", str(kubeconfig),
             "--wait", f"{READY_WITHIN_S}s"],
            stdin=configuration, within_s=CREATED_WITHIN_S, what=f"create the cluster {name}",
        )  # fmt: skip

    def delete(self, name: str, kubeconfig: Path) -> None:
        """Delete a cluster, and what its kubeconfig said of it. Quiet where there is none."""
        self._run(
            ["delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig)],
            within_s=DELETED_WITHIN_S, what=f"delete the cluster {name}",
        )  # fmt: skip

    def clusters(self) -> list[str]:
        return self._run(["get", "clusters"], within_s=ANSWERS_WITHIN_S, what="list its clusters").split()

    def _run(self, arguments: Sequence[str], *, within_s: float, what: str, stdin: str = "") -> str:
        try:
            done = subprocess.run(
                ["kind", *arguments], input=stdin, capture_output=True, text=True, timeout=within_s, check=False,
                env={**os.environ, PROVIDER: self.runtime},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise LabError(f"kind could not {what}: {problem}", hint=f"kind {' '.join(arguments)}") from problem
        if done.returncode != 0:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            why = next((line for line in said if line.startswith("ERROR")), said[-1] if said else "it said nothing")
            raise LabError(f"kind could not {what}: {why}", hint="\n".join(said[-LINES_SHOWN:]))
        return done.stdout


def _problem_of(runtime: str) -> str:
    """Why a runtime cannot be used; "" where it answers."""
    try:
        done = subprocess.run([runtime, "info"], capture_output=True, text=True, timeout=ANSWERS_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return said[-1] if said else f"`{runtime} info` ended with {done.returncode}"
